"""The benchmarks' pure parts: what the provider counts, when a sync counts, and what is written into the page."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import backlog, fairness, figures, syncs
from benchmarks.chart import BAR, Bars, bars, drawn
from benchmarks.pace import Sent
from benchmarks.page import PATH, Page, rule
from benchmarks.sink import Dialogue, Tally

HEADS = (figures.HEAD, backlog.HEAD, fairness.HEAD, syncs.HEAD)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection."""
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def mail(name: str, body: bytes, *to: str) -> bytes:
    """A transaction in one piece, its content ended by a dot."""
    recipients = b"".join(b"RCPT TO:<%s>\r\n" % each.encode() for each in to)
    content = b"Message-ID: <%s>\r\n\r\n%s\r\n.\r\n" % (name.encode(), body)
    return b"MAIL FROM:<a@example.com>\r\n" + recipients + b"DATA\r\n" + content


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 64, 4096])
def test_the_provider_counts_each_recipient(pair: tuple[socket.socket, socket.socket], length: int) -> None:
    """In pieces of any length; dots within the content, also at the beginning of a line, do not end it."""
    tally = Tally(0)
    dialogue = Dialogue(pair[0], tally, chunking=False)
    octets = (
        b"".join(mail(str(number), b"a.b\r\n..\r\n.c\r\n\n.\r\n", "b@x", "c@x") for number in range(3)) + b"QUIT\r\n"
    )

    pieces = [octets[place : place + length] for place in range(0, len(octets), length)]
    going = [dialogue.receive(piece) for piece in pieces]

    assert (tally.count.value, tally.twice.value, tally.cut.value) == (6, 0, 0)
    assert going == [True] * (len(pieces) - 1) + [False]
    assert pair[1].recv(4096).count(b"354 ") == 3


def test_the_provider_tells_what_came_twice_or_cut(pair: tuple[socket.socket, socket.socket]) -> None:
    """A recipient that had a mail already, and a mail that is shorter than the others."""
    tally = Tally(0)
    dialogue = Dialogue(pair[0], tally, chunking=False)

    for name, body in (("1", b"whole"), ("2", b"whole"), ("2", b"whole"), ("3", b"who")):
        dialogue.receive(mail(name, body, "b@x"))

    assert (tally.count.value, tally.twice.value, tally.cut.value) == (4, 1, 1)


def test_a_sync_counts_for_the_mails_that_waited_for_it() -> None:
    """It has to begin behind the dot and be done before the 250, whoever interrupted strace meanwhile."""
    said = (
        "11 100.000 fdatasync(5) = 0 <0.500>\n"
        "12 100.100 fsync(7 <unfinished ...>\n"
        "12 101.000 <... fsync resumed>) = 0 <0.900>\n"
        "11 102.000 fdatasync(5) = -1 EIO (Input/output error) <0.100>\n"
    )
    spans = list(syncs.spans(said, 100.0))

    assert spans == [(0.0, 0.5), (pytest.approx(0.1), pytest.approx(1.0))]
    assert syncs.within([Sent(0, -0.1, 0.6), Sent(1, 0.05, 1.1), Sent(2, -1.0, 2.0)], spans) == [1, 1, 2]


def test_a_row_takes_the_place_of_its_predecessor(tmp_path: Path) -> None:
    """One of a new peer stands behind the others of its case, and one of a new case behind all."""
    path = tmp_path / "page.md"
    head = "| case | peer | rate |"
    others = "| case | peer | time |\n|---|---|---|\n| one | A | 7 |\n"
    path.write_text(f"# Page\n\n{head}\n{rule(head)}\n| one | A | 1 |\n| two | A | 2 |\n\n{others}")
    page = Page(path)

    for row in ("| two | A | 3 |", "| one | B | 4 |", "| three | A | 5 |"):
        page.enter(head, row)

    assert page.rows(head) == [["one", "A", "1"], ["one", "B", "4"], ["two", "A", "3"], ["three", "A", "5"]]
    assert path.read_text().endswith("\n" + others)


def test_a_part_of_the_page_is_replaced(tmp_path: Path) -> None:
    """What stands around it stays."""
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- machine -->\nold\n<!-- end of machine -->\nbehind\n")

    Page(path).put("machine", "new\nlines")

    assert path.read_text() == "before\n<!-- machine -->\n\nnew\nlines\n\n<!-- end of machine -->\nbehind\n"


def test_bars_begin_at_zero_and_end_at_their_ratio() -> None:
    """So one that is twice as long is twice as fast."""
    picture = ElementTree.fromstring(
        drawn([Bars("a & b", "mailrelay", (100.0, 1.5), (50.0, 3.0)), Bars("c", "mailrelay", (8.5, 0.5), (9.0, 1.0))])
    )
    rectangles = [each for each in picture.iter(f"{SVG}rect") if each.get("height") == str(BAR)]
    [line] = [each for each in picture.iter(f"{SVG}line") if each.get("class") == "postfix"]
    widths = [float(each.get("width", "")) for each in rectangles]
    [start] = {float(each.get("x", "")) for each in rectangles}

    one = float(line.get("x1", "")) - start
    assert widths == pytest.approx([1.5 * one, 3 * one, 0.5 * one, one], abs=0.2)
    assert "8.5/s" in "".join(picture.itertext())


def test_the_page_has_the_tables_and_the_picture() -> None:
    """Each with rows below the head that the benchmarks write; the picture is the one of these rows."""
    page = Page()

    assert [head for head in HEADS if not page.rows(head)] == []
    assert {len(row) for head in HEADS for row in page.rows(head)} == {head.count("|") - 1 for head in HEADS}
    assert PATH.with_suffix(".svg").read_text("utf-8") == drawn(bars(page.rows(figures.HEAD)))
