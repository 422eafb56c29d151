"""Taking: a `Delivery` that keeps what it is given, and a server that stands before it, both in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from relay.addresses import Rules as AddressRules
from relay.envelope import Recipient
from relay.reply import Reply
from relay.smtp.data.receive import Rules
from relay.smtp.server.factory import LocalSMTPFactory
from relay.smtp.server.local import LocalSMTP
from relay.smtp.server.policy import Policy
from relay.smtp.submission import Findings, Refused, Rewriting, Session

POLICY = Policy(
    hostname="relay.example",
    domain="example.com",
    postmaster="postmaster@example.com",
    rules=Rules(100_000, drop=frozenset({b"bcc", b"resent-bcc", b"return-path"})),
    max_recipients=3,
    max_connections=2,
    idle_timeout=300.0,
)


@dataclass
class Arriving:
    """One mail on its way in, and what became of it."""

    taker: Taker
    session: Session
    sender: str
    recipients: tuple[Recipient, ...]
    ret: str
    envid: str
    pieces: list[bytes] = field(default_factory=list)
    findings: Findings | None = None
    done: Deferred[str] | None = None
    abandoned: bool = False

    @property
    def content(self) -> bytes:
        """All that was written."""
        return b"".join(self.pieces)

    @property
    def addresses(self) -> list[str]:
        """Of the recipients."""
        return [recipient.address for recipient in self.recipients]

    def write(self, octets: bytes) -> Deferred[None] | None:
        """Keep it; say so where there is no room, or break."""
        assert not self.abandoned
        assert self.findings is None
        self.taker.trip("write")
        self.pieces.append(octets)
        return self.taker.room

    def finish(self, findings: Findings) -> Deferred[str]:
        """Durable at once, or when the taker is told to."""
        assert not self.abandoned
        self.taker.trip("finish")
        self.findings = findings
        self.done = Deferred()
        if self.taker.at_once:
            self.commit()
            return succeed(self.uuid)
        return self.done

    @property
    def uuid(self) -> str:
        """Counted from 1."""
        return f"uuid-{self.taker.mails.index(self) + 1}"

    def commit(self) -> None:
        """It is durable."""
        self.taker.mails.append(self)
        if not self.taker.at_once:
            assert self.done is not None
            self.done.callback(self.uuid)

    def fail(self, error: Exception) -> None:
        """It could not be made durable."""
        assert self.done is not None
        self.done.errback(Failure(error))

    def abandon(self) -> None:
        """Forget it."""
        assert self.findings is None
        assert not self.abandoned
        self.abandoned = True


class Taker:
    """See the module's docstring.

    mails     what is durable
    begun     all that ever began
    refusals  (client, code, reason) of what the server reported
    at_once   whether a mail is durable when it is whole
    room      what `write` returns
    rules     by which a sender changes
    trips     what breaks, by the name of the call: an exception to raise
    """

    def __init__(self) -> None:
        self.mails: list[Arriving] = []
        self.begun: list[Arriving] = []
        self.refusals: list[tuple[str, int, str]] = []
        self.identities: list[tuple[bytes, bytes]] = []
        self.at_once = True
        self.room: Deferred[None] | None = None
        self.rules = AddressRules("example.com", {}, {})
        self.trips: dict[str, Exception] = {}

    def trip(self, call: str) -> None:
        """Raise what is to be raised there."""
        if call in self.trips:
            raise self.trips[call]

    def validateFrom(self, helo: tuple[bytes, bytes], origin: str) -> str:
        """Everybody."""
        self.identities.append(helo)
        self.trip("validateFrom")
        return self.rules.sender(origin)

    def rewriting(self, origin: str, sender: str) -> Rewriting | None:
        """Where the sender has changed."""
        return None if sender == origin else partial(self.rules.rewrite_from, old=origin, new=sender)

    def validateTo(self, user: str) -> None:
        """Everybody but nobody@."""
        self.trip("validateTo")
        if user.startswith("nobody@"):
            raise Refused(Reply(550, "5.1.1", ("no such user",)))

    def begin(self, session: Session, sender: str, recipients: tuple[Recipient, ...], ret: str, envid: str) -> Arriving:
        """One more."""
        self.trip("begin")
        self.begun.append(Arriving(self, session, sender, recipients, ret, envid))
        return self.begun[-1]

    def refused(self, client: str, reply: Reply, reason: str) -> None:
        """Note it."""
        self.refusals.append((client, reply.code, reason))


class Server:
    """A server in memory, with its clock and all that it was given."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.clock = Clock()
        self.taker = Taker()
        self.faults: list[tuple[Failure, Session]] = []
        self.factory = LocalSMTPFactory(
            policy, self.taker, self.clock, lambda failure, session: self.faults.append((failure, session))
        )

    def connect(self, peer: str = "127.0.0.1") -> Connected:
        """A program connects."""
        return Connected(self, StringTransport(peerAddress=IPv4Address("TCP", peer, 40000)))

    def greeted(self) -> Connected:
        """A program that was greeted, and has said EHLO."""
        connected = self.connect()
        connected.send(b"EHLO app.example\r\n")
        connected.transport.clear()
        return connected


class Connected:
    """One connection, seen from the client."""

    def __init__(self, server: Server, transport: StringTransport) -> None:
        self.transport = transport
        self.protocol: LocalSMTP = server.factory.buildProtocol(None)
        self.protocol.makeConnection(transport)

    @property
    def is_closed(self) -> bool:
        """Whether the server has ended it."""
        return bool(self.transport.disconnecting)

    def send(self, octets: bytes, *, each: int = 0) -> None:
        """Octets arrive, in one segment or in segments of `each`."""
        for start in range(0, len(octets), each or max(len(octets), 1)):
            if not self.is_closed:
                self.protocol.dataReceived(octets[start : start + (each or len(octets))])

    def said(self) -> list[str]:
        """The replies that came since this was last asked, each by its last line."""
        lines = self.transport.value().decode("ascii")
        self.transport.clear()
        assert lines == "" or lines.endswith("\r\n")
        return [line for line in lines.split("\r\n")[:-1] if line[3] == " "]

    def ask(self, octets: bytes) -> list[str]:
        """Send, and hear."""
        self.send(octets)
        return self.said()


def policy(**changes: object) -> Policy:
    """POLICY with other values; those of its rules under their own names."""
    rules = {name: changes.pop(name) for name in ("max_size", "reject_bare_newlines", "drop") if name in changes}
    return replace(POLICY, rules=replace(POLICY.rules, **rules), **changes)  # type: ignore[arg-type]
