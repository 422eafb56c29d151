"""What waits while a mail is made durable, and what happens where that fails."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from relay.reply import Reply
from relay.smtp.submission import Refused
from tests.taking import Connected, Server, policy

ENVELOPE = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n"
SENT = ["250 2.1.0 Ok", "250 2.1.5 Ok"]
GO_AHEAD = "354 End data with <CR><LF>.<CR><LF>"
TROUBLE = "451 4.3.0 an error of ours, try again later"
FULL = Refused(Reply(452, "4.3.1", ("the disk is almost full",)), "disk")


class BrokenError(Exception):
    """Something of ours."""


def slow() -> tuple[Server, Connected]:
    """A server whose mails are not durable before they are told to be, and a client that has sent DATA."""
    server = Server()
    server.taker.at_once = False
    client = server.greeted()
    assert client.ask(ENVELOPE + b"DATA\r\n") == [*SENT, GO_AHEAD]
    return server, client


def test_nothing_is_said_before_the_mail_is_durable() -> None:
    """250 comes with the commit, not before."""
    server, client = slow()

    assert client.ask(b"x\r\n.\r\n") == []
    server.taker.begun[0].commit()

    assert client.said() == ["250 2.0.0 queued as uuid-1"]
    assert client.ask(b"NOOP\r\n") == ["250 2.0.0 Ok"]


def test_what_follows_the_dot_waits_for_its_reply() -> None:
    """Also QUIT, and also where it comes in segments of its own."""
    server, client = slow()

    client.send(b"x\r\n.\r\nNOOP\r\n")
    client.send(b"HELP\r\nQU")
    client.send(b"IT\r\n")
    assert client.said() == []
    server.taker.begun[0].commit()

    assert [reply[:3] for reply in client.said()] == ["250", "250", "214", "221"]
    assert client.is_closed


def test_no_more_is_read_than_is_sent_behind_the_dot() -> None:
    """Once anything comes while a commit is pending, reading pauses until it is done."""
    server, client = slow()

    client.send(b"x\r\n.\r\n")
    assert client.transport.producerState == "producing"
    client.send(b"NOOP\r\n")
    assert client.transport.producerState == "paused"
    server.taker.begun[0].commit()

    assert client.transport.producerState == "producing"


def test_the_next_mail_behind_a_dot() -> None:
    """A pipelined envelope gets its replies behind that of the mail before it (RFC 2920)."""
    server, client = slow()

    client.send(b"x\r\n.\r\n" + ENVELOPE + b"DATA\r\n")
    server.taker.begun[0].commit()
    assert client.said() == ["250 2.0.0 queued as uuid-1", *SENT, GO_AHEAD]
    client.send(b"y\r\n.\r\nQUIT\r\n")
    server.taker.begun[1].commit()

    assert client.said() == ["250 2.0.0 queued as uuid-2", "221 2.0.0 Bye"]


def test_a_client_that_will_say_no_more() -> None:
    """It still hears what became of its mail."""
    server, client = slow()

    client.send(b"x\r\n.\r\n")
    client.protocol.readConnectionLost()
    assert not client.is_closed
    server.taker.begun[0].commit()

    assert client.said() == ["250 2.0.0 queued as uuid-1"]
    assert client.is_closed


def test_a_client_that_is_gone_before_the_commit() -> None:
    """The mail is taken all the same, or not at all; nobody is told."""
    server, client = slow()

    client.send(b"x\r\n.\r\n")
    client.protocol.connectionLost()
    server.taker.begun[0].commit()

    assert len(server.taker.mails) == 1
    assert client.said() == []
    assert server.faults == []


@pytest.mark.parametrize("end", ["half", "lost", "quit"])
def test_a_client_that_is_gone_in_the_middle(end: str) -> None:
    """Half a mail is forgotten."""
    server, client = slow()

    client.send(b"x\r\n")
    if end == "half":
        client.protocol.readConnectionLost()
        assert client.is_closed
    client.protocol.connectionLost()

    assert server.taker.begun[0].abandoned
    assert server.factory.connections == set()
    assert not server.clock.getDelayedCalls()


def test_a_mail_that_cannot_be_made_durable() -> None:
    """The reply says so, it is counted, and the connection goes on."""
    server, client = slow()

    client.send(b"x\r\n.\r\nNOOP\r\n")
    server.taker.begun[0].fail(FULL)

    assert client.said() == ["452 4.3.1 the disk is almost full", "250 2.0.0 Ok"]
    assert server.taker.refusals == [("127.0.0.1", 452, "disk")]
    assert server.faults == []


def test_an_exception_where_the_mail_is_made_durable() -> None:
    """Trouble of ours is a 451, and is told to those who can mend it."""
    server, client = slow()

    client.send(b"x\r\n.\r\nNOOP\r\n")
    server.taker.begun[0].fail(BrokenError())

    assert client.said() == [TROUBLE, "250 2.0.0 Ok"]
    [(failure, session)] = server.faults
    assert failure.check(BrokenError)
    assert (session.client, session.helo, session.protocol) == ("127.0.0.1", "app.example", "ESMTP")


@pytest.mark.parametrize("call", ["write", "finish"])
@pytest.mark.parametrize("each", [0, 1])
def test_an_exception_while_content_arrives(call: str, each: int) -> None:
    """The content is read to its end, nothing of it is taken for a command, and one 451 is said."""
    server = Server()
    client = server.greeted()
    client.ask(ENVELOPE + b"DATA\r\n")

    server.taker.trips[call] = BrokenError()
    client.send(b"x\r\n" * 5 + b"RSET\r\n.\r\n", each=each)

    assert client.said() == [TROUBLE]
    assert len(server.faults) == 1
    assert server.taker.begun[0].abandoned
    server.taker.trips.clear()
    assert client.ask(ENVELOPE + b"DATA\r\n") == [*SENT, GO_AHEAD]
    assert client.ask(b".\r\n") == ["250 2.0.0 queued as uuid-1"]


@pytest.mark.parametrize(("error", "said"), [(FULL, str(FULL.reply)), (BrokenError(), TROUBLE)])
def test_a_mail_that_may_not_begin(error: Exception, said: str) -> None:
    """DATA gets the reply, and the mail stands as it was: the client may try again."""
    server = Server()
    client = server.greeted()

    server.taker.trips["begin"] = error
    assert client.ask(ENVELOPE + b"DATA\r\n") == [*SENT, said]
    server.taker.trips.clear()

    assert client.ask(b"DATA\r\n") == [GO_AHEAD]
    assert client.ask(b"x\r\n.\r\n") == ["250 2.0.0 queued as uuid-1"]


@pytest.mark.parametrize(("error", "said"), [(FULL, str(FULL.reply)), (BrokenError(), TROUBLE)])
def test_chunks_of_a_mail_that_may_not_begin(error: Exception, said: str) -> None:
    """Each chunk up to the last one is read, and gets the reply; it is counted once."""
    server = Server()
    client = server.greeted()

    server.taker.trips["begin"] = error
    sent = ENVELOPE + b"BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"
    assert client.ask(sent) == [*SENT, said, said, "250 2.0.0 Ok"]

    assert len(server.taker.refusals) + len(server.faults) == 1


@pytest.mark.parametrize(("call", "place"), [("validateFrom", 0), ("validateTo", 1)])
@pytest.mark.parametrize(("error", "said"), [(FULL, str(FULL.reply)), (BrokenError(), TROUBLE)])
def test_an_envelope_that_is_refused(call: str, place: int, error: Exception, said: str) -> None:
    """That command gets the reply and changes nothing."""
    server = Server()
    client = server.greeted()
    commands = ENVELOPE.splitlines(keepends=True)

    client.send(b"".join(commands[:place]))
    client.said()
    server.taker.trips[call] = error
    assert client.ask(commands[place]) == [said]
    server.taker.trips.clear()

    assert client.ask(b"".join(commands[place:])) == SENT[place:]
    assert bool(server.taker.refusals) == (error is FULL)
    assert bool(server.faults) == (error is not FULL)


def test_a_reply_that_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows then what the client has heard: the connection ends, and the server lives."""
    server, client = slow()
    client.send(b"x\r\n.\r\n")

    def broken(_: bytes) -> None:
        monkeypatch.undo()
        raise BrokenError

    monkeypatch.setattr(client.transport, "write", broken)
    server.taker.begun[0].commit()

    assert client.is_closed
    assert len(server.faults) == 1


