"""Database: the connections to SQLite, and the schema they find or make.

Two connections: one writes and one reads, each in a thread of its own. In WAL mode neither waits for the other.
"""

from __future__ import annotations

import os
import sqlite3
from importlib.resources import files
from pathlib import Path

from relay.spool.spool import Damaged, SpoolError, SpoolFailing, SpoolFull

SCHEMA = 1
"""The newest schema's number, `PRAGMA user_version` of a database that has it."""

NEEDED = (3, 33)
"""The first SQLite with UPDATE … FROM."""

PAGE = 4096
"""Octets in a page: a mail of 4 KiB is one of them and an eighth of another."""

CHECKPOINT = 4000
"""Pages in the WAL (16 MiB) after which a commit copies them into the database."""

WAL_KEPT = 64 * 1024 * 1024
"""Octets of the WAL that are kept on the disk after a burst."""

STATEMENTS = 256
"""Prepared statements that are kept: more than there are."""

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def code(error: sqlite3.Error) -> int:
    """SQLite's primary result code of `error`; 0 where the module raised it itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_damage(error: sqlite3.Error) -> bool:
    """Whether `error` says that the file is no sound database."""
    return code(error) in _DAMAGE


def trouble(error: sqlite3.Error, what: str) -> SpoolFailing:
    """The error that says `what` could not be done, and why."""
    text = f"{what}: {error} ({getattr(error, 'sqlite_errorname', type(error).__name__)})"
    if is_damage(error):
        return SpoolFailing(f"{text}; the next start repairs what it can")
    return SpoolFull(text) if code(error) == sqlite3.SQLITE_FULL else SpoolFailing(text)


def check_version() -> None:
    """Raises SpoolError if this Python's SQLite lacks what is needed."""
    if sqlite3.sqlite_version_info < NEEDED:
        wanted = ".".join(map(str, NEEDED))
        raise SpoolError(f"SQLite {wanted} or later is needed, and this Python has {sqlite3.sqlite_version}")


def for_writing(path: Path) -> sqlite3.Connection:
    """The connection that writes, its schema the newest.

    Raises sqlite3.Error, Damaged for another program's database, and SpoolError for a newer schema.
    """
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
    connection = _connect(str(path))
    try:
        if not path.stat().st_size:
            connection.execute(f"PRAGMA page_size = {PAGE}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise SpoolError(f"{path} cannot have a write-ahead log there: put spool.directory on a local file system")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT}")
        connection.execute("PRAGMA secure_delete = OFF")  # some builds overwrite what they delete
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cache_size = -16384")
        _upgrade(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def for_reading(path: Path) -> sqlite3.Connection:
    """The connection that reads."""
    connection = _connect(str(path))
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def for_salvage(path: Path) -> sqlite3.Connection:
    """A connection that reads what it can of a damaged file and changes nothing there."""
    connection = _connect(f"{path.absolute().as_uri()}?mode=ro")
    connection.execute("PRAGMA writable_schema = ON")  # so a file that was cut short is read as far as it goes
    return connection


def _connect(name: str) -> sqlite3.Connection:
    """A connection for one thread at a time, whose transactions are begun and ended by hand."""
    connection = sqlite3.connect(
        name,
        timeout=1.0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS,
        uri=name.startswith("file:"),
    )
    # Text that is no UTF-8 is damage to be found by its checksum, not an error of the whole read.
    connection.text_factory = lambda octets: str(octets, "utf-8", "surrogateescape")
    return connection


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > SCHEMA:
        raise SpoolError(
            f"{path} was written by a newer mailrelay: its schema is number {found}, this one knows {SCHEMA}; "
            "install the newer one again"
        )
    if found == 0 and connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None:
        raise Damaged("it is another program's database")
    for number in range(found + 1, SCHEMA + 1):
        script = (files("relay.spool") / "schema" / f"sqlite_{number}.sql").read_text()
        connection.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")
