"""Content as it arrives: one table of cases, each whole, octet by octet, in every two pieces, and with what follows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.smtp.data.receive import LINE_LIMIT, Chunks, Content, Dots, Rules
from relay.smtp.submission import Findings, Refused

NORMALIZE = Rules(1000, drop=frozenset({b"bcc"}))
REJECT = Rules(1000, reject_bare_newlines=True, drop=frozenset({b"bcc"}))


@dataclass
class Received:
    """What came of it: the content, or the code and reason of its refusal; and what followed."""

    content: bytes = b""
    refused: str = ""
    findings: Findings | None = None
    rest: bytes = b""
    held_back: int = 0


def by_data(rules: Rules, pieces: Iterable[bytes]) -> Received:
    """As a server receives what follows a 354; the pieces must hold the end."""
    dots, content, received = Dots(), Content(rules), Received()
    pieces = iter(pieces)
    for piece in pieces:
        octets, rest = dots.feed(piece)
        content.grow(len(octets))
        received.content += content.edit(octets)
        if rest is not None:
            received.rest = rest + b"".join(pieces)
            return ended(content, received)
    raise AssertionError("no end was found")


def by_chunks(rules: Rules, pieces: Iterable[bytes]) -> Received:
    """As a server receives BDAT's chunks."""
    chunks, content, received = Chunks(), Content(rules), Received()
    for piece in pieces:
        content.grow(len(piece))
        received.content += content.edit(chunks.feed(piece))
    received.content += content.edit(chunks.end())
    return ended(content, received)


def ended(content: Content, received: Received) -> Received:
    """The content is over."""
    try:
        received.content += content.end()
        received.findings = content.findings
    except Refused as refused:
        assert content.refused
        received.content = b""
        received.refused = f"{refused.reply.code} {refused.reply.enhanced} {refused.reason}"
    return received


def cuts(octets: bytes) -> Iterator[list[bytes]]:
    """Whole, octet by octet, in every two pieces."""
    yield [octets]
    yield [octets[at : at + 1] for at in range(len(octets))]
    for at in range(1, len(octets)):
        yield [octets[:at], octets[at:]]


# What is sent behind the 354, and the content that is meant; where a lone CR or LF is in it, it is refused by REJECT.
DATA = [
    (b".\r\n", b""),
    (b"x\r\n.\r\n", b"x\r\n"),
    (b"..\r\n.\r\n", b".\r\n"),
    (b"..\r\n..x\r\n.y\r\n.\r\n", b".\r\n.x\r\ny\r\n"),
    (b"...\r\n.\r\n", b"..\r\n"),
    (b"\r\n.\r\n", b"\r\n"),
    (b"\r\n\r\n.\r\n", b"\r\n\r\n"),
    (b"x.\r\n.\r\n", b"x.\r\n"),
    (b"x\r\n\r\n\r\n.\r\n", b"x\r\n\r\n\r\n"),
    (b"x\n.\n.\r\ny\r\n.\r\n", b"x\r\n.\r\n.\r\ny\r\n"),
    (b"x\n..y\n\r\n.\r\n", b"x\r\n..y\r\n\r\n"),
    (b"x\r.\r\r\n.\r\n", b"x\r\n.\r\n\r\n"),
    (b"x\r\n.\ny\r\n.\r\n", b"x\r\n\r\ny\r\n"),
    (b"x\r\n.\ry\r\n.\r\n", b"x\r\n\r\ny\r\n"),
    (b"x\r\r\n.\r\n", b"x\r\n\r\n"),
    (b"x\n\r\n.\r\n", b"x\r\n\r\n"),
    (b"x\n\r.\r\n\r\n.\r\n", b"x\r\n\r\n.\r\n\r\n"),
    (b"\n.\r\n\r\n.\r\n", b"\r\n.\r\n\r\n"),
    (b"\r.\n\r\n.\r\n", b"\r\n.\r\n\r\n"),
    (b".\rx\r\n.\r\n", b"\r\nx\r\n"),
    (b".\n\r\n.\r\n", b"\r\n\r\n"),
    (b"\r\n.\r.\r\n.\r\n", b"\r\n\r\n.\r\n"),
    (b"Subject: t\r\nBcc: x\r\n y\r\n\r\nBcc: z\r\n.\r\n", b"Subject: t\r\n\r\nBcc: z\r\n"),
    (b"..: dots\r\n..\r\n.\r\n", b".: dots\r\n.\r\n"),
    (b"Subject: t\nBcc: x\n\nBcc: z\n\r\n.\r\n", b"Subject: t\r\n\r\nBcc: z\r\n\r\n"),
]


