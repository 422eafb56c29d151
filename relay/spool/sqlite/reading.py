# ruff: noqa: S608  only names of columns and question marks are put together here
"""Reading: questions to the database, each in one snapshot, each bounded. Run in the reading thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from relay.envelope import key_of
from relay.spool.rows import MAIL, MISSING, ORIGIN, RECIPIENT, Found, Row, read, with_body
from relay.spool.spool import QUARANTINE, UNCERTAIN, Damaged, Held, State, Tally
from relay.spool.sqlite.database import is_damage

OCTETS = 8 * 1024 * 1024
"""Octets of bodies in one answer; the mails after that come without."""

_KEYS = 64


def check_tables(connection: sqlite3.Connection) -> None:
    """Raises sqlite3.Error where the schema does not hold what is read and written."""
    connection.execute(f"EXPLAIN SELECT {MAIL} FROM mail")
    connection.execute(f"EXPLAIN SELECT {RECIPIENT} FROM recipient")
    connection.execute("EXPLAIN SELECT name, text, beat FROM note, pulse")


def tally(connection: sqlite3.Connection) -> Tally:
    """How many mails wait: one walk through the recipients' tree."""
    counted = dict(
        connection.execute(
            "SELECT state, count(*) FROM (SELECT min(state) AS state FROM recipient WHERE state <= 2 GROUP BY mail) "
            "GROUP BY state"
        )
    )
    return Tally(counted.get(State.READY, 0), counted.get(State.DEFERRED, 0), counted.get(State.HELD, 0))


def held(connection: sqlite3.Connection) -> Held:
    """How many mails are HELD for which reason, by the index of those alone."""
    count = "SELECT count(DISTINCT mail) FROM recipient WHERE state = 2 AND reply >= ? AND reply < ?"
    (quarantine,) = connection.execute(count, _beginning_with(QUARANTINE)).fetchone()
    (uncertain,) = connection.execute(count, _beginning_with(UNCERTAIN)).fetchone()
    return Held(quarantine, uncertain)


def _beginning_with(words: str) -> tuple[str, str]:
    """The first text that begins with `words`, and the first behind all of those."""
    return words, words[:-1] + chr(ord(words[-1]) + 1)


def notes(connection: sqlite3.Connection) -> dict[str, str]:
    """All notes, by name, but those that are origins."""
    found = {str(name): str(text) for name, text in connection.execute("SELECT name, text FROM note")}
    return {name: text for name, text in found.items() if not name.startswith(ORIGIN)}


def origins(connection: sqlite3.Connection, beginning: str) -> list[str]:
    """Those that begin so."""
    rows = connection.execute("SELECT name FROM note WHERE name >= ? AND name < ?", _beginning_with(ORIGIN + beginning))
    return [name.removeprefix(ORIGIN) for (name,) in rows]


def last_key(connection: sqlite3.Connection) -> int:
    """The highest key in use, 0 if there is none."""
    (in_mail,) = connection.execute("SELECT max(key) FROM mail").fetchone()
    (in_recipient,) = connection.execute("SELECT max(mail) FROM recipient").fetchone()
    return max(in_mail or 0, in_recipient or 0)


def oldest(connection: sqlite3.Connection, since: int) -> tuple[int, float] | None:
    """Key and received_at of the first mail, from the key `since` on, that waits to be delivered: see Spool.oldest."""
    found: tuple[int, object] | None = connection.execute(
        "SELECT mail, (SELECT received_at FROM mail WHERE key = mail) FROM recipient WHERE mail >= ? AND state < 2 "
        "AND NOT (state = 1 AND attempts = 0 AND (SELECT report FROM mail WHERE key = mail)) ORDER BY mail LIMIT 1",
        (since,),
    ).fetchone()
    if found is None:
        return None
    key, received_at = found
    return key, received_at if isinstance(received_at, float) else 0.0


def ready_keys(connection: sqlite3.Connection, after: int, limit: int) -> list[int]:
    """Keys above `after` of which a recipient is READY, in order."""
    return [
        key
        for (key,) in connection.execute(
            "SELECT DISTINCT mail FROM recipient WHERE mail > ? AND state = 0 ORDER BY mail LIMIT ?", (after, limit)
        )
    ]


def due_keys(connection: sqlite3.Connection, now: float, limit: int) -> list[int]:
    """Keys of which a recipient is DEFERRED and due at `now`, the longest due first."""
    found: dict[int, None] = {}
    waiting = connection.execute("SELECT mail FROM recipient WHERE state = 1 AND due <= ? ORDER BY due", (now,))
    while len(found) < limit and (row := waiting.fetchone()) is not None:
        found[row[0]] = None
    waiting.close()
    return list(found)


