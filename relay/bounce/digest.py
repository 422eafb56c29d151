"""Digest: gathers the reports to one address that would be too many into one mail.

It is made of the reports themselves, which are what is durable until then: each is read back, one at a time so that
nobody waits for all of them, and what it says of each recipient becomes a few lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message

from relay.bounce import mime
from relay.bounce.fate import Fate, plain_address
from relay.bounce.notice import Kind
from relay.bounce.report import Letterhead
from relay.bounce.words import closing, paragraph, subject_of, told
from relay.envelope import Recipient
from relay.reply import printable

LISTED = 2000
"""Recipients that are listed; the rest is only counted, and the log has them all."""

_HEADINGS = {
    Kind.FAILURE: "Not delivered, and not tried again:",
    Kind.DELAY: "Not delivered yet, and still tried; you need not send it again:",
    Kind.SUCCESS: "Handed on to a server that does not report what becomes of a mail:",
}


@dataclass(frozen=True, slots=True)
class Account:
    """What one report says. `sent` is the date of the mail and `uuid` its id, as the report has them."""

    kind: Kind
    sent: str
    uuid: str
    subject: str
    fates: tuple[Fate, ...]


def digest(
    letterhead: Letterhead, uuid: str, now: float, to: str, accounts: Sequence[Account], unread: int = 0
) -> bytes:
    """One mail with CRLF line ends that says what all these reports say. `uuid` is the digest's own.

    unread  recipients of further reports, which were not read because there are more than LISTED
    """
    count = sum(len(account.fates) for account in accounts) + unread
    failures = all(account.kind is Kind.FAILURE for account in accounts)
    what = "Not delivered" if failures else "Not delivered, delayed or handed on"
    subject = f"{what}: mail to {count} more recipient{'s' * (count != 1)}"
    head = letterhead.head(uuid, now, to, subject)
    return head + b"MIME-Version: 1.0\r\n" + mime.text_part(_story(letterhead.hostname, accounts, count))


def read(report: bytes) -> Account | None:
    """What a report of ours says; None where it is none."""
    parts = {part.get_content_type(): part for part in message_from_bytes(report).walk()}
    status = parts.get("message/delivery-status")
    blocks = [block for block in status.get_payload() if isinstance(block, Message)] if status else []
    kinds = [kind for kind in Kind if any(_value(block, "Action") == kind.value for block in blocks)]
    if not kinds:
        return None
    mail, *recipients = blocks
    return Account(
        kinds[0],
        _value(mail, "Arrival-Date"),
        _value(mail, "X-Mailrelay-Id"),
        _subject(parts),
        tuple([_fate(block) for block in recipients]),
    )


def _fate(block: Message) -> Fate:
    """A failure with a status of class 4 is what was given up for its age."""
    address = plain_address(_behind_type(block, "Final-Recipient"))
    reply, remote = _behind_type(block, "Diagnostic-Code"), _behind_type(block, "Remote-MTA")
    expired = _value(block, "Action") == Kind.FAILURE.value and _value(block, "Status").startswith("4")
    return Fate(Recipient(address), reply, remote, 0.0, expired)


def _behind_type(block: Message, name: str) -> str:
    return _value(block, name).partition(";")[2].strip()


def _value(block: Message, name: str) -> str:
    return " ".join(str(block.get(name, "")).split())


def _subject(parts: Mapping[str, Message]) -> str:
    header: object = b""
    if "message/rfc822" in parts:
        mail = parts["message/rfc822"].get_payload(0)
        if isinstance(mail, Message):
            header = f"Subject: {_value(mail, 'Subject')}".encode()
    elif "text/rfc822-headers" in parts:
        header = parts["text/rfc822-headers"].get_payload(decode=True)
    return subject_of(header) if isinstance(header, bytes) else ""


def _story(hostname: str, accounts: Sequence[Account], count: int) -> str:
    lines = [
        *paragraph(
            "Within one hour more reports were due to you than are sent one by one. "
            f"These are the other ones; they speak of {count} recipient{'s' * (count != 1)}."
        )
    ]
    listed = 0
    for kind, heading in _HEADINGS.items():
        concerned = [account for account in accounts if account.kind is kind]
        if concerned and listed < LISTED:
            lines += ["", heading]
        for account in concerned:
            if listed < LISTED:
                lines += _lines(account, LISTED - listed)
                listed += len(account.fates)
    if count > listed or listed > LISTED:
        lines += ["", f"And {count - min(listed, LISTED)} more, which stand in the log of mailrelay."]
    return "\n".join([*lines, "", *closing(hostname)])


def _lines(account: Account, room: int) -> Iterator[str]:
    yield ""
    if account.subject:
        yield f"  Subject: {account.subject}"
    yield f"  Sent:    {account.sent}"
    yield f"  Id:      {account.uuid}"
    for fate in account.fates[:room]:
        yield f"    {printable(fate.recipient.address)}"
        yield from told(account.kind, fate, "for its age")
