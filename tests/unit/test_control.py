"""How commands are answered, over a transport in memory."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from relay.control.channel import CONNECTIONS, LONGEST_REQUEST, REQUEST_WITHIN, Answer, CommandFailed, ControlFactory
from relay.spool.spool import SpoolFailing

Body = Callable[[Mapping[str, Any], Answer], Awaitable[Mapping[str, object]]]


class Desk:
    """A factory with one command, "do", and what went wrong in it."""

    def __init__(self, body: Body) -> None:
        self.clock = Clock()
        self.faults: list[Failure] = []
        self.factory = ControlFactory({"do": body}, self.clock, self.faults.append)

    def connect(self) -> Connected:
        """A command connects."""
        return Connected(self)


class Connected:
    """One command."""

    def __init__(self, desk: Desk) -> None:
        self.transport = StringTransport()
        self.protocol = desk.factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def ask(self, request: object) -> list[dict[str, Any]]:
        """What is answered to a request."""
        self.protocol.dataReceived(json.dumps(request).encode() + b"\n")
        return self.said()

    def said(self) -> list[dict[str, Any]]:
        """What was said by now."""
        return [json.loads(line) for line in self.transport.value().splitlines()]

    def leave(self) -> None:
        """The command is gone."""
        self.protocol.connectionLost(Failure(Exception()))


async def counts(request: Mapping[str, Any], answer: Answer) -> Mapping[str, object]:
    """So many objects."""
    for number in range(request["to"]):
        await answer.say({"number": number})
    return {"sum": request["to"]}


def test_an_answer_in_pieces() -> None:
    """One object a line, then what was done, and the end."""
    command = Desk(counts).connect()

    assert command.ask({"command": "do", "to": 2}) == [{"number": 0}, {"number": 1}, {"done": {"sum": 2}}]
    assert command.transport.disconnecting


def test_a_request_in_pieces() -> None:
    """However it is cut."""
    command = Desk(counts).connect()
    for octet in b'{"command":"do","to":1}\n':
        command.protocol.dataReceived(bytes([octet]))

    assert command.said()[-1] == {"done": {"sum": 1}}


def test_requests_that_make_no_sense() -> None:
    """Each is told what is wrong with it."""
    requests: list[object] = [1, [], {}, {"command": 1}, {"command": "undo"}]
    for request in requests:
        [said] = Desk(counts).connect().ask(request)
        assert set(said) == {"failed"}
    command = Desk(counts).connect()
    command.protocol.dataReceived(b"\xff{\n")
    assert set(command.said()[0]) == {"failed"}
    command = Desk(counts).connect()
    command.protocol.dataReceived(b"[" * 100_000 + b"\n")
    assert set(command.said()[0]) == {"failed"}


def test_a_request_without_end() -> None:
    """It is not waited for, neither in octets nor in seconds."""
    desk = Desk(counts)
    command = desk.connect()
    command.protocol.dataReceived(b"x" * (LONGEST_REQUEST + 1))
    assert "too long" in command.said()[0]["failed"]

    command = desk.connect()
    desk.clock.advance(REQUEST_WITHIN)
    assert command.transport.disconnecting


def test_commands_that_fail() -> None:
    """Known reasons are told; an error of ours is logged, and told without its words."""

    def raises(error: Exception) -> Body:
        async def body(_: Mapping[str, Any], __: Answer) -> Mapping[str, object]:
            raise error

        return body

    for known in (CommandFailed("not so"), SpoolFailing("not so")):
        assert Desk(raises(known)).connect().ask({"command": "do"}) == [{"failed": "not so"}]
    desk = Desk(raises(KeyError("sesame")))
    [said] = desk.connect().ask({"command": "do"})
    assert "sesame" not in said["failed"]
    assert len(desk.faults) == 1


def test_one_that_reads_slowly() -> None:
    """Nothing more is made until it has read; then it goes on."""
    command = Desk(counts).connect()
    command.protocol.pauseProducing()
    command.ask({"command": "do", "to": 100_000})
    some = len(command.said())
    assert 0 < some < 10_000

    while command.said()[-1] != {"done": {"sum": 100_000}}:
        command.protocol.resumeProducing()

    assert len(command.said()) == 100_001


def test_one_that_goes_away() -> None:
    """Nothing more is begun for it, and it is forgotten."""
    begun: list[int] = []
    waiting: Deferred[None] = Deferred()

    async def body(_: Mapping[str, Any], answer: Answer) -> Mapping[str, object]:
        for number in range(3):
            begun.append(number)
            await waiting
            await answer.pulse()
        return {}

    desk = Desk(body)
    command = desk.connect()
    command.ask({"command": "do"})
    command.leave()
    waiting.callback(None)

    assert begun == [0]
    assert desk.factory.connections == set()
    assert desk.faults == []
    assert desk.clock.getDelayedCalls() == []


def test_a_second_request() -> None:
    """There is one for each connection."""
    command = Desk(counts).connect()
    command.protocol.dataReceived(b'{"command":"do","to":0}\n{"command":"do","to":1}\n')

    assert command.said() == [{"done": {"sum": 0}}]


def test_too_many_at_a_time() -> None:
    """One too many is told so; when another one has ended there is room."""
    desk = Desk(counts)
    commands = [desk.connect() for _ in range(CONNECTIONS)]

    assert "too many" in desk.connect().said()[0]["failed"]
    commands[0].leave()
    assert desk.connect().ask({"command": "do", "to": 0}) == [{"done": {"sum": 0}}]


def test_the_stop() -> None:
    """Whoever still waits is left."""
    desk = Desk(counts)
    command = desk.connect()

    desk.factory.stop()

    assert command.transport.disconnected or command.transport.disconnecting
