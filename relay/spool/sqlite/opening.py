"""Opening: from whatever lies in the folder to a sound database, with nothing deleted that could be a mail.

A database that makes no sense is set aside whole, and what can be read of it is taken over into a new one. The order
of the steps lets a crash at any of them be followed by the same start again:

1. `spool.sqlite.part` is made with what could be saved, closed, and renamed to `spool.sqlite.new`
2. bodies that no row of it knows are moved to `damaged/<n>/bodies`
3. `spool.sqlite`, then its WAL, is moved to `damaged/<n>`
4. `spool.sqlite.new` is renamed to `spool.sqlite`
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from relay.spool.bodies import leftovers, sync_folder
from relay.spool.spool import LEFT_UNDER_WAY, UNDER_WAY, Damaged, Mail, Tally
from relay.spool.sqlite import reading, statements
from relay.spool.sqlite.database import PAGE, code, for_reading, for_writing, is_damage
from relay.spool.sqlite.folder import BODIES, DATABASE
from relay.spool.sqlite.salvage import damage_of_log, salvage
from relay.spool.sqlite.wal import wal_of

SUSPECT = "suspect"
"""A file that says: SQLite found damage while the spool was in use."""

SMALL = 64 * 1024 * 1024
"""A database up to this many octets is checked page by page at each start."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The connections, what was found, and what was damaged, in words for the log."""

    writing: sqlite3.Connection
    reading: sqlite3.Connection
    tally: Tally
    last_key: int
    large: int
    left_under_way: tuple[Mail, ...] = ()
    damage: tuple[str, ...] = ()


def opened(directory: Path) -> Opened:
    """The database of the spool in `directory`, rid of what a crash left. Raises sqlite3.Error, OSError, SpoolError."""
    said = _finish_setting_aside(directory)
    trouble = _no_files(directory) or _suspicion(directory)
    if not trouble:
        try:
            return _open(directory, said)
        except Damaged as error:
            trouble = str(error)
        except sqlite3.DatabaseError as error:
            if not is_damage(error) and code(error) != sqlite3.SQLITE_ERROR:  # that one: a table is missing
                raise
            trouble = str(error)
    return _open(directory, (*said, _set_aside(directory, trouble)))


def _no_files(directory: Path) -> str:
    """What is no file in the place of the log or its index is set aside; why that is damage, or ""."""
    files = [directory / f"{DATABASE}{suffix}" for suffix in ("-wal", "-shm")]
    foreign = [file for file in files if os.path.lexists(file) and (file.is_symlink() or not file.is_file())]
    if not foreign:
        return ""
    place = _place(directory / "damaged")
    for file in foreign:
        file.rename(place / file.name)
    return f"something else was in the place of its log, and is in {place}"


def _suspicion(directory: Path) -> str:
    """Why the database is not even to be opened, since SQLite would throw away what belongs to it; or ""."""
    path = directory / DATABASE
    if (directory / SUSPECT).exists():
        return "damage was found while it was in use"
    if path.is_file() and path.stat().st_size:
        return damage_of_log(path)
    if wal_of(path).is_file() and wal_of(path).stat().st_size:
        return "it is gone or empty, though there is a WAL of it"
    bodies, _ = leftovers(directory / BODIES, lambda _: set())
    return "it is gone or empty, though there are bodies" if any(not body.suffix for body in bodies) else ""


def _open(directory: Path, damage: tuple[str, ...]) -> Opened:
    path = directory / DATABASE
    writing = for_writing(path)
    try:
        if path.stat().st_size <= SMALL:
            (found,) = writing.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise Damaged(found)
        connection = for_reading(path)
        try:
            reading.check_tables(connection)
            under_way = reading.held_keys(connection, UNDER_WAY)
            with suppress(sqlite3.OperationalError):  # on a full disk they stay held all the same
                writing.execute(statements.LEAVE_HELD, (LEFT_UNDER_WAY, UNDER_WAY))
            left, large = leftovers(directory / BODIES, partial(reading.known_bodies, connection))
            opened = Opened(
                writing,
                connection,
                reading.tally(connection),
                reading.last_key(connection),
                large,
                tuple([found.mail for found in reading.mails(connection, under_way, 0)]),
                damage,
            )
        except BaseException:
            connection.close()
            raise
    except BaseException:
        writing.close()
        raise
    for file in left:
        file.unlink()
    return opened


def _set_aside(directory: Path, trouble: str) -> str:
    """Steps 1 to 4; says what was done."""
    path = directory / DATABASE
    part, new = path.with_name(f"{DATABASE}.part"), path.with_name(f"{DATABASE}.new")
    _remove_scratch(directory)
    place = _place(directory / "damaged")
    fresh = for_writing(part)
    try:
        fresh.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        saved, held = salvage(path, fresh, part.read_bytes()[:PAGE])
        known = partial(reading.known_bodies, fresh)
        bodies = [body for body in leftovers(directory / BODIES, known)[0] if not body.suffix]
    finally:
        fresh.close()
    part.rename(new)
    _remove_scratch(directory)
    sync_folder(directory)
    for body in bodies:
        body.rename(place / BODIES / body.name)
    sync_folder(place / BODIES)
    _move_database(directory, place)
    (directory / SUSPECT).unlink(missing_ok=True)
    return (
        f"{path} was damaged ({trouble}) and was moved to {place} with {len(bodies)} bodies; "
        f"saved from it: {saved} mails, and {held} damaged ones that are held"
    )


def _finish_setting_aside(directory: Path) -> tuple[str, ...]:
    """What a crash in step 3 or 4 left undone."""
    new = directory / f"{DATABASE}.new"
    if not new.exists():
        return ()
    if (directory / DATABASE).exists():
        new.unlink()  # step 3 was not begun: all begins again
        return ()
    place = _place(directory / "damaged", begun=True)
    _move_database(directory, place)
    return (f"{directory / DATABASE} was damaged and was moved to {place}",)


def _move_database(directory: Path, place: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        file = directory / f"{DATABASE}{suffix}"
        if file.exists():
            file.rename(place / file.name)
    sync_folder(place)
    (directory / f"{DATABASE}.new").rename(directory / DATABASE)
    sync_folder(directory)


def _place(damaged: Path, begun: bool = False) -> Path:
    """The folder for what is set aside now: the first without a database; the last with one, if that was `begun`."""
    number = 1
    while any((damaged / str(number)).glob(f"{DATABASE}*")):
        number += 1
    place = damaged / str(max(number - begun, 1))
    for folder in (damaged, place, place / BODIES):
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    sync_folder(damaged)
    return place


def _remove_scratch(directory: Path) -> None:
    for kind in ("part", "copy"):
        for suffix in ("", "-wal", "-shm"):
            (directory / f"{DATABASE}.{kind}{suffix}").unlink(missing_ok=True)
