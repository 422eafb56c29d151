"""What a session with PostgreSQL cannot know by itself: what others have made, that it has ended, what a COMMIT did."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from relay.config.secret import Secret
from relay.spool.postgresql import PostgresqlSpool, open_spool, schema
from relay.spool.postgresql.server import Connection, Server
from relay.spool.spool import Settlement, SpoolFailing
from tests.contract.pump import Pump
from tests.contract.spool_contract import Bench
from tests.cutting import Cutting
from tests.daemon import PATIENCE
from tests.running import soon


@pytest.fixture
def cutting(dsn: str) -> Iterator[Cutting]:
    """A proxy before the server of that database."""
    with Cutting(int(dsn.partition("port=")[2].split()[0])) as cutting:
        yield cutting


@pytest.fixture
def bench(tmp_path: Path, dsn: str, cutting: Cutting) -> Iterator[Bench]:
    """A spool that speaks to it."""
    port = dsn.partition("port=")[2].split()[0]
    there = Secret(dsn.replace(f"port={port}", f"port={cutting.port}") + " sslmode=disable gssencmode=disable")
    bits = random.SystemRandom().getrandbits
    bench = Bench(lambda pump, now, _: open_spool(there, tmp_path, name="a", reactor=pump, now=now, random_bits=bits))
    bench.open()
    yield bench
    bench.close()


def spool_of(bench: Bench) -> PostgresqlSpool:
    """The spool that is in use."""
    assert isinstance(bench.spool, PostgresqlSpool)
    return bench.spool


def test_tables_that_another_one_has_made_meanwhile(dsn: str) -> None:
    """Who has seen that there are none, and waits to make them, sees then that they are there."""
    server = Server(Secret(dsn), "a")
    wrong: list[BaseException] = []

    def ensure(connection: Connection) -> None:
        try:
            schema.ensure(connection)
        except BaseException as error:
            wrong.append(error)

    with psycopg.connect(dsn, autocommit=True) as first, server.connect() as second, server.connect() as third:
        waiting = [threading.Thread(target=ensure, args=(each,)) for each in (second, third)]
        first.execute("SELECT pg_advisory_lock(%s)", (schema.LOCK,))
        for each in waiting:
            each.start()
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        soon(lambda: first.execute(locks).fetchone() == (2,), "both wait")
        first.execute("SELECT pg_advisory_unlock(%s)", (schema.LOCK,))
        for each in waiting:
            each.join(PATIENCE)

    assert wrong == []


def test_a_session_that_the_server_has_ended(bench: Bench, dsn: str) -> None:
    """The next question is asked by a new one."""
    submission = bench.submit()
    assert bench.find(submission) is not None
    others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(dsn, autocommit=True) as other:
        before = set(other.execute(others).fetchall())
        assert before
        other.execute(f"SELECT pg_terminate_backend(pid) FROM ({others}) AS t")
        soon(lambda: not before & set(other.execute(others).fetchall()), "they have ended")

    assert bench.find(submission) is not None


@pytest.mark.parametrize("room", [0, 1])
def test_a_report_in_a_commit_that_was_not_answered(bench: Bench, cutting: Cutting, dsn: str, room: int) -> None:
    """Whose it is says that commit, not how many workers are free when the same is asked for again."""
    spool, pump = spool_of(bench), bench.pump
    while True:
        spool.room = lambda: 1
        mail, report = bench.submit(), bench.mail(sender="")
        settlement = Settlement(mail.envelope.key, mail.envelope.uuid, (), (report,), finished=True, turn=1)
        spool.room = lambda: 1 - room
        cutting.aim()
        try:
            pump.wait(spool.settle(settlement))
        except SpoolFailing:
            break  # else it was another commit that was cut: a sign of life
    spool.room = lambda: room
    _again(spool, pump, settlement)

    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT owner IS NOT NULL, generation FROM mail WHERE key = %s", (report.envelope.key,)
        ).fetchone()
    assert row is not None
    assert spool.has(report.envelope.key) == row[0]
    assert spool.promised == 0


def _again(spool: PostgresqlSpool, pump: Pump, settlement: Settlement) -> None:
    """Ask for it until it is done."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(SpoolFailing):
            pump.wait(spool.settle(settlement))
            return
    raise AssertionError("it was never written")
