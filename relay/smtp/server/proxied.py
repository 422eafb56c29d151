"""Proxied: connections that HAProxy passes on, with a header before them that says for whom (the PROXY protocol).

The protocol behind learns of a connection only once the header is whole: until then nothing is said. Twisted's own
wrapper greets first, and wants the header's beginning in one piece.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

from relay.smtp.grammar.proxy import ProxyError, ProxyHeader, parse

HEADER_TIMEOUT = 5.0
"""Seconds within which the header must be whole."""

LAST_HEADER = 1.0
"""Seconds that a server which stops waits for it."""


class Proxied(ProtocolWrapper):
    """One such connection; the transport of the protocol behind it.

    `header` is None until it is whole. `ahead`: whether the client's first octets came together with it.
    """

    factory: ProxiedFactory
    transport: ITCPTransport
    header: ProxyHeader | None = None
    ahead = False
    _octets = b""
    _timer: IDelayedCall

    def makeConnection(self, transport: ITCPTransport) -> None:
        """Wait for the header."""
        directlyProvides(self, providedBy(transport), IHalfCloseableProtocol)
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)  # type: ignore[no-untyped-call]
        self._timer = self.factory.clock.callLater(HEADER_TIMEOUT, transport.abortConnection)

    def dataReceived(self, data: bytes) -> None:
        """The header, then what is for the protocol behind."""
        if self.header is not None:
            self.wrappedProtocol.dataReceived(data)
            return
        self._octets += data
        try:
            self.header = parse(self._octets)
        except ProxyError:
            self.transport.abortConnection()
            return
        if self.header is None:
            return
        self._timer.cancel()
        rest = self._octets[self.header.size :]
        self._octets = b""
        self.ahead = bool(rest)
        self.wrappedProtocol.makeConnection(self)  # type: ignore[arg-type]  # it provides what its transport does
        self.ahead = False
        if rest:
            self.wrappedProtocol.dataReceived(rest)
        self.factory.heard()

    def getPeer(self) -> IAddress:
        """For whom the proxy speaks, or itself where it names nobody."""
        header = self.header
        if header is None or not header.source:
            return self.transport.getPeer()
        kind = IPv6Address if ":" in header.source else IPv4Address
        return kind("TCP", header.source, header.port)

    def readConnectionLost(self) -> None:
        """The client will say no more, but may listen still."""
        if self.header is None:
            self.transport.abortConnection()
        else:
            IHalfCloseableProtocol(self.wrappedProtocol).readConnectionLost()

    def writeConnectionLost(self) -> None:
        """Never asked for."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The protocol behind is told where it knows of the connection at all."""
        self.factory.unregisterProtocol(self)  # type: ignore[no-untyped-call]
        if self._timer.active():
            self._timer.cancel()
        if self.header is not None:
            self.wrappedProtocol.connectionLost(reason)
        del self.wrappedProtocol
        self.factory.heard()


class ProxiedFactory(WrappingFactory[Proxied]):
    """Makes them before the connections of another factory; at most `limit` of them may be waiting for a header."""

    noisy = False
    protocol = Proxied

    def __init__(self, wrapped: ServerFactory, clock: IReactorTime, limit: int) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        self.clock = clock
        self.limit = limit
        self._asked: list[Deferred[None]] = []

    @property
    def waiting(self) -> int:
        """How many wait for their header."""
        return sum(proxied.header is None for proxied in self.protocols)

    def buildProtocol(self, addr: IAddress | None) -> Proxied | None:  # type: ignore[override]  # None: as IFactory has it
        """One more, or None, which closes the connection."""
        return super().buildProtocol(addr) if self.waiting < self.limit else None

    def settled(self) -> Deferred[None]:
        """Fires when nobody waits for a header any more, or has waited in vain: a proxy has it ready."""
        if not self.waiting:
            return succeed(None)
        asked = Deferred[None]()
        self._asked.append(asked)
        timer = self.clock.callLater(LAST_HEADER, self._answer)
        return asked.addCallback(lambda _: timer.cancel() if timer.active() else None)

    def heard(self) -> None:
        """A header was whole, or will not come."""
        if self._asked and not self.waiting:
            self._answer()

    def _answer(self) -> None:
        asked, self._asked = self._asked, []
        for each in asked:
            each.callback(None)
