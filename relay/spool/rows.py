"""Rows: mails as a database keeps them, and back, with every doubt about what is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

from relay.envelope import Envelope, Recipient, key_of, uuid_of
from relay.spool.arriving import WritingBody
from relay.spool.checksum import checksum, notify_set, notify_text
from relay.spool.spool import QUARANTINE, Damaged, Mail, Standing, State, Submission

Row = tuple[Any, ...]

MAIL = (
    "key, uuid, sender, received_at, size, eight_bit, report, ret, envid, client, head, body_size, body_crc, checksum, "
    "typeof(body)"
)
"""What is read of a row of `mail`; the body's type is known without reading it."""

RECIPIENT = "mail, number, address, notify, orcpt, state, attempts, due, provider, pinned, uncertain, warned, reply"

ORIGIN = "origin "
"""How the name of a note begins that holds a Submission.origin."""

MISSING = "its row is missing"
"""The damage of a mail of which there are recipients at most."""


def mail_row(submission: Submission) -> Row:
    """The row of `mail`, with the body: None where it stands in a file. Raises ValueError for text no UTF-8."""
    envelope, head, body = submission.envelope, submission.head, submission.body
    if isinstance(body, bytes):
        size, crc, small = len(body), crc32(body), body
    else:
        assert isinstance(body, WritingBody)
        size, crc, small = body.size, body.place.crc, None
    return _mail_row(envelope, head, size, crc, checksum(envelope, head, size, crc), small)


def row_of(found: Found) -> Row:
    """The row of `mail` of one that was read, with the body that was read with it. Damage stays damage."""
    envelope, head, size, crc = found.mail.envelope, found.mail.head, found.body_size, found.body_crc
    small = found.mail.body or b"" if found.small else None
    return _mail_row(envelope, head, size, crc, -1 if found.damage else checksum(envelope, head, size, crc), small)


def _mail_row(envelope: Envelope, head: bytes, size: int, crc: int, check: int, small: bytes | None) -> Row:
    return (
        envelope.key,
        envelope.uuid,
        envelope.sender,
        envelope.received_at,
        envelope.size,
        envelope.eight_bit,
        envelope.report,
        envelope.ret,
        envelope.envid,
        envelope.client,
        head,
        size,
        crc,
        check,
        small,
    )


def recipient_rows(envelope: Envelope) -> list[Row]:
    """The first five columns of `recipient` for each: a fresh one has the defaults in the others."""
    return [
        (envelope.key, number, recipient.address, notify_text(recipient), recipient.orcpt)
        for number, recipient in enumerate(envelope.recipients)
    ]


def standing_row(key: int, standing: Standing) -> Row:
    """Key, number, and the columns of `recipient` that change."""
    reply = standing.reply
    return (
        key,
        standing.number,
        int(standing.state),
        standing.attempts,
        standing.due,
        standing.provider,
        standing.pinned,
        standing.uncertain,
        standing.warned,
        reply if reply.isascii() else reply.encode(errors="replace").decode(),
    )


_WAITING = frozenset(state for state in State if state.waiting)
_SETTLED = frozenset(State) - {State.READY, State.DEFERRED}


@dataclass(frozen=True, slots=True)
class Found:
    """A mail that was read. `damage` says what is wrong with it; `mail` is then as much of it as makes sense, HELD."""

    mail: Mail
    small: bool = False  # whether its body stands in its row
    body_crc: int = 0
    body_size: int = 0
    damage: str = ""
    hold: bool = False  # whether that is yet to be written down
    was: State | None = None  # what the mail was counted as before; None if as nothing


def with_body(found: Found, body: object) -> Found:
    """The same with its small body, if that is what was acknowledged."""
    if isinstance(body, bytes) and len(body) == found.body_size and crc32(body) == found.body_crc:
        return replace(found, mail=replace(found.mail, body=body))
    return quarantined(found, "its body is not what was acknowledged")