def test_content_that_finds_no_room() -> None:
    """Reading pauses until there is some, and the clock does not run against the client."""
    server, client = slow()

    room = server.taker.room = Deferred[None]()
    client.send(b"x\r\n" * 10)
    assert client.transport.producerState == "paused"
    server.clock.advance(1000)
    assert not client.is_closed
    server.taker.room = None
    room.callback(None)
    assert client.transport.producerState == "producing"
    client.send(b".\r\n")
    server.taker.begun[0].commit()

    assert client.said() == ["250 2.0.0 queued as uuid-1"]
    assert server.taker.mails[0].content == b"x\r\n" * 10


@pytest.mark.parametrize("room_first", [True, False])
def test_room_that_comes_behind_the_dot(*, room_first: bool) -> None:
    """Whatever comes first, room or commit, reading goes on once both are there."""
    server, client = slow()
    room = server.taker.room = Deferred[None]()
    client.send(b"x\r\n.\r\nNOOP\r\n")

    steps = [lambda: room.callback(None), server.taker.begun[0].commit]
    for step in steps if room_first else reversed(steps):
        assert client.transport.producerState == "paused"
        step()

    assert client.transport.producerState == "producing"
    assert client.said() == ["250 2.0.0 queued as uuid-1", "250 2.0.0 Ok"]


