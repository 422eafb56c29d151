"""Ehlo: what a provider offers in its reply to EHLO (RFC 5321, 4.1.1.1), read kindly."""

from __future__ import annotations

import re
from dataclasses import dataclass

from relay.reply import Reply
from relay.upstream.batch import Features

# Old servers say `AUTH=PLAIN LOGIN`, some beside the line that RFC 4954 wants, some alone.
_KEYWORD = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =]+(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Offer:
    """The features of use in a transaction, and those that come before the first one."""

    features: Features
    starttls: bool
    mechanisms: tuple[str, ...]


def offer(reply: Reply) -> Offer:
    """Read a positive reply to EHLO; its first line is the provider's name for itself."""
    offered: dict[str, list[str]] = {}
    for line in reply.lines[1:]:
        match = _KEYWORD.fullmatch(line.strip())
        if match is not None:
            offered.setdefault(match[1].upper(), []).append((match[2] or "").strip())
    mechanisms = dict.fromkeys(word.upper() for line in offered.get("AUTH", ()) for word in line.split())
    features = Features(
        pipelining="PIPELINING" in offered,
        chunking="CHUNKING" in offered,
        size=_size(offered["SIZE"]) if "SIZE" in offered else None,
        eight_bit_mime="8BITMIME" in offered,
        smtp_utf8="SMTPUTF8" in offered,
        dsn="DSN" in offered,
        enhanced="ENHANCEDSTATUSCODES" in offered,
    )
    return Offer(features, "STARTTLS" in offered, tuple(mechanisms))


def _size(stated: list[str]) -> int:
    """The largest limit of those stated (it will say at MAIL what it really takes); 0 where one is none."""
    limits = [int(words) if words.isascii() and words.isdigit() else 0 for words in stated]
    return 0 if 0 in limits else max(limits)
