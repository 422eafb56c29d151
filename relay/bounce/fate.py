"""Fate: what became of one recipient, and how a report says so to programs (RFC 3464, 2.3; codes are RFC 3463's)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from relay.bounce.notice import Kind
from relay.envelope import Recipient

_REPLY = re.compile(
    r"(?:uncertain: )?(?P<code>[2-5][0-9]{2})(?: (?P<enhanced>[245](?:\.[0-9]{1,3}){2}))?(?: .*)?", re.DOTALL
)
_PLUS = re.compile(r"\+([0-9A-F]{2})")
_UNSAFE = re.compile(r"[^\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e]")
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")

TOO_OLD = "4.4.7"
NOT_REACHED = "4.4.0"


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one recipient.

    reply    what was last said, as people quote it ("550 5.1.1 No such user"), or our own words; "" if nothing was
    remote   the host of the provider that said it; "" where none was asked
    at       when it was last tried, in seconds since the epoch; 0 for never
    expired  whether it was given up for its age, and not for that reply
    """

    recipient: Recipient
    reply: str
    remote: str
    at: float
    expired: bool = False

    def status(self, kind: Kind) -> str:
        """The enhanced code: the provider's own, where it is of the class that this kind of report is about.

        A provider that says 550 without one, or with one of another class, gets what it did say: 5.0.0, or its subject
        and detail in the class of its reply (RFC 2034, 4). Mail that is given up for its age keeps the last reason that
        was said; else it is 4.4.7, a time that is over.
        """
        match = _REPLY.fullmatch(self.reply)
        code, enhanced = (match["code"], match["enhanced"] or "") if match else ("", "")
        if kind is Kind.SUCCESS:
            return enhanced if enhanced.startswith("2") else "2.0.0"
        if kind is Kind.DELAY:
            return enhanced if enhanced.startswith("4") else "4.0.0" if code else NOT_REACHED
        if self.expired:
            return enhanced if enhanced[:1] in ("4", "5") else TOO_OLD
        return f"5{enhanced[1:]}" if enhanced else "5.0.0"

    @property
    def diagnostic(self) -> str:
        """The Diagnostic-Code: the words of the provider, or ours; "" if nothing was said."""
        if not self.reply:
            return ""
        return f"smtp; {self.reply.removeprefix('uncertain: ')}" if self.quoted else f"x-mailrelay; {self.reply}"

    @property
    def quoted(self) -> bool:
        """Whether `reply` is what a provider said, and not our words for what was seen."""
        return bool(self.remote and _REPLY.fullmatch(self.reply))


def final_recipient(address: str) -> str:
    r"""The address as Final-Recipient has it; one that is not ASCII in its 7-bit form (RFC 6533, 3).

    >>> final_recipient("é@example.com")
    'utf-8; \\x{E9}@example.com'
    """
    return f"rfc822; {address}" if address.isascii() else f"utf-8; {_seven_bit(address)}"


def original_recipient(orcpt: str) -> str:
    """The ORCPT parameter as Original-Recipient has it: decoded, for rfc822 and what else is xtext (RFC 3461, 4.2)."""
    kind, _, value = orcpt.partition(";")
    if kind.lower() == "utf-8":
        return f"utf-8; {_seven_bit(plain_address(value))}"
    return f"{kind}; {decoded_xtext(value)}"


def decoded_xtext(text: str) -> str:
    """What xtext stands for (RFC 3461, 4)."""
    return _PLUS.sub(lambda match: chr(int(match[1], 16)), text)


def plain_address(text: str) -> str:
    r"""An address with every \x{…} of its 7-bit form turned back into what it stands for."""
    return _EMBEDDED.sub(lambda match: chr(min(int(match[1], 16), 0x10FFFF)), text)


def _seven_bit(address: str) -> str:
    return _UNSAFE.sub(lambda match: f"\\x{{{ord(match[0]):02X}}}", address)
