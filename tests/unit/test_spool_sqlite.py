"""SQLite as the spool."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.spool.sqlite import SqliteSpool, open_spool
from tests.contract.pump import Pump
from tests.contract.spool_contract import Bench, SpoolContract


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A folder for one spool."""

    def start(pump: Pump, now: Callable[[], float], place: int) -> SqliteSpool:
        return open_spool(
            tmp_path / str(place), reactor=pump, now=now, random_bits=random.Random(1).getrandbits, min_free=0
        )

    bench = Bench(start)
    yield bench
    bench.close()


class TestSqlite(SpoolContract):
    """The contract."""
