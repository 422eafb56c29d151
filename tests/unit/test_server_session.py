"""A session at random, beside a model that knows only the law.

One reply to each command, in order, and no more mail than was acknowledged, whatever is pipelined, cut, held back or
lost; content is never run as commands. MAILRELAY_SESSIONS says how many other sessions are tried, if any.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from relay.reply import Reply
from relay.smtp.server.local import TALK_LIMIT
from relay.smtp.server.reception import ERROR_LIMIT
from relay.smtp.submission import Refused
from tests.taking import Arriving, Connected, Server, policy

SESSIONS = int(os.environ.get("MAILRELAY_SESSIONS", "0"))
MAX_SIZE = 300
MAX_RECIPIENTS = 3
EVIL = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<v@example.net>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"

GREETINGS = (b"EHLO app.example", b"HELO app.example")
GOOD = [
    *GREETINGS, b"MAIL FROM:<a@example.com>", b"MAIL FROM:<> SIZE=300", b"RCPT TO:<b@example.net>",
    b"RCPT TO:<c@example.net>", b"RCPT TO:<d@example.net>", b"RCPT TO:<e@example.net>", b"RSET", b"NOOP", b"DATA",
]  # fmt: skip
BAD = [
    b"EHLO", b"MAIL FROM:<a@example.com> SIZE=301", b"MAIL FROM:a@example.com", b"MAIL FROM:<a@example.com> FOO=1",
    b"VRFY b",
    b"RCPT TO:<nobody@example.net>", b"RCPT TO:<>", b"RCPT TO:<b@example.net> FOO=1", b"DATA x", b"RSET x", b"FOO", b"",
    b"NOOP\0", b"NO\rOP", b"HELP", b"STARTTLS", b"AUTH PLAIN AGEAYg==",
]  # fmt: skip
LAST = [b"QUIT", b"GET / HTTP/1.1", b"NOOP\n", b"BDAT x", b"x" * 5000]
PIECES = [EVIL, b"x", b"Subject: y\r\n", b"\r\n", b".", b"..", b"\r", b"\n", b"\0", b"\n.\n", b"\r\n.\r", b"\xff" * 90]

commands = st.integers(0, 39).flatmap(lambda dice: st.sampled_from(LAST if dice == 39 else BAD if dice > 31 else GOOD))
contents = st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join)
chunks = st.builds(
    lambda octets, last: (b"BDAT %d%b\r\n" % (len(octets), b" LAST" if last else b""), octets, last),
    contents,
    st.booleans(),
)
cuts = st.lists(st.integers(0, 500), max_size=4)

Chunk = tuple[bytes, bytes, bool]


def is_awaited(item: bytes | Chunk) -> bool:
    """Whether a client waits for the reply before it says more (RFC 2920, 3.1)."""
    return isinstance(item, bytes) and item.split(b" ")[0] in (b"EHLO", b"HELO", b"DATA")


@dataclass
class Mail:
    """A mail in the model. `chunked`: it came by BDAT; `refused`: the code that its content gets."""

    sender: str
    recipients: list[str] = field(default_factory=list)
    content: bytes = b""
    chunked: bool = False
    too_large: bool = False

    def add(self, octets: bytes) -> None:
        """More content, unstuffed."""
        self.content += octets
        self.too_large = self.too_large or len(self.content) > MAX_SIZE

    @property
    def refusal(self) -> str:
        """The code that its end gets at once; "" if it is handed in."""
        return "552" if self.too_large else "550" if b"\0" in self.content else ""

    @property
    def delivered(self) -> tuple[str, list[str], bytes]:
        """As it goes on: every line ends in CRLF."""
        content = re.sub(rb"\r\n|\r|\n", b"\r\n", self.content)
        return self.sender, self.recipients, content + (b"" if content.endswith(b"\r\n") or not content else b"\r\n")


class Model:
    """One connection as it should be.

    said     the code of every reply that must have been heard by now
    waiting  what was sent and is not looked at yet, since a commit is pending
    """

    def __init__(self) -> None:
        self.said = ["220"]
        self.waiting: list[bytes | Chunk] = []
        self.greeted = False
        self.mail: Mail | None = None
        self.in_data = False
        self.pending: Mail | None = None
        self.closed = False
        self._errors = 0
        self._talk = 0

    def hear(self, item: bytes | Chunk) -> None:
        """A command or a chunk came."""
        self.waiting.append(item)
        self.go_on()

    def go_on(self) -> None:
        """Look at what waits, as far as it may be looked at."""
        while self.waiting and not (self.pending or self.closed):
            item = self.waiting.pop(0)
            code = self._command(item) if isinstance(item, bytes) else self._chunk(item)
            if code:
                self._say(code)

    def committed(self, code: str) -> Mail:
        """The pending mail's fate."""
        mail, self.pending = self.pending, None
        assert mail is not None
        self.said.append(code)
        if code == "250":
            self._talk = 0
        self.go_on()
        return mail

    def end(self) -> None:
        """The content is whole."""
        mail, self.mail = self.mail, None
        self.in_data = False
        assert mail is not None
        if mail.refusal:
            self._say(mail.refusal)
        else:
            self.pending = mail

    def _say(self, code: str) -> None:
        self.said.append(code)
        self.closed = self.closed or code == "221"
        if code in ("500", "501", "502", "503", "504", "555"):
            self._errors += 1
            self._close_if(self._errors == ERROR_LIMIT)

    def _close_if(self, condition: bool) -> None:
        if condition:
            self.said.append("421")
            self.closed = True

    def _command(self, line: bytes) -> str:
        if line.startswith(b"GET") or (line in GREETINGS and self.waiting):
            self.closed, code = True, "554"
        elif line == b"NOOP\n" or len(line) > 4096 or line == b"BDAT x":
            self.closed, code = True, "501" if line == b"BDAT x" else "500"
        elif line in (b"", b"FOO", b"NOOP\0", b"NO\rOP"):
            return "500"
        elif line.startswith((b"STARTTLS", b"AUTH")):
            return "502"
        elif line in (b"EHLO", b"RSET x"):
            return "501"
        elif line in GREETINGS:
            self.greeted, self.mail = True, None
            return "250"
        elif line.startswith((b"NOOP", b"RSET", b"VRFY", b"HELP")):
            return self._moves_nothing(line)
        elif line == b"QUIT":
            return "221"
        else:
            return self._of_a_mail(line)
        self.said.append(code)
        return ""

    def _moves_nothing(self, line: bytes) -> str:
        if line == b"RSET":
            self.mail = None
        self.said.append({b"VRFY": "252", b"HELP": "214"}.get(line[:4], "250"))
        self._talk += 1
        self._close_if(self._talk == TALK_LIMIT)
        return ""

    def _of_a_mail(self, line: bytes) -> str:
        mail = self.mail
        if line.startswith(b"MAIL"):
            if not self.greeted or mail is not None:
                return "503"
            if line.endswith(b"SIZE=301"):
                return "552"
            if not line.endswith((b">", b"SIZE=300")):
                return "555" if b"FOO" in line else "501"
            self.mail = Mail(line[line.index(b"<") + 1 : line.index(b">")].decode())
            return "250"
        if mail is None or mail.chunked:
            return "503"
        if line.startswith(b"RCPT"):
            return self._recipient(mail, line)
        if not mail.recipients:
            return "554"
        if line == b"DATA x":
            return "501"
        if self.waiting:
            self.closed = True
            return "554"
        self.in_data = True
        return "354"

    def _recipient(self, mail: Mail, line: bytes) -> str:
        address = line[line.index(b"<") + 1 : line.index(b">")].decode()
        if line.endswith(b"FOO=1"):
            return "555"
        if not address:
            return "501"
        if address in mail.recipients:
            return "250"
        if len(mail.recipients) == MAX_RECIPIENTS:
            return "452"
        if address.startswith("nobody"):
            return "550"
        mail.recipients.append(address)
        return "250"

    def _chunk(self, chunk: Chunk) -> str:
        _, octets, last = chunk
        if self.mail is None:
            return "503"
        if not self.mail.recipients:
            return "554"
        self.mail.chunked = True
        self.mail.add(octets)
        if last:
            self.end()
            return ""
        return "552" if self.mail.too_large else "250"


