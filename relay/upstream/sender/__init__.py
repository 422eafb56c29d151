"""Sender: a connection to a provider that carries one transaction after another."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IReactorTime, IStreamClientEndpoint
from twisted.mail.smtp import ESMTPSender

from relay.config.values import Provider
from relay.outcome import ProviderFault, Stage
from relay.reply import Reply
from relay.upstream.transaction import Batch, Features, Result

__all__ = ["Batch", "Connection", "Fault", "Features", "Result", "connect", "endpoint", "trust"]


class Fault(Exception):
    """No connection that carries mail could be had. `seconds`: how long the try took; `stage`: where it ended."""

    def __init__(self, outcome: ProviderFault, seconds: float, stage: Stage) -> None:
        super().__init__(str(outcome.reply))
        self.outcome = outcome
        self.seconds = seconds
        self.stage = stage


class Connection(ESMTPSender):
    """One connection. At most `depth` transactions may be under way on it."""

    features: Features
    depth: int
    carried: int
    idle_since: float
    busy: bool
    waiting_since: float | None
    out_of_step: bool
    certificate_ends: float | None
    when_ended: Callable[[Reply], None] | None

    def deliver(self, batch: Batch) -> Deferred[Result]:
        """Carry one transaction. Never fails."""
        raise NotImplementedError

    def quit(self) -> Deferred[None]:
        """Say QUIT; fires when the connection is gone, at most 2 s later."""
        raise NotImplementedError

    def abort(self) -> None:
        """End it now."""
        raise NotImplementedError


def trust(provider: Provider) -> IOpenSSLClientConnectionCreator | None:
    """Whom a provider's TLS is checked against. Reads certificates from disk: once, and not where mail flows."""
    raise NotImplementedError


def endpoint(reactor: object, provider: Provider) -> IStreamClientEndpoint:
    """Where the provider is reached."""
    raise NotImplementedError


def connect(
    clock: IReactorTime,
    provider: Provider,
    hostname: str,
    endpoint: IStreamClientEndpoint,
    tls: IOpenSSLClientConnectionCreator | None,
    *,
    pipelining: bool = True,
) -> Deferred[Connection]:
    """Fires with a connection that is ready for mail, or fails with Fault after `provider.timeout` at the latest."""
    raise NotImplementedError
