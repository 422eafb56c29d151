"""`python -m benchmarks`: each case with mailrelay and Postfix in turn (A B A B), as root, with Debian's postfix there.

    python -m benchmarks                  every case, two rounds
    python -m benchmarks --rounds 3 persistent distance

Prints a table: what was taken and what arrived per second, CPU per mail, memory, and the ratios of the medians. Every
recipient is counted at the provider; one that is missing is said.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.backlog import Waiting, drained
from benchmarks.distance import Distance
from benchmarks.figures import Figures, enter
from benchmarks.figures import load as begin_load
from benchmarks.peers import SETTINGS, Mailrelay, Peer, Postfix
from benchmarks.shared import Shared
from benchmarks.sink import Sink


@dataclass(frozen=True)
class Case:
    """How smtp-source is told to send, and how far away the provider is."""

    says: str
    mails: int
    size: int = 4096
    sessions: int = 20
    recipients: int = 1
    persistent: bool = True
    delay: float = 0.0
    connections: int = 10
    workers: int = 10
    depths: tuple[int, ...] = (1,)
    backlog: bool = False
    instances: tuple[int, ...] = ()


CASES = {
    "persistent": Case("20 sessions, 4 KiB, persistent", 6000),
    "reconnecting": Case("20 sessions, 4 KiB, a connection a mail", 6000, persistent=False),
    "single": Case("one session, 4 KiB", 2000, sessions=1),
    "recipients": Case("20 sessions, 50 recipients a mail", 3000, recipients=50),
    "megabyte": Case("4 sessions, 1 MiB", 300, size=2**20, sessions=4),
    "large": Case("2 sessions, 20 MiB", 20, size=20 * 2**20, sessions=2),
    "distance": Case("25 ms each way, 10 connections, CHUNKING", 2000, delay=0.025, workers=40, depths=(1, 4)),
    "shared": Case("20 sessions, 4 KiB, a queue in PostgreSQL", 6000, instances=(1, 2)),
    "backlog": Case("20,000 that waited for the provider", 20_000, backlog=True),
}
MILLION = "million"
WAITING = (0, 100_000, 1_000_000)
NEW = 3000
"""Mails that are handed in where others wait."""


def run(case: Case, start: Callable[[Path, int], Peer]) -> Figures:
    """One peer, one case."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))  # not a tmpfs: a sync has to cost what it costs
    folder.chmod(0o755)  # Postfix has users of its own
    if case.backlog:
        try:
            return drained(case.mails, folder, start)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    sink = Sink(chunking=bool(case.delay))
    distance = Distance(sink.port, case.delay) if case.delay else None
    try:
        with closing(start(folder / "peer", distance.port if distance else sink.port)) as peer:
            return measure(case, peer, sink)
    finally:
        if distance:
            distance.close()
        sink.close()
        shutil.rmtree(folder, ignore_errors=True)


def measure(case: Case, peer: Peer, sink: Sink) -> Figures:
    """Load, and the wait for the last recipient to arrive."""
    wanted = case.mails * case.recipients
    before, began = peer.cpu(), time.monotonic()
    ports = peer.ports if isinstance(peer, Shared) else [peer.port]
    loads = [
        begin_load(
            port,
            case.mails // len(ports),
            size=case.size,
            sessions=case.sessions // len(ports),
            recipients=case.recipients,
            persistent=case.persistent,
        )
        for port in ports
    ]
    memory = taken = 0.0
    last, moved = -1, began
    while sink.count < wanted:
        now = time.monotonic()
        if not taken and all(load.poll() is not None for load in loads):
            taken = now - began
        if sink.count != last:
            last, moved = sink.count, now
        if now - moved > 30:
            break
        memory = max(memory, peer.memory())
        time.sleep(0.05)
    arrived = time.monotonic() - began
    for load in loads:
        load.wait(60)
    cpu = peer.cpu() - before
    return Figures(
        case.mails / (taken or arrived),
        case.mails / arrived,
        cpu / case.mails * 1000,
        memory,
        wanted - (sink.count - sink.twice),
        sink.twice,
        sink.cut,
    )


def peers(case: Case) -> dict[str, Callable[[Path, int], Peer]]:
    """Who takes part in a case, by the name in the table."""
    found: dict[str, Callable[[Path, int], Peer]] = {
        "Postfix": lambda folder, port: Postfix(folder, port, connections=case.connections)
    }
    for depth in case.depths:
        name = "mailrelay" if case.depths == (1,) else f"mailrelay, depth {depth}"
        found[name] = lambda folder, port, depth=depth: Mailrelay(  # type: ignore[misc]  # of a lambda with a default
            folder, port, connections=case.connections, workers=case.workers, depth=depth
        )
    for count in case.instances:
        name = f"mailrelay, PostgreSQL, {count} instance{'s' * (count > 1)}"
        found[name] = lambda folder, port, count=count: Shared(  # type: ignore[misc]  # the same
            folder, port, instances=count, connections=case.connections
        )
    return found


def compare(case: Case, rounds: int) -> Iterator[str]:
    """The rows of one case."""
    figures: dict[str, list[Figures]] = {peer: [] for peer in peers(case)}
    for _ in range(rounds):
        for peer, start in peers(case).items():
            figures[peer].append(run(case, start))
    base = statistics.median(each.arrived for each in figures["Postfix"])
    for peer, runs in figures.items():
        arrived = statistics.median(each.arrived for each in runs)
        yield (
            f"| {case.says} | {peer} | {statistics.median(each.taken for each in runs):.0f} | {arrived:.0f} "
            f"| {arrived / base:.2f} | {statistics.median(each.cpu for each in runs):.2f} "
            f"| {max(each.memory for each in runs):.0f} | {sum(each.missing for each in runs)}"
            f", {sum(each.twice for each in runs)}, {sum(each.cut for each in runs)} |"
        )


def wait(rounds: int) -> Iterator[str]:
    """The rows that tell what a long queue costs."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))
    try:
        spools = [Waiting(folder / str(count), count) for count in WAITING]
        for _ in range(rounds):
            for spool in spools:
                spool.run(NEW)
        base = statistics.median(spools[0].taken)
        for spool in spools:
            taken = statistics.median(spool.taken)
            yield (
                f"| {spool.count:,} | mailrelay | {statistics.median(spool.ready):.1f} | {taken:.0f} "
                f"| {taken / base:.2f} | {spool.memory:.0f} |"
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Read the arguments, run, print."""
    names = [*CASES, MILLION]
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(names)}; all of them")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="put the rows into docs/performance.md as well")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(names):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    print(f"{platform.platform()}, Python {platform.python_version()}")
    print("Postfix:", ", ".join(f"{name}={value}" for name, value in SETTINGS.items()), "\n", flush=True)
    for name in arguments.cases or names:
        if name == MILLION:
            print("\n| waiting | peer | ready after, s | taken/s | ratio | MiB |\n|---|---|---|---|---|---|")
            rows = wait(arguments.rounds)
        else:
            if name == (arguments.cases or names)[0]:
                print("| case | peer | taken/s | arrived/s | ratio | CPU ms a mail | MiB | lost, twice, cut |")
                print("|---|---|---|---|---|---|---|---|")
            rows = compare(CASES[name], arguments.rounds)
        for row in rows:
            print(row, flush=True)
            if arguments.write:
                enter(row)


if __name__ == "__main__":
    main()