class Session(RuleBasedStateMachine):
    """The server beside the model."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server(policy(max_size=MAX_SIZE, max_recipients=MAX_RECIPIENTS))
        self.server.taker.at_once = False
        self.durable: list[Mail] = []
        self.faults = 0
        self.connect()

    def connect(self) -> None:
        """A new connection."""
        self.client: Connected = self.server.connect()
        self.model = Model()
        self.heard: list[str] = []

    @property
    def waits(self) -> bool:
        """Whether an honest client says nothing now: a reply is due that it must have seen first."""
        return any(map(is_awaited, self.model.waiting))

    @property
    def may_command(self) -> bool:
        """Whether what an honest client says now is commands."""
        return not (self.waits or self.model.in_data or self.model.closed)

    def send(self, octets: bytes, places: list[int]) -> None:
        """In pieces."""
        at = [0, *sorted(place % (len(octets) + 1) for place in places), len(octets)]
        for start, end in pairwise(at):
            if start != end:
                self.client.send(octets[start:end])

    def talk(self, items: list[bytes | Chunk], places: list[int], before: bytes = b"") -> None:
        """Say it all at once, but wait where one must."""
        octets = before
        for item in items:
            self.model.hear(item)
            octets += item + b"\r\n" if isinstance(item, bytes) else item[0] + item[1]
            if is_awaited(item):
                break
        self.send(octets, places)

    @precondition(lambda self: self.may_command)
    @rule(items=st.lists(commands | chunks, min_size=1, max_size=4), places=cuts)
    def group(self, items: list[bytes | Chunk], places: list[int]) -> None:
        """A group of commands."""
        self.talk(items, places)

    @precondition(lambda self: self.may_command)
    @rule(more=st.lists(commands, max_size=2), by=chunks, places=cuts)
    def chunk(self, more: list[bytes | Chunk], by: Chunk, places: list[int]) -> None:
        """A mail by BDAT, or its beginning."""
        self.envelope(more, by, places)

    @precondition(lambda self: self.may_command)
    @rule(more=st.lists(commands, max_size=2), by=st.just(b"DATA"), places=cuts)
    def envelope(self, more: list[bytes | Chunk], by: bytes | Chunk, places: list[int]) -> None:
        """One that is good if nothing comes between, up to its content."""
        if not self.model.greeted:
            self.talk([b"EHLO app.example"], [])
        self.talk([b"RSET", b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.net>", *more, by], places)

    @precondition(lambda self: self.model.in_data)
    @rule(octets=contents, items=st.lists(commands | chunks, max_size=4), places=cuts)
    def content(self, octets: bytes, items: list[bytes | Chunk], places: list[int]) -> None:
        """All of it, and commands behind its end. What follows the first end is content no more, and is left out."""
        wire = b"\r\n" + octets + (b".\r\n" if octets.endswith(b"\r\n") or not octets else b"\r\n.\r\n")
        wire = wire[: wire.index(b"\r\n.\r\n") + 5]
        mail = self.model.mail
        assert mail is not None
        mail.add(wire.removesuffix(b".\r\n").replace(b"\r\n.", b"\r\n")[2:])
        self.model.end()
        self.talk(items, places, wire[2:])

    @precondition(lambda self: self.waits and not self.model.closed)
    @rule(items=st.lists(commands | chunks, min_size=1, max_size=3), places=cuts)
    def speak_too_early(self, items: list[bytes | Chunk], places: list[int]) -> None:
        """While the reply to EHLO or DATA is due."""
        self.talk(items, places)

    @precondition(lambda self: self.model.pending is not None)
    @rule(error=st.sampled_from([None, None, Refused(Reply(452, "4.3.1", ("full",)), "disk"), OSError("broken")]))
    def commit(self, error: Exception | None) -> None:
        """What is pending becomes durable, or does not."""
        arriving = self.pending()
        if error is None:
            self.durable.append(self.model.committed("250"))
            arriving.commit()
        else:
            self.model.committed("452" if isinstance(error, Refused) else "451")
            self.faults += not isinstance(error, Refused)
            arriving.fail(error)

    def pending(self) -> Arriving:
        """The mail that is whole and neither durable nor given up."""
        [arriving] = [each for each in self.server.taker.begun if each.done is not None and not each.done.called]
        return arriving

    @rule(dice=st.integers(0, 15))
    def hang_up(self, dice: int) -> None:
        """The client goes, at times; what it had handed in whole becomes durable all the same."""
        if dice != 9:
            return
        mail, self.model.pending = self.model.pending, None
        self.client.protocol.connectionLost()
        if mail is not None:
            self.durable.append(mail)
            self.pending().commit()
        self.connect()

    @precondition(lambda self: self.model.closed)
    @rule()
    def connect_again(self) -> None:
        """The server has ended it."""
        self.client.protocol.connectionLost()
        self.connect()

    @invariant()
    def replies_are_as_they_should_be(self) -> None:
        """No more, no less, in order; and the connection ends when it should."""
        self.heard += [line[:3] for line in self.client.said()]
        assert self.heard == self.model.said
        assert self.client.is_closed == self.model.closed

    @invariant()
    def mails_are_as_they_should_be(self) -> None:
        """Those that were acknowledged, and no others; what was given up is forgotten."""
        taker = self.server.taker
        assert [(mail.sender, mail.addresses, mail.content) for mail in taker.mails] == [
            mail.delivered for mail in self.durable
        ]
        assert len(self.server.faults) == self.faults
        open_mails = [each for each in taker.begun if each.findings is None and not each.abandoned]
        assert len(open_mails) <= 1


def test_any_session() -> None:
    """The same sessions each time, unless more are asked for."""
    run_state_machine_as_test(
        Session,
        settings=settings(
            max_examples=SESSIONS or 80,
            stateful_step_count=40,
            derandomize=not SESSIONS,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
