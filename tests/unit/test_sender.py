"""The sender over transports in memory: opening a connection, carrying mail over it, and every way it can end."""

from __future__ import annotations

import errno
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.mail.smtp import ESMTPSender
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.config.values import Provider, Secret
from relay.envelope import Recipient
from relay.outcome import (
    CannotTake,
    Delivered,
    Outcome,
    ProviderFault,
    Rejected,
    Retired,
    Stage,
    Uncertain,
)
from relay.outcome import (
    Deferred as Postponed,
)
from relay.reply import Reply
from relay.spool.spool import Body
from relay.upstream.sender import Batch, Connection, Fault, Features, Result, connect
from relay.upstream.sender.content import PIECE
from relay.upstream.sender.ehlo import offer
from relay.upstream.sender.login import order
from relay.upstream.sender.passage import WARM

PROVIDER = Provider(host="127.0.0.1", name="primary", port=25, tls="none")
SECRET = "correct horse"
ACCOUNT = evolve(PROVIDER, username="user1", password=Secret(SECRET))
PIPELINING = b"250-provider.example\r\n250 PIPELINING\r\n"
CHUNKING = b"250-provider.example\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
PLAIN = b"250 provider.example\r\n"
BODY = b"Subject: t\r\n\r\nx\r\n"
ENVELOPE = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n"
CHUNK = b"BDAT %d LAST\r\n" % len(BODY) + BODY


def batch(*addresses: str, body: Body = BODY, head: bytes = b"") -> Batch:
    recipients = tuple([Recipient(address) for address in addresses or ("b@example.net",)])
    size = len(head) + (len(body) if isinstance(body, bytes) else body.size)
    return Batch("a@example.com", recipients, head, body, size)


def result_of(done: Deferred[Result]) -> Result:
    assert done.called, "no result yet"
    result = done.result
    assert isinstance(result, Result)
    return result


def kinds(done: Deferred[Result]) -> list[type[Outcome]]:
    return [type(outcome) for outcome in result_of(done).outcomes]


class Narrow(FileDescriptor):
    """A transport whose kernel takes no more octets than there is `room` for; the reactor's turns are the test's."""

    connected = 1

    def __init__(self) -> None:
        reactor: Any = self
        super().__init__(reactor)
        self.room = 0
        self.taken = bytearray()
        self.aborted = False
        self.socket = self
        self.incoming: bytes | None = None

    def addWriter(self, _: object) -> None:
        """Part of its reactor."""

    def removeWriter(self, _: object) -> None:
        """Part of its reactor."""

    def removeReader(self, _: object) -> None:
        """Part of its reactor."""

    def writeSomeData(self, data: bytes) -> int:
        """What the kernel takes."""
        taken = min(len(data), self.room)
        self.room -= taken
        self.taken += bytes(data[:taken])
        return taken

    def send(self, data: bytes) -> int:
        """Part of its socket."""
        if not self.room:
            raise BlockingIOError
        return self.writeSomeData(data)

    def recv(self, size: int, flags: int) -> bytes:
        """Part of its socket: what has come and the reactor has not read yet; b"" is the end."""
        if self.incoming is None:
            raise BlockingIOError
        return self.incoming[:size]

    def flow(self, octets: int) -> None:
        """The peer reads so many octets."""
        self.room += octets
        while self.room and len(self.dataBuffer) - self.offset + self._tempDataLen:
            self.doWrite()

    def abortConnection(self) -> None:
        """Note it."""
        self.aborted = True


class Peer:
    """A provider that says what the test wants, and keeps what it hears."""

    def __init__(
        self, ehlo: bytes = PIPELINING, provider: Provider = PROVIDER, transport: Any = None, *, opens: bool = True
    ) -> None:
        self.clock = Clock()
        self.transport: Any = transport or StringTransport()
        self.connection = Connection(provider, "app1.example.com", None, self.clock)
        self.connection.makeConnection(self.transport)
        if opens:
            self.opens(ehlo)

    def opens(self, ehlo: bytes) -> None:
        """Greet, and answer EHLO."""
        self.says(b"220 provider.example\r\n")
        self.says(ehlo)
        self.hears()

    def says(self, *octets: bytes) -> None:
        """Each argument comes in a segment of its own."""
        for each in octets:
            self.connection.dataReceived(each)

    def hears(self) -> bytes:
        """What was said to it since the last time."""
        if isinstance(self.transport, Narrow):
            self.transport.flow(10**9)
            heard = bytes(self.transport.taken)
            self.transport.taken.clear()
            self.transport.room = 0
        else:
            heard = bytes(self.transport.value())
            self.transport.clear()
        return heard

    def leaves(self, reason: Exception | None = None) -> None:
        """The connection is gone."""
        if isinstance(self.transport, Narrow):
            self.transport.connectionLost(Failure(reason or ConnectionDone()))
        self.connection.connectionLost(Failure(reason or ConnectionDone()))

    def takes(self, *, said: bytes = b"250 2.0.0 Queued\r\n", what: Batch | None = None) -> Deferred[Result]:
        """One mail goes through."""
        done = self.connection.deliver(what or batch())
        if self.connection.features.chunking:
            self.says(b"250 Ok\r\n250 Ok\r\n", said)
        else:
            self.says(b"250 Ok\r\n250 Ok\r\n354 Go\r\n", said)
        return done

    @property
    def closes(self) -> bool:
        """Whether we have closed the connection."""
        return bool(self.transport.disconnecting) or bool(getattr(self.transport, "aborted", False))

    @property
    def fault(self) -> ProviderFault:
        """Why the connection did not open."""
        assert self.connection.opened.called
        fault = self.connection.opened.result
        assert isinstance(fault, ProviderFault)
        return fault


# Opening


def test_an_open_connection() -> None:
    """Greeting, EHLO, and what was offered; it is Twisted's sender underneath."""
    peer = Peer(opens=False)
    assert isinstance(peer.connection, ESMTPSender)
    assert peer.hears() == b""
    peer.says(b"220-provider.example\r\n220 ESMTP\r\n")
    assert peer.hears() == b"EHLO app1.example.com\r\n"
    assert not peer.connection.opened.called
    peer.says(PIPELINING)
    assert peer.connection.opened.called
    assert peer.connection.features == Features(pipelining=True)
    assert peer.hears() == b""
    assert not peer.connection.busy
    assert peer.connection.peer == "192.168.1.1"
    assert repr(peer.connection) == "<Connection to primary, MAIL>"


@pytest.mark.parametrize(
    "greeting",
    [
        b"554 No service\r\n",
        b"421 4.3.2 Busy\r\n",
        b"250 Ok\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\n",
    ],
)
def test_no_greeting(greeting: bytes) -> None:
    """What is no 220 is a provider fault, and the connection is closed without a word."""
    peer = Peer(opens=False)
    peer.says(greeting)
    assert not peer.fault.auth
    assert peer.closes
    assert peer.hears() == b""


@pytest.mark.parametrize("said", [b"421 4.7.0 Try again later, closing connection. (EHLO)\r\n", b"502 What?\r\n"])
def test_ehlo_refused(said: bytes) -> None:
    """No HELO behind it; the fault quotes the reply and the name that was said."""
    peer = Peer(opens=False)
    peer.says(b"220 hello\r\n", said)
    assert peer.hears() == b"EHLO app1.example.com\r\n"
    assert str(peer.fault.reply) == f"{said.decode().strip()} (to EHLO app1.example.com)"
    assert peer.closes


