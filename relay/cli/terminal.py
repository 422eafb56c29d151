"""Terminal: what commands print, so that it fits and does no harm there.

Text from mails and providers may hold anything. Control characters are shown as what they are, and so is what the
terminal's character set does not have.
"""

from __future__ import annotations

import io
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import TextIO

from relay.reply import printable

_WIDE_FROM = "\u1100"  # no character before this one takes two columns


def prepare(environ: Mapping[str, str]) -> None:
    """Have standard output and error escape what the locale's character set does not have.

    Python itself takes every C locale for UTF-8, whatever the terminal does.
    """
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    is_plain = locale.partition(".")[0] in ("", "C", "POSIX") and "utf" not in locale.lower()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="ascii" if is_plain else None, errors="backslashreplace")


def say(text: str) -> None:
    """One line of standard output, made harmless."""
    write(printable(text) + "\n")


def write(text: str) -> None:
    """As it is, but in the terminal's character set: click would write UTF-8 to a terminal that has only ASCII."""
    sys.stdout.write(text)


def complain(text: str) -> None:
    """One line of standard error, made harmless."""
    sys.stderr.write(printable(text) + "\n")


def columns(stream: TextIO) -> int | None:
    """How wide the terminal is; None where it is none, and nothing need fit."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def row(cells: Sequence[str], widths: Sequence[int], room: int | None) -> str:
    """One line of a table. The last cell has no width of its own; where there is not room for all, cells are cut.

    >>> row(["a", "bcd", "e"], [3, 2], 80), row(["a", "bcd", "efghij"], [3, 2], 11)
    ('a   b… e', 'a   b… efg…')
    """
    clean = [printable(cell) for cell in cells]
    if room is None:
        padded = [_padded(cell, width) for cell, width in zip(clean, widths, strict=False)]
    else:
        padded = [_padded(_cut(cell, width), width) for cell, width in zip(clean, widths, strict=False)]
    start = " ".join(padded)
    if len(clean) == len(widths):
        return start.rstrip()
    last = clean[-1] if room is None else _cut(clean[-1], max(room - _width(start) - 1, 1))
    return f"{start} {last}".rstrip()


def paragraphs(texts: Iterable[str], room: int | None) -> list[str]:
    """Texts folded to the width of the terminal, all lines of each but the first indented."""
    lines: list[str] = []
    for text in map(printable, texts):
        if room is None:
            lines.append(text)
        else:
            lines += wrap(text, max(room - 1, 20), subsequent_indent="    ", break_on_hyphens=False) or [""]
    return lines


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _cut(text: str, room: int) -> str:
    if _width(text) <= room:
        return text
    kept = text[: max(room - 1, 0)]
    while _width(kept) > room - 1 and kept:
        kept = kept[:-1]
    return kept + _ellipsis()


def _ellipsis() -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return "…" if encoding.lower().replace("-", "").startswith("utf") else "~"


def _width(text: str) -> int:
    """Columns that `text` takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if character >= _WIDE_FROM and unicodedata.east_asian_width(character) in "WF" else 1
