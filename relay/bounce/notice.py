"""Notice: who hears of what became of a recipient, and how much of the mail comes back (RFC 3461, 4.1, 4.3 and 6.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from relay.envelope import Envelope, Recipient

WHOLE_LIMIT = 1024 * 1024
"""A mail of more octets comes back by its header alone, also with RET=FULL."""

HEADER_LIMIT = 64 * 1024
"""Of a longer header the rest is left out."""

_LONG_LINE = re.compile(rb"[^\n]{999}")


class Kind(Enum):
    """What a report is about: the word that asks for it in NOTIFY, and the one in its Action field."""

    FAILURE = "failed"
    DELAY = "delayed"
    SUCCESS = "relayed"


_BY_DEFAULT = frozenset({"FAILURE", "DELAY"})


def who_hears(to: str, envelope: Envelope, recipient: Recipient, kind: Kind) -> str | None:
    """The address that is told what became of `recipient`; None where nobody is.

    `to` is "sender", "none" or an address that stands for every sender. Nothing is reported about a mail that has the
    null sender (a report never causes one), nor what NOTIFY does not ask for; where it was not given, it asks for
    failures and delays.
    """
    if to == "none" or envelope.report or not envelope.sender:
        return None
    asked = _BY_DEFAULT if recipient.notify is None else recipient.notify
    if kind.name not in asked:
        return None
    return envelope.sender if to == "sender" else to


@dataclass(frozen=True, slots=True)
class Original:
    """What comes back of the mail: all its octets, or its header (without the empty line behind it)."""

    octets: bytes
    whole: bool

    @classmethod
    def of(cls, envelope: Envelope, kind: Kind, beginning: bytes) -> Original:
        """`beginning`: at least the first `needed` octets of the mail as a provider is sent it.

        The whole mail is returned where RET=FULL asks for it, in a report of a failure, if it is short enough and can
        stand in a 7-bit report as it is.
        """
        whole = (
            _whole_wanted(envelope, kind)
            and len(beginning) == envelope.size
            and beginning.isascii()
            and not _LONG_LINE.search(beginning)
        )
        return cls(beginning if whole else header_of(beginning), whole)


def needed(envelope: Envelope, kind: Kind) -> int:
    """How many octets from the beginning of the mail a report of this kind needs, at most."""
    return envelope.size if _whole_wanted(envelope, kind) else min(envelope.size, HEADER_LIMIT)


def _whole_wanted(envelope: Envelope, kind: Kind) -> bool:
    return envelope.ret == "FULL" and kind is Kind.FAILURE and not envelope.eight_bit and envelope.size <= WHOLE_LIMIT


def header_of(beginning: bytes) -> bytes:
    """The header of a mail that begins so, its lines ended by CRLF; b"" if it has none."""
    if beginning.startswith(b"\r\n"):
        return b""
    end = beginning.find(b"\r\n\r\n", 0, HEADER_LIMIT)
    if end < 0:
        end = beginning.rfind(b"\r\n", 0, HEADER_LIMIT)
    return beginning[: end + 2] if end >= 0 else b""
