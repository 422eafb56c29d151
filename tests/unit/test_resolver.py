"""Names of providers, looked up on threads of their own."""

from __future__ import annotations

import socket
from queue import Queue
from threading import Event
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from relay.upstream.resolver import Found, Resolver

BOTH: Found = [
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 587, 0, 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 587)),
]


@implementer(IResolutionReceiver)
class Receiver:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.found: list[IAddress] = []
        self.complete = 0

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """See IResolutionReceiver."""

    def addressResolved(self, address: IAddress) -> None:
        """See IResolutionReceiver."""
        self.found.append(address)

    def resolutionComplete(self) -> None:
        """See IResolutionReceiver."""
        self.complete += 1


class Bench:
    """A resolver whose name server answers when it is let; `pump` runs what is due in the reactor's thread."""

    def __init__(self, answer: Found | OSError) -> None:
        self.calls: Queue[tuple[Any, ...]] = Queue()
        self.may_answer = Event()
        self.asked = 0
        self._answer = answer
        self.resolver = Resolver(lambda *call: self.calls.put(call), self.getaddrinfo)

    def getaddrinfo(self, *question: object) -> Found:
        """See socket."""
        self.asked += 1
        assert self.may_answer.wait(10)
        if isinstance(self._answer, OSError):
            raise self._answer
        return self._answer

    def pump(self) -> None:
        """One answer arrives."""
        call, *arguments = self.calls.get(timeout=10)
        call(*arguments)


def test_all_addresses_in_their_order() -> None:
    """IPv6 and IPv4, as getaddrinfo sorts them."""
    bench, receiver = Bench(BOTH), Receiver()
    bench.may_answer.set()

    bench.resolver.resolveHostName(receiver, "smtp.example.net", 587)
    bench.pump()

    assert receiver.found == [
        IPv6Address("TCP", "2001:db8::1", 587, 0, 0),
        IPv4Address("TCP", "192.0.2.1", 587),
    ]
    assert receiver.complete == 1


def test_a_name_that_does_not_exist() -> None:
    """No address, and no error that nobody expects."""
    bench, receiver = Bench(socket.gaierror(-2, "Name or service not known")), Receiver()
    bench.may_answer.set()

    bench.resolver.resolveHostName(receiver, "nowhere.example.net", 587)
    bench.pump()

    assert (receiver.found, receiver.complete) == ([], 1)


def test_a_name_server_that_hangs() -> None:
    """One thread waits for a name, however often it is asked for; who has given up is told nothing."""
    bench = Bench(BOTH)
    impatient, patient = Receiver(), Receiver()
    bench.resolver.resolveHostName(impatient, "smtp.example.net", 587).cancel()
    bench.resolver.resolveHostName(patient, "smtp.example.net", 587)

    bench.may_answer.set()
    bench.pump()

    assert bench.asked == 1
    assert (impatient.complete, patient.complete) == (0, 1)