def quarantined(found: Found, damage: str) -> Found:
    """A sound mail as it is once something of it was found damaged."""
    reply = f"{QUARANTINE}{damage}"
    states = [standing.state for standing in found.mail.standings]
    standings = tuple(
        [
            replace(standing, state=State.HELD, due=0.0, reply=reply) if standing.state < State.HELD else standing
            for standing in found.mail.standings
        ]
    )
    was = min(states)
    mail = replace(found.mail, standings=standings)
    return replace(found, mail=mail, damage=damage, hold=was < State.HELD, was=was)


def read(key: int, row: Row | None, recipients: Sequence[Row], trouble: str = "") -> Found:
    """The mail `key` from its row and those of its recipients. `trouble` is why a row could not be read, if so."""
    try:
        if trouble or row is None:
            raise Damaged(trouble or MISSING)
        return _sound(key, row, recipients)
    except (Damaged, ValueError, TypeError) as error:
        return _remains(key, row, recipients, str(error) if isinstance(error, Damaged) else "its row makes no sense")


def _sound(key: int, row: Row, recipients: Sequence[Row]) -> Found:
    _, uuid, sender, received_at, size, eight_bit, report, ret, envid, client, head, body_size, body_crc, check = row[
        :14
    ]
    standings = tuple([_standing(number, columns) for number, columns in enumerate(recipients)])
    people = tuple([standing.recipient for standing in standings])
    envelope = Envelope(key, uuid, sender, people, received_at, size, bool(eight_bit), ret, envid, client, bool(report))
    if not standings or checksum(envelope, head, body_size, body_crc) != check:
        raise Damaged("its envelope or header is not what was acknowledged")
    if row[14] not in ("blob", "null"):
        raise Damaged("its body makes no sense")
    return Found(Mail(envelope, head, None, standings), row[14] == "blob", body_crc, body_size)


def _standing(place: int, columns: Row) -> Standing:
    _, number, address, notify, orcpt, state, attempts, due, provider, pinned, uncertain, warned, reply = columns
    if number != place:
        raise Damaged("a recipient of it is missing")
    if not (isinstance(attempts, int) and isinstance(due, float) and isinstance(uncertain, int)):
        raise Damaged("the standing of a recipient makes no sense")
    if not (isinstance(provider, str) and isinstance(reply, str)):
        raise Damaged("the standing of a recipient makes no sense")
    recipient = Recipient(address, notify_set(notify), orcpt)
    return Standing(
        number, recipient, State(state), attempts, due, provider, bool(pinned), uncertain, bool(warned), reply
    )


def _remains(key: int, row: Row | None, recipients: Sequence[Row], damage: str) -> Found:
    """What can be shown of a damaged mail: every recipient HELD that is not known to be done with."""
    columns = row or (None,) * 15
    text = [_shown(value) for value in columns]
    reply = f"{QUARANTINE}{damage}"
    standings = tuple([_held(number, each, reply) for number, each in enumerate(recipients)])
    standings = standings or (Standing(0, Recipient(""), State.HELD, reply=reply),)
    states = [each[5] for each in recipients]
    waiting = [State(state) for state in states if state in _WAITING]
    envelope = Envelope(
        key,
        text[1] if key_of(text[1]) == key else uuid_of(key, 0),
        text[2],
        tuple([standing.recipient for standing in standings]),
        columns[3] if isinstance(columns[3], float) else 0.0,
        columns[4] if isinstance(columns[4], int) else 0,
        client=text[9],
    )
    head = columns[10] if isinstance(columns[10], bytes) else b""
    hold = not states or any(state not in _SETTLED for state in states)
    mail = Mail(envelope, head, None, standings)
    return Found(mail, small=columns[14] != "null", damage=damage, hold=hold, was=min(waiting, default=None))


def _held(number: int, columns: Row, reply: str) -> Standing:
    address, state, said = columns[2], columns[5], columns[12]
    standing = Standing(number, Recipient(_shown(address)), State.HELD, reply=reply)
    if state not in _SETTLED:
        return standing
    return replace(standing, state=State(state), reply=_shown(said) or reply)


def _shown(value: object) -> str:
    return value.encode(errors="replace").decode() if isinstance(value, str) else ""