def test_tls_without_trust() -> None:
    """Who forgets whom to trust gets no connection, rather than one in clear."""
    peer = Peer(provider=evolve(ACCOUNT, tls="starttls"), opens=False)
    peer.says(b"220 hello\r\n", b"250-x\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n")
    assert peer.hears() == b"EHLO app1.example.com\r\n"
    assert peer.fault


@pytest.mark.parametrize(("said", "awaited"), [(b"", "the greeting"), (b"220 hello\r\n", "the reply to EHLO")])
def test_lost_while_opening(said: bytes, awaited: str) -> None:
    """A fault that says how far it came."""
    peer = Peer(opens=False)
    peer.says(said)
    peer.leaves()
    assert str(peer.fault.reply) == f"the connection was lost while waiting for {awaited}"


@pytest.mark.parametrize(
    ("lines", "features"),
    [
        (["SIZE 0"], Features(size=0)),
        (["SIZE"], Features(size=0)),
        (["SIZE many"], Features(size=0)),
        (["SIZE 41943040", "SIZE 10485760"], Features(size=41943040)),
        (["SIZE 10485760", "SIZE 0"], Features(size=0)),
        (["size 35882577", "pipelining", "starttls"], Features(pipelining=True, size=35882577)),
        (["8 BITMIME"], Features()),
        (["8BITMIME", "SMTPUTF8", "DSN"], Features(eight_bit_mime=True, smtp_utf8=True, dsn=True)),
        (["CHUNKING", "ENHANCEDSTATUSCODES "], Features(chunking=True, enhanced=True)),
        (["XPIPELINING", "", "-", "PIPELINING2"], Features()),
    ],
)
def test_what_ehlo_offers(lines: list[str], features: Features) -> None:
    """Keywords in any case; a limit that is not stated is none."""
    assert offer(Reply(250, "", ("provider.example PIPELINING", *lines))).features == features


@pytest.mark.parametrize(
    ("lines", "mechanisms"),
    [
        (["AUTH PLAIN LOGIN", "AUTH=PLAIN LOGIN"], ("PLAIN", "LOGIN")),
        (["AUTH=LOGIN PLAIN"], ("LOGIN", "PLAIN")),
        (["auth plain cram-md5"], ("PLAIN", "CRAM-MD5")),
        (["AUTH= LOGIN"], ("LOGIN",)),
        (["AUTH"], ()),
        (["STARTTLS"], ()),
    ],
)
def test_mechanisms(lines: list[str], mechanisms: tuple[str, ...]) -> None:
    """Old servers write `AUTH=`, beside the other form or alone."""
    assert offer(Reply(250, "", ("x", *lines))).mechanisms == mechanisms


# AUTH


def login(auth: bytes, *, provider: Provider = ACCOUNT) -> Peer:
    """A provider that waits for AUTH."""
    peer = Peer(provider=provider, opens=False)
    peer.says(b"220 hello\r\n", b"250-provider.example\r\n250-PIPELINING\r\n250 " + auth + b"\r\n")
    heard = peer.hears()
    assert heard.startswith(b"EHLO app1.example.com\r\n")
    peer.transport.write(heard.removeprefix(b"EHLO app1.example.com\r\n"))
    return peer


def test_the_order_of_mechanisms() -> None:
    """PLAIN first inside TLS, what hides the password first outside of it; the configuration may name one."""
    offered = ("XOAUTH2", "LOGIN", "CRAM-MD5", "PLAIN")
    assert order(offered, "", secure=True) == ["PLAIN", "LOGIN", "CRAM-MD5"]
    assert order(offered, "", secure=False) == ["CRAM-MD5", "LOGIN", "PLAIN"]
    assert order(offered, "LOGIN", secure=True) == ["LOGIN"]
    assert order(("PLAIN",), "LOGIN", secure=True) == []


def test_plain() -> None:
    """The initial response is on the line (RFC 4616); no EHLO follows."""
    peer = login(b"AUTH PLAIN")
    [answer] = re.fullmatch(rb"AUTH PLAIN (\S+)\r\n", peer.hears()).groups()  # type: ignore[union-attr]
    assert b64decode(answer) == b"\0user1\0correct horse"
    peer.says(b"235 2.7.0 Welcome\r\n")
    assert peer.connection.opened.called
    assert peer.connection.mechanism == "PLAIN"
    assert peer.hears() == b""


@pytest.mark.parametrize("said", [b"334\r\n", b"334 \r\n", b"334 go on, please\r\n"])
def test_a_long_password(said: bytes) -> None:
    """A line over 512 octets is no command line: the response follows the 334 (RFC 4954, 4)."""
    password = "ü" + "x" * 598
    peer = login(b"AUTH PLAIN", provider=evolve(ACCOUNT, password=Secret(password)))
    assert peer.hears() == b"AUTH PLAIN\r\n"
    peer.says(said)
    assert b64decode(peer.hears()) == b"\0user1\0" + password.encode()
    peer.says(b"235 Welcome\r\n")
    assert peer.connection.opened.called


def test_as_long_as_a_line_may_be() -> None:
    """512 octets, the line end included, still go at once."""
    for length, at_once in ((365, True), (366, False)):
        peer = login(b"AUTH PLAIN", provider=evolve(ACCOUNT, password=Secret("x" * length)))
        heard = peer.hears()
        assert len(heard) <= 512
        assert heard.startswith(b"AUTH PLAIN ") == at_once


@pytest.mark.parametrize(
    "prompts",
    [(b"334 dXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQA\r\n"), (b"334\r\n", b"334\r\n"), (b"334 User:\r\n", b"334 ???\r\n")],
)
def test_login(prompts: tuple[bytes, bytes]) -> None:
    """User, then password, whatever the prompts say; nothing else on the line of AUTH."""
    peer = login(b"AUTH=LOGIN")
    assert peer.hears() == b"AUTH LOGIN\r\n"
    peer.says(prompts[0])
    assert peer.hears() == b64encode(b"user1") + b"\r\n"
    peer.says(prompts[1])
    assert peer.hears() == b64encode(SECRET.encode()) + b"\r\n"
    peer.says(b"235 Welcome\r\n")
    assert peer.connection.mechanism == "LOGIN"


def test_cram_md5() -> None:
    """The example of RFC 2195."""
    account = evolve(ACCOUNT, username="tim", password=Secret("tanstaaftanstaaf"))
    peer = login(b"AUTH CRAM-MD5", provider=account)
    assert peer.hears() == b"AUTH CRAM-MD5\r\n"
    peer.says(b"334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\r\n")
    assert b64decode(peer.hears()) == b"tim b913a602c7eda7a495b4e6e7334d3890"


@pytest.mark.parametrize(
    ("auth", "dialogue"),
    [
        (b"AUTH CRAM-MD5", [b"334 no base64\r\n"]),
        (b"AUTH LOGIN", [b"334\r\n", b"334\r\n", b"334\r\n"]),
        (b"AUTH PLAIN", [b"334\r\n", b"334\r\n"]),
    ],
)
def test_a_challenge_too_many(auth: bytes, dialogue: list[bytes]) -> None:
    """A server that asks for ever is given up."""
    peer = login(auth)
    peer.says(*dialogue)
    assert "makes no sense" in str(peer.fault.reply)


@pytest.mark.parametrize("said", [b"504 What?\r\n", b"501 5.5.4 No\r\n", b"550 5.7.4 No\r\n", b"500 5.5.4 No\r\n"])
def test_a_mechanism_gives_way(said: bytes) -> None:
    """The next one that is offered is tried; after the last one it is over."""
    peer = login(b"AUTH PLAIN LOGIN")
    assert peer.hears() == b"AUTH LOGIN\r\n"
    peer.says(said)
    assert peer.hears().startswith(b"AUTH PLAIN ")
    peer.says(said)
    assert peer.fault.auth


