r"""Replies: what a server says, from octets to values (RFC 5321, 4.2; enhanced codes RFC 2034 and 3463).

The replies that come out depend on the octets alone, not on how they were cut into pieces. A line may end in LF: it
is our own server that must not take one for the end of anything.

Failure: what is no reply comes out as a Reply of code 0 that says what was seen, and nothing comes after it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from relay.reply import Reply, no_reply, printable

KEPT = 2048
"""Octets of a line that are kept; the rest of it is read and forgotten."""

LARGEST = 64 * 1024
"""A reply of more octets is none: without a bound a server could fill the memory, or talk for ever."""

_TOO_LARGE = f"a reply of more than {LARGEST} octets"
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*?))?\r?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2}))(?: +|$)", re.ASCII)
_SHOWN = 80


class Replies:
    """Makes replies of the octets of one connection."""

    def __init__(self) -> None:
        self._partial = bytearray()  # of the line that has not ended, at most KEPT
        self._size = 0  # octets of the reply that has not ended
        self._code = b""
        self._lines: list[str] = []
        self._enhanced = ""
        self._broken = False

    @property
    def midway(self) -> bool:
        """Whether a part of a reply has come."""
        return self._size > 0

    def receive(self, octets: bytes) -> list[Reply]:
        """The replies that are whole now."""
        if self._broken:
            return []
        *ended, rest = octets.split(b"\n")
        replies: list[Reply] = []
        for line in ended:
            # Nearly always a line is a reply, and a piece holds it whole.
            whole = not self._size and len(line) <= KEPT and line[3:4] != b"-"
            reply = single(line) or self._break(_strange(line)) if whole else self._line_ended(line)
            if reply is not None:
                replies.append(reply)
                if self._broken:
                    return replies
        if rest:
            self._size += len(rest)
            self._partial += rest[: KEPT - len(self._partial)]
            if self._size > LARGEST:
                replies.append(self._break(_TOO_LARGE))
        return replies

    def _line_ended(self, line: bytes) -> Reply | None:
        """The reply that `line`, the last piece of a line without its LF, ends; None if more of it is to come."""
        self._size += len(line) + 1
        if self._size > LARGEST:
            return self._break(_TOO_LARGE)
        whole = bytes(self._partial + line[: KEPT - len(self._partial)])
        self._partial.clear()
        match = _LINE.fullmatch(whole)
        if match is None:
            return self._break(_strange(whole))
        code, mark, text = match.groups(b"")
        if self._code and code != self._code:
            return self._break(f"a reply whose lines disagree: {self._code.decode()} and {code.decode()}")
        self._code = code
        self._add(text)
        return None if mark == b"-" else self._whole()

    def _add(self, octets: bytes) -> None:
        enhanced, text = _words(octets)
        if enhanced and enhanced != (self._enhanced or enhanced):
            text = f"{enhanced} {text}"
        self._enhanced = self._enhanced or enhanced
        self._lines.append(text)

    def _whole(self) -> Reply:
        reply = Reply(int(self._code), self._enhanced, tuple(self._lines))
        self._size = 0
        self._code = b""
        self._lines.clear()
        self._enhanced = ""
        return reply

    def _break(self, what: str) -> Reply:
        self._broken = True
        self._partial.clear()
        return no_reply(what)


@lru_cache(maxsize=256)  # most of what a provider says it says to every mail
def single(line: bytes) -> Reply | None:
    """The reply that consists of `line`, without its LF; None if that is none.

    >>> single(b"550 5.1.1 No such user")
    Reply(code=550, enhanced='5.1.1', lines=('No such user',))
    """
    match = _LINE.fullmatch(line)
    if match is None or match[2] == b"-":
        return None
    enhanced, text = _words(match[3] or b"")
    return Reply(int(match[1]), enhanced, (text,))


def _words(octets: bytes) -> tuple[str, str]:
    """The enhanced code that a line's text begins with, or "", and what follows it."""
    text = octets.decode("utf-8", "backslashreplace")
    match = _ENHANCED.match(text)
    return (match[1], text[match.end() :]) if match else ("", text)


def _strange(line: bytes) -> str:
    """What is said of a line that is no reply."""
    line = line.removesuffix(b"\r")
    shown = printable(line[:_SHOWN].decode("utf-8", "backslashreplace"))
    return f"a line that is no SMTP reply: {shown}{'…' if len(line) > _SHOWN else ''}"
