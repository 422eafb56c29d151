"""Resolver: names of providers, looked up on threads of their own.

A name server that does not answer holds up whoever waits for that name, and nobody else: not another provider, not
the reactor's threads, and not the end of the process. A name that is being looked up is not looked up once more.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer

Found = list[tuple[Any, ...]]
"""What getaddrinfo returns."""


@implementer(IHostResolution)
class _Resolution:
    """One that is under way; nobody waits for it any more once it is cancelled."""

    def __init__(self, name: str, receiver: IResolutionReceiver) -> None:
        self.name = name
        self.receiver: IResolutionReceiver | None = receiver

    def cancel(self) -> None:
        """Forget who asked; the thread goes on by itself."""
        self.receiver = None


@implementer(IHostnameResolver)
class Resolver:
    """`call_from_thread` is the reactor's; `getaddrinfo` is socket's or stands for it."""

    def __init__(
        self,
        call_from_thread: Callable[..., object],
        getaddrinfo: Callable[..., Found] = socket.getaddrinfo,
    ) -> None:
        self._call_from_thread = call_from_thread
        self._getaddrinfo = getaddrinfo
        self._under_way: dict[tuple[str, int], list[_Resolution]] = {}

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Begin to look up; the receiver is told in the reactor's thread."""
        resolution = _Resolution(hostName, resolutionReceiver)
        resolutionReceiver.resolutionBegan(resolution)
        waiting = self._under_way.get((hostName, portNumber))
        if waiting is not None:
            waiting.append(resolution)
            return resolution
        self._under_way[hostName, portNumber] = [resolution]
        Thread(target=self._look_up, args=(hostName, portNumber), name="resolver", daemon=True).start()
        return resolution

    def _look_up(self, name: str, port: int) -> None:
        try:
            found = self._getaddrinfo(name, port, socket.AF_UNSPEC, socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []
        self._call_from_thread(self._tell, name, port, found)

    def _tell(self, name: str, port: int, found: Found) -> None:
        addresses = [
            (IPv6Address if family == socket.AF_INET6 else IPv4Address)("TCP", *place)
            for family, _, _, _, place in found
            if family in (socket.AF_INET, socket.AF_INET6)
        ]
        for resolution in self._under_way.pop((name, port)):
            receiver = resolution.receiver
            if receiver is not None:
                for address in addresses:
                    receiver.addressResolved(address)
                receiver.resolutionComplete()
