"""Cases: what is handed in, how far away the provider is, and the rows that it comes to for each peer."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.backlog import drained
from benchmarks.figures import Figures, Highest, load, row
from benchmarks.group import Group
from benchmarks.peers import Mailrelay, Peer, Postfix
from benchmarks.shared import Shared
from benchmarks.sink import Sink
from benchmarks.stage import Start, folder, stage
from benchmarks.syncs import SYNCS, traced

PATIENCE = 30.0
"""Seconds without an arrival after which what is missing is not coming any more."""


@dataclass(frozen=True)
class Case:
    """How smtp-source is told to send, and how far away the provider is; `traced` mails are sent under strace.

    workers  of mailrelay; 0: as many as connections
    """

    says: str
    mails: int
    size: int = 4096
    sessions: int = 20
    recipients: int = 1
    persistent: bool = True
    delay: float = 0.0
    connections: int = 20
    workers: int = 0
    depths: tuple[int, ...] = (1,)
    backlog: bool = False
    instances: tuple[int, ...] = ()
    traced: int = 500


CASES = {
    "persistent": Case("20 sessions, 4 KiB, persistent", 6000),
    "reconnecting": Case("20 sessions, 4 KiB, a connection a mail", 6000, persistent=False),
    "single": Case("one session, 4 KiB", 2000, sessions=1),
    "recipients": Case("20 sessions, 50 recipients a mail", 3000, recipients=50, traced=100),
    "megabyte": Case("4 sessions, 1 MiB", 300, size=2**20, sessions=4, traced=50),
    "large": Case("2 sessions, 20 MiB", 40, size=20 * 2**20, sessions=2, traced=6),
    "distance": Case(
        "25 ms each way, 10 connections, CHUNKING", 2000, delay=0.025, connections=10, workers=40, depths=(1, 4)
    ),
    "shared": Case("20 sessions, 4 KiB, a queue in PostgreSQL", 6000, instances=(1, 2)),
    "backlog": Case("20,000 that waited for the provider", 20_000, backlog=True),
}


def peers(case: Case) -> dict[str, Start]:
    """Who takes part in a case, by the name in the table."""
    found: dict[str, Start] = {"Postfix": partial(Postfix, connections=case.connections)}
    for depth in case.depths:
        found["mailrelay" if case.depths == (1,) else f"mailrelay, depth {depth}"] = partial(
            Mailrelay, connections=case.connections, workers=case.workers, depth=depth
        )
    for count in case.instances:
        found[f"mailrelay, PostgreSQL, {count} instance{'s' * (count > 1)}"] = partial(
            Shared, instances=count, connections=case.connections
        )
    return found


def rows(case: Case, rounds: int, commit: str) -> Iterator[str]:
    """The rows of one case: every peer in turn, so many times, then once more under strace."""
    starts = peers(case)
    figures: dict[str, list[Figures]] = {peer: [] for peer in starts}
    for _ in range(rounds):
        for peer, start in starts.items():
            figures[peer].append(run(case, start))
    for peer, start in starts.items():
        yield row(case.says, peer, figures[peer], figures["Postfix"], syncs(case, start), commit)


def run(case: Case, start: Start) -> Figures:
    """One peer, one case."""
    if case.backlog:
        with folder() as place:
            return drained(case.mails, place, start)
    with ExitStack() as later, stage(start, delay=case.delay, chunking=bool(case.delay)) as (peer, sink):
        return measure(case, peer, later.enter_context(closing(Group(peer))), sink)


def measure(case: Case, peer: Peer, group: Group, sink: Sink) -> Figures:
    """Load, and the wait for the last recipient to arrive."""
    wanted = case.mails * case.recipients
    highest = Highest(peer)
    before, began = group.cpu(), time.monotonic()
    loads = begin(case, peer.ports)
    taken, last, moved = 0.0, -1, began
    while sink.count < wanted and (now := time.monotonic()) - moved < PATIENCE:
        if not taken and all(load.poll() is not None for load in loads):
            taken = now - began
        if sink.count != last:
            last, moved = sink.count, now
        highest.look()
        time.sleep(0.01)
    arrived = time.monotonic() - began
    cpu = group.cpu() - before
    for each in loads:
        each.wait(60)
    missing = wanted - (sink.count - sink.twice)
    return Figures(
        case.mails / (taken or arrived),
        case.mails / arrived,
        cpu / case.mails * 1000,
        highest.memory,
        highest.idle,
        missing,
        sink.twice,
        sink.cut,
    )


def begin(case: Case, ports: Sequence[int]) -> list[subprocess.Popen[bytes]]:
    """What smtp-source hands in, an equal part of it at each port."""
    return [
        load(
            port,
            case.mails // len(ports),
            size=case.size,
            sessions=max(case.sessions // len(ports), 1),
            recipients=case.recipients,
            persistent=case.persistent,
        )
        for port in ports
    ]


def syncs(case: Case, start: Start) -> float:
    """Syncs a mail, all of them, until all has arrived; where mail waits for the provider, until it was taken."""
    few = replace(case, mails=case.traced)
    with stage(start, delay=case.delay, chunking=bool(case.delay)) as (peer, sink):
        if case.backlog:
            sink.close()
        with traced(peer, SYNCS) as calls:
            for each in begin(few, peer.ports):
                each.wait()
            if not case.backlog:
                sink.wait(few.mails * few.recipients, PATIENCE)
    return sum(calls.values()) / few.mails