@pytest.mark.parametrize(("sent", "meant"), DATA)
@pytest.mark.parametrize("trailing", [b"", b"QUIT\r\n", b".\r\n", b"\r\n.\r\n"])
def test_data(sent: bytes, meant: bytes, trailing: bytes) -> None:
    """The end is found, dots are taken away, line ends are made one kind, however the octets are cut."""
    for pieces in cuts(sent + trailing):
        received = by_data(NORMALIZE, pieces)
        assert (received.content, received.refused, received.rest) == (meant, "", trailing), pieces


@pytest.mark.parametrize(("sent", "meant"), DATA)
def test_data_where_lone_line_ends_are_refused(sent: bytes, meant: bytes) -> None:
    """They are, and nothing else is."""
    lone = re.search(rb"\r(?!\n)|(?<!\r)\n", sent)
    for pieces in cuts(sent):
        received = by_data(REJECT, pieces)
        assert (received.content, received.refused) == ((b"", "550 5.6.0 content") if lone else (meant, ""))


CHUNKS = [
    (b"", b""),
    (b"x", b"x\r\n"),
    (b"x\r\n", b"x\r\n"),
    (b".\r\n..\r\n", b".\r\n..\r\n"),
    (b"\r\n.\r\n", b"\r\n.\r\n"),
    (b"x\r", b"x\r\n"),
    (b"x\r\r", b"x\r\n\r\n"),
    (b"x\ry\nz\r\n", b"x\r\ny\r\nz\r\n"),
    (b"\n", b"\r\n"),
    (b"Bcc: x", b""),
    (b"Subject: t\r\nBcc: x\r\n y", b"Subject: t\r\n"),
    (b"Subject", b"Subject\r\n"),
]


@pytest.mark.parametrize(("sent", "meant"), CHUNKS)
def test_chunks(sent: bytes, meant: bytes) -> None:
    """Chunks have no dots and no end of their own, and may be cut between CR and LF; a last line is ended."""
    for pieces in cuts(sent):
        received = by_chunks(NORMALIZE, pieces)
        assert (received.content, received.refused) == (meant, ""), pieces


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (b"x\0\r\n", "550 5.6.0 content"),
        (b"\0", "550 5.6.0 content"),
        (b"\0" + b"x" * 1000, "552 5.3.4 size"),
        (b"x" * 998 + b"\r\n", ""),
        (b"x" * 999 + b"\r\n", "552 5.3.4 size"),
        (b"\n" * 1000, ""),
        (b"Received: x\r\n" * 2 + b"\0\r\n", "550 5.6.0 content"),
    ],
)
def test_refusals(content: bytes, refused: str) -> None:
    """Which reason is said does not depend on the order in which they are seen."""
    for pieces in cuts(content):
        assert by_chunks(NORMALIZE, pieces).refused == refused
    for pieces in cuts(content.replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n"):
        assert len(content) > 998 or by_data(NORMALIZE, pieces).refused == refused


def test_the_size_is_that_of_what_was_received_unstuffed() -> None:
    """Neither dots that are taken away count, nor the octets that we add to lone line ends."""
    rules = Rules(6)
    for pieces in cuts(b"..\r\n..\r\n.\r\n"):
        assert by_data(rules, pieces).content == b".\r\n.\r\n"
    for pieces in cuts(b"\n\n\n\n\r\n.\r\n"):
        assert by_data(rules, pieces).content == b"\r\n" * 5
    for pieces in cuts(b"..x\r\n..\r\n.\r\n"):
        assert by_data(rules, pieces).refused == "552 5.3.4 size"


@pytest.mark.parametrize("piece", [4000, 4096, 65536, 10**8])
@pytest.mark.parametrize(
    ("lines", "refused"),
    [
        ([LINE_LIMIT], ""),
        ([LINE_LIMIT + 1], "554 5.6.0 content"),
        ([10, LINE_LIMIT, LINE_LIMIT, 5], ""),
        ([LINE_LIMIT, LINE_LIMIT + 1], "554 5.6.0 content"),
        ([3, LINE_LIMIT * 2, 3], "554 5.6.0 content"),
        ([1000] * 2000, ""),
    ],
)
def test_long_lines(piece: int, lines: list[int], refused: str) -> None:
    """A line of 1 MiB passes, one of an octet more does not, wherever it stands."""
    sent = b"".join(b"x" * length + b"\r\n" for length in lines)
    received = by_chunks(Rules(10**8), (sent[at : at + piece] for at in range(0, len(sent), piece)))

    assert received.refused == refused
    assert refused or received.content == sent


def test_no_more_is_held_back_than_must_be() -> None:
    """Not more than a field's name, and of the body not more than four octets."""
    dots, content = Dots(), Content(Rules(10**8))
    header = b"Subject: t\r\n" * 3
    passed = 0
    for sent, octet in enumerate(header + b"\r\n" + b"line\r\n.\r" * 500, 1):
        octets, _ = dots.feed(bytes((octet,)))
        content.grow(len(octets))
        passed += len(content.edit(octets))
        assert sent - passed <= (len("Subject") if sent <= len(header) else 4)


EOL = re.compile(rb"\r\n|\r|\n")
pieces_of_content = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"\r\n.", b"\r\n..", b"x", b"\xc3", b":", b" ", b"Bcc:", b"Date: "]),
    max_size=14,
)


