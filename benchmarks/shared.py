"""Shared: instances of mailrelay whose queue is in a PostgreSQL of their own, on the disk.

python -m benchmarks.shared waiting [MAILS]    what MAILS (100,000) that wait cost: memory, new mail, a claim
python -m benchmarks.shared churn [SECONDS]    tables and dead rows while mail comes and goes, for SECONDS (3600)
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.figures import load
from benchmarks.peers import Mailrelay, children, free_port, resident
from benchmarks.sink import Sink
from relay.config.secret import Secret
from relay.spool.postgresql.server import Server
from relay.spool.postgresql.statements import CLAIM
from tests.postgres import DISK, Postgres, build

NEW, ROUNDS = 3000, 5
RATE = 100
"""Mails a second, while they come and go."""

_TABLES = (
    "SELECT relname, pg_total_relation_size(relid), n_live_tup, n_dead_tup, autovacuum_count "
    "FROM pg_stat_user_tables ORDER BY relname"
)


class Shared:
    """See Peer; `ports` are where the instances take mail."""

    name = "mailrelay, PostgreSQL"

    def __init__(self, folder: Path, provider: int, *, instances: int = 1, connections: int = 20) -> None:
        self.server = Postgres(build("pip"), {"shared_buffers": "128MB", "max_connections": "100"}, DISK)
        self.server.__enter__()
        self.dsn = self.server.new()
        self._instances: list[Mailrelay] = []
        try:
            for number in range(instances):
                self.start(folder / str(number), provider, connections)
        except BaseException:
            self.close()
            raise

    def start(self, folder: Path, provider: int, connections: int, dsn: str = "") -> Mailrelay:
        """One more instance, or one with another queue."""
        instance = Mailrelay(folder, provider, connections=connections, dsn=dsn or self.dsn)
        if dsn:
            return instance
        self._instances.append(instance)
        return instance

    @property
    def ports(self) -> Sequence[int]:
        """Where each takes mail."""
        return [each.port for each in self._instances]

    @property
    def port(self) -> int:
        """Where the first one does."""
        return self.ports[0]

    def processes(self) -> list[int]:
        """See Peer: those of the server among them."""
        return [
            self.server.pid,
            *children(self.server.pid),
            *(pid for each in self._instances for pid in each.processes()),
        ]

    def memory(self) -> float:
        """See Peer."""
        return sum(map(resident, self.processes()))

    def highest(self) -> float:
        """MiB that were resident at most so far in one of the instances."""
        return max(each.highest() for each in self._instances)

    def settle(self) -> None:
        """See Peer."""

    def retry(self) -> None:
        """See Peer."""
        for each in self._instances:
            each.retry()

    def close(self) -> None:
        """See Peer."""
        for each in self._instances:
            each.close()
        self.server.__exit__(None, None, None)


def rate(port: int, mails: int) -> float:
    """Mails taken a second."""
    began = time.monotonic()
    load(port, mails).wait()
    return mails / (time.monotonic() - began)


def claims(dsn: str, times: int) -> tuple[str, float, float]:
    """The plan of a claim of ten, with its buffers; the median and the longest of some, in milliseconds."""
    said: list[float] = []
    plan = ""
    with Server(Secret(dsn), "bench").connect() as connection:
        for _ in range(times):
            with connection.transaction(force_rollback=True):
                now = time.time()
                values: Any = (now, "{}", 1, now, True, 0.0, "{}", 5, "{}", 10, 1)
                rows = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS) {CLAIM}", values).fetchall()
            plan = "\n".join(row[0] for row in rows)
            said.append(
                sum(float(row[0].split()[2]) for row in rows if row[0].startswith(("Planning T", "Execution T")))
            )
    return plan, statistics.median(said), max(said)


def waiting(mails: int) -> None:
    """What so many that wait cost."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=DISK))
    port = free_port()
    try:
        with closing(Shared(folder, port)) as peer:
            filled = rate(peer.port, mails)
            print(f"taken until {mails:,} wait: {filled:.0f}/s, {peer.highest():.0f} MiB at most", flush=True)
            full = peer.start(folder / "full", port, 10)
            print(f"an instance that starts then: ready after {full.ready:.1f} s", flush=True)
            none, many = [], []
            for number in range(ROUNDS):
                with closing(peer.start(folder / f"none-{number}", port, 10, peer.server.new())) as empty:
                    none.append(rate(empty.port, NEW))
                    many.append(rate(full.port, NEW))
            base, with_many = statistics.median(none), statistics.median(many)
            print(f"taken with none: {base:.0f}/s ({_each(none)})")
            print(f"taken with {mails:,}: {with_many:.0f}/s ({_each(many)}), {with_many / base:.2f} of that, ", end="")
            print(f"{peer.highest():.0f} MiB at most", flush=True)
            plan, median, longest = claims(peer.dsn, 100)
            print(f"a claim of ten: {median:.2f} ms, the longest of 100 {longest:.2f} ms\n\n{plan}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _each(rates: list[float]) -> str:
    return ", ".join(f"{rate:.0f}" for rate in rates)


def churn(seconds: float) -> None:
    """Sizes while mail comes and goes."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=DISK))
    sink = Sink()
    try:
        with closing(Shared(folder, sink.port, instances=2)) as peer:
            began, handed, told = time.monotonic(), 0, 0.0
            while (now := time.monotonic() - began) < seconds:
                if now >= told:
                    told += 60
                    print(f"{now:6.0f} s, {handed:,} mails, {sink.count:,} arrived: {sizes(peer.dsn)}", flush=True)
                for port in peer.ports:
                    load(port, 5 * RATE, sessions=5).wait()
                handed += 10 * RATE
                time.sleep(max(0.0, handed / RATE - (time.monotonic() - began)))
            sink.wait(handed, 60)
            print(f"in the end, {handed:,} mails, {sink.count:,} arrived: {sizes(peer.dsn)}", flush=True)
    finally:
        sink.close()
        shutil.rmtree(folder, ignore_errors=True)


def sizes(dsn: str) -> str:
    """Each table with its indexes, and how many of its rows are there and dead."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        rows = connection.execute(_TABLES).fetchall()
    return ", ".join(
        f"{name} {size / 2**20:.1f} MiB ({live} + {dead} dead, vacuumed {times})"
        for name, size, live, dead, times in rows
    )


if __name__ == "__main__":
    what, *more = sys.argv[1:]
    run, usual = {"waiting": (waiting, 100_000), "churn": (churn, 3600)}[what]
    run(int(more[0]) if more else usual)
