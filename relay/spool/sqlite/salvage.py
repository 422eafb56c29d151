"""Salvage: what can still be read of a damaged database, mail by mail.

A mail that is as it was acknowledged goes on where it stood. Of another one what can be shown is kept, HELD; the
damaged file itself is not changed.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from relay.spool.rows import Found, recipient_rows, row_of, standing_row
from relay.spool.spool import LARGE
from relay.spool.sqlite import reading, statements
from relay.spool.sqlite.database import PAGE, for_salvage
from relay.spool.sqlite.wal import apply, damage_of, is_short, wal_of

_AT_ONCE = 64
_FURTHEST = (1 << 63) - 1


def salvage(path: Path, fresh: sqlite3.Connection, first_page: bytes) -> tuple[int, int]:
    """Copy into `fresh` what can be read in the database at `path`: how many mails are sound, how many are held.

    first_page  of a database with the same schema, to read by where the damaged one's own is lost
    """
    sound = held = 0
    for source in _sources(path, first_page):
        try:
            reading.check_tables(source)
        except sqlite3.Error:
            continue
        _copy_notes(source, fresh)
        keys = sorted({key for statement in _KEYS for key in _readable(source, statement)})
        for start in range(0, len(keys), _AT_ONCE):
            found = reading.mails(source, keys[start : start + _AT_ONCE], _AT_ONCE * LARGE)
            _copy(found, fresh)
            held += sum(bool(each.damage) for each in found)
            sound += sum(not each.damage for each in found)
        if keys:
            break
    return sound, held


def _sources(path: Path, first_page: bytes) -> Iterator[sqlite3.Connection]:
    """The database as it is, or a copy of all there is, where it or its log is lost; then one with another first page.

    The first page lists the tables and the free pages; the second source is for a database that has lost it.
    """
    lost = not path.is_file() or not path.stat().st_size
    if lost and not wal_of(path).is_file():
        return
    copy = path.with_name(f"{path.name}.copy")
    if lost or damage_of_log(path):
        apply(path, copy, len(first_page))
        with closing(for_salvage(copy)) as source:
            yield source
    else:
        with closing(for_salvage(path)) as source:
            yield source
        shutil.copyfile(path, copy)
        with suppress(FileNotFoundError):
            shutil.copyfile(wal_of(path), wal_of(copy))
    pages = copy.stat().st_size // len(first_page)
    with copy.open("r+b") as file:
        file.write(first_page[:28] + pages.to_bytes(4, "big") + bytes(8) + first_page[40:])
    with closing(for_salvage(copy)) as source:
        yield source


def damage_of_log(path: Path) -> str:
    """What is wrong with the log of the database at `path`; "" if nothing is."""
    if is_short(path, PAGE):
        return "its log is shorter than it was"
    if not wal_of(path).is_file():
        return ""
    with closing(for_salvage(path)) as connection:
        with suppress(sqlite3.Error):
            connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
        return damage_of(path, PAGE)


_KEYS = (
    "SELECT DISTINCT mail FROM recipient WHERE mail >= ? ORDER BY mail",
    "SELECT key FROM mail WHERE key >= ? ORDER BY key",
)


def _readable(source: sqlite3.Connection, statement: str) -> Iterator[int]:
    """Every key that a walk through a tree finds, over all pages that cannot be read."""

    def reads(start: int) -> bool:
        try:
            source.execute(statement, (start,)).fetchone()
        except sqlite3.Error:
            return False
        return True

    start: int | None = 0
    while start is not None:
        try:
            for (key,) in source.execute(statement, (start,)):
                if isinstance(key, int) and key >= start:
                    yield key
                    start = key + 1
        except sqlite3.Error:
            start = _beyond(reads, start)
        else:
            return


def _beyond(reads: Callable[[int], bool], bad: int) -> int | None:
    """The least start above `bad` from which a walk finds something, by doubled steps and then halved ones."""
    step = 1
    while not reads(good := bad + step):
        step *= 2
        if bad + step > _FURTHEST:
            return None
    bad += step // 2
    while good - bad > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if reads(middle) else (good, middle)
    return good


def _copy_notes(source: sqlite3.Connection, fresh: sqlite3.Connection) -> None:
    """Those before the first that cannot be read; each is only the memory of something, and no mail."""
    with suppress(sqlite3.Error):
        for name, text in source.execute("SELECT name, text FROM note"):
            statements.note(fresh, [(name, text)])


def _copy(found: list[Found], fresh: sqlite3.Connection) -> None:
    fresh.execute("BEGIN IMMEDIATE")
    statements.insert_mails(fresh, [row_of(each) for each in found])
    statements.insert_recipients(fresh, [row for each in found for row in recipient_rows(each.mail.envelope)])
    statements.update(
        fresh,
        [standing_row(each.mail.envelope.key, standing) for each in found for standing in each.mail.standings],
    )
    fresh.execute("COMMIT")