@pytest.mark.parametrize("said", [b"535 5.7.8 No\r\n", b"535 5.7.4 No\r\n", b"451 Credits exceeded\r\n", b"500 No\r\n"])
def test_auth_refused(said: bytes) -> None:
    """That is said once, and marked: more tries might lock the account."""
    peer = login(b"AUTH PLAIN LOGIN")
    peer.hears()
    peer.says(said)
    assert peer.hears() == b""
    assert peer.fault.auth
    assert str(peer.fault.reply) == said.decode().strip()
    assert peer.closes


@pytest.mark.parametrize(
    ("auth", "wanted"), [(b"SIZE", ""), (b"AUTH", ""), (b"AUTH GSSAPI XOAUTH2", ""), (b"AUTH LOGIN", "PLAIN")]
)
def test_no_mechanism(auth: bytes, wanted: str) -> None:
    """Credentials that are configured make a login mandatory."""
    peer = login(auth, provider=evolve(ACCOUNT, auth=wanted))
    assert peer.hears() == b""
    assert "AUTH is " in str(peer.fault.reply)
    assert not peer.fault.auth
    assert peer.closes


def test_nothing_is_said_of_the_password() -> None:
    """Neither in a reply that quotes us, nor in what the objects show of themselves."""
    peer = login(b"AUTH PLAIN")
    sent = peer.hears().strip()
    peer.says(b"500-5.5.2 What is " + sent + b"\r\n500-5.5.2 " + sent[:30] + b"\r\n500 5.5.2 correct horse?\r\n")
    shown = f"{peer.fault!r} {peer.fault.reply} {peer.connection!r} {vars(peer.connection)}"
    assert "What is AUTH PLAIN …" in str(peer.fault.reply)
    for secret in (SECRET, sent.split()[-1].decode()[:12], b64encode(SECRET.encode()).decode()):
        assert secret not in shown


# Carrying mail


def warm(transport: Any = None) -> Peer:
    """One that offers CHUNKING and has just taken a mail behind another."""
    peer = Peer(CHUNKING, transport=transport)
    for _ in range(2):
        done = peer.connection.deliver(batch())
        peer.hears()
        peer.says(b"250 Ok\r\n250 Ok\r\n")
        peer.hears()
        peer.says(b"250 2.0.0 Queued\r\n")
        assert kinds(done) == [Delivered]
    return peer


def test_one_mail_after_another() -> None:
    """Without a RSET in between, each with its own result."""
    peer = Peer()
    for number in range(3):
        peer.clock.advance(5)
        done = peer.takes(said=b"250 2.0.0 Queued as %d\r\n" % number)
        assert peer.hears() == ENVELOPE + b"DATA\r\n" + BODY + b".\r\n"
        expected = Delivered(Reply(250, "2.0.0", (f"Queued as {number}",)))
        assert result_of(done) == Result((expected,), usable=True, begun=True)
        assert peer.connection.carried == number + 1
        assert peer.connection.idle_since == peer.clock.seconds()
        assert not peer.connection.busy


def test_whole_while_the_connection_is_warm() -> None:
    """A small mail leaves with one write if the connection has just carried several; else MAIL goes ahead."""
    peer = Peer(CHUNKING)
    peer.takes()
    peer.hears()

    peer.connection.deliver(batch())
    assert peer.hears() == ENVELOPE
    peer.says(b"250 Ok\r\n250 Ok\r\n")
    assert peer.hears() == CHUNK
    peer.says(b"250 2.0.0 Queued\r\n")

    peer.clock.advance(WARM - 0.1)
    done = peer.connection.deliver(batch())
    assert peer.hears() == ENVELOPE + CHUNK
    peer.says(b"250 Ok\r\n250 Ok\r\n250 2.0.0 Queued\r\n")
    assert kinds(done) == [Delivered]

    peer.clock.advance(WARM + 0.1)
    peer.connection.deliver(batch())
    assert peer.hears() == ENVELOPE


def test_a_provider_that_leaves_after_each_mail() -> None:
    """The mail behind the first one has not left by then, and is nobody's fault."""
    peer = Peer(CHUNKING)
    peer.takes()
    done = peer.connection.deliver(batch())
    peer.leaves()
    assert kinds(done) == [Retired]


def test_a_provider_that_leaves_behind_a_refusal() -> None:
    """The same, where the connection has carried several."""
    peer = warm()
    done = peer.connection.deliver(batch())
    peer.says(b"250 Ok\r\n550 5.7.1 No\r\n503 No\r\n")
    assert kinds(done) == [Rejected]
    peer.hears()

    done = peer.connection.deliver(batch())
    assert peer.hears() == b"RSET\r\n" + ENVELOPE
    peer.leaves()
    assert kinds(done) == [Retired]


@pytest.mark.parametrize("incoming", [b"", b"421 4.4.2 Bye\r\n"])
def test_gone_before_it_leaves_whole(incoming: bytes) -> None:
    """What the provider did before is read before anything leaves."""
    peer = warm(Narrow())
    peer.transport.room = 10_000
    peer.transport.incoming = incoming
    done = peer.connection.deliver(batch())
    assert not peer.transport.taken
    peer.says(incoming)
    peer.leaves()
    assert kinds(done) == [Retired]


def test_a_refusal_where_the_mail_left_whole() -> None:
    """Each recipient has its own reply; what is said of the content then says nothing, and RSET follows."""
    peer = warm()
    done = peer.connection.deliver(batch())

    peer.says(b"250 Ok\r\n550 5.1.1 No\r\n503 No\r\n")

    assert kinds(done) == [Rejected]
    peer.hears()
    peer.connection.deliver(batch())
    assert peer.hears().startswith(b"RSET\r\n")


@pytest.mark.parametrize(
    ("said", "kind"), [(b"", Uncertain), (b"250 Ok\r\n", Uncertain), (b"421 4.4.2 Bye\r\n", Retired)]
)
def test_lost_where_the_mail_left_whole(said: bytes, kind: type[Outcome]) -> None:
    """Nobody knows whether it was taken, unless the provider says good-bye."""
    peer = warm()
    done = peer.connection.deliver(batch())

    peer.says(said)
    peer.leaves(ConnectionLost())

    assert kinds(done) == [kind]


def test_replies_in_any_pieces() -> None:
    """Octet by octet, and each line in the same segment as the next."""
    peer = Peer()
    done = peer.connection.deliver(batch())
    peer.says(*[bytes([octet]) for octet in b"250-2.1.0 Ok\r\n250 2.1.0 Ok\n250 Ok\r\n354 Go\n250 Queued\n"])
    assert kinds(done) == [Delivered]


def test_a_reset_after_a_refusal() -> None:
    """And only then."""
    peer = Peer()
    done = peer.connection.deliver(batch())
    peer.says(b"250 Ok\r\n550 5.1.1 No\r\n503 No\r\n")
    assert result_of(done) == Result((Rejected(Reply(550, "5.1.1", ("No",)), final=True),), usable=True, begun=True)
    assert peer.connection.carried == 1
    peer.hears()
    done = peer.connection.deliver(batch())
    assert peer.hears() == b"RSET\r\n" + ENVELOPE + b"DATA\r\n"
    peer.says(b"250 Ok\r\n250 Ok\r\n250 Ok\r\n354 Go\r\n", b"250 Ok\r\n")
    assert kinds(done) == [Delivered]
    peer.hears()
    peer.takes()
    assert b"RSET" not in peer.hears()


