"""Needs: what a mail needs of a provider, and what may be said to one. The replies are our own."""

from __future__ import annotations

import re

import idna

from relay.reply import Reply
from relay.upstream.batch import Batch, Features

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

UNSOUND = Reply(553, "5.1.3", ("an address or parameter holds a control character, and is never sent",))
NO_SMTP_UTF8 = Reply(553, "5.6.7", ("the address is not ASCII, and the provider does not offer SMTPUTF8",))
_NO_8BITMIME = Reply(554, "5.6.3", ("the mail has 8-bit octets, and the provider does not offer 8BITMIME",))


def lacking(batch: Batch, features: Features) -> Reply | None:
    """Our own reply for a mail that the provider cannot take, whoever gets it."""
    if features.size and batch.size > features.size:
        words = f"the mail has {batch.size} octets, and the provider takes at most {features.size}"
        return Reply(552, "5.3.4", (words,))
    return _NO_8BITMIME if batch.eight_bit and not features.eight_bit_mime else None


def in_ascii(address: str) -> str | None:
    """The address with its domain as an A-label (RFC 5890), or None if it has no such form.

    >>> in_ascii("b@bücher.example.net")
    'b@xn--bcher-kva.example.net'
    """
    local, at, domain = address.rpartition("@")
    if address.isascii():
        return address
    if not local.isascii():
        return None
    try:
        return f"{local}{at}{idna.encode(domain, uts46=True).decode()}"
    except idna.IDNAError:
        return None


def sound(command: str) -> bool:
    """Whether nothing in it could end the line."""
    return _CONTROL.search(command) is None
