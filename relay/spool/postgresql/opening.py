"""Opening: from a DSN to a spool that is ready."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg

from relay.config.secret import Secret
from relay.spool.background import FromThreads
from relay.spool.postgresql import process, schema
from relay.spool.postgresql.pulse import enter
from relay.spool.postgresql.server import Connection, Server, trouble
from relay.spool.postgresql.spool import PostgresqlSpool
from relay.spool.spool import SpoolError, SpoolFailing

START = 10.0
"""Seconds for which a start waits for the server to be there."""


def _nobody(*_: object) -> None:
    """Who is told where nobody listens."""


def open_spool(
    dsn: Secret,
    directory: Path,
    *,
    name: str,
    reactor: FromThreads,
    now: Callable[[], float],
    random_bits: Callable[[int], int],
    committed: Callable[[int, float], None] = _nobody,
) -> PostgresqlSpool:
    """The queue in the database that `dsn` names, its tables made if need be. Waits for the server, at most START.

    directory  where the control socket is; made if it is not there
    name       of this process, as the others call it
    now        seconds on the caller's scale; called in any thread
    committed  told of each commit: how many writes, and how many seconds it took

    Raises SpoolError: it cannot be reached, is not to be trusted, or has a newer schema.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise SpoolError(f"the spool directory {directory} cannot be used: {error}") from error
    server = Server(dsn, name)
    sessions = [_reach(server)]
    try:
        schema.ensure(sessions[0])
        sessions.append(server.connect())
        id_ = random_bits(62)
        enter(sessions[1], id_)
        member = process.register(sessions[0], id_, name)
        held = process.unmark(sessions[0])
        writing, pulsing = sessions
        spool = PostgresqlSpool(server, writing, pulsing, member, directory, name, reactor, now, random_bits, committed)
        spool.left_held = held
        return spool
    except (psycopg.Error, SpoolError) as error:
        for session in sessions:
            with suppress(psycopg.Error):
                session.close()
        if isinstance(error, psycopg.Error):
            raise trouble(error, "the spool cannot be opened") from error
        raise


def _reach(server: Server) -> Connection:
    until = time.monotonic() + START
    while True:
        try:
            return server.connect()
        except SpoolFailing:
            if time.monotonic() >= until:
                raise
            time.sleep(0.5)