def test_a_mail_that_it_cannot_take() -> None:
    """Nothing is said, and the connection is as before."""
    peer = Peer()
    done = peer.connection.deliver(batch("ü@example.net"))
    assert kinds(done) == [CannotTake]
    assert result_of(done).usable
    assert peer.hears() == b""
    assert peer.connection.carried == 0
    assert kinds(peer.takes()) == [Delivered]


def test_the_null_sender_of_the_provider() -> None:
    """It stands for <>."""
    peer = Peer(provider=evolve(PROVIDER, null_sender="bounces@example.com"))
    peer.connection.deliver(Batch("", (Recipient("b@example.net"),), b"", BODY, len(BODY)))
    assert peer.hears().startswith(b"MAIL FROM:<bounces@example.com>\r\n")


def test_a_fault() -> None:
    """The connection closes by itself; what is asked of it afterwards goes elsewhere."""
    peer = Peer()
    done = peer.connection.deliver(batch())
    peer.says(b"530 5.7.0 Login first\r\n")
    assert result_of(done) == Result((ProviderFault(Reply(530, "5.7.0", ("Login first",))),), usable=False)
    assert peer.closes
    assert kinds(peer.connection.deliver(batch())) == [Retired]
    peer.leaves()
    assert kinds(peer.connection.deliver(batch())) == [Retired]


# The connection ends


@pytest.mark.parametrize("said", [b"421 4.4.2 Idle\r\n", b"451 4.4.2 Timeout waiting for data from client.\r\n"])
def test_told_to_leave_while_idle(said: bytes) -> None:
    """Nobody's fault: the pool is told, once, and the connection closed."""
    peer = Peer()
    ended: list[Reply] = []
    peer.connection.when_ended = ended.append
    peer.takes()
    peer.says(said)
    assert [str(reply) for reply in ended] == [said.decode().strip()]
    assert peer.closes
    peer.leaves()
    assert len(ended) == 1
    assert not peer.connection.out_of_step


@pytest.mark.parametrize("reason", [ConnectionDone(), ConnectionLost()])
def test_left_while_idle(reason: Exception) -> None:
    """As with an end that nothing announced."""
    peer = Peer()
    ended: list[Reply] = []
    peer.connection.when_ended = ended.append
    peer.leaves(reason)
    assert [str(reply) for reply in ended] == ["the connection was lost"]


def test_421_in_the_segment_of_the_250() -> None:
    """It is nobody's reply: the mail is delivered, the connection is not used again."""
    peer = Peer()
    ended: list[Reply] = []
    peer.connection.when_ended = ended.append
    done = peer.takes(said=b"250 2.0.0 Ok\r\n421 4.4.2 closing\r\n")
    assert kinds(done) == [Delivered]
    assert not result_of(done).usable
    assert ended == []
    assert peer.closes


def test_found_dead() -> None:
    """The reply to the next MAIL says so, or none comes: another connection, and no fault."""
    for said in (b"451 4.4.2 Timeout\r\n", b"421 Bye\r\n", b""):
        peer = Peer()
        peer.takes()
        done = peer.connection.deliver(batch())
        peer.says(said)
        peer.leaves()
        assert kinds(done) == [Retired]
        assert not result_of(done).usable


@pytest.mark.parametrize("ehlo", [PLAIN, PIPELINING, CHUNKING])
def test_lost_in_the_midst(ehlo: bytes) -> None:
    """A fault before the end of the mail has left, uncertain behind it."""
    dialogue = [b"250 Ok\r\n", b"250 Ok\r\n", *([] if ehlo is CHUNKING else [b"354 Go\r\n"])]
    for heard in range(len(dialogue) + 1):
        peer = Peer(ehlo)
        done = peer.connection.deliver(batch())
        peer.says(*dialogue[:heard])
        peer.leaves()
        assert kinds(done) == [ProviderFault if heard < len(dialogue) else Uncertain]
        assert not result_of(done).usable
        assert result_of(done).begun == (heard > 0)


@pytest.mark.parametrize("rubbish", [b"2_5 Ok\r\n", b"600 Ok\r\n", b"\r\n", b"250-x\r\n" * 10000, b"x" * 70000])
def test_rubbish(rubbish: bytes) -> None:
    """A protocol error is a fault before the end of the mail, uncertain behind it."""
    for dialogue, kind in ((b"250 Ok\r\n", ProviderFault), (b"250 Ok\r\n250 Ok\r\n354 Go\r\n", Uncertain)):
        peer = Peer()
        done = peer.connection.deliver(batch())
        peer.says(dialogue, rubbish)
        assert kinds(done) == [kind]
        assert peer.connection.out_of_step
        assert peer.closes


def test_out_of_step() -> None:
    """So is a reply that does not fit; the words say what was due."""
    peer = Peer()
    done = peer.connection.deliver(batch())
    peer.says(b"250 Ok\r\n354 Go\r\n")
    [outcome] = result_of(done).outcomes
    assert isinstance(outcome, ProviderFault)
    assert str(outcome.reply) == "where the reply to RCPT was due came: 354 Go"
    assert peer.connection.out_of_step
    in_lock_step = Peer(PLAIN)
    in_lock_step.connection.deliver(batch())
    in_lock_step.says(b"354 Go\r\n")
    assert not in_lock_step.connection.out_of_step


def test_a_reply_too_many() -> None:
    """After a mail it ends the connection, and the mail is delivered all the same."""
    peer = Peer()
    done = peer.takes(said=b"250 Ok\r\n250 Ok\r\n")
    assert kinds(done) == [Delivered]
    assert not result_of(done).usable
    assert peer.connection.out_of_step


def test_a_chunk_that_is_offered_and_not_known() -> None:
    """The next connection is to do without: the pool goes by `out_of_step`."""
    for said, misled in ((b"502 5.5.1 Not implemented\r\n", True), (b"552 5.3.4 Too big\r\n", False)):
        peer = Peer(CHUNKING)
        done = peer.connection.deliver(batch())
        peer.says(b"250 Ok\r\n250 Ok\r\n", said)
        assert kinds(done) == [ProviderFault if misled else Rejected]
        assert peer.connection.out_of_step is misled


# QUIT and abort


@pytest.mark.parametrize("said", [b"221 Bye\r\n", b"\x00\x00\x00\x1a\x00\x00\x00", b"500 What?\r\n"])
def test_quit(said: bytes) -> None:
    """Whatever is said to it, the connection closes, and that is all."""
    peer = Peer()
    ended: list[Reply] = []
    peer.connection.when_ended = ended.append
    gone = peer.connection.quit()
    assert peer.hears() == b"QUIT\r\n"
    assert not peer.closes
    peer.says(said)
    assert peer.transport.disconnecting
    assert not gone.called
    peer.leaves()
    assert gone.called
    assert ended == []
    assert peer.clock.getDelayedCalls() == []


def test_quit_unanswered() -> None:
    """2 s are enough."""
    peer = Peer()
    gone = peer.connection.quit()
    peer.clock.advance(1.9)
    assert not peer.closes
    peer.clock.advance(0.2)
    assert peer.transport.disconnected
    peer.leaves()
    assert gone.called


def test_quit_twice_and_on_a_dead_one() -> None:
    """Each fires; QUIT is said once."""
    peer = Peer()
    first, second = peer.connection.quit(), peer.connection.quit()
    assert peer.hears() == b"QUIT\r\n"
    assert kinds(peer.connection.deliver(batch())) == [Retired]
    peer.leaves()
    assert first.called
    assert second.called
    assert peer.connection.quit().called
    peer.connection.abort()


