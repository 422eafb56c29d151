"""What commands print, on which terminal."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli import terminal
from relay.cli.terminal import complain, paragraphs, prepare, row, say
from relay.reply import printable

LONG = "wörds with 日本 in it"


@pytest.mark.parametrize(
    ("environ", "printed"),
    [
        ({"LC_ALL": "C"}, b"\\xfc \\u65e5\n"),
        ({"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}, b"\\xfc \\u65e5\n"),
        ({}, b"\\xfc \\u65e5\n"),
        ({"LC_CTYPE": "C.UTF-8"}, "ü 日\n".encode()),
        ({"LANG": "de_DE.UTF-8"}, "ü 日\n".encode()),
    ],
)
def test_what_the_terminal_does_not_have(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], printed: bytes
) -> None:
    """It is escaped, by the locale's character set."""
    octets = io.BytesIO()
    stream = io.TextIOWrapper(octets, encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)

    prepare(environ)
    say("ü 日")
    stream.flush()

    assert octets.getvalue() == printed


def test_nothing_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters are shown as what they are."""
    say("a\x1b[31mb\r\n\x9bc")
    complain("d\x07")

    assert capsys.readouterr() == ("a\\x1b[31mb\\x0d\\x0a\\x9bc\n", "d\\x07\n")


@given(st.lists(st.text(max_size=40), min_size=3, max_size=3), st.integers(20, 100))
def test_a_row_fits(cells: list[str], room: int) -> None:
    """Whatever is in it."""
    for line in (*row(cells, [6, 4], room), *paragraphs(cells, room)):
        assert terminal._width(line) <= room
        assert printable(line) == line


def test_a_row_that_need_not_fit() -> None:
    """Into a pipe goes all of it."""
    assert row([LONG, LONG, LONG], [6, 4], None) == [" ".join([LONG] * 3)]


def test_paragraphs() -> None:
    """Folded at spaces, what belongs together indented."""
    assert paragraphs(["one two three four five six seven", "\x1b"], 25) == [
        "one two three four five",
        "    six seven",
        "\\x1b",
    ]
    assert paragraphs([LONG * 10], None) == [LONG * 10]
