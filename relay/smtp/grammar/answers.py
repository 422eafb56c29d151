"""Answers: our own replies as octets (RFC 5321, 4.2; enhanced codes RFC 2034)."""

from __future__ import annotations

from functools import lru_cache

from relay.reply import Reply, printable

LINE_LIMIT = 510
"""Octets of a reply's line without its end (RFC 5321, 4.5.3.1.5)."""


@lru_cache(maxsize=256)  # what is not constant is still said again and again
def octets(reply: Reply) -> bytes:
    r"""`reply` as it is sent: one line for each of its lines, ASCII only, each with the codes.

    >>> octets(Reply(250, "2.0.0", ("one", "two")))
    b'250-2.0.0 one\r\n250 2.0.0 two\r\n'
    """
    enhanced = f"{reply.enhanced} " if reply.enhanced else ""
    lines = reply.lines or ("",)
    marks = "-" * (len(lines) - 1) + " "
    return b"".join(
        f"{reply.code}{mark}{enhanced}{printable(line)}".encode("ascii", "backslashreplace")[:LINE_LIMIT] + b"\r\n"
        for mark, line in zip(marks, lines, strict=True)
    )
