"""Batch: what one transaction carries to a provider that offers certain Features, and the Result of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from relay.envelope import Recipient
from relay.outcome import Outcome
from relay.spool.spool import Body

IN_ONE_PIECE = 64 * 1024
"""Content up to this many octets leaves together with its end; of more the end is held back until the rest has left."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a provider offers in its reply to EHLO.

    size  its limit in octets (RFC 1870); 0 where it states none, None where it does not offer SIZE
    """

    pipelining: bool = False
    chunking: bool = False
    size: int | None = None
    eight_bit_mime: bool = False
    smtp_utf8: bool = False
    dsn: bool = False
    enhanced: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction carries: some or all recipients of one mail.

    sender     the reverse-path; "" is the null one
    head       header fields that go on top of `body`
    size       octets of head and body
    eight_bit  whether any of them is above 127
    ret, envid the DSN parameters of MAIL as they were received, or ""
    before     called when the provider is ready for the content, which leaves once that has fired: where it is to be
               written down first that the mail is under way
    """

    sender: str
    recipients: tuple[Recipient, ...]
    head: bytes
    body: Body
    size: int
    eight_bit: bool = False
    ret: str = ""
    envid: str = ""
    before: Callable[[], Deferred[None]] | None = None

    @property
    def in_one_piece(self) -> bool:
        """Whether head and body leave together."""
        return isinstance(self.body, bytes) and len(self.head) + len(self.body) <= IN_ONE_PIECE

    @property
    def octets(self) -> int:
        """Octets of head and body, counted."""
        return len(self.head) + (len(self.body) if isinstance(self.body, bytes) else self.body.size)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a Batch.

    outcomes  one for each recipient, in their order
    usable    whether the connection carries another transaction; else it closes by itself
    begun     whether MAIL was accepted: what happened then may be about this mail
    trouble   why the body could not be read (or `before` failed), if that was it; what had no outcome is Retired
    dsn       whether the provider offers DSN, and so reports itself what was asked for
    """

    outcomes: tuple[Outcome, ...]
    usable: bool
    begun: bool = False
    trouble: Exception | None = None
    dsn: bool = False
