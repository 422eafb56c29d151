"""Report: tells the sender of one mail what became of it, in the form of RFC 3464 (multipart/report, RFC 6522).

Three parts: words for people, message/delivery-status for programs, and the mail itself or its header. The result is
the whole report with CRLF line ends. It is sent with the null reverse-path and never causes another report.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from relay.bounce import mime, words
from relay.bounce.fate import Fate, decoded_xtext, final_recipient, original_recipient
from relay.bounce.notice import Kind, Original, header_of
from relay.envelope import Envelope

_MESSAGE_ID = re.compile(rb"^message-id[ \t]*:(?:[ \t]|\r\n[ \t])*(<[!-;=?-~]{1,250}>)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Letterhead:
    """What stands on every report.

    hostname  the Reporting-MTA
    domain    where the ids of reports, and its postmaster, are at home
    from_     the content of From:, or "" for the usual one
    """

    hostname: str
    domain: str
    from_: str = ""

    def head(self, uuid: str, now: float, to: str, subject: str, answers: bytes = b"") -> bytes:
        """The header of a report with this id, but for the fields of MIME. `answers`: the Message-ID it is about."""
        domain = self.domain if self.domain.isascii() else self.domain.encode("idna").decode()
        fields = [
            mime.from_field(self.from_ or f"Mail Delivery System <mailer-daemon@{domain}>"),
            mime.to_field(to),
            mime.field("Subject", subject),
            mime.field("Date", mime.date(now)),
            mime.field("Message-ID", f"<{uuid}@{domain}>"),
            mime.field("Auto-Submitted", "auto-replied"),
        ]
        if answers:
            fields += [b"In-Reply-To: ", answers, b"\r\nReferences: ", answers, b"\r\n"]
        return b"".join(fields)


@dataclass(frozen=True, slots=True)
class Matter:
    """What a report is about, and to whom it goes.

    uuid      the report's own id
    to        who hears of it
    now       the system's time, in seconds since the epoch
    age       seconds since the mail was taken, on a clock that only moves forward
    original  what comes back of the mail
    """

    uuid: str
    to: str
    now: float
    age: float
    envelope: Envelope
    original: Original

    @property
    def taken_at(self) -> float:
        """When the mail was taken, by the system's clock of today."""
        return self.now - self.age


def failure_report(letterhead: Letterhead, matter: Matter, fates: Sequence[Fate]) -> bytes:
    """Says that the mail failed for these recipients."""
    return _report(Kind.FAILURE, letterhead, matter, fates)


def delay_report(letterhead: Letterhead, matter: Matter, fates: Sequence[Fate], until: float) -> bytes:
    """Says that the mail still waits for these recipients, and is tried `until` then (by the system's clock)."""
    return _report(Kind.DELAY, letterhead, matter, fates, until)


def relayed_report(letterhead: Letterhead, matter: Matter, fates: Sequence[Fate]) -> bytes:
    """Says that a provider without DSN took the mail for these recipients (RFC 3461, 5.2.2)."""
    return _report(Kind.SUCCESS, letterhead, matter, fates)


def _report(kind: Kind, letterhead: Letterhead, matter: Matter, fates: Sequence[Fate], until: float = 0.0) -> bytes:
    original = matter.original
    header = header_of(original.octets) if original.whole else original.octets
    answers = _MESSAGE_ID.search(header)
    subject = words.subject_line(kind, fates)
    head = letterhead.head(matter.uuid, matter.now, matter.to, subject, answers[1] if answers else b"")
    about = words.about(words.subject_of(header), matter.taken_at, matter.envelope.uuid)
    story = words.story(kind, fates, matter.age, until, [*about, "", *words.closing(letterhead.hostname)])
    parts = (
        mime.text_part(story),
        mime.part("message/delivery-status", _delivery_status(kind, letterhead.hostname, matter, fates, until)),
        mime.part("message/rfc822", original.octets) if original.whole else mime.header_part(header),
    )
    return head + mime.multipart("report; report-type=delivery-status", f"=_{matter.uuid}", parts)


def _delivery_status(kind: Kind, hostname: str, matter: Matter, fates: Sequence[Fate], until: float) -> bytes:
    envelope = matter.envelope
    fields = [mime.field("Reporting-MTA", f"dns; {hostname}")]
    if envelope.envid:
        fields.append(mime.field("Original-Envelope-Id", decoded_xtext(envelope.envid)))
    fields.append(mime.field("Arrival-Date", mime.date(matter.taken_at)))
    fields.append(mime.field("X-Mailrelay-Id", envelope.uuid))
    for fate in fates:
        fields.append(b"\r\n")
        if fate.recipient.orcpt:
            fields.append(mime.field("Original-Recipient", original_recipient(fate.recipient.orcpt)))
        fields.append(mime.field("Final-Recipient", final_recipient(fate.recipient.address)))
        fields.append(mime.field("Action", kind.value))
        fields.append(mime.field("Status", fate.status(kind)))
        if fate.remote:
            fields.append(mime.field("Remote-MTA", f"dns; {fate.remote}"))
        if fate.diagnostic:
            fields.append(mime.field("Diagnostic-Code", fate.diagnostic))
        if fate.at:
            fields.append(mime.field("Last-Attempt-Date", mime.date(fate.at)))
        if kind is Kind.DELAY:
            fields.append(mime.field("Will-Retry-Until", mime.date(until)))
    return b"".join(fields)