@settings(deadline=None)
@given(pieces_of_content, st.randoms())
@example([b"\r\n", b".", b"\r", b"\n"], None)
def test_any_content_cut_anywhere(parts: list[bytes], random: object) -> None:
    """What a plain reading of RFC 5321 makes of it, however it is cut."""
    sent = b"".join(parts) + b"\r\n.\r\n"
    end = (b"\r\n" + sent).find(b"\r\n.\r\n") + 3
    meant = (b"\r\n" + sent[: end - 3]).replace(b"\r\n.", b"\r\n")[2:]
    meant = EOL.sub(b"\r\n", meant)
    rules = Rules(10**6)
    whole = by_data(rules, [sent])
    assert whole.content == meant
    assert whole.rest == sent[end:]
    assert b"\0" not in whole.content
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", whole.content)
    for pieces in cuts(sent):
        assert by_data(rules, pieces) == whole


@settings(deadline=None)
@given(pieces_of_content)
def test_any_content_in_chunks(parts: list[bytes]) -> None:
    """What goes on is the same by DATA and by BDAT, however it is cut."""
    content = EOL.sub(b"\r\n", b"".join(parts) + b"\r\n")
    by_dots = by_data(NORMALIZE, [(b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"])
    for pieces in cuts(content):
        received = by_chunks(NORMALIZE, pieces)
        assert received.content == by_dots.content
        assert received.findings == by_dots.findings


@pytest.mark.parametrize(
    ("content", "findings"),
    [
        (b"", Findings(False, False, False, False)),
        (b"hello\r\n", Findings(False, False, False, False)),
        (b"\r\nhello\r\n", Findings(True, False, False, False)),
        (b" Subject: t\r\n", Findings(False, False, False, False)),
        (b"Subject: t\r\n", Findings(True, False, False, False)),
        (b"DATE: t\r\nmessage-ID : x\r\n\r\n", Findings(True, True, True, False)),
        (b"Subject: t\r\n\r\nDate: t\r\n", Findings(True, False, False, False)),
        (b"Bcc: x\r\n\r\nhello\r\n", Findings(True, False, False, False)),
        (b"Bcc: x\r\nhello\r\n", Findings(False, False, False, False)),
        (b"Bcc: x\r\n", Findings(False, False, False, False)),
        (b"Bcc: \xff\r\nA: b\r\n\r\n", Findings(True, False, False, False)),
        (b"A: \xff\r\n\r\n", Findings(True, False, False, True)),
        (b"A: b\r\n\r\n\x80\r\n", Findings(True, False, False, True)),
    ],
)
def test_findings(content: bytes, findings: Findings) -> None:
    """They are about what goes on, not about what was dropped."""
    for pieces in cuts(content):
        assert by_chunks(NORMALIZE, pieces).findings == findings
