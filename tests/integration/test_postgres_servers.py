"""The servers of PostgreSQL that tests run: a crash, a standby, a promotion."""

from __future__ import annotations

import psycopg
import pytest

from tests.postgres import Postgres, build

BUILDS = ["pip", pytest.param("debian", marks=pytest.mark.needs("pg_ctl"))]


def test_a_new_database(dsn: str) -> None:
    """It is empty, and its commits are durable."""
    with psycopg.connect(dsn) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        syncs = connection.execute("SELECT current_setting('fsync'), current_setting('synchronous_commit')").fetchone()

    assert (tables, syncs) == ((0,), ("on", "on"))


@pytest.mark.parametrize("name", BUILDS)
def test_a_standby_takes_over(name: str) -> None:
    """What was committed is there after a crash of the primary, and on its standby once that is promoted."""
    with Postgres(build(name)) as primary:
        primary.ask("CREATE TABLE said (word text)")
        primary.restart("immediate")
        with primary.standby() as standby:
            primary.synchronous()
            primary.ask("INSERT INTO said VALUES ('yes')")
            primary.kill()
            standby.promote()
            standby.ask("INSERT INTO said VALUES ('again')")

            assert standby.ask("SELECT word FROM said ORDER BY word") == [("again",), ("yes",)]
