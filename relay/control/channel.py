"""Channel: how commands are answered over the unix socket in the spool's directory, whose mode says who may ask.

A request is one JSON object on a line: {"command": "queue list", …}. The answer is a stream of them, one a line, and
ends with {"done": …} or {"failed": "why"}; then the connection is closed. A command that reads slowly is waited for;
for one that goes away nothing more is begun.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IPushProducer, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.spool.spool import SpoolError

LONGEST_REQUEST = 1024 * 1024
"""Octets of a request, at most: room for some 25,000 ids."""

REQUEST_WITHIN = 30.0
"""Seconds in which a request must have come."""

CONNECTIONS = 32
"""Commands at a time."""

_WRITE = 32 * 1024

Request = Mapping[str, Any]


class CommandFailed(Exception):
    """It cannot be done; the text says why."""


class GoneAway(Exception):
    """Nobody waits for the answer any more."""


class Answer:
    """Where a command puts its answer, one JSON object at a time."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._pieces: list[bytes] = []
        self._size = 0

    async def pulse(self) -> None:
        """Raises GoneAway if nobody waits any more: to be called between two things that are each a whole."""
        await self._connection.send(b"")

    async def say(self, thing: Mapping[str, object]) -> None:
        """One object. It goes out with those behind it; returns once there is room for more."""
        octets = json.dumps(thing, separators=(",", ":")).encode() + b"\n"
        self._pieces.append(octets)
        self._size += len(octets)
        if self._size >= _WRITE:
            await self.flush()

    async def flush(self) -> None:
        """Have all of it go out now."""
        octets = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        await self._connection.send(octets)


Command = Callable[[Request, Answer], Awaitable[Mapping[str, object]]]
"""Does what a request asks for; what it returns is said as "done". Raises CommandFailed, SpoolError and GoneAway."""


@implementer(IPushProducer)
class _Connection(LineOnlyReceiver):
    """One command."""

    delimiter = b"\n"
    MAX_LENGTH = LONGEST_REQUEST
    factory: ControlFactory
    transport: Any

    def connectionMade(self) -> None:
        """Wait for a request."""
        self._room: Deferred[None] | None = None
        self._gone = False
        self._timer = self.factory.clock.callLater(REQUEST_WITHIN, self.transport.loseConnection)
        self.transport.registerProducer(self, True)
        if len(self.factory.connections) >= CONNECTIONS:
            self._end({"failed": "too many commands at a time, try again"})
            return
        self.factory.connections.add(self)

    def lineReceived(self, line: bytes) -> None:
        """Do what is asked."""
        if self._timer.active():
            self._timer.cancel()
            Deferred.fromCoroutine(self._answer(line))

    def lineLengthExceeded(self, line: bytes) -> None:
        """Too much at once."""
        self._end({"failed": "the request is too long: name fewer mails, or select them"})

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody listens any more."""
        self.factory.connections.discard(self)
        if self._timer.active():
            self._timer.cancel()
        self._gone = True
        self.resumeProducing()

    async def _answer(self, line: bytes) -> None:
        answer = Answer(self)
        last: dict[str, object]
        try:
            last = {"done": await self.factory.perform(line, answer)}
            await answer.flush()
        except GoneAway:
            return
        except (CommandFailed, SpoolError) as error:
            last = {"failed": str(error)}
        except Exception:
            self.factory.unexpected(Failure())
            last = {"failed": "an error of the daemon's own: see its log"}
        self._end(last)

    def _end(self, last: Mapping[str, object]) -> None:
        self.transport.write(json.dumps(last, separators=(",", ":")).encode() + b"\n")
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    async def send(self, octets: bytes) -> None:
        """Write, and wait until it has gone or will go at once. Raises GoneAway."""
        if octets:
            self.transport.write(octets)
        if self._room is not None:
            await self._room
        if self._gone:
            raise GoneAway

    def pauseProducing(self) -> None:
        """Enough waits to be read."""
        if self._room is None:
            self._room = Deferred()

    def resumeProducing(self) -> None:
        """More may come."""
        room, self._room = self._room, None
        if room is not None and not room.called:
            room.callback(None)

    def stopProducing(self) -> None:
        """The connection is gone; connectionLost says so, too."""


class ControlFactory(Factory):
    """Makes the connections of the socket.

    commands    by name
    unexpected  told of exceptions of ours
    """

    noisy = False

    def __init__(
        self, commands: Mapping[str, Command], clock: IReactorTime, unexpected: Callable[[Failure], None]
    ) -> None:
        self.commands = commands
        self.clock = clock
        self.unexpected = unexpected
        self.connections: set[_Connection] = set()

    def buildProtocol(self, addr: IAddress | None) -> _Connection:  # type: ignore[override]  # as Twisted's own do
        """One more command."""
        connection = _Connection()
        connection.factory = self
        return connection

    async def perform(self, line: bytes, answer: Answer) -> Mapping[str, object]:
        """Do what the request in `line` asks for."""
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            raise CommandFailed("a request is a JSON object on one line") from None
        if not isinstance(request, dict) or not isinstance(request.get("command"), str):
            raise CommandFailed("a request is a JSON object that names its command")
        command = self.commands.get(request.pop("command"))
        if command is None:
            raise CommandFailed(f"this daemon knows no such command, but: {', '.join(self.commands)}")
        return await command(request, answer)

    def stop(self) -> None:
        """End all that is under way."""
        for connection in list(self.connections):
            connection.transport.abortConnection()