def test_quit_after_a_fault() -> None:
    """It is closing by itself; a provider that does not let go is cut off."""
    peer = Peer()
    peer.connection.deliver(batch())
    peer.says(b"421 Bye\r\n")
    peer.hears()
    gone = peer.connection.quit()
    assert peer.hears() == b""
    peer.clock.advance(2)
    assert peer.transport.disconnected
    peer.leaves()
    assert gone.called


def test_quit_while_busy() -> None:
    """What is under way is carried to its end first; what only waited goes elsewhere."""
    peer = Peer()
    done, waiting = peer.connection.deliver(batch()), peer.connection.deliver(batch())
    peer.hears()
    gone = peer.connection.quit()
    assert kinds(waiting) == [Retired]
    assert peer.hears() == b""
    peer.says(b"250 Ok\r\n250 Ok\r\n354 Go\r\n", b"250 Queued\r\n")
    assert kinds(done) == [Delivered]
    assert not result_of(done).usable
    assert peer.hears().endswith(b".\r\nQUIT\r\n")
    peer.says(b"221 Bye\r\n")
    assert peer.transport.disconnecting
    peer.leaves()
    assert gone.called


def test_aborted() -> None:
    """A mail whose end has left is uncertain; another one goes elsewhere, and it is no fault."""
    for dialogue, kind in ((b"250 Ok\r\n", Retired), (b"250 Ok\r\n250 Ok\r\n354 Go\r\n", Uncertain)):
        peer = Peer()
        done = peer.connection.deliver(batch())
        peer.says(dialogue)
        peer.connection.abort()
        assert kinds(done) == [kind]
        assert peer.transport.disconnected
        peer.says(b"250 Ok\r\n")
        peer.leaves()


# Deadlines


@pytest.mark.parametrize(
    ("dialogue", "seconds", "awaited", "kind"),
    [
        ([], 300, "the reply to MAIL", ProviderFault),
        ([b"250 Ok\r\n"], 300, "the reply to RCPT", ProviderFault),
        ([b"250 Ok\r\n250 Ok\r\n"], 120, "the reply to DATA", ProviderFault),
        ([b"250 Ok\r\n250 Ok\r\n354 Go\r\n"], 600, "the reply to the end of the mail", Uncertain),
    ],
)
def test_no_reply(dialogue: list[bytes], seconds: float, awaited: str, kind: type[Outcome]) -> None:
    """Each reply has its own time (RFC 5321, 4.5.3.2), from the one before; parts of it do not prolong that."""
    peer = Peer()
    done = peer.connection.deliver(batch())
    for each in dialogue:
        peer.clock.advance(17)
        peer.says(each)
    began = peer.clock.seconds()
    assert peer.connection.waiting_since == began
    while peer.clock.seconds() - began < seconds - 2:
        peer.clock.advance(1)
        if peer.clock.seconds() % 50 == 0:
            peer.says(b"250-\r\n")
    assert not done.called
    peer.clock.advance(2)
    [outcome] = result_of(done).outcomes
    assert type(outcome) is kind
    assert str(outcome.reply) == f"waited {seconds} s in vain for {awaited}"
    assert peer.closes
    assert peer.connection.waiting_since is None
    assert peer.connection.out_of_step == (kind is ProviderFault and dialogue != [])


def test_the_time_for_rset() -> None:
    """20 s are plenty."""
    peer = Peer()
    peer.takes(said=b"451 Later\r\n")
    done = peer.connection.deliver(batch())
    peer.clock.pump([1] * 19)
    assert not done.called
    peer.clock.advance(1)
    assert kinds(done) == [ProviderFault]


def test_a_short_time_for_the_dot() -> None:
    """A deadline that is nearer than the last one is kept too."""
    peer = Peer(provider=evolve(PROVIDER, dot_timeout=0.25))
    done = peer.connection.deliver(batch())
    peer.says(b"250 Ok\r\n250 Ok\r\n354 Go\r\n")
    peer.clock.advance(0.24)
    assert not done.called
    peer.clock.advance(0.01)
    assert kinds(done) == [Uncertain]


def test_an_idle_connection_waits_for_nothing() -> None:
    """It stays until somebody ends it, and no timer goes round."""
    peer = Peer()
    peer.takes()
    peer.clock.pump([20] * 60)
    assert not peer.closes
    assert peer.clock.getDelayedCalls() == []
    assert kinds(peer.takes()) == [Delivered]


# What has left our buffers


def test_lost_before_it_left() -> None:
    """354, and the connection is lost with octets of ours unsent: the provider cannot have the mail."""
    peer = Peer(transport=Narrow())
    done = peer.connection.deliver(batch())
    peer.hears()
    peer.says(b"250 Ok\r\n250 Ok\r\n354 Go\r\n")
    assert peer.connection.waiting_since is None
    peer.transport.flow(len(BODY) + 2)
    peer.leaves()
    assert kinds(done) == [ProviderFault]


def test_written_to_a_connection_that_is_lost() -> None:
    """Octets that the transport does not take have not left either."""
    peer = Peer(transport=Narrow())
    done = peer.connection.deliver(batch())
    peer.hears()
    peer.transport.connected = 0
    peer.says(b"250 Ok\r\n250 Ok\r\n354 Go\r\n")
    peer.leaves()
    assert kinds(done) == [ProviderFault]


def test_lost_when_it_had_left() -> None:
    """All the octets are with the kernel: nobody knows."""
    peer = Peer(transport=Narrow())
    done = peer.connection.deliver(batch())
    peer.hears()
    peer.says(b"250 Ok\r\n250 Ok\r\n354 Go\r\n")
    peer.transport.flow(len(BODY) + 3)
    assert peer.connection.waiting_since is not None
    peer.leaves()
    assert kinds(done) == [Uncertain]


def test_it_leaves_at_once() -> None:
    """Where nothing waits, the octets go to the kernel without a turn of the reactor."""
    peer = Peer(transport=Narrow())
    peer.transport.room = 10
    peer.connection.deliver(batch())
    assert bytes(peer.transport.taken) == b"MAIL FROM:"


@pytest.mark.parametrize("incoming", [b"", b"421 Bye\r\n"])
def test_gone_behind_the_354(incoming: bytes) -> None:
    """What the provider did right behind its 354 is read before the mail leaves, and then it does not."""
    peer = Peer(transport=Narrow())
    done = peer.connection.deliver(batch())
    peer.hears()
    peer.transport.room = 10_000
    peer.transport.incoming = incoming
    peer.says(b"250 Ok\r\n250 Ok\r\n354 Go\r\n")
    assert not peer.transport.taken
    peer.says(incoming)
    peer.leaves()
    assert kinds(done) == [ProviderFault]


@pytest.mark.parametrize(
    ("said", "kind"),
    [(b"552 5.3.4 Too big\r\n", Rejected), (b"421 Bye\r\n", ProviderFault), (b"250 Ok\r\n", ProviderFault)],
)
@pytest.mark.parametrize("body", [BODY, b"x" * 100_000])
def test_more_in_the_segment_of_the_354(said: bytes, kind: type[Outcome], body: bytes) -> None:
    """It is heard before the mail leaves, and then nothing of it does."""
    peer = Peer()
    done = peer.connection.deliver(batch(body=body))
    peer.hears()
    peer.says(b"250 Ok\r\n250 Ok\r\n354 Go\r\n" + said)
    assert kinds(done) == [kind]
    assert not result_of(done).usable
    assert peer.hears() == b""


