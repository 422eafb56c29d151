# ruff: noqa: S608  only names of columns are put together here
"""Reading: questions to the database that change nothing, each bounded, and rows as mails."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from relay.envelope import key_of
from relay.spool.postgresql.lease import Lease
from relay.spool.postgresql.round import BIG, OCTETS, REAL, SHORT, TEXT, TRUTH, WHOLE
from relay.spool.postgresql.server import Connection
from relay.spool.postgresql.statements import FOUND, SMALL, array
from relay.spool.rows import ORIGIN, Found, read, with_body
from relay.spool.spool import QUARANTINE, UNCERTAIN, Damaged, Held

ROOM = 8 * 1024 * 1024
"""Octets of bodies in one answer; the mails after that come without."""

COLUMNS = (
    *(BIG, TEXT, TEXT, REAL, BIG, TRUTH, TRUTH, TEXT, TEXT, TEXT, OCTETS, BIG, BIG, BIG, BIG, BIG, WHOLE, SHORT),
    TEXT,
)
"""How the columns of FOUND come over the wire: those of a mail, then owner, generation, crashes and recipients."""


def found(row: Sequence[Any], me: int) -> Found:
    """The mail in a row of FOUND, with what is behind it as its body. `me` is the process that reads."""
    key, body, owner = row[0], row[14], row[15]
    people = [_recipient(key, each) for each in json.loads(row[18] or "[]")]
    columns = (*row[:14], "blob" if body == key else "null")
    read_ = read(key, columns, people)
    mail = replace(
        read_.mail, turn=row[16] if owner == me else 0, elsewhere=owner not in (None, me), crashes=int(row[17])
    )
    read_ = replace(read_, mail=mail)
    if len(row) > 19 and read_.small and not read_.damage:
        return with_body(read_, row[19])
    return read_


def lease(row: Sequence[Any], me: int) -> Lease:
    """What a write about that mail is to name."""
    stands = {each[0]: (int(each[4]), float(each[6])) for each in json.loads(row[18] or "[]")}
    return Lease(row[16], row[15] == me, stands, row[14])


def _recipient(key: int, each: list[Any]) -> tuple[Any, ...]:
    number, address, notify, orcpt, state, attempts, due, *rest = each
    return (key, number, address, notify, orcpt, state, attempts, float(due), *rest)


def last_key(connection: Connection) -> int:
    """The highest key; 0 if there is none."""
    return _number(connection, "SELECT max(key) FROM mail") or 0


def notes(connection: Connection) -> dict[str, str]:
    """All notes, by name, but those that are origins."""
    rows = connection.execute("SELECT name, text FROM note WHERE name < %s OR name >= %s", _beginning(ORIGIN))
    return dict(rows.fetchall())


def origins(connection: Connection, beginning: str) -> list[str]:
    """Those that begin so."""
    rows = connection.execute("SELECT name FROM note WHERE name >= %s AND name < %s", _beginning(ORIGIN + beginning))
    return [name.removeprefix(ORIGIN) for (name,) in rows]


def _beginning(words: str) -> tuple[str, str]:
    """The first text that begins with `words`, and the first behind all of those."""
    return words, words[:-1] + chr(ord(words[-1]) + 1)


def held(connection: Connection) -> Held:
    """How many mails are HELD for which reason, by the index of those alone."""
    count = "SELECT count(DISTINCT mail) FROM recipient WHERE state = 2 AND reply >= %s AND reply < %s"
    quarantine, uncertain = (_number(connection, count, *_beginning(words)) or 0 for words in (QUARANTINE, UNCERTAIN))
    return Held(quarantine, uncertain)


def next_due(connection: Connection, after: float) -> float | None:
    """When the first DEFERRED recipient is due after `after`."""
    row = connection.execute("SELECT min(due) FROM recipient WHERE state = 1 AND due > %s", (after,)).fetchone()
    return None if row is None or row[0] is None else float(row[0])


def ready(connection: Connection, me: int, key: int, limit: int) -> list[Found]:
    """Mails above `key` of which a recipient is READY."""
    keys = connection.execute(
        "SELECT DISTINCT mail FROM recipient WHERE state = 0 AND mail > %s ORDER BY mail LIMIT %s", (key, limit)
    )
    return mails(connection, me, [each for (each,) in keys], ROOM)


def due(connection: Connection, me: int, now: float, limit: int) -> list[Found]:
    """Mails of which a recipient is DEFERRED and due, the longest due first."""
    keys = connection.execute(
        "SELECT mail FROM recipient WHERE state = 1 AND due <= %s GROUP BY mail ORDER BY min(due), mail LIMIT %s",
        (now, limit),
    )
    return mails(connection, me, [each for (each,) in keys], ROOM)


def page(connection: Connection, me: int, after: int, limit: int) -> list[Found]:
    """Mails above `after`, without bodies."""
    rows = connection.execute(
        f"SELECT {FOUND} FROM mail m WHERE key > %s ORDER BY key LIMIT %s", (after, limit), binary=True
    )
    return [found(row, me) for row in rows]


def one(connection: Connection, me: int, key: int) -> Found | None:
    """The mail `key`, without its body."""
    row = connection.execute(f"SELECT {FOUND} FROM mail m WHERE key = %s", (key,), binary=True).fetchone()
    return None if row is None else found(row, me)


def mails(connection: Connection, me: int, keys: Sequence[int], room: int) -> list[Found]:
    """The mails `keys`, in that order, with their small bodies as far as `room` octets go."""
    cursor = connection.execute(
        f"SELECT {FOUND} FROM mail m WHERE key = ANY (%s::bigint[])", (array(list(keys)),), binary=True
    )
    by_key = {row[0]: found(row, me) for row in cursor}
    there = [by_key[key] for key in keys if key in by_key]
    for place, each in enumerate(there):
        if each.small and not each.damage and each.body_size <= room:
            room -= each.body_size
            there[place] = with_body(each, _small(connection, each.mail.envelope.key))
    return there


def body(connection: Connection, key: int) -> bytes | tuple[int, int, int]:
    """The small body of the mail `key`; or the number, size and CRC-32 of the large one. Raises Damaged."""
    row = connection.execute(f"SELECT {FOUND}, {SMALL} FROM mail m WHERE key = %s", (key,), binary=True).fetchone()
    if row is None:
        raise Damaged("its row is missing")
    there = found(row, 0)
    if there.damage:
        raise Damaged(there.damage)
    return there.mail.body if there.mail.body is not None else (row[14], there.body_size, there.body_crc)


def _small(connection: Connection, key: int) -> object:
    row = connection.execute("SELECT octets FROM piece WHERE body = %s AND number = 0", (key,), binary=True).fetchone()
    return None if row is None else row[0]


def _number(connection: Connection, question: str, *values: object) -> int | None:
    row = connection.execute(question.encode(), values).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def is_ours(uuid: str) -> int | None:
    """The key that `uuid` carries, if that may be one of a mail."""
    key = key_of(uuid)
    return None if key is None or key >= 1 << 63 else key
