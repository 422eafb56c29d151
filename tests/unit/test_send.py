"""Dot-stuffing of what leaves: the same octets, wherever the pieces were cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.data.send import DotStuffer, stuffed

CASES = [
    (b"", b".\r\n"),
    (b"x\r\n", b"x\r\n.\r\n"),
    (b"x", b"x\r\n.\r\n"),
    (b".", b"..\r\n.\r\n"),
    (b".\r\n", b"..\r\n.\r\n"),
    (b".first\r\n", b"..first\r\n.\r\n"),
    (b"..\r\n..x\r\n.y\r\n", b"...\r\n...x\r\n..y\r\n.\r\n"),
    (b"\r\n.\r\n.\r\n", b"\r\n..\r\n..\r\n.\r\n"),
    (b"a\r\n.\r\nMAIL FROM:<evil@example.com>\r\n", b"a\r\n..\r\nMAIL FROM:<evil@example.com>\r\n.\r\n"),
    (b"a.\r\n.b.\r\nc.", b"a.\r\n..b.\r\nc.\r\n.\r\n"),
    (b"\r\n", b"\r\n.\r\n"),
]

CONTENT = st.lists(st.sampled_from([b"\r\n", b".", b"x", b"\r\n.", b"..\r\n"])).map(b"".join)


def in_pieces(*pieces: bytes) -> bytes:
    stuffer = DotStuffer()
    return b"".join([stuffer.stuff(piece) for piece in pieces]) + stuffer.end()


def unstuffed(sent: bytes) -> bytes:
    """What a server makes of it (RFC 5321, 4.5.2), line by line."""
    lines = sent.split(b"\r\n")
    assert lines.pop() == b""
    assert lines.pop() == b"."
    assert b"." not in lines
    return b"".join([line.removeprefix(b".") + b"\r\n" for line in lines])


@pytest.mark.parametrize(("content", "sent"), CASES)
def test_whole(content: bytes, sent: bytes) -> None:
    """Each line that begins with a dot gets another one, the first line too; the end is the only lone dot."""
    assert stuffed(content) == sent


@pytest.mark.parametrize(("content", "sent"), CASES)
def test_every_split_into_three(content: bytes, sent: bytes) -> None:
    """Where a piece ends makes no difference, also between CR, LF and the dot."""
    for first in range(len(content) + 1):
        for second in range(first, len(content) + 1):
            assert in_pieces(content[:first], content[first:second], content[second:]) == sent


@pytest.mark.parametrize(("content", "sent"), CASES)
def test_octet_by_octet(content: bytes, sent: bytes) -> None:
    """Also where each piece is one octet."""
    assert in_pieces(*[content[at : at + 1] for at in range(len(content))]) == sent


@given(CONTENT, st.lists(st.integers(0, 60)))
def test_a_server_reads_what_was_meant(content: bytes, cuts: list[int]) -> None:
    """What is sent ends once, at its end, and is the content again once a server has unstuffed it."""
    places = [0, *sorted(cuts), len(content)]
    sent = in_pieces(*[content[start:end] for start, end in itertools.pairwise(places)])
    assert sent == stuffed(content)
    whole = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    assert unstuffed(sent) == whole
