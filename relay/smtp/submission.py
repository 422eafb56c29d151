"""Submission: the seam between the wire and what makes a mail durable.

The server of `relay.smtp.server` speaks SMTP and knows no disk; whoever implements `Delivery` knows no wire. All calls
are made in the reactor's thread and return at once.

Failure: whatever a `Delivery` or an `Incoming` raises besides `Refused` is a fault of ours: the client gets a 451, and
the fault is reported to the factory's `unexpected`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred

from relay.envelope import Recipient
from relay.reply import Reply

Rewriting = Callable[[bytes], bytes | None]
"""What stands in place of a From: field (its name, its folds and its end included); None: it stays."""


class Refused(Exception):
    """A mail, a sender or a recipient is not taken.

    reply   what the client is told
    reason  the label under which the refusal is counted and logged, or "" if it is neither. The server reports it by
            `Delivery.refused`; who raises it does not
    """

    def __init__(self, reply: Reply, reason: str = "") -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Session:
    r"""With whom the server speaks, when a mail begins.

    client    the peer's IP address, or "uid:1000" on a unix socket
    helo      the argument of EHLO or HELO; ASCII, other octets as `\xNN`
    protocol  as in the "with" clause of Received: (RFC 3848, RFC 6531): SMTP, ESMTP or UTF8SMTP
    """

    client: str
    helo: str
    protocol: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What was seen of the content as it is passed on, for the head that goes on top of it.

    has_header   whether it begins with a header field or an empty line: if not, an empty line goes before it
    eight_bit    whether any octet is above 127
    """

    has_header: bool
    has_date: bool
    has_message_id: bool
    eight_bit: bool


class Incoming(Protocol):
    """One mail on its way in."""

    def write(self, octets: bytes) -> Deferred[None] | None:
        """Take a piece of the content: unstuffed, every line ended by CRLF, header edited.

        A Deferred asks the server to read no more until it fires (it never fails).
        """

    def finish(self, findings: Findings) -> Deferred[str]:
        """The content is whole. Fires with the mail's uuid once it is durable; fails with Refused."""

    def abandon(self) -> None:
        """Forget it: the client went away, or the content was refused. Not after a `finish` that returned."""


class Delivery(Protocol):
    """Takes mail: Twisted's IMessageDelivery with plain calls in place of Deferreds."""

    def validateFrom(self, helo: tuple[bytes, bytes], origin: str) -> str:
        """The sender under which a mail from `origin` ("" is the null reverse-path) is taken.

        helo  the argument of EHLO or HELO, and the client as in `Session.client`

        Raises Refused. It is the last thing asked before MAIL is answered 250.
        """

    def rewriting(self, origin: str, sender: str) -> Rewriting | None:
        """How From: follows the sender, where `validateFrom` made `sender` of `origin`. None: it does not."""

    def validateTo(self, user: str) -> None:
        """Raises Refused where mail for this address is not taken. A bare name has its domain by now."""

    def begin(self, session: Session, sender: str, recipients: tuple[Recipient, ...], ret: str, envid: str) -> Incoming:
        """A mail's content begins: at DATA, or at the first BDAT. Raises Refused.

        sender      what `validateFrom` returned
        ret, envid  the DSN parameters of MAIL (RFC 3461), or ""
        """

    def refused(self, client: str, reply: Reply, reason: str) -> None:
        """The server refused something, and it counts: for the log and the metric. Never raises."""