def test_room_that_comes_when_the_client_is_gone() -> None:
    """Nobody is there to be resumed."""
    server, client = slow()
    room = server.taker.room = Deferred[None]()

    client.send(b"x\r\n")
    client.protocol.connectionLost()
    client.transport.stopProducing()
    room.callback(None)

    assert server.faults == []


def test_a_slow_commit_is_no_idle_client() -> None:
    """The wait for us is not counted; the wait for the client begins with our reply."""
    server, client = slow()

    client.send(b"x\r\n.\r\n")
    server.clock.advance(1000)
    assert not client.is_closed
    server.taker.begun[0].commit()
    client.said()
    server.clock.advance(299)
    assert not client.is_closed
    server.clock.advance(301)

    assert client.said() == ["421 4.4.2 nothing came for too long"]


def test_a_client_that_does_not_read() -> None:
    """What it sends waits, too, and at last the connection is cut."""
    server = Server()
    client = server.greeted()

    client.protocol.pauseProducing()
    client.send(b"NOOP\r\n")
    assert client.said() == []
    assert client.transport.producerState == "paused"
    client.protocol.resumeProducing()
    assert client.said() == ["250 2.0.0 Ok"]
    assert client.transport.producerState == "producing"
    client.protocol.pauseProducing()
    server.clock.advance(301)

    assert client.transport.disconnected


def test_a_connection_that_does_not_end() -> None:
    """A second after the last reply it is cut."""
    server = Server()
    client = server.greeted()

    client.ask(b"QUIT\r\n")
    assert not client.transport.disconnected
    server.clock.advance(1)

    assert client.transport.disconnected


def test_dsn_parameters_go_with_the_mail() -> None:
    """RET, ENVID, NOTIFY and ORCPT reach whoever delivers (RFC 3461)."""
    server = Server()
    client = server.greeted()

    client.send(b"MAIL FROM:<a@example.com> RET=FULL ENVID=x+2By SMTPUTF8\r\n")
    client.send(b"RCPT TO:<b@example.net> NOTIFY=FAILURE,delay ORCPT=rfc822;c@example.net\r\nDATA\r\n")
    client.send(b".\r\n")

    [mail] = server.taker.mails
    [recipient] = mail.recipients
    assert (mail.ret, mail.envid, mail.session.protocol) == ("FULL", "x+2By", "UTF8SMTP")
    assert recipient.notify == frozenset({"FAILURE", "DELAY"})
    assert recipient.orcpt == "rfc822;c@example.net"


@pytest.mark.parametrize(("hello", "protocol"), [(b"HELO x", "SMTP"), (b"EHLO x", "ESMTP")])
def test_how_the_mail_came(hello: bytes, protocol: str) -> None:
    """The session is that of the last greeting."""
    server = Server()
    client = server.greeted()

    client.send(hello + b"\r\n")
    client.send(ENVELOPE + b"DATA\r\n")
    client.send(b".\r\n")

    session = server.taker.mails[0].session
    assert (session.client, session.helo, session.protocol) == ("127.0.0.1", "x", protocol)
    assert server.taker.identities == [(b"x", b"127.0.0.1")]


def test_a_policy_that_changes() -> None:
    """It holds for connections that are open, from their next command on."""
    server = Server()
    client = server.greeted()

    server.factory.follow(policy(max_size=10, max_recipients=1, idle_timeout=5.0))

    assert client.ask(b"MAIL FROM:<a@example.com> SIZE=11\r\n")[0].startswith("552 5.3.4")
    client.ask(ENVELOPE)
    assert client.ask(b"RCPT TO:<c@example.net>\r\n")[0].startswith("452 4.5.3")
    client.send(b"EHLO x\r\n")
    assert b"SIZE 10\r\n" in client.transport.value()
