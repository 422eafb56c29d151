"""What the intake makes of a dialogue: where addresses lead, what From: says then, and when nothing is taken."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from relay.addresses import Rules
from relay.envelope import Envelope
from relay.events import Events
from relay.intake import Intake, Policy
from relay.limits import Window
from relay.metrics import Metrics
from relay.smtp.server.factory import LocalSMTPFactory
from relay.spool.spool import LARGE, Health, SpoolFailing, SpoolFull, Submission
from tests.memory_spool import MemorySpool
from tests.taking import POLICY, Connected, Server

NOW = 1_700_000_000.0
BODY = b"\r\nx\r\n"


@dataclass
class Taken:
    """A mail that is durable: `content` is the body below our own fields."""

    envelope: Envelope
    content: bytes

    @property
    def addresses(self) -> list[str]:
        """Of the recipients."""
        return [recipient.address for recipient in self.envelope.recipients]


class Scene(Server):
    """A server before a real intake, with a spool in memory."""

    def __init__(
        self,
        aliases: dict[str, list[str]] | None = None,
        senders: dict[str, str] | None = None,
        *,
        by: str = "client",
        messages: int = 0,
        postmaster: str = "postmaster@example.com",
    ) -> None:
        super().__init__()
        self.lines: list[dict[str, object]] = []
        self.write = self.lines.append
        self.spool = MemorySpool(self.clock.seconds)
        self.added: list[Submission] = []
        self.intake = Intake(
            Policy("relay.example", Rules("example.com", aliases or {}, senders or {}), 1024, by),
            self.spool,
            Window(messages, 60.0),
            self.added.append,
            self.clock.seconds,
            lambda: NOW,
            Events(self, lambda: NOW),
            Metrics("0"),
        )
        policy = replace(POLICY, postmaster=postmaster, rules=replace(POLICY.rules, max_size=3 * LARGE))
        self.factory = LocalSMTPFactory(policy, self.intake, self.clock, self._fault)

    def _fault(self, failure: object, session: object) -> None:
        raise AssertionError(failure)

    def hand_in(self, content: bytes = BODY, sender: str = "a@example.com", *to: str, each: int = 0) -> list[str]:
        """The replies to a mail's commands, by DATA, in segments of `each`."""
        client = self.greeted()
        client.send(f"MAIL FROM:<{sender}>\r\n".encode())
        for recipient in to or ("b@example.net",):
            client.send(f"RCPT TO:<{recipient}>\r\n".encode())
        client.send(b"DATA\r\n")
        client.send(content + b".\r\n", each=each)
        said = client.said()
        client.send(b"QUIT\r\n")
        client.protocol.connectionLost()
        return said

    def taken(self, *arguments: str | bytes, each: int = 0) -> Taken:
        """The mail that came of that."""
        said = self.hand_in(*arguments, each=each)  # type: ignore[arg-type]
        assert said[-1].startswith("250 2.0.0 queued as "), said
        mail = list(self.spool.mails.values())[-1]
        assert self.added[-1].envelope is mail.envelope
        assert isinstance(mail.body, bytes)
        assert mail.envelope.size == len(mail.head) + len(mail.body)
        return Taken(mail.envelope, mail.body)


@pytest.mark.parametrize(
    ("to", "found"),
    [
        (["root"], ["ops@example.net"]),
        (["ROOT"], ["ops@example.net"]),
        (["root@example.com"], ["ops@example.net"]),
        (["root@other.example"], ["root@other.example"]),
        (["x@app1.internal", "y@APP1.internal"], ["dev@example.net", "ops@example.net"]),
        (["admin", "root", "OPS@example.net"], ["ops@example.net", "dev@example.net"]),
        (["nobody"], ["nobody@example.com"]),
        (["postmaster"], ["boss@example.net"]),
        (["Postmaster@example.com"], ["boss@example.net"]),
        (["b@example.net", "B@EXAMPLE.net"], ["b@example.net"]),
    ],
)
def test_where_recipients_lead(to: list[str], found: list[str]) -> None:
    """By the rule for a name, an address or a domain; each address once; what no rule names stays as it is."""
    scene = Scene(
        {
            "root": ["ops@example.net"],
            "*@app1.internal": ["dev@example.net", "ops@example.net"],
            "admin": ["ops@example.net", "dev@example.net"],
            "postmaster": ["boss@example.net"],
        }
    )
    assert scene.taken(BODY, "a@example.com", *to).addresses == found


def test_everything_goes_to_one_box() -> None:
    """Recipients with and without a domain; the null sender is no recipient and no rule's."""
    scene = Scene({"*": ["me@example.com"]}, {"*": "noreply@example.com"})

    mail = scene.taken(BODY, "", "b@example.net", "root", "postmaster")

    assert mail.addresses == ["me@example.com"]
    assert mail.envelope.sender == ""


def test_the_postmaster_of_the_configuration() -> None:
    """A bare <postmaster> leads there; rules look at that address."""
    assert Scene({}, postmaster="boss@example.net").taken(BODY, "", "PostMaster").addresses == ["boss@example.net"]
    scene = Scene({"*@example.net": ["ops@example.org"]}, postmaster="boss@example.net")
    assert scene.taken(BODY, "", "PostMaster").addresses == ["ops@example.org"]


