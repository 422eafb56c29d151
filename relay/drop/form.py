r"""Form: a mail as it lies in the drop folder, one file each.

    {"mailrelay":1,"sender":"a@example.com","recipients":["b@example.net"],…,"size":12,"crc32":305419896}\n
    Subject: hi\r\n…

One line of JSON in ASCII says all but the content, and of that how many octets it has and their CRC-32; then comes the
content, its lines ended by CRLF, and nothing more. So a file says of itself whether it is whole, and another program
may write it as well. Addresses are as in SMTP without their angle brackets; names may lack a domain.
"""

from __future__ import annotations

import json
import zlib
from typing import NamedTuple

LONGEST_HEAD = 1024 * 1024
"""Octets of the first line, at most; room for some ten thousand recipients."""

_VERSION = 1


class Malformed(ValueError):
    """The octets are no whole mail in this form; the text says why."""


class Head(NamedTuple):
    """What the first line says. The DSN parameters are as they stand in SMTP (RFC 3461), or ""."""

    sender: str
    recipients: tuple[str, ...]
    notify: str
    ret: str
    envid: str
    size: int
    crc32: int


def dump(head: Head) -> bytes:
    """The first line with its end."""
    return json.dumps({"mailrelay": _VERSION, **head._asdict()}, separators=(",", ":")).encode() + b"\n"


def load(line: bytes) -> Head:
    """What a first line says. Raises Malformed."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise Malformed("its first line is no JSON") from None
    if not isinstance(said, dict) or said.pop("mailrelay", None) != _VERSION:
        raise Malformed("its first line does not name this form")
    try:
        head = Head(**said)
    except TypeError:
        raise Malformed("its first line lacks something, or says something that is not known") from None
    texts = (head.sender, head.notify, head.ret, head.envid)
    if not all(isinstance(text, str) for text in texts) or not isinstance(head.recipients, list):
        raise Malformed("its first line holds a value of the wrong kind")
    if not head.recipients or not all(isinstance(address, str) for address in head.recipients):
        raise Malformed("its recipients are no list of addresses")
    if type(head.size) is not int or type(head.crc32) is not int:
        raise Malformed("its size or CRC-32 is no number")
    return head._replace(recipients=tuple(head.recipients))


def checksum(octets: bytes, before: int = 0) -> int:
    """The CRC-32 of `octets` behind those whose CRC-32 is `before`."""
    return zlib.crc32(octets, before)
