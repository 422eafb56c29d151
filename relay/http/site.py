"""Site: the answers over HTTP/1.0 and 1.1, by Twisted's own parser.

Failure: a header that is not whole within HEADER seconds or is larger than 16 KiB ends its connection; an unexpected
error of ours is logged and answered 500. Nothing that a client sends is kept.
"""

# mypy: allow-untyped-calls
# (Twisted's parser has no types.)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web import http

from relay.http.answers import Answer, Answers, Ask, Source
from relay.metrics import Metrics

HEADER = 30
"""Seconds in which the header of a request must be whole."""

IDLE = 75
"""Seconds that a connection may wait for its next request: longer than a scrape a minute."""

CONNECTIONS = 200
"""At once; for a further one, that is closed whose last answer, or else its beginning, was longest ago."""

BODY = 64 * 1024
"""Octets of a body that are read, and thrown away, before the answer; a longer one is not waited for."""


def make_site(source: Source, metrics: Metrics, *, clock: IReactorTime, now: Callable[[], float]) -> Site:
    """The factory for `[http]`'s listeners. `now` gives seconds since the epoch, by the wall's clock."""
    return Site(Answers(source, metrics.registry, now), clock, now)


class _Request(http.Request):
    """One request: asks for its answer and writes it."""

    channel: _Channel
    _log = Logger()

    def gotLength(self, length: int | None) -> None:
        """Called behind the header; a body would be thrown away."""

    def handleContentChunk(self, data: bytes) -> None:
        """Called for each piece of a body, which is thrown away."""

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Called once the request is whole."""
        self.method, self.uri, self.clientproto = command, path, version
        site = self.channel.site
        answer = self._answered(site.answers)
        self.setResponseCode(answer.code)
        self.responseHeaders.setRawHeaders(b"Date", [http.datetimeToString(site.now())])
        for name, value in answer.fields.items():
            self.responseHeaders.setRawHeaders(name, [value])
        self.write(answer.body)
        self.finish()

    def _answered(self, answers: Answers) -> Answer:
        try:
            return answers(self._ask())
        except Exception:  # whatever it is, it is no reason to leave a reader without a word
            self._log.failure("a page could not be made", Failure())
            return Answer(500, b"This page could not be made; the log says why.\n")

    def _ask(self) -> Ask:
        fields = self.requestHeaders
        return Ask(
            self.getClientAddress(),
            self.clientproto,
            self.method,
            self.uri,
            fields.getRawHeaders(b"Host", []),
            b",".join(fields.getRawHeaders(b"Accept", [])).decode("latin-1"),
        )


class _Channel(http.HTTPChannel):
    """One connection."""

    site: Site
    requestFactory = _Request
    timeOut = HEADER
    _begun = False  # a header is on its way

    def callLater(self, period: float, func: Callable[[], object]) -> IDelayedCall:
        """Timers by the clock that was passed in."""
        return self.site.clock.callLater(period, func)

    def dataReceived(self, data: bytes) -> None:
        """Each octet of Twisted's would begin the wait anew; here the first of a header does."""
        if not self._begun:
            self._begun = True
            self.setTimeout(HEADER)
        LineReceiver.dataReceived(self, data)

    def allHeadersReceived(self) -> None:
        """A body that is long, or that does not say how long, is not waited for: the answer ends the connection."""
        super().allHeadersReceived()
        if self.length is None or self.length > BODY:
            self.length, self.persistent = 0, False
            self.requests[-1].responseHeaders.setRawHeaders(b"Connection", [b"close"])

    def requestDone(self, request: http.Request) -> None:
        """The answer has been written."""
        self._begun = False
        self.site.used(self)
        super().requestDone(request)
        if not self._begun:
            self.setTimeout(IDLE)

    def pauseProducing(self) -> None:
        """The client does not read: what it has asked for ahead waits, so that answers do not pile up."""
        super().pauseProducing()
        self.paused = True

    def resumeProducing(self) -> None:
        """It does again."""
        super().resumeProducing()
        self.paused = False
        LineReceiver.dataReceived(self, b"")

    def end(self) -> None:
        """Close it at once, whether or not its client reads."""
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection has ended."""
        super().connectionLost(reason)
        self.site.connections.pop(self, None)


class Site(ServerFactory):
    """The factory of connections."""

    noisy = False

    def __init__(self, answers: Answers, clock: IReactorTime, now: Callable[[], float]) -> None:
        self.answers = answers
        self.now = now
        self.connections: dict[_Channel, None] = {}  # what was answered longest ago stands first
        self.clock = clock

    def buildProtocol(self, addr: IAddress | None) -> _Channel:
        """A connection. Answers take no time, so all that are open wait for clients: none bars this one."""
        if len(self.connections) >= CONNECTIONS:
            oldest = next(iter(self.connections))
            del self.connections[oldest]
            oldest.end()
        channel = _Channel()
        channel.site = channel.factory = self
        self.connections[channel] = None
        return channel

    def used(self, channel: _Channel) -> None:
        """A client of it has got an answer: it is the last that others have to give way to."""
        if channel in self.connections:
            self.connections[channel] = self.connections.pop(channel)

    def log(self, request: http.Request) -> None:
        """Twisted tells of each request; they are not logged, health checks would drown the rest."""
