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

_INDENT = "    "
_LEAST = 16  # columns of a row's last cell; where there is not as much room, it has a line of its own
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


def row(cells: Sequence[str], widths: Sequence[int], room: int | None) -> list[str]:
    """A row of a table; the last cell has no width of its own, and is cut where there is not room for all of it.

    On a terminal on which little room would be left to it, cells go on in further lines.

    >>> row(["a", "bcd", "e"], [3, 2], 80), row(["a", "bcd", "what there is of all of it"], [3, 2], 25)
    (['a   b… e'], ['a   b… what there is of …'])
    >>> row(["abcdef", "bc", "what there is of all of it"], [6, 8], 20)
    ['abcdef bc', '    what there is o…']
    """
    *clean, last = [printable(cell) for cell in cells]
    if room is None:
        return [" ".join([*map(_padded, clean, widths), last]).rstrip()]
    if sum(widths) + len(widths) + _LEAST <= room:
        start = "".join([f"{_padded(_cut(cell, width), width)} " for cell, width in zip(clean, widths, strict=True)])
        return [(start + _cut(last, room - _width(start))).rstrip()]
    lines = [""]
    for cell, width in zip(clean, [min(width, room - len(_INDENT)) for width in widths], strict=True):
        if lines[-1] and _width(lines[-1]) + width > room:
            lines.append(_INDENT)
        lines[-1] += f"{_padded(_cut(cell, width), width)} "
    return [line.rstrip() for line in (*lines, _INDENT + _cut(last, room - len(_INDENT)))]


def paragraphs(texts: Iterable[str], room: int | None) -> list[str]:
    """Texts folded to the width of the terminal, all lines of each but the first indented."""
    lines: list[str] = []
    for text in map(printable, texts):
        if room is None:
            lines.append(text)
        else:
            width = max(room if text.isascii() else room - 1, 19)  # a long word may be broken behind half a character
            folded = wrap(_spread(text), width, subsequent_indent=_INDENT, break_on_hyphens=False)
            lines += [line.replace("\0", "") for line in folded] or [""]
    return lines


def _spread(text: str) -> str:
    """As many characters as columns: a NUL, of which printable text has none, behind each that takes two."""
    return text if text.isascii() else "".join([each + "\0" * (_columns(each) - 1) for each in text])


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
