"""MIME: the octets of a report and its parts (RFC 2045, 2046, 5322).

Laid down octet by octet and not by a library's generator: what a provider said, and a header that comes back, must
neither be read as something else (an encoded word, a boundary) nor be written in another way than it was.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from email.header import Header
from email.policy import SMTP
from email.utils import formatdate
from textwrap import wrap

from relay.reply import printable

_WIDTH = 78
_LONGEST = 900
"""Characters of a field's value that are kept: with its name it is below the 998 of RFC 5322, 2.1.1, folded or not."""

_LONG_LINE = re.compile(rb"[^\n]{999}")


def date(seconds: float) -> str:
    """A time since the epoch as RFC 5322 (3.3) writes it, with the zone of this machine, in English."""
    return formatdate(seconds, localtime=True)


def ascii_only(text: str) -> str:
    r"""`text` without control characters, and with `\x{…}` for all that is not ASCII (as RFC 6533 writes addresses)."""
    text = printable(text)
    return text if text.isascii() else "".join([c if c.isascii() else f"\\x{{{ord(c):02X}}}" for c in text])


def field(name: str, value: str) -> bytes:
    """A header field, or one of message/delivery-status, folded at spaces."""
    text = ascii_only(value)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} [cut]"
    line = f"{name}: {text}"
    if len(line) > _WIDTH:
        line = "\r\n".join(wrap(line, _WIDTH, subsequent_indent=" ", break_long_words=False, break_on_hyphens=False))
    return f"{line}\r\n".encode("ascii")


def from_field(value: str) -> bytes:
    """The From: field with this content, its name in encoded words where it is not ASCII (RFC 2047)."""
    folded: str = SMTP.header_factory("From", value).fold(policy=SMTP)
    return folded.encode("ascii")


def to_field(address: str) -> bytes:
    """The To: field with one address. One that is not ASCII can only be shown: as an empty group (RFC 6857, 3.1.8)."""
    if address.isascii():
        return field("To", address)
    return field("To", f"{Header(printable(address), 'utf-8').encode(linesep='')}:;")


def part(content_type: str, octets: bytes, encoding: str = "7bit") -> bytes:
    """A body part: its header and its content."""
    return f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode("ascii") + octets


def text_part(text: str) -> bytes:
    r"""Plain text whose lines end in "\n"; quoted-printable where it is not ASCII."""
    lines = text.replace("\n", "\r\n")
    if lines.isascii():
        return part("text/plain; charset=us-ascii", lines.encode("ascii"))
    return part("text/plain; charset=utf-8", _quoted_printable(lines.encode("utf-8", "replace")), "quoted-printable")


def header_part(header: bytes) -> bytes:
    """The header of a mail, as text/rfc822-headers; quoted-printable where it could not pass as it is (RFC 6522, 4)."""
    if header.isascii() and not _LONG_LINE.search(header):
        return part("text/rfc822-headers", header)
    return part("text/rfc822-headers", _quoted_printable(header), "quoted-printable")


def multipart(kind: str, boundary: str, parts: Iterable[bytes]) -> bytes:
    """The last fields of a header, and behind it the parts. None of them may contain the boundary."""
    mark = boundary.encode("ascii")
    head = f'MIME-Version: 1.0\r\nContent-Type: multipart/{kind};\r\n boundary="{boundary}"\r\n\r\n'.encode("ascii")
    pieces = [head]
    for octets in parts:
        pieces += [b"--", mark, b"\r\n", octets, b"\r\n"]
    return b"".join([*pieces, b"--", mark, b"--\r\n"])


def _quoted_printable(octets: bytes) -> bytes:
    return binascii.b2a_qp(octets, istext=True)
