"""A mail as programs write it, and as it goes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.sendmail.message import Message, addresses

FROM = b"From: U <u@example.com>\r\n"


def content(octets: bytes) -> bytes:
    """What goes out."""
    return Message(octets).content("U <u@example.com>", "example.com")


@pytest.mark.parametrize("line", [b"From root Mon Jan  6 10:00:00 2025\n", b">From root x\r\n", b"From a\n>From b\n"])
def test_the_line_of_a_mailbox_file(line: bytes) -> None:
    """It goes, and the header stays one."""
    message = Message(line + b"To: b@example.net\nSubject: s\n\nx\n")

    assert message.recipients() == ["b@example.net"]
    assert content(line + b"To: b@example.net\n\nx\n") == FROM + b"To: b@example.net\r\n\r\nx\r\n"


def test_lines_that_end_in_lf() -> None:
    """All end in CRLF afterwards, the last one too; those that did are left alone."""
    assert content(b"From: a@x.example\nS: 1\r\n\nx\r\ny") == b"From: a@x.example\r\nS: 1\r\n\r\nx\r\ny\r\n"


@pytest.mark.parametrize(
    ("octets", "sent"),
    [
        (b"", FROM + b"\r\n"),
        (b"hello\n", FROM + b"\r\nhello\r\n"),
        (b"\nhello\n", FROM + b"\r\nhello\r\n"),
        (b" hello\n", FROM + b"\r\n hello\r\n"),
        (b"Subject: s\nhello\n", FROM + b"Subject: s\r\n\r\nhello\r\n"),
        (b"Subject: s\n", FROM + b"Subject: s\r\n\r\n"),
        (b"Subject: s\n\n", FROM + b"Subject: s\r\n\r\n"),
        (b"Subject: s\n\n\nx\n", FROM + b"Subject: s\r\n\r\n\r\nx\r\n"),
        (b"Subject : s\n folded\n\nx\n", FROM + b"Subject : s\r\n folded\r\n\r\nx\r\n"),
    ],
)
def test_where_the_header_ends(octets: bytes, sent: bytes) -> None:
    """At the first line that is no field; an empty line is there in any case."""
    assert content(octets) == sent


@pytest.mark.parametrize(
    "field",
    [b"", b"From:\n", b"from: \n", b"From: =?UTF-8?B?QSA8YUBleGFtcGxlLmNvbT4=?=\n", b"From: <>\n", b"From:\n \n"],
)
def test_a_from_without_an_address(field: bytes) -> None:
    """It counts as missing: one that is good takes its place, and the next field stays."""
    assert content(field + b"To: b@example.net\n\nx\n") == FROM + b"To: b@example.net\r\n\r\nx\r\n"


def test_a_from_with_an_address_stays() -> None:
    """Also if another one has none."""
    assert content(b"From:\nFrom: a@x.example\n\n") == b"From: a@x.example\r\n\r\n"


@pytest.mark.parametrize(
    ("field", "sent"),
    [
        (b"From: root (Cron Daemon)", b"From: root@example.com (Cron Daemon)"),
        (b"From: Cron <root>", b"From: Cron <root@example.com>"),
        (
            b"From: a@x.example\nTo: root, b@x.example,\n ops (o)",
            b"To: root@example.com, b@x.example,\r\n ops@example.com (o)",
        ),
        (b'From: "a b"', b'From: "a b"@example.com'),
        (b"From: a@x.example\nReply-To: team: a, b;", b"Reply-To: team: a@example.com, b@example.com;"),
        (b"From: a@x.example\nResent-From: root", b"Resent-From: root@example.com"),
        (b"From: a@x.example\nSubject: root", b"Subject: root"),
    ],
)
def test_a_name_without_a_domain(field: bytes, sent: bytes) -> None:
    """It gets one, in fields that hold addresses; comments, folds and names are as they were."""
    assert sent in content(field + b"\n\nx\n")


def test_bcc_always_goes() -> None:
    """Whoever named it, and however it is folded."""
    octets = (
        b"From: a@x.example\nBCC: d@x.example,\n e@x.example\nResent-Bcc: f@x.example\nTo: b@x.example\n\nBcc: stays\n"
    )

    assert content(octets) == b"From: a@x.example\r\nTo: b@x.example\r\n\r\nBcc: stays\r\n"


def test_the_recipients_of_a_header() -> None:
    """To, Cc and Bcc, as often as they are there; also in groups, of which an empty one names nobody."""
    octets = (
        b"To: undisclosed-recipients:;\nTO: a..b@x.example\nCc: C <c@x.example>, root\n"
        b"Bcc: team: d@x.example, e@x.example;\nReply-To: no@x.example\n\nTo: nobody@x.example\n"
    )

    assert Message(octets).recipients() == ["a..b@x.example", "c@x.example", "root", "d@x.example", "e@x.example"]


def test_a_mail_that_is_sent_on() -> None:
    """Only its newest Resent- fields count: who got it before does not get it again."""
    newest = b"Resent-From: r@x.example\nSubject: s\nResent-To: new@x.example\nResent-Bcc: also@x.example\n"
    older = b"Resent-From: q@x.example\nResent-To: old@x.example\n"
    rest = b"To: first@x.example\n\nx\n"

    assert Message(newest + older + rest).recipients() == ["new@x.example", "also@x.example"]
    assert Message(newest + b"Received: x\nResent-To: old@x.example\n" + rest).recipients() == [
        "new@x.example",
        "also@x.example",
    ]
    assert Message(b"Resent-From: r@x.example\n" + rest).recipients() == []


def test_a_long_line_of_recipients() -> None:
    """It names them all, and passes as it is."""
    line = b"To: " + b", ".join(b"r%04d@example.net" % number for number in range(1500))

    assert len(Message(line + b"\n\nx\n").recipients()) == 1500
    assert line in content(line + b"\n\nx\n")


@pytest.mark.parametrize(
    ("word", "found"),
    [
        (b"b@x.example", ["b@x.example"]),
        (b"root", ["root"]),
        (b"a..b@x.example", ["a..b@x.example"]),
        (b"A <a@x.example>, root", ["a@x.example", "root"]),
        (b'"a b"@x.example', ['"a b"@x.example']),
        (b"a@[192.0.2.1]", ["a@[192.0.2.1]"]),
        ("ü@bücher.example".encode(), ["ü@bücher.example"]),
        (b"two words", []),
        (b"", []),
        (b"<>", []),
    ],
)
def test_the_recipients_on_a_command_line(word: bytes, found: list[str]) -> None:
    """One word may hold several, as in a header."""
    assert addresses(word) == found


@given(st.binary(max_size=200))
def test_any_octets(octets: bytes) -> None:
    """Whatever comes in goes out with a From:, every line that ended in LF ended by CRLF, and once only."""
    sent = content(octets)

    assert b"From:" in sent or b"from" in sent.lower()
    assert b"\n" not in sent.replace(b"\r\n", b"")
    assert sent.endswith(b"\r\n")
    assert content(sent) == sent
