# ruff: noqa: S608  only lists of question marks are put together here
"""Statements: what the writer has SQLite do, many rows at once.

Each statement hands the interpreter's lock over, so there are few: one for up to 16 rows. Those that name rows by their
keys are prepared for powers of two, the last row said as often as need be; and those of every group go by
`executemany`, since `execute` asks for the number of the last row besides, and hands the lock over for that once more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

from relay.spool.rows import ORIGIN, Row

T = TypeVar("T")

_SIZES = (*range(1, 17), 32, 64)
_POWERS = (1, 2, 4, 8, 16, 32, 64)


def _rows(columns: int, sizes: Sequence[int]) -> dict[int, str]:
    return {size: ", ".join([f"({', '.join('?' * columns)})"] * size) for size in sizes}


_INSERT_MAIL = {size: f"INSERT INTO mail VALUES {rows}" for size, rows in _rows(15, _SIZES).items()}
_INSERT_RECIPIENT = {
    size: f"INSERT INTO recipient (mail, number, address, notify, orcpt) VALUES {rows}"
    for size, rows in _rows(5, _SIZES).items()
}
_KEYS = {size: f"({', '.join('?' * size)})" for size in _POWERS}
_LARGE = {size: f"SELECT uuid FROM mail WHERE key IN {keys} AND typeof(body) = 'null'" for size, keys in _KEYS.items()}
_DELETE_MAIL = {size: f"DELETE FROM mail WHERE key IN {keys}" for size, keys in _KEYS.items()}
_DELETE_RECIPIENT = {size: f"DELETE FROM recipient WHERE mail IN {keys}" for size, keys in _KEYS.items()}
_UPDATE = {
    size: (
        "UPDATE recipient SET state = column3, attempts = column4, due = column5, provider = column6, "
        f"pinned = column7, uncertain = column8, warned = column9, reply = column10 FROM (VALUES {rows}) "
        "WHERE mail = column1 AND number = column2"
    )
    for size, rows in _rows(10, _POWERS).items()
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
    """All rows, in as many at a time as there is a statement for."""
    start = 0
    while left := len(rows) - start:
        size = max(size for size in _SIZES if size <= left)
        yield rows[start : start + size]
        start += size


def _filled(rows: Sequence[T]) -> Iterator[list[T]]:
    """The same in powers of two: the last row is there as often as need be."""
    for start in range(0, len(rows), _POWERS[-1]):
        portion = list(rows[start : start + _POWERS[-1]])
        yield portion + portion[-1:] * ((1 << (len(portion) - 1).bit_length()) - len(portion))


def _run(connection: sqlite3.Connection, statement: str, portion: Iterable[Row]) -> None:
    connection.executemany(statement, [tuple(chain.from_iterable(portion))])


def insert_mails(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Rows as `rows.mail_row` makes them."""
    for portion in _portions(rows):
        _run(connection, _INSERT_MAIL[len(portion)], portion)


def insert_recipients(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Rows as `rows.recipient_rows` makes them."""
    for portion in _portions(rows):
        _run(connection, _INSERT_RECIPIENT[len(portion)], portion)


def update(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """New standings, as `rows.standing_row` makes them."""
    newest = {row[:2]: row for row in rows}  # of two for one recipient SQLite would take either
    for portion in _filled(list(newest.values())):
        _run(connection, _UPDATE[len(portion)], portion)


def note(connection: sqlite3.Connection, notes: Sequence[tuple[str, str]]) -> None:
    """Each in place of the one of that name."""
    connection.executemany(_NOTE, notes)


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
    return [uuid for portion in _filled(keys) for (uuid,) in connection.execute(_LARGE[len(portion)], portion)]


def delete(connection: sqlite3.Connection, keys: Sequence[int]) -> None:
    """All rows of the mails `keys`."""
    for portion in _filled(keys):
        connection.executemany(_DELETE_MAIL[len(portion)], [portion])
        connection.executemany(_DELETE_RECIPIENT[len(portion)], [portion])
