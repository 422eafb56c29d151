"""Header: the fields that we put on top of a mail (RFC 5321, 4.4; RFC 5322, 3.3 and 3.6).

All of it is ASCII and says the same in every locale, whatever a client called itself.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache

from relay.smtp.submission import Findings, Session

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._:\[\]-]")


def head(hostname: str, session: Session, uuid: str, seconds: float, findings: Findings) -> bytes:
    """All that goes on top of a mail: Received:, and Date:, Message-ID: and an empty line where they are missing."""
    octets = received(hostname, session, uuid, seconds)
    if not findings.has_date:
        octets += f"Date: {date_time(int(seconds))}\r\n".encode()
    if not findings.has_message_id:
        octets += f"Message-ID: <{uuid}@{_name(hostname)}>\r\n".encode()
    return octets if findings.has_header else octets + b"\r\n"


def received(hostname: str, session: Session, uuid: str, seconds: float) -> bytes:
    r"""The trace field of a mail that was taken at `seconds` since the epoch.

    >>> received("relay.example", Session("127.0.0.1", "app", "ESMTP"), "0193", 0)
    b'Received: from app ([127.0.0.1])\r\n by relay.example with ESMTP id 0193;\r\n Thu, 01 Jan 1970 00:00:00 +0000\r\n'
    """
    return (
        f"Received: from {_name(session.helo)} {_address(session.client)}\r\n"
        f" by {_name(hostname)} with {session.protocol} id {uuid};\r\n"
        f" {date_time(int(seconds))}\r\n"
    ).encode()


@lru_cache(maxsize=8)
def date_time(seconds: int) -> str:
    """`seconds` since the epoch as header fields say it, in this machine's zone.

    >>> date_time(1_000_000_000)
    'Sun, 09 Sep 2001 01:46:40 +0000'
    """
    at = time.localtime(seconds)
    sign, offset = ("-", -at.tm_gmtoff) if at.tm_gmtoff < 0 else ("+", at.tm_gmtoff)
    return (
        f"{_DAYS[at.tm_wday]}, {at.tm_mday:02} {_MONTHS[at.tm_mon - 1]} {at.tm_year:04} "
        f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} {sign}{offset // 3600:02}{offset // 60 % 60:02}"
    )


@lru_cache(maxsize=256)
def _name(text: str) -> str:
    """A host's name, with a question mark for what cannot be part of one."""
    return _NOT_IN_A_NAME.sub("?", text) or "?"


@lru_cache(maxsize=256)
def _address(client: str) -> str:
    """Where a client speaks from: a comment, with an address literal in it where there is an address."""
    if client.startswith("uid:"):
        return f"({client})"
    return f"([IPv6:{client}])" if ":" in client else f"([{client}])"
