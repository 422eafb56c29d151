"""PostgreSQL as the spool: the contract."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.config.secret import Secret
from relay.spool.postgresql import PostgresqlSpool, open_spool
from tests.contract.pump import Pump
from tests.contract.spool_contract import Bench, SpoolContract
from tests.postgres import Servers


@pytest.fixture
def bench(tmp_path: Path, dsn: str, postgresql_servers: Servers, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A database for each place of one spool."""
    server = postgresql_servers[request.node.callspec.params["dsn"]]
    databases = {0: dsn}

    def start(pump: Pump, now: Callable[[], float], place: int) -> PostgresqlSpool:
        if place not in databases:
            databases[place] = server.new()
        return open_spool(
            Secret(databases[place]),
            tmp_path,
            name="a",
            reactor=pump,
            now=now,
            random_bits=random.SystemRandom().getrandbits,
        )

    bench = Bench(start)
    yield bench
    bench.close()


class TestPostgresql(SpoolContract):
    """The contract."""