def test_answered_before_it_left() -> None:
    """A refusal counts, and ends the connection; a 2xx makes no sense."""
    for said, kind in ((b"552 5.3.4 Too big\r\n", Rejected), (b"250 Ok\r\n", ProviderFault)):
        peer = Peer(transport=Narrow())
        done = peer.connection.deliver(batch())
        peer.hears()
        peer.says(b"250 Ok\r\n250 Ok\r\n354 Go\r\n", said)
        assert kinds(done) == [kind]
        assert not result_of(done).usable
        assert peer.transport.aborted


def test_a_provider_that_reads_slowly() -> None:
    """180 s without an octet are too many; each one that leaves begins them anew, and the dot's time is its own."""
    peer = Peer(transport=Narrow(), provider=evolve(PROVIDER, dot_timeout=30))
    done = peer.connection.deliver(batch())
    peer.hears()
    peer.says(b"250 Ok\r\n250 Ok\r\n354 Go\r\n")
    for _ in range(len(BODY) + 3):
        peer.clock.pump([20] * 8)
        assert not done.called
        peer.transport.flow(1)
    peer.clock.advance(29)
    assert not done.called
    peer.clock.advance(1)
    assert kinds(done) == [Uncertain]


def test_a_provider_that_does_not_read() -> None:
    """Then it is its fault."""
    peer = Peer(transport=Narrow())
    done = peer.connection.deliver(batch())
    peer.hears()
    peer.says(b"250 Ok\r\n250 Ok\r\n354 Go\r\n")
    peer.clock.pump([20] * 9)
    assert kinds(done) == [ProviderFault]


# Large mail


class Reader:
    """A BodyReader whose disk answers when the test says so."""

    def __init__(self, octets: bytes) -> None:
        self.size = len(octets)
        self.octets = octets
        self.closed = False
        self.asked: list[tuple[int, Deferred[bytes]]] = []

    def read(self, octets: int) -> Deferred[bytes]:
        """Part of BodyReader."""
        wanted: Deferred[bytes] = Deferred()
        self.asked.append((octets, wanted))
        return wanted

    def answers(self, how_many: int | None = None) -> None:
        """The disk has read a piece, perhaps a shorter one than it was asked for."""
        octets, wanted = self.asked.pop(0)
        take = octets if how_many is None else how_many
        piece, self.octets = self.octets[:take], self.octets[take:]
        wanted.callback(piece)

    def close(self) -> None:
        """Part of BodyReader."""
        self.closed = True


LINES = (b".line\r\n" + b"x" * 93 + b"\r\n") * 4000
SENT = (b"Head: 1\r\n" + LINES).replace(b"\r\n.", b"\r\n..") + b".\r\n"


def large(ehlo: bytes = PIPELINING, body: Body = LINES) -> tuple[Peer, Deferred[Result]]:
    """A large mail whose body is to follow."""
    peer = Peer(ehlo, transport=Narrow())
    done = peer.connection.deliver(batch(head=b"Head: 1\r\n", body=body))
    peer.hears()
    peer.says(b"250 Ok\r\n250 Ok\r\n", *([] if ehlo is CHUNKING else [b"354 Go\r\n"]))
    return peer, done


def test_a_large_mail_in_memory() -> None:
    """It leaves in pieces, each when the one before has left, and the dot alone."""
    peer, done = large()
    heard = b""
    largest = 0
    while not heard.endswith(b"\r\n.\r\n"):
        waiting = peer.connection._outflow.waiting
        largest = max(largest, waiting)
        assert waiting
        peer.transport.flow(waiting)
        heard = bytes(peer.transport.taken)
    assert heard == SENT
    assert largest < 2 * PIECE
    peer.says(b"250 Queued\r\n")
    assert kinds(done) == [Delivered]


@pytest.mark.parametrize("pieces", [[None], [1, 5, 100, None], [9, PIECE - 1, 2, None]])
def test_a_large_mail_from_disk(pieces: list[int | None]) -> None:
    """However the disk cuts it, the same octets leave; the file is given back."""
    reader = Reader(LINES)
    peer, done = large(body=reader)
    heard = b""
    for how_many in pieces + [None] * 5:
        if reader.asked:
            reader.answers(how_many)
            heard += peer.hears()
    assert heard == SENT
    assert reader.closed
    peer.says(b"250 Queued\r\n")
    assert kinds(done) == [Delivered]
    peer.transport.room = 10_000
    assert kinds(peer.takes()) == [Delivered]


def test_a_large_chunk() -> None:
    """Behind BDAT the octets go as they are, and the last of them is the end."""
    reader = Reader(LINES)
    peer, done = large(CHUNKING, reader)
    assert peer.hears() == b"BDAT %d LAST\r\n" % (len(LINES) + 9)
    while reader.asked:
        reader.answers()
        last = peer.hears()
    assert LINES.endswith(last)
    peer.leaves()
    assert kinds(done) == [Uncertain]


def test_it_is_read_as_it_leaves() -> None:
    """Nothing is read ahead of a provider that does not."""
    reader = Reader(LINES)
    peer, _ = large(body=reader)
    reader.answers()
    assert reader.asked == []
    peer.transport.flow(100)
    assert reader.asked == []
    peer.hears()
    assert len(reader.asked) == 1


def test_the_dot_waits_for_the_rest() -> None:
    """A connection lost before that is a fault; once the dot has left, uncertain."""
    for flows, kind in ((0, ProviderFault), (1, Uncertain)):
        peer, done = large(body=b"x" * 70000)
        waiting = peer.connection._outflow.waiting
        assert waiting == 70009
        peer.transport.flow(waiting)
        assert peer.connection._outflow.waiting == len(b"\r\n.\r\n")
        peer.transport.flow(5 * flows)
        peer.leaves()
        assert kinds(done) == [kind]


@pytest.mark.parametrize("ehlo", [PIPELINING, CHUNKING])
def test_refused_in_the_midst(ehlo: bytes) -> None:
    """It stops, closes, and that code counts; no RSET gets into the body."""
    reader = Reader(LINES)
    peer, done = large(ehlo, reader)
    reader.answers()
    peer.says(b"552 5.3.4 Too big\r\n")
    assert kinds(done) == [Rejected]
    assert not result_of(done).usable
    assert peer.transport.aborted
    heard = peer.hears()
    assert b"RSET" not in heard
    assert not heard.endswith(b"\r\n.\r\n")
    assert reader.closed


def test_lost_in_the_midst_of_a_large_one() -> None:
    """A fault; the file is given back, also while a piece of it is being read."""
    for reads in (0, 1):
        reader = Reader(LINES)
        peer, done = large(body=reader)
        for _ in range(reads):
            reader.answers()
        peer.leaves()
        assert kinds(done) == [ProviderFault]
        while reader.asked:
            reader.answers()
        assert reader.closed


def test_a_disk_that_is_slow() -> None:
    """That is not the provider's fault, however long it takes."""
    reader = Reader(LINES)
    peer, done = large(body=reader)
    peer.clock.pump([20] * 50)
    assert not done.called
    while reader.asked:
        reader.answers()
        peer.hears()
    peer.says(b"250 Queued\r\n")
    assert kinds(done) == [Delivered]


@pytest.mark.parametrize("ehlo", [PIPELINING, CHUNKING])
def test_a_body_that_cannot_be_read(ehlo: bytes) -> None:
    """Half of it is never ended with a dot; the outcome blames nobody, and the trouble is told."""
    trouble = OSError("input/output error")
    reader = Reader(LINES)
    peer, done = large(ehlo, reader)
    reader.answers()
    peer.hears()
    reader.asked.pop()[1].errback(trouble)
    assert kinds(done) == [Retired]
    assert result_of(done).trouble is trouble
    assert not result_of(done).usable
    assert peer.closes
    assert reader.closed
    assert not peer.hears().endswith(b".\r\n")


