"""PostgreSQL as the spool: the contract."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from relay.config.secret import Secret
from relay.spool.postgresql import PostgresqlSpool, open_spool
from tests.contract.pump import Pump
from tests.contract.spool_contract import Bench, SpoolContract

DSN = "host=127.0.0.1 port=54329 user=postgres"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A database for one spool."""
    made: set[str] = set()

    def start(pump: Pump, now: Callable[[], float], place: int) -> PostgresqlSpool:
        name = f"t{abs(hash(tmp_path)) % 10**9}_{place}"
        if name not in made:
            with psycopg.connect(DSN, autocommit=True) as connection:
                connection.execute(f"DROP DATABASE IF EXISTS {name}")
                connection.execute(f"CREATE DATABASE {name}")
            made.add(name)
        return open_spool(
            Secret(f"{DSN} dbname={name}"),
            tmp_path,
            name="a",
            reactor=pump,
            now=now,
            random_bits=random.SystemRandom().getrandbits,
        )

    bench = Bench(start)
    yield bench
    bench.close()
    with psycopg.connect(DSN, autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


class TestPostgresql(SpoolContract):
    """The contract."""