@pytest.mark.parametrize(
    ("sender", "rules", "goes_on"),
    [
        ("root", {}, "root@example.com"),
        ("root", {"root": "noreply@example.com"}, "noreply@example.com"),
        ("root", {"*": "noreply@example.com"}, "noreply@example.com"),
        ("root", {"*@example.com": "noreply"}, "noreply@example.com"),
        ("a@app1.internal", {"*@APP1.internal": "noreply@example.com"}, "noreply@example.com"),
        ("a@app2.internal", {"*@app1.internal": "noreply@example.com"}, "a@app2.internal"),
        ("A.b+c@example.com", {}, "A.b+c@example.com"),
        ("", {"*": "noreply@example.com"}, ""),
    ],
)
def test_where_a_sender_leads(sender: str, rules: dict[str, str], goes_on: str) -> None:
    """A name alone gets the domain; a rule that fits takes its place; <> fits none."""
    assert Scene({}, rules).taken(BODY, sender).envelope.sender == goes_on


CRON = (
    b"From: root (Cron Daemon)\r\nTo: root\r\n"
    b"Subject: Cron <root@app1> true\r\nX-Cron-Env: <SHELL=/bin/sh>\r\n\r\nout\r\n"
)


@pytest.mark.parametrize(
    ("field", "rewritten"),
    [
        (b"root (Cron Daemon)", b"noreply@example.com (Cron Daemon)"),
        (b"ROOT@Example.com", b"noreply@example.com"),
        (b"(a (nested) root) root (root@example.com)", b"(a (nested) root) noreply@example.com (root@example.com)"),
        (b'"root" <root@example.com>', b'"root" <noreply@example.com>'),
        (b"Cron\r\n\tDaemon\r\n <root>", b"Cron\r\n\tDaemon\r\n <noreply@example.com>"),
        (b"\r\n root", b"\r\n noreply@example.com"),
        (b"g: x@example.net, root;, root@example.com", b"g: x@example.net, noreply@example.com;, noreply@example.com"),
        (b"=?utf-8?Q?root=40example=2Ecom?= <root>", b"=?utf-8?Q?root=40example=2Ecom?= <noreply@example.com>"),
        (b"J\xc3\xb6rg <root>, \xff <x@example.net>", b"J\xc3\xb6rg <noreply@example.com>, \xff <x@example.net>"),
        (b"=?UTF-8?B?QSA8cm9vdEBleGFtcGxlLmNvbT4=?=", None),
        (b"=?utf-8?q?root?=", None),
        (b"Other <other@example.com> (root@example.com)", None),
        (b'"root@example.com" <other@example.com>', None),
        (b"root@example.net", None),
        (b"xroot@example.com, rootx", None),
        (b"", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("each", [0, 1])
def test_from_follows_the_sender(field: bytes, rewritten: bytes | None, each: int) -> None:
    """Where it holds the sender's own address: there alone, and what it was is kept; else nothing is touched (None)."""
    old = CRON.replace(b"root (Cron Daemon)", field)
    new = old if rewritten is None else old.replace(
        b"From: " + field, b"From: " + rewritten + b"\r\nX-Original-From: " + field
    )  # fmt: skip
    scene = Scene({}, {"root": "noreply@example.com"})

    for sender in ("root", "Root@Example.com"):
        mail = scene.taken(old, sender, each=each)
        assert mail.content == new
        assert mail.envelope.sender == "noreply@example.com"
        assert mail.envelope.eight_bit == (not new.isascii())


def test_cron() -> None:
    """A mail as cron sends it: to where root's leads, from an address that providers take."""
    scene = Scene({"root": ["ops@example.net"]}, {"root@example.com": "noreply@example.com"})

    mail = scene.taken(CRON, "root", "root")

    assert (mail.envelope.sender, mail.addresses) == ("noreply@example.com", ["ops@example.net"])
    assert mail.content == CRON.replace(
        b"From: root (Cron Daemon)\r\n",
        b"From: noreply@example.com (Cron Daemon)\r\nX-Original-From: root (Cron Daemon)\r\n",
    )


def test_an_address_that_is_not_ascii_takes_a_place() -> None:
    """The mail holds octets above 127 then, though it came without any."""
    mail = Scene({}, {"root": "jörg@example.com"}).taken(b"From: root\r\n", "root")

    assert mail.content == "From: jörg@example.com\r\nX-Original-From: root\r\n".encode()
    assert mail.envelope.eight_bit
    assert mail.envelope.size > len(mail.content)


@pytest.mark.parametrize("rules", [{}, {"other": "noreply@example.com"}, {"root": "root@example.com"}])
def test_a_mail_that_nothing_matches(rules: dict[str, str]) -> None:
    """It keeps every octet, and so does one whose sender stays the same."""
    assert Scene({}, rules).taken(CRON, "root").content == CRON


def test_the_null_sender_keeps_its_from() -> None:
    """A report is of nobody whom a rule could name."""
    assert Scene({}, {"*": "noreply@example.com"}).taken(CRON, "").content == CRON


@pytest.mark.parametrize("chunk", [1, 9, 30, 1000])
def test_from_in_chunks(chunk: int) -> None:
    """By BDAT, cut anywhere, and where the header is all there is."""
    scene = Scene({}, {"root": "noreply@example.com"})
    content = b"To: b\r\nFrom: root\r\n (cron)"
    client = scene.greeted()
    client.send(b"MAIL FROM:<root>\r\nRCPT TO:<b@example.net>\r\n")
    for at in range(0, len(content), chunk):
        client.send(b"BDAT %d\r\n" % len(content[at : at + chunk]) + content[at : at + chunk])
    client.send(b"BDAT 0 LAST\r\n")

    [mail] = scene.spool.mails.values()
    assert mail.body == b"To: b\r\nFrom: noreply@example.com\r\n (cron)\r\nX-Original-From: root\r\n (cron)\r\n"


def test_a_large_mail_is_rewritten_on_its_way_to_the_disk() -> None:
    """Its header is edited like any other."""
    text = b"0123456789abcd\r\n" * (LARGE // 16 + 1)

    mail = Scene({}, {"root": "noreply@example.com"}).taken(b"From: root\r\n\r\n" + text, "root", each=65536)

    assert mail.content == b"From: noreply@example.com\r\nX-Original-From: root\r\n\r\n" + text


def test_rules_that_change_while_a_mail_comes() -> None:
    """The mail goes by those that were in force at its MAIL."""
    scene = Scene({}, {"root": "noreply@example.com"})
    client = scene.greeted()
    client.send(b"MAIL FROM:<root>\r\n")
    scene.intake.policy = replace(scene.intake.policy, rules=Rules("example.org", {}, {}))
    client.send(b"RCPT TO:<b@example.net>\r\nDATA\r\n")
    client.send(b"From: root\r\n\r\n.\r\n")

    [mail] = scene.spool.mails.values()
    assert mail.envelope.sender == "noreply@example.com"
    assert mail.body == b"From: noreply@example.com\r\nX-Original-From: root\r\n\r\n"


# What is not taken now.


def at_mail(scene: Scene) -> tuple[Connected, list[str]]:
    """A client, and the reply to its MAIL."""
    client = scene.greeted()
    return client, client.ask(b"MAIL FROM:<a@example.com>\r\n")


def test_no_room_on_the_disk() -> None:
    """452 4.3.1 at MAIL, on a connection that goes on; with room again mail is taken."""
    scene = Scene()
    full = scene.spool.health
    scene.spool.health = Health(True, 1023, 2**40, 0, 0, 0.0)
    client, [said] = at_mail(scene)
    assert said.startswith("452 4.3.1 ")

    scene.spool.health = full
    assert client.ask(b"MAIL FROM:<a@example.com>\r\n")[0].startswith("250 ")
    assert [line["reason"] for line in scene.lines] == ["disk"]


def test_a_spool_that_does_not_work() -> None:
    """451 4.3.0 at MAIL."""
    scene = Scene()
    scene.spool.health = Health(False, 2**40, 2**41, 0, 0, 0.0)
    assert at_mail(scene)[1][0].startswith("451 4.3.0 ")


@pytest.mark.parametrize(("error", "said"), [(SpoolFull("full"), "452 4.3.1 "), (SpoolFailing("no"), "451 4.3.0 ")])
def test_a_spool_that_fails_at_the_commit(error: SpoolFull | SpoolFailing, said: str) -> None:
    """A reply that tells the client to try again; never 250, never 5xx, and nothing is left."""
    for content in (BODY, b"\r\n" + b"x\r\n" * (LARGE // 2)):
        scene = Scene()
        scene.spool.refuse = error
        assert scene.hand_in(content, each=65536)[-1].startswith(said)
        assert scene.spool.mails == {}
        assert scene.added == []


@pytest.mark.parametrize(
    ("by", "second", "said"),
    [
        ("client", "z@example.com", "451 4.7.1 "),
        ("sender", "A@Example.com", "451 4.7.1 "),
        ("sender", "z@example.com", "250 "),
    ],
)
def test_more_mails_than_a_client_may_hand_in(by: str, second: str, said: str) -> None:
    """Counted for the client or for the sender, in a window that slides."""
    scene = Scene(by=by, messages=1)
    client, [first] = at_mail(scene)
    assert first.startswith("250 ")
    command = f"RSET\r\nMAIL FROM:<{second}>\r\n".encode()
    assert client.ask(command)[1].startswith(said)

    scene.clock.advance(60.1)
    assert client.ask(command)[1].startswith("250 ")


def test_two_submissions_of_one_mail_are_two_mails() -> None:
    """Nothing is told apart by its Message-ID, and nothing is left out."""
    scene = Scene()
    one = scene.taken(b"Message-ID: <one@app.example>\r\n\r\nx\r\n")
    two = scene.taken(b"Message-ID: <one@app.example>\r\n\r\nx\r\n")

    assert one.content == two.content
    assert one.envelope.uuid != two.envelope.uuid
