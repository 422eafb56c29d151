# ruff: noqa: S608  only numbers are put together here
"""Process: who uses the queue. Registration, signs of life, the end of one, and what becomes of its mail."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import errors

from relay.spool.postgresql.schema import ALERTS, LOCK
from relay.spool.postgresql.server import Connection
from relay.spool.postgresql.statements import FIRST
from relay.spool.spool import LEFT_UNDER_WAY, UNDER_WAY, SpoolFailing

LEASE = 30
"""Seconds after its last sign of life until which a process has its mail."""

SILENT = 3
"""Seconds without one after which a process whose session lock is free is gone."""

SOON = 60
"""Seconds from a mail's lease to the end of its process within which that end speaks against the mail."""

SLOTS = 1024
"""Processes at once, at most: the steps of their keys."""

_REGISTER = (
    "INSERT INTO process (id, slot, name, beat_at, until) SELECT %s, free, %s, clock_timestamp(), "
    f"clock_timestamp() + interval '{LEASE} s' FROM generate_series(0, {SLOTS - 1}) AS free "
    "WHERE NOT EXISTS (SELECT 1 FROM process WHERE slot = free) ORDER BY free LIMIT 1 RETURNING slot"
)
_BEAT = (
    f"UPDATE process SET beat_at = clock_timestamp(), until = clock_timestamp() + interval '{LEASE} s', "
    "delivered_at = clock_timestamp() - %s * interval '1 s', ready = %s, active = %s, deferred = %s, held = %s "
    "WHERE id = %s RETURNING 1"
)
_SILENT = (
    "SELECT id, name, until < clock_timestamp() FROM process "
    f"WHERE id <> %s AND beat_at < clock_timestamp() - interval '{SILENT} s'"
)
_BURY = (
    f"DELETE FROM process WHERE id = %s AND (%s OR beat_at < clock_timestamp() - interval '{SILENT} s') "
    "RETURNING beat_at"
)
_INHERIT = (
    "WITH t AS (DELETE FROM tally WHERE process = %s RETURNING ready, deferred, held) "
    "UPDATE tally SET ready = tally.ready + t.ready, deferred = tally.deferred + t.deferred, "
    "held = tally.held + t.held FROM t WHERE process = 0"
)
_FREE = (
    f"UPDATE mail SET owner = NULL, generation = generation + 1, due = CASE WHEN due = 0 THEN {FIRST} ELSE due END, "
    "crashes = CASE WHEN %s AND "
    f"taken_at > %s::timestamptz - interval '{SOON} s' THEN crashes + 1 ELSE crashes END WHERE owner = %s"
)
_UNMARK = (
    "UPDATE recipient SET reply = %s WHERE state = 2 AND reply = %s AND mail IN "
    "(SELECT key FROM mail WHERE key = mail AND owner IS NULL) "
    "RETURNING (SELECT uuid FROM mail WHERE key = mail), address"
)
_CUT_OFF = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND "
    "(classid::bigint << 32 | objid::bigint) = %s"
)
_DROP_PIECES = "DELETE FROM piece WHERE body IN (SELECT body FROM upload WHERE process = %s)"
_DROP_UPLOADS = "DELETE FROM upload WHERE process = %s"


@dataclass(frozen=True, slots=True)
class Member:
    """A process as the others know it: a random id, and the slot that its keys carry."""

    id: int
    slot: int


@dataclass(frozen=True, slots=True)
class Silent:
    """A process that has not said for SILENT seconds that it lives. `expired`: its lease ran out."""

    id: int
    name: str
    expired: bool


@dataclass(frozen=True, slots=True)
class Freed:
    """What was a process's: how many mails, and the id and recipient of each final dot that was under way."""

    mails: int
    held: tuple[tuple[str, str], ...] = ()


def register(connection: Connection, id_: int, name: str) -> Member:
    """Become one of them. Raises psycopg.Error, SpoolFailing."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        row = connection.execute(_REGISTER, (id_, name)).fetchone()
        if row is None:
            raise SpoolFailing(f"{SLOTS} processes use this queue already")
        connection.execute("INSERT INTO tally (process) VALUES (%s)", (id_,))
    return Member(id_, int(row[0]))


def beat(connection: Connection, id_: int, idle: float | None, shown: tuple[int, int, int, int]) -> bool:
    """Say that it lives, and how what it shows differs from what is written; whether it is still one of them.

    idle  seconds since it last delivered a mail; None: it never did
    """
    return connection.execute(_BEAT, (idle, *shown, id_)).fetchone() is not None


def lead(connection: Connection) -> bool:
    """Be the one process that tells of the queue's alerts, or find that another one is."""
    return lock(connection, ALERTS) is not False


def silent(connection: Connection, me: int) -> list[Silent]:
    """Who has said nothing for too long."""
    return [Silent(*row) for row in connection.execute(_SILENT, (me,)).fetchall()]


def bury(connection: Connection, id_: int, *, crashed: bool) -> Freed | None:
    """End a process, the own one or one that is gone, in one commit; what is free by that.

    None where it was not to be ended: another one has done that, or it has spoken meanwhile. Raises psycopg.Error.
    """
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '2s'")
        row = connection.execute(_BURY, (id_, not crashed)).fetchone()
        if row is None:
            return None
        connection.execute(_INHERIT, (id_,))
        freed = connection.execute(_FREE, (crashed, row[0], id_)).rowcount
        held = unmark(connection)
        connection.execute(_DROP_PIECES, (id_,))
        connection.execute(_DROP_UPLOADS, (id_,))
    return Freed(freed, held)


def unmark(connection: Connection) -> tuple[tuple[str, str], ...]:
    """What is HELD for a dot that was under way, and nobody has, is uncertain from now on; as in Freed."""
    return tuple([(uuid, address) for uuid, address in connection.execute(_UNMARK, (LEFT_UNDER_WAY, UNDER_WAY))])


def lock(connection: Connection, id_: int) -> bool | None:
    """Hold the session lock of that name, or find that another one does. None: the server has no such locks."""
    try:
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (id_,)).fetchone()
    except (errors.UndefinedFunction, errors.FeatureNotSupported):
        return None
    return bool(row and row[0])


def unlock(connection: Connection, id_: int) -> None:
    """Let go of it."""
    connection.execute("SELECT pg_advisory_unlock(%s)", (id_,))


def cut_off(connection: Connection, id_: int) -> None:
    """End the session of one that is gone and frozen: with it goes whatever it held, the lock of alerts too."""
    with suppress(psycopg.Error):  # a server that has no such locks
        connection.execute(_CUT_OFF, (id_,))


def clock(connection: Connection) -> float:
    """The server's time, in seconds since the epoch."""
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::double precision").fetchone()
    assert row is not None
    return float(row[0])