def held_keys(connection: sqlite3.Connection, reply: str) -> list[int]:
    """Keys of which a recipient is HELD with that reply."""
    return [
        key
        for (key,) in connection.execute("SELECT DISTINCT mail FROM recipient WHERE state = 2 AND reply = ?", (reply,))
    ]


def next_due(connection: sqlite3.Connection, after: float) -> float | None:
    """When the first DEFERRED recipient is due after `after`."""
    (due,) = connection.execute("SELECT min(due) FROM recipient WHERE state = 1 AND due > ?", (after,)).fetchone()
    return None if due is None else float(due)


def page_keys(connection: sqlite3.Connection, after: int, limit: int) -> list[int]:
    """Keys above `after`, in order, also of mails whose rows are there only in part."""
    found = {
        key for (key,) in connection.execute("SELECT key FROM mail WHERE key > ? ORDER BY key LIMIT ?", (after, limit))
    }
    found.update(
        key
        for (key,) in connection.execute(
            "SELECT DISTINCT mail FROM recipient WHERE mail > ? ORDER BY mail LIMIT ?", (after, limit)
        )
    )
    return sorted(found)[:limit]


def known_bodies(connection: sqlite3.Connection, uuids: Sequence[str]) -> set[str]:
    """Those among `uuids` that are mails with a large body."""
    known: set[str] = set()
    for start in range(0, len(uuids), _KEYS):
        keys = [key_of(uuid) or 0 for uuid in uuids[start : start + _KEYS]]
        known.update(uuid for uuid, kind in _among(connection, "SELECT uuid, typeof(body) FROM mail WHERE key", keys))
    return known.intersection(uuids)


def mails(connection: sqlite3.Connection, keys: Sequence[int], room: int) -> list[Found]:
    """The mails `keys`, in that order, with their small bodies as far as `room` octets go."""
    found = [each for start in range(0, len(keys), _KEYS) for each in _mails(connection, keys[start : start + _KEYS])]
    if not room:
        return found
    for place, each in enumerate(found):
        if each.small and not each.damage and each.body_size <= room:
            room -= each.body_size
            found[place] = with_body(each, small_body(connection, each.mail.envelope.key))
    return found


def one(connection: sqlite3.Connection, key: int) -> Found | None:
    """The mail `key`, without its body; None if there is no trace of it."""
    found = _mails(connection, [key])[0]
    traces = "SELECT EXISTS (SELECT 1 FROM mail WHERE key = ?1) OR EXISTS (SELECT 1 FROM recipient WHERE mail = ?1)"
    if found.damage == MISSING and connection.execute(traces, (key,)).fetchone() == (0,):
        return None
    return found


def body(connection: sqlite3.Connection, key: int) -> bytes | tuple[int, int]:
    """The small body of the mail `key`, or size and CRC-32 of the large one. Raises Damaged."""
    found = _mails(connection, [key])[0]
    if found.small and not found.damage:
        found = with_body(found, small_body(connection, key))
    if found.damage:
        raise Damaged(found.damage)
    return found.mail.body if found.mail.body is not None else (found.body_size, found.body_crc)


def small_body(connection: sqlite3.Connection, key: int) -> object:
    """What stands in the row of `key` as its body; None if nothing can be read there."""
    try:
        row = connection.execute("SELECT body FROM mail WHERE key = ?", (key,)).fetchone()
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return None
        raise
    return None if row is None else row[0]


def _mails(connection: sqlite3.Connection, keys: Sequence[int]) -> list[Found]:
    try:
        rows = {row[0]: row for row in _among(connection, f"SELECT {MAIL} FROM mail WHERE key", keys)}
        recipients: dict[int, list[Row]] = {}
        for row in _among(connection, f"SELECT {RECIPIENT} FROM recipient WHERE mail", keys):
            recipients.setdefault(row[0], []).append(row)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        if len(keys) > 1:
            return [found for key in keys for found in _mails(connection, [key])]
        return [read(keys[0], None, (), f"the database is damaged there: {error}")]
    return [read(key, rows.get(key), recipients.get(key, ())) for key in keys]


def _among(connection: sqlite3.Connection, statement: str, keys: Sequence[int]) -> Iterator[Row]:
    """The rows of `keys`. One size of list, the last key repeated, so that one statement is prepared."""
    padded = [*keys, *[keys[-1]] * (_KEYS - len(keys))] if len(keys) > 1 else keys
    return iter(connection.execute(f"{statement} IN ({', '.join('?' * len(padded))})", padded))
