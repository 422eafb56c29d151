"""Words: what a report says to people, in its first part."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from email.errors import MessageError
from email.header import decode_header, make_header
from textwrap import wrap

from relay.bounce.fate import Fate
from relay.bounce.mime import date
from relay.bounce.notice import Kind
from relay.reply import printable

_SUBJECT = re.compile(rb"^subject[ \t]*:((?:[^\r\n]|\r\n[ \t])*)", re.IGNORECASE | re.MULTILINE)
_WIDTH = 72
_LONGEST_WORDS = 900
_LONGEST_SUBJECT = 200

_ADVICE = (
    (
        r"5\.1\.(1|3|6|10)|5\.2\.1",
        "There is no such mailbox. Look for a slip in the address, then send the mail again.",
    ),
    (r"5\.1\.2", "There is no such domain for mail. Look for a slip behind the @, then send the mail again."),
    (r"[45]\.2\.2", "The mailbox is full. Its owner has to make room before it can take mail."),
    (r"[45]\.3\.4|[45]\.2\.3", "The mail is too large. Send less of it, or a link to what was attached."),
    (
        r"5\.6\.3",
        "The mail has 8-bit content, which no provider here takes. Send it encoded (quoted-printable or base64).",
    ),
    (r"5\.6\.7", "The address has letters that are not ASCII, which no provider here takes. Ask for another address."),
    (r"4\.4\.7|4\..*", "The mail itself may be fine. Send it again if it still matters."),
)
_OTHER_ADVICE = (
    "The words above say why. If they do not help, show them, with the mail's id, to whoever looks after this system."
)

_OPENING = {
    Kind.FAILURE: "Your mail could not be delivered to",
    Kind.DELAY: "Your mail could not be delivered yet to",
    Kind.SUCCESS: "Your mail was handed on for",
}


def subject_line(kind: Kind, fates: Sequence[Fate]) -> str:
    """The Subject: of a report, in ASCII."""
    what = {Kind.FAILURE: "Not delivered", Kind.DELAY: "Delayed", Kind.SUCCESS: "Handed on"}[kind]
    address = fates[0].recipient.address
    if len(fates) > 1:
        return f"{what}: mail to {len(fates)} recipients"
    return f"{what}: mail to {address}" if address.isascii() and len(address) < 80 else f"{what}: mail to one recipient"


def story(kind: Kind, fates: Sequence[Fate], age: float, until: float, ending: Sequence[str]) -> str:
    """The whole first part. `age` of the mail in seconds; `until`: when a mail that waits will be given up."""
    lines = [f"{_OPENING[kind]} {'this recipient' if len(fates) == 1 else f'these {len(fates)} recipients'}:", ""]
    for fate in fates:
        lines += [f"    {printable(fate.recipient.address)}", *told(kind, fate, f"after {span(age)}"), ""]
    match kind:
        case Kind.FAILURE:
            lines += paragraph("It is not tried again. What was delivered to others stays delivered.")
        case Kind.DELAY:
            lines += paragraph(
                f"It is tried again, until {date(until)} if need be. You need not send it again; "
                "you will hear if it fails for good."
            )
        case Kind.SUCCESS:
            lines += paragraph(
                "The server that took it does not report what becomes of a mail, so this is the last report about it "
                "unless it comes back."
            )
    return "\n".join([*lines, "", *ending])


def about(subject: str, sent: float, uuid: str) -> list[str]:
    """Which mail it is: its subject (if any), when it was taken, its id in the log."""
    named = [f"    Subject: {subject}"] if subject else []
    return ["About the mail:", "", *named, f"    Sent:    {date(sent)}", f"    Id:      {uuid}"]


def closing(hostname: str) -> tuple[str, ...]:
    """The last lines of whatever we write to people, and the end of the last one."""
    return f"Written by mailrelay on {hostname}.", "Nobody reads what is answered to this mail.", ""


def subject_of(header: bytes) -> str:
    """The subject of a mail as people read it; "" where it has none or none that can be read."""
    match = _SUBJECT.search(header)
    if match is None:
        return ""
    raw = match[1].replace(b"\r\n", b"").strip().decode("utf-8", "replace")
    try:
        text = str(make_header(decode_header(raw)))
    except (MessageError, LookupError, ValueError):
        text = raw
    return _cut(printable(text.strip()), _LONGEST_SUBJECT)


def said(fate: Fate) -> str:
    """Who said what, on one line of bounded length."""
    reply = _cut(printable(fate.reply.removeprefix("uncertain: ")), _LONGEST_WORDS)
    if not reply:
        return "No provider could be reached."
    if not fate.remote:
        return reply
    return f"{fate.remote} said: {reply}" if fate.quoted else f"{fate.remote}: {reply}"


def told(kind: Kind, fate: Fate, given_up: str) -> Iterator[str]:
    """What is said below a recipient: who said what, and what to do. `given_up`: when or why, if that is so."""
    if fate.expired:
        yield from paragraph(f"given up {given_up}; the last answer was:", 6)
    yield from paragraph(said(fate), 6)
    if kind is Kind.FAILURE:
        yield from paragraph(_advice(fate.status(kind)), 6)


def _advice(status: str) -> str:
    return next((words for pattern, words in _ADVICE if re.fullmatch(pattern, status)), _OTHER_ADVICE)


def span(seconds: float) -> str:
    """A time that has passed, in the largest unit of which there are at least two.

    >>> span(432000), span(3700), span(61)
    ('5 days', '61 minutes', '61 seconds')
    """
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} seconds"


def paragraph(text: str, indent: int = 0) -> Sequence[str]:
    """`text` in lines of 72 characters at most, but for words that are longer."""
    margin = " " * indent
    if len(text) <= _WIDTH - indent:
        return (margin + text,)
    return wrap(
        text, _WIDTH, initial_indent=margin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]} [cut]"
