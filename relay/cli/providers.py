"""Providers: each connected to as the daemon does it, up to the point where a mail would begin."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IHostResolution, IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from relay.config import Config
from relay.config.values import Provider
from relay.outcome import Stage
from relay.upstream.resolver import Resolver
from relay.upstream.sender import Connection, Fault, connect, endpoint, trust

_SOON = 14 * 86400.0
_NAMES = {Stage.CONNECT: "tcp", Stage.EHLO: "ehlo", Stage.TLS: "tls", Stage.AUTH: "auth"}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was tried: dns, tcp, tls, ehlo or auth."""

    step: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found of one provider, up to the first step that failed."""

    name: str
    steps: Sequence[Step]

    @property
    def ok(self) -> bool:
        """Whether a mail could have followed."""
        return all(step.ok for step in self.steps)

    def document(self) -> dict[str, object]:
        """As a JSON object."""
        steps = [{"step": each.step, "ok": each.ok, "detail": each.detail} for each in self.steps]
        return {"name": self.name, "ok": self.ok, "steps": steps}


def examine_all(reactor: Any, config: Config) -> Deferred[list[Examined]]:
    """What comes of each provider, in their order; they are tried side by side."""
    reactor.installNameResolver(Resolver(reactor.callFromThread))
    examining = [Deferred.fromCoroutine(examine(reactor, each, config.hostname)) for each in config.providers]
    return gatherResults(examining, consumeErrors=True)


async def examine(reactor: Any, provider: Provider, hostname: str) -> Examined:
    """Connect to `provider` and say goodbye."""
    addresses = await _Looking(reactor, provider).done
    if not addresses:
        return Examined(
            provider.name, [Step("dns", False, f"{provider.host} has no address, or no name server answers")]
        )
    steps = [Step("dns", True, f"{provider.host}: {', '.join(addresses)}")]
    watched = _Watched(endpoint(reactor, provider))
    try:
        trusted = trust(provider)
    except (OSError, ValueError) as error:
        return Examined(provider.name, [*steps, Step("tls", False, str(error))])
    try:
        connection = await connect(reactor, provider, hostname, watched, trusted)
    except Fault as fault:
        return Examined(provider.name, [*steps, *_until(provider, fault, watched.where)])
    steps += _all(provider, connection, watched.where)
    connection.quit()
    return Examined(provider.name, steps)


def _until(provider: Provider, fault: Fault, where: str) -> list[Step]:
    """The steps up to the one that failed."""
    reply = str(fault.outcome.reply)
    if not where or fault.stage is Stage.CONNECT:
        return [Step("tcp", False, reply)]
    stage = fault.stage
    steps = [Step("tcp", True, f"connected to {where}")]
    if (provider.tls == "implicit" and stage > Stage.CONNECT and stage is not Stage.TLS) or (
        provider.tls == "starttls" and stage is Stage.AUTH
    ):
        steps.append(Step("tls", True, f"the certificate is for {provider.server_name}"))
    if stage is Stage.AUTH:
        steps.append(Step("ehlo", True, "greeted"))
    return [*steps, Step(_NAMES.get(fault.stage, "ehlo"), False, reply)]


def _all(provider: Provider, connection: Connection, where: str) -> list[Step]:
    """Every step, since a mail could follow."""
    tls = "none is configured"
    if connection.certificate_ends is not None:
        left = connection.certificate_ends - time.time()
        day = time.strftime("%Y-%m-%d", time.gmtime(connection.certificate_ends))
        tls = f"the certificate is for {provider.server_name}, until {day} ({left / 86400:.0f} days"
        tls += ", renew it soon)" if left < _SOON else ")"
    features = connection.features
    offered = [
        *["PIPELINING"] * features.pipelining,
        *["CHUNKING"] * features.chunking,
        *["8BITMIME"] * features.eight_bit_mime,
        *["SMTPUTF8"] * features.smtp_utf8,
        *["DSN"] * features.dsn,
        *[f"SIZE {features.size}"] * bool(features.size),
    ]
    auth = f"{connection.mechanism} as {provider.username}" if connection.mechanism else "no username is configured"
    return [
        Step("tcp", True, f"connected to {where}"),
        Step("tls", True, tls),
        Step("ehlo", True, f"offers {' '.join(offered) or 'nothing of use'}"),
        Step("auth", True, auth),
    ]


@implementer(IStreamClientEndpoint)
class _Watched:
    """An endpoint; `where` says to which address it came."""

    def __init__(self, below: IStreamClientEndpoint) -> None:
        self.where = ""
        self._below = below

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See IStreamClientEndpoint."""
        connecting: Deferred[IProtocol] = self._below.connect(protocolFactory)
        return connecting.addCallback(self._connected)

    def _connected(self, protocol: IProtocol) -> IProtocol:
        self.where = getattr(protocol, "peer", "") or "the provider"
        return protocol


class _Looking:
    """A name that is looked up. `done` fires with its addresses, within the provider's timeout; none: [] ."""

    def __init__(self, reactor: Any, provider: Provider) -> None:
        self.done: Deferred[list[str]] = Deferred()
        self._found: list[str] = []
        self._timer = reactor.callLater(provider.timeout, self.resolutionComplete)
        reactor.nameResolver.resolveHostName(self, provider.host.removesuffix("."), provider.port)

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        """See IResolutionReceiver."""

    def addressResolved(self, address: IPv4Address | IPv6Address) -> None:
        """See IResolutionReceiver."""
        self._found.append(address.host)

    def resolutionComplete(self) -> None:
        """See IResolutionReceiver."""
        if self._timer.active():
            self._timer.cancel()
        if not self.done.called:
            self.done.callback(list(dict.fromkeys(self._found)))
