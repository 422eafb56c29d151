"""Transaction: one mail on its way over a connection, MAIL to the reply behind the final dot (RFC 5321, 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

from relay.envelope import Recipient
from relay.outcome import Outcome
from relay.spool.spool import Body


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
    """

    sender: str
    recipients: tuple[Recipient, ...]
    head: bytes
    body: Body
    size: int
    eight_bit: bool = False
    ret: str = ""
    envid: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a Batch.

    outcomes  one for each recipient, in their order
    usable    whether the connection carries another transaction; else it closes by itself
    trouble   why the body could not be read, if that was it; the outcomes not settled by then are Retired
    """

    outcomes: tuple[Outcome, ...]
    usable: bool
    trouble: Exception | None = None