@pytest.mark.parametrize("size", [len(LINES) - 1, len(LINES) + 1])
@pytest.mark.parametrize("ehlo", [PIPELINING, CHUNKING])
def test_a_body_of_another_size(ehlo: bytes, size: int) -> None:
    """So is one that has not the octets that were acknowledged."""
    reader = Reader(LINES)
    reader.size = size
    peer, done = large(ehlo, reader)
    while reader.asked:
        reader.answers()
        peer.hears()
    assert kinds(done) == [Retired]
    assert isinstance(result_of(done).trouble, ValueError)


# Mail that is written down as under way before it leaves


@pytest.mark.parametrize("ehlo", [PIPELINING, CHUNKING])
@pytest.mark.parametrize("body", [BODY, LINES])
def test_it_waits_for_our_word(ehlo: bytes, body: bytes) -> None:
    """The content leaves when `before` has fired, however long that takes, and not a second earlier."""
    peer = Peer(ehlo)
    asked: list[Deferred[None]] = []

    def before() -> Deferred[None]:
        asked.append(Deferred())
        return asked[-1]

    done = peer.connection.deliver(replace(batch(body=body), before=before))
    assert asked == []
    peer.hears()
    peer.says(b"250 Ok\r\n250 Ok\r\n", *([] if ehlo is CHUNKING else [b"354 Go\r\n"]))
    peer.clock.pump([20] * 50)
    assert len(asked) == 1
    assert peer.hears() == b""
    asked[0].callback(None)
    assert b"Subject" in peer.hears() or body is LINES
    assert not done.called
    peer.says(b"250 Queued\r\n")
    assert kinds(done) == [Delivered]


@pytest.mark.parametrize(
    ("happens", "kind"),
    [
        (lambda peer, asked: asked.errback(OSError("disk full")), Retired),
        (lambda peer, asked: peer.says(b"451 4.4.2 Too slow\r\n"), Postponed),
        (lambda peer, asked: peer.leaves(), ProviderFault),
    ],
)
def test_our_word_does_not_come(happens: Callable[[Peer, Deferred[None]], None], kind: type[Outcome]) -> None:
    """It failed, the provider lost patience, or the connection was lost: nothing of the mail has left."""
    peer = Peer()
    asked: Deferred[None] = Deferred()
    done = peer.connection.deliver(replace(batch(), before=lambda: asked))
    peer.hears()
    peer.says(b"250 Ok\r\n250 Ok\r\n354 Go\r\n")
    happens(peer, asked)
    assert kinds(done) == [kind]
    assert not result_of(done).usable
    assert (result_of(done).trouble is not None) == (kind is Retired)
    if not asked.called:
        asked.callback(None)
    assert peer.hears() == b""


# Several transactions at once

DEEP = evolve(PROVIDER, pipeline_depth=3)


def deep(count: int, **more: Any) -> tuple[Peer, list[Deferred[Result]]]:
    """A connection on which the first of `count` mails has left and waits for its reply."""
    peer = Peer(CHUNKING, provider=DEEP, **more)
    assert peer.connection.depth == 3
    results = [peer.connection.deliver(batch(f"r{number}@example.net")) for number in range(count)]
    assert peer.hears().count(b"MAIL") == 1
    peer.says(b"250 Ok\r\n250 Ok\r\n")
    return peer, results


OK = b"250 Ok\r\n"


def test_depth_is_for_whole_transactions() -> None:
    """Only where CHUNKING and PIPELINING are offered."""
    assert Peer(PIPELINING, provider=DEEP).connection.depth == 1
    assert Peer(CHUNKING).connection.depth == 1


def test_several_at_once() -> None:
    """What follows goes whole, with a RSET, as far as `depth` allows; each reply settles its own."""
    peer, results = deep(4)
    heard = peer.hears()
    assert heard.count(b"MAIL") == 2
    assert heard.count(b"RSET\r\n") == 2
    assert heard.count(b"BDAT") == 3
    peer.says(OK)
    assert kinds(results[0]) == [Delivered]
    assert not results[1].called
    assert peer.hears().count(b"MAIL") == 1
    peer.says(OK * 8)
    assert kinds(results[2]) == [Delivered]
    peer.says(OK * 4)
    assert kinds(results[3]) == [Delivered]
    assert peer.connection.carried == 4
    assert not peer.connection.busy


def test_one_of_several_refused() -> None:
    """The others are not touched."""
    peer, results = deep(3)
    peer.says(b"451 Later\r\n", OK, OK, b"550 5.1.1 No\r\n503 No\r\n", OK * 4)
    assert [kinds(result) for result in results] == [[Postponed], [Rejected], [Delivered]]
    assert result_of(results[0]).usable
    assert result_of(results[2]).usable


def test_several_lost() -> None:
    """Answered is answered; whose chunk had left is uncertain, the others go again and that is all."""
    peer, results = deep(4, transport=Narrow())
    heard = peer.hears()
    assert heard.count(b"BDAT") == 3
    peer.says(OK)
    results.append(peer.connection.deliver(batch()))
    peer.transport.flow(50)
    peer.leaves()
    assert [kinds(result) for result in results] == [[Delivered], [Uncertain], [Uncertain], [Retired], [Retired]]


def test_several_behind_a_421() -> None:
    """It closes the connection, so nothing behind it was read."""
    peer, results = deep(3)
    peer.says(OK, OK + OK + OK + b"421 Bye\r\n")
    assert [kinds(result) for result in results] == [[Delivered], [Retired], [Retired]]
    assert not result_of(results[1]).usable


def test_a_fault_among_several() -> None:
    """The others are heard to their end, and then it closes."""
    peer, results = deep(4)
    peer.says(OK, OK + b"530 Login\r\n503 No\r\n503 No\r\n")
    assert kinds(results[1]) == [ProviderFault]
    assert not peer.closes
    peer.says(OK + b"530 Login\r\n503 No\r\n503 No\r\n")
    assert kinds(results[2]) == [ProviderFault]
    peer.says(OK * 4)
    assert kinds(results[3]) == [Delivered]
    assert peer.closes
    assert not result_of(results[3]).usable


def test_a_large_one_is_not_sent_ahead() -> None:
    """It waits until it is the only one, and others wait for its end."""
    peer, results = deep(1)
    results.append(peer.connection.deliver(batch(body=b"x" * 100_000)))
    results.append(peer.connection.deliver(batch()))
    assert peer.hears().count(b"MAIL") == 0
    peer.says(OK)
    assert peer.hears() == ENVELOPE
    peer.says(OK * 2)
    heard = peer.hears()
    assert heard.startswith(b"BDAT 100000 LAST\r\nx")
    assert heard.count(b"MAIL") == 1
    peer.says(OK, OK * 4)
    assert [kinds(result) for result in results] == [[Delivered]] * 3


def test_one_that_waits_for_our_word_is_not_sent_ahead() -> None:
    """For it the content has a time of its own."""
    peer, results = deep(1)
    results.append(peer.connection.deliver(replace(batch(), before=lambda: succeed(None))))
    assert b"MAIL" not in peer.hears()
    peer.says(OK, OK * 2, OK)
    assert [kinds(result) for result in results] == [[Delivered]] * 2


def test_each_of_several_has_its_own_time() -> None:
    """What is said behind it does not prolong the wait for a reply."""
    peer, results = deep(1)
    peer.clock.advance(400)
    results.append(peer.connection.deliver(batch()))
    peer.clock.advance(200)
    assert [kinds(result) for result in results] == [[Uncertain], [Uncertain]]


