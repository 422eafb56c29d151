"""Send: a mail's content as it leaves (RFC 5321, 4.5.2): a dot more before each line that begins with one.

Lines end in CRLF here; `relay.smtp.data` has seen to that when the mail was taken.
"""

from __future__ import annotations

DOT = b".\r\n"
"""What ends DATA, behind the line end of the last line."""


def _stuffed(content: bytes) -> bytes:
    return content.replace(b"\r\n.", b"\r\n..") if b"\r\n." in content else content


def stuffed(content: bytes) -> bytes:
    r"""The whole `content` as DATA sends it, its end included; a last line without an end gets one.

    >>> stuffed(b".a\r\n..b")
    b'..a\r\n...b\r\n.\r\n'
    """
    content = _stuffed(content)
    if content.startswith(b"."):
        content = b"." + content
    return content + (DOT if content.endswith(b"\r\n") or not content else b"\r\n" + DOT)


class DotStuffer:
    """Does the same to content that comes in pieces, wherever they were cut."""

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the last two octets that passed; content begins at the beginning of a line

    def stuff(self, piece: bytes) -> bytes:
        """`piece` as it is sent."""
        border = (self._tail + piece[:2]).find(b"\r\n.")
        self._tail = (self._tail + piece[-2:])[-2:]
        piece = _stuffed(piece)
        return piece if border < 0 else piece[:border] + b"." + piece[border:]

    def end(self) -> bytes:
        """What follows the last piece: the dot, and before it a line end if the last line has none."""
        return DOT if self._tail == b"\r\n" else b"\r\n" + DOT
