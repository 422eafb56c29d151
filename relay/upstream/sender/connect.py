"""Connect: from a provider's name to a connection that is ready for mail, within one deadline."""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.mail.smtp import ESMTPSenderFactory
from twisted.python.failure import Failure

from relay.config.values import Provider
from relay.outcome import ProviderFault, Stage
from relay.reply import no_reply
from relay.upstream.sender.connection import Connection
from relay.upstream.sender.opening import AWAITED
from relay.upstream.sender.tls import Trust

_LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Fault(Exception):
    """No connection could be had.

    outcome  what to tell the breaker; its reply says why
    stage    how far it came
    seconds  how long it took
    ours     whether this host lacked something for it, and the provider was not asked
    """

    def __init__(self, outcome: ProviderFault, stage: Stage, seconds: float, *, ours: bool = False) -> None:
        super().__init__(str(outcome.reply))
        self.outcome = outcome
        self.stage = stage
        self.seconds = seconds
        self.ours = ours


class ConnectionFactory(ESMTPSenderFactory):
    """Makes Connections, each of which says by itself what became of it. `newest` is the last one made."""

    noisy = False

    def __init__(
        self, clock: IReactorTime, provider: Provider, hostname: str, trust: Trust | None, *, pipelining: bool
    ) -> None:
        # Twisted's own arguments are about one mail, and none is known yet.
        ESMTPSenderFactory.__init__(self, provider.username.encode(), None, "", (), None, Deferred(), retries=0)
        self.newest: Connection | None = None
        self._clock = clock
        self._provider = provider
        self._identity = hostname
        self._trust = trust
        self._pipelining = pipelining

    def buildProtocol(self, addr: Any) -> Connection:
        """A Connection that is about to open."""
        self.newest = connection = Connection(
            self._provider, self._identity, self._trust, self._clock, pipelining=self._pipelining
        )
        return connection


def endpoint(reactor: Any, provider: Provider) -> IStreamClientEndpoint:
    """Where the provider is reached: its name is looked up anew each time, and IPv6 and IPv4 tried side by side."""
    return HostnameEndpoint(reactor, provider.host, provider.port, timeout=provider.timeout)


def connect(
    clock: IReactorTime,
    provider: Provider,
    hostname: str,
    endpoint: IStreamClientEndpoint,
    trust: Trust | None,
    *,
    pipelining: bool = True,
) -> Deferred[Connection]:
    """A Connection that is ready for mail; fails with Fault, after `provider.timeout` at the latest. May be cancelled.

    hostname    what is said in EHLO
    trust       made by `trust(provider)`, once
    pipelining  False: wait for each reply and say DATA, whatever the provider offers
    """
    factory = ConnectionFactory(clock, provider, hostname, trust, pipelining=pipelining)
    began = clock.seconds()
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        opening.cancel()

    def failed(failure: Failure) -> Failure:
        """Whatever it was, as a Fault; but a cancellation by the caller stays one."""
        stage = Stage.CONNECT if factory.newest is None else factory.newest.stage
        if expired:
            what = "a connection" if factory.newest is None else AWAITED[stage]
            outcome = ProviderFault(no_reply(f"waited {provider.timeout:g} s in vain for {what}"))
        elif isinstance(failure.value, _Refused):
            outcome = failure.value.outcome
        elif factory.newest is None and isinstance(failure.value, Exception):
            where = f"{provider.host} port {provider.port}"
            outcome = ProviderFault(no_reply(f"no connection to {where}: {_why(failure.value)}"))
        else:
            return failure
        ours = getattr(failure.value, "osError", None) in _LACKING
        return Failure(Fault(outcome, stage, clock.seconds() - began, ours=ours))

    def ended(result: Connection | Failure) -> Connection | Failure:
        if timer.active():
            timer.cancel()
        return failed(result) if isinstance(result, Failure) else result

    opening = Deferred.fromCoroutine(_open(endpoint, factory))
    timer = clock.callLater(provider.timeout, expire)
    return opening.addBoth(ended)


class _Refused(Exception):
    """The connection was there, and came to nothing."""

    def __init__(self, outcome: ProviderFault) -> None:
        super().__init__(str(outcome.reply))
        self.outcome = outcome


async def _open(endpoint: IStreamClientEndpoint, factory: ConnectionFactory) -> Connection:
    connection = await endpoint.connect(factory)
    assert isinstance(connection, Connection)
    try:
        fault = await connection.opened
    except BaseException:
        connection.abort()
        raise
    if fault is not None:
        raise _Refused(fault)
    return connection


def _why(trouble: Exception) -> str:
    """The system's own words where there are some; Twisted's stand around them."""
    number = getattr(trouble, "osError", None)
    return os.strerror(number).lower() if isinstance(number, int) else str(trouble)
