"""Replies: which octets are one, and that their cutting makes no difference."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.reply import Reply, nameless
from relay.smtp.grammar.replies import KEPT, LARGEST, Replies

GOOD = [
    (b"250 2.0.0 Ok\r\n", Reply(250, "2.0.0", ("Ok",))),
    (b"250 Ok\n", Reply(250, "", ("Ok",))),
    (b"250\r\n", Reply(250, "", ("",))),
    (b"250 \r\n", Reply(250, "", ("",))),
    (b"334 \r\n", Reply(334, "", ("",))),
    (b"250-a\r\n250-b\r\n250 c\r\n", Reply(250, "", ("a", "b", "c"))),
    (b"250-a\n250-\n250\n", Reply(250, "", ("a", "", ""))),
    (b"550-5.4.5 Daily limit\r\n550 5.4.5 see there\r\n", Reply(550, "5.4.5", ("Daily limit", "see there"))),
    (b"550-Sorry\r\n550 5.1.1 No such user\r\n", Reply(550, "5.1.1", ("Sorry", "No such user"))),
    (b"550-5.1.1 No\r\n550 5.7.1 Go away\r\n", Reply(550, "5.1.1", ("No", "5.7.1 Go away"))),
    (b"452 #4.5.3 Too many recipients.\r\n", Reply(452, "", ("#4.5.3 Too many recipients.",))),
    (b"254 4.7.1 Suppressed\r\n", Reply(254, "4.7.1", ("Suppressed",))),
    (b"550 5.1.1\r\n", Reply(550, "5.1.1", ("",))),
    (b"550 5.1.1.1 x\r\n", Reply(550, "", ("5.1.1.1 x",))),
    (b"550 5.01.1 x\r\n", Reply(550, "", ("5.01.1 x",))),
    (b"550 3.1.1 x\r\n", Reply(550, "", ("3.1.1 x",))),
    ("550 5.\u0661.1 x\r\n".encode(), Reply(550, "", ("5.\u0661.1 x",))),
    (b"550 5.1.1000 x\r\n", Reply(550, "", ("5.1.1000 x",))),
    ("550 grün\r\n".encode(), Reply(550, "", ("grün",))),
    (b"550 gr\xfcn\r\n", Reply(550, "", ("gr\\xfcn",))),
    (b"550 a\x1b[2Jb\x00\r\r\n", Reply(550, "", ("a\x1b[2Jb\x00\r",))),
]

BAD = [
    b"\r\n",
    b"\n",
    b"2_5 Ok\r\n",
    b" 250 Ok\r\n",
    b"+25 Ok\r\n",
    b"99\r\n",
    b"600 Ok\r\n",
    b"199 Ok\r\n",
    b"25\r\n",
    b"2500 Ok\r\n",
    b"250\tOk\r\n",
    b"250_Ok\r\n",
    "\u0662\u0665\u0660 Ok\r\n".encode(),
    b"\x00\x00\x00\x1a\x00\x00\n",
    b"HTTP/1.1 400 Bad Request\r\n",
    b"250-a\r\nb\r\n",
    b"250-a\r\n\r\n",
]


@pytest.mark.parametrize(("octets", "reply"), GOOD)
def test_a_reply(octets: bytes, reply: Reply) -> None:
    """It is read whole, octet by octet, and with the next one behind it in the same piece."""
    assert Replies().receive(octets) == [reply]
    assert Replies().receive(octets + b"221 Bye\r\n") == [reply, Reply(221, "", ("Bye",))]
    replies = Replies()
    assert [reply for octet in octets for reply in replies.receive(bytes([octet]))] == [reply]
    assert not replies.midway


@pytest.mark.parametrize("octets", BAD)
def test_what_is_no_reply(octets: bytes) -> None:
    """It comes out as code 0, behind the good replies before it, and nothing comes after it."""
    replies = Replies()
    good, bad = replies.receive(b"250 Ok\r\n" + octets + b"250 Ok\r\n")
    assert (good.code, bad.code) == (250, 0)
    assert replies.receive(b"250 Ok\r\n") == []


def test_what_is_no_reply_is_shown() -> None:
    """The words for it quote what was seen, as it can stand in a log line."""
    [reply] = Replies().receive(b"\x16\x03\x01" + b"x" * 100 + b"\n")
    assert str(reply) == "a line that is no SMTP reply: \\x16\\x03\\x01" + "x" * 77 + "…"


def test_lines_that_disagree() -> None:
    """All lines of a reply have its code (RFC 5321, 4.2.1)."""
    [reply] = Replies().receive(b"250-a\r\n550 b\r\n")
    assert str(reply) == "a reply whose lines disagree: 250 and 550"


@pytest.mark.parametrize("cut", [1, 3, 4, 1000, KEPT, KEPT + 1])
def test_a_long_line(cut: int) -> None:
    """Its beginning is kept, the rest read and forgotten; the next reply is whole again."""
    octets = b"550 5.7.1 " + b"x" * 10_000 + b"\r\n"
    replies = Replies()
    [reply] = replies.receive(octets[:cut]) + replies.receive(octets[cut:])
    assert reply == Reply(550, "5.7.1", ("x" * (KEPT - 10),))
    assert replies.receive(b"250 Ok\r\n") == [Reply(250, "", ("Ok",))]


@pytest.mark.parametrize("piece", [b"250-x\r\n", b"x" * 1000, b"250-" + b"x" * 5000 + b"\n"])
def test_a_reply_without_end(piece: bytes) -> None:
    """After 64 KiB it is none; what is held in memory meanwhile is bounded as well."""
    replies = Replies()
    replies.receive(b"250-")
    received = 0
    while not (found := replies.receive(piece)):
        received += len(piece)
        assert received <= LARGEST
    assert received + len(piece) + 4 > LARGEST
    assert str(found[0]) == "a reply of more than 65536 octets"


def test_midway() -> None:
    """A part of a reply is noticed, be it a part of a line or some of its lines."""
    replies = Replies()
    assert not replies.midway
    replies.receive(b"2")
    assert replies.midway
    replies.receive(b"50-x\r\n")
    assert replies.midway
    replies.receive(b"250 y\r\n")
    assert not replies.midway


@given(st.lists(st.sampled_from([octets for octets, _ in GOOD])), st.lists(st.integers(0, 400)))
def test_any_cutting(said: list[bytes], cuts: list[int]) -> None:
    """However a dialogue is cut into pieces, the same replies come out."""
    octets = b"".join(said)
    replies = Replies()
    places = [0, *sorted(cuts), len(octets)]
    pieces = [octets[start:end] for start, end in itertools.pairwise(places)]
    assert [reply for piece in pieces for reply in replies.receive(piece)] == Replies().receive(octets)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_octets(octets: bytes, cut: int) -> None:
    """Whatever comes, the outcome is replies, and it does not depend on the cutting."""
    replies = Replies()
    assert replies.receive(octets[:cut]) + replies.receive(octets[cut:]) == Replies().receive(octets)


@pytest.mark.parametrize("piece", ["a@[", '"a@', "a@", '"', "@", "<a", "a@[b] "])
def test_no_words_take_long_to_be_made_nameless(piece: str) -> None:
    """A reply is up to LARGEST octets, and while a page is made of it nobody else is served."""
    begin = time.process_time()
    nameless(piece * (LARGEST // len(piece)))
    assert time.process_time() - begin < 0.5
