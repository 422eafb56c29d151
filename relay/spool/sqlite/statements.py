# ruff: noqa: S608  only lists of question marks are put together here
"""Statements: what the writer has SQLite do, many rows at once.

Each statement hands the interpreter's lock over, so there are few: rows go in portions whose sizes are powers of two,
which are prepared once each.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeVar

from relay.spool.rows import ORIGIN, Row

T = TypeVar("T")

_SIZES = (1, 2, 4, 8, 16, 32, 64)


def _rows(columns: int) -> dict[int, str]:
    return {size: ", ".join([f"({', '.join('?' * columns)})"] * size) for size in _SIZES}


_INSERT_MAIL = {size: f"INSERT INTO mail VALUES {rows}" for size, rows in _rows(15).items()}
_INSERT_RECIPIENT = {
    size: f"INSERT INTO recipient (mail, number, address, notify, orcpt) VALUES {rows}"
    for size, rows in _rows(5).items()
}
_KEYS = {size: f"({', '.join('?' * size)})" for size in _SIZES}
_LARGE = {size: f"SELECT uuid FROM mail WHERE key IN {keys} AND typeof(body) = 'null'" for size, keys in _KEYS.items()}
_DELETE_MAIL = {size: f"DELETE FROM mail WHERE key IN {keys}" for size, keys in _KEYS.items()}
_DELETE_RECIPIENT = {size: f"DELETE FROM recipient WHERE mail IN {keys}" for size, keys in _KEYS.items()}
_UPDATE = {
    size: (
        "UPDATE recipient SET state = column3, attempts = column4, due = column5, provider = column6, "
        f"pinned = column7, uncertain = column8, warned = column9, reply = column10 FROM (VALUES {rows}) "
        "WHERE mail = column1 AND number = column2"
    )
    for size, rows in _rows(10).items()
}
_HOLD = "UPDATE recipient SET state = 2, due = 0, reply = ?2 WHERE mail = ?1 AND state NOT IN (2, 3, 4, 5, 6)"
_HOLD_WITHOUT_RECIPIENT = (
    "INSERT INTO recipient (mail, number, address, orcpt, state, reply) SELECT key, 0, '', '', 2, ?2 FROM mail "
    "WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM recipient WHERE mail = ?1)"
)

_NOTE = "INSERT OR REPLACE INTO note VALUES (?, ?)"
_FORGET = "DELETE FROM note WHERE name = ?"

LEAVE_HELD = "UPDATE recipient SET reply = ? WHERE state = 2 AND reply = ?"
"""What was HELD for a moment stays HELD, with another reply."""

BEAT = "UPDATE pulse SET beat = beat + 1"
"""A commit that changes nothing of any mail."""


def _portions(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    start = 0
    while left := len(rows) - start:
        size = min(1 << left.bit_length() - 1, _SIZES[-1])
        yield rows[start : start + size]
        start += size


def insert_mails(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Rows as `rows.mail_row` makes them."""
    for portion in _portions(rows):
        connection.execute(_INSERT_MAIL[len(portion)], tuple(chain.from_iterable(portion)))


def insert_recipients(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Rows as `rows.recipient_rows` makes them."""
    for portion in _portions(rows):
        connection.execute(_INSERT_RECIPIENT[len(portion)], tuple(chain.from_iterable(portion)))


def update(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """New standings, as `rows.standing_row` makes them."""
    newest = {row[:2]: row for row in rows}  # of two for one recipient SQLite would take either
    for portion in _portions(list(newest.values())):
        connection.execute(_UPDATE[len(portion)], tuple(chain.from_iterable(portion)))


def note(connection: sqlite3.Connection, notes: Sequence[tuple[str, str]]) -> None:
    """Each in place of the one of that name."""
    for each in notes:
        connection.execute(_NOTE, each)


def forget(connection: sqlite3.Connection, origins: Sequence[str]) -> None:
    """The notes of these origins."""
    connection.executemany(_FORGET, [(f"{ORIGIN}{origin}",) for origin in origins])


def hold(connection: sqlite3.Connection, key: int, reply: str) -> bool:
    """HELD for every recipient of a mail that is not settled; one without an address if there is none.

    Whether that changed anything.
    """
    changed = connection.execute(_HOLD, (key, reply)).rowcount
    return changed + connection.execute(_HOLD_WITHOUT_RECIPIENT, (key, reply)).rowcount > 0


def large(connection: sqlite3.Connection, keys: Sequence[int]) -> list[str]:
    """The uuids of those mails among `keys` whose bodies stand in files."""
    return [uuid for portion in _portions(keys) for (uuid,) in connection.execute(_LARGE[len(portion)], tuple(portion))]


def delete(connection: sqlite3.Connection, keys: Sequence[int]) -> None:
    """All rows of the mails `keys`."""
    for portion in _portions(keys):
        connection.execute(_DELETE_MAIL[len(portion)], tuple(portion))
        connection.execute(_DELETE_RECIPIENT[len(portion)], tuple(portion))