# Whatever happens

SAID = [
    b"250 Ok\r\n",
    b"250 Ok\r\n250 Ok\r\n",
    b"354 Go\r\n",
    b"451 Later\r\n",
    b"550-5.1.1 No\r\n550 5.1.1 No\r\n",
    b"530 Login\r\n",
    b"503 No\r\n",
    b"421 Bye\r\n",
    b"25",
    b"0 Ok\r\n",
    b"rubbish\r\n",
]
USUAL = ["the right answer"] * 40 + ["mail"] * 6 + ["the peer reads"] * 2
UNUSUAL = ["large mail", "a minute passes", "abort", "quit"]
HAPPENS = st.sampled_from([*USUAL, *UNUSUAL, *SAID])


@given(st.sampled_from([PLAIN, PIPELINING, CHUNKING]), st.integers(1, 3), st.lists(HAPPENS, max_size=40))
def test_whatever_happens(ehlo: bytes, depth: int, happens: list[bytes | str]) -> None:
    """Each mail gets one result with an outcome for each recipient, and none is delivered that has not left."""
    peer = Peer(ehlo, provider=evolve(PROVIDER, pipeline_depth=depth), transport=Narrow())
    results: list[Deferred[Result]] = []
    heard = b""
    for what in ["mail", *happens]:
        if isinstance(what, bytes):
            peer.says(what)
        elif what.endswith("mail"):
            body = b"x" * (100_000 if what.startswith("large") else 10) + b"end of it\r\n"
            results.append(peer.connection.deliver(batch("b@example.net", "c@example.net", body=body)))
        elif what == "the peer reads":
            heard += peer.hears()
        elif what == "the right answer":
            heard += peer.hears()
            running = peer.connection._running
            if running and not (running[0].streams and running[0].stage is Stage.BODY):
                peer.says(b"354 Go\r\n" if running[0].stage is Stage.DATA else b"250 Ok\r\n")
        elif what == "a minute passes":
            peer.clock.advance(60)
        else:
            (peer.connection.abort if what == "abort" else peer.connection.quit)()
    heard += peer.hears()
    peer.leaves()
    found = [outcome for result in results for outcome in result_of(result).outcomes]
    assert len(found) == 2 * len(results)
    taken = sum(any(isinstance(outcome, Delivered) for outcome in result_of(result).outcomes) for result in results)
    assert taken <= heard.count(b"end of it\r\n")
    assert all(result_of(result).trouble is None for result in results)
    assert peer.clock.getDelayedCalls() == []


# Connecting


@implementer(IStreamClientEndpoint)
class Endpoint:
    """Leads to a Peer's side of a StringTransport, or wherever `result` says."""

    def __init__(self, result: Deferred[Any] | None = None) -> None:
        self.result = result
        self.connection: Connection | None = None
        self.transport = StringTransport()

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Part of IStreamClientEndpoint."""
        if self.result is not None:
            return self.result
        self.connection = protocolFactory.buildProtocol(None)
        self.connection.makeConnection(self.transport)
        return succeed(self.connection)


def fault_of(opening: Deferred[Connection]) -> Fault:
    found: list[Failure] = []
    opening.addErrback(found.append)
    assert found
    fault = found[0].value
    assert isinstance(fault, Fault)
    return fault


def test_connect() -> None:
    """A connection that is ready for mail, and no timer left behind."""
    clock, endpoint = Clock(), Endpoint()
    opening = connect(clock, PROVIDER, "app1.example.com", endpoint, None)
    assert endpoint.connection is not None
    endpoint.connection.dataReceived(b"220 hello\r\n")
    endpoint.connection.dataReceived(PIPELINING)
    opened: list[Connection] = []
    opening.addCallback(opened.append)
    assert opened == [endpoint.connection]
    assert clock.getDelayedCalls() == []


def test_connect_without_pipelining() -> None:
    """It may be forbidden, whatever is offered; then BDAT is not said, and no depth is allowed either."""
    endpoint = Endpoint()
    connect(Clock(), DEEP, "app1.example.com", endpoint, None, pipelining=False)
    assert endpoint.connection is not None
    endpoint.connection.dataReceived(b"220 hello\r\n")
    endpoint.connection.dataReceived(CHUNKING)
    assert endpoint.connection.features == Features()
    assert endpoint.connection.depth == 1


def test_no_connection() -> None:
    """The fault names the place and the reason."""
    refused: Deferred[Any] = fail(ConnectError(111, "Connection refused"))
    fault = fault_of(connect(Clock(), PROVIDER, "app1.example.com", Endpoint(refused), None))
    assert fault.stage is Stage.CONNECT
    assert str(fault).startswith("no connection to 127.0.0.1 port 25: connection refused")
    assert fault.outcome.reply.code == 0


@pytest.mark.parametrize(("number", "ours"), [(errno.EMFILE, True), (errno.ENFILE, True), (errno.ECONNREFUSED, False)])
def test_what_this_host_lacks(number: int, ours: bool) -> None:
    """No descriptor for a connection is nothing that the provider did."""
    lacking: Deferred[Any] = fail(ConnectError(number, "no"))

    assert fault_of(connect(Clock(), PROVIDER, "app1.example.com", Endpoint(lacking), None)).ours is ours


@pytest.mark.parametrize(
    ("said", "stage", "awaited"),
    [(None, Stage.CONNECT, "a connection"), (b"", Stage.CONNECT, "the greeting"), (b"220 hi\r\n", Stage.EHLO, "EHLO")],
)
def test_one_deadline_for_all(said: bytes | None, stage: Stage, awaited: str) -> None:
    """`timeout` bounds DNS, TCP, greeting and EHLO together; what is half open then is closed."""
    clock, endpoint = Clock(), Endpoint(Deferred() if said is None else None)
    opening = connect(clock, PROVIDER, "app1.example.com", endpoint, None)
    clock.advance(30)
    if said is not None and endpoint.connection is not None:
        endpoint.connection.dataReceived(said)
    clock.advance(29.9)
    assert not opening.called
    clock.advance(0.1)
    fault = fault_of(opening)
    assert fault.stage is stage
    assert fault.seconds == 60
    assert str(fault).startswith("waited 60 s in vain for ")
    assert str(fault).endswith(awaited)
    if endpoint.connection is not None:
        assert endpoint.transport.disconnected
        endpoint.connection.connectionLost(Failure(ConnectionDone()))
    assert clock.getDelayedCalls() == []


def test_connect_cancelled() -> None:
    """The caller may give up; then nothing stays open."""
    clock, endpoint = Clock(), Endpoint()
    opening = connect(clock, PROVIDER, "app1.example.com", endpoint, None)
    opening.addErrback(lambda _: None)
    opening.cancel()
    assert endpoint.transport.disconnected
    assert endpoint.connection is not None
    endpoint.connection.connectionLost(Failure(ConnectionDone()))
    assert clock.getDelayedCalls() == []


def test_a_fault_is_the_providers_words() -> None:
    """Where there are some."""
    endpoint = Endpoint()
    opening = connect(Clock(), ACCOUNT, "app1.example.com", endpoint, None)
    assert endpoint.connection is not None
    for said in (b"220 hi\r\n", b"250-x\r\n250 AUTH PLAIN\r\n", b"535 5.7.8 No\r\n"):
        endpoint.connection.dataReceived(said)
    fault = fault_of(opening)
    assert fault.outcome == ProviderFault(Reply(535, "5.7.8", ("No",)), auth=True)
    assert fault.stage is Stage.AUTH
    assert SECRET not in repr(fault)
