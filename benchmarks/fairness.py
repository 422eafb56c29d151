"""Fairness: how long one mail takes, while others are on their way.

From the final dot to its 250, and from there to the provider's 250: at half of the rate that a peer can carry, while a
backlog drains, and while a mail to a thousand recipients goes out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing

from benchmarks.backlog import Drain
from benchmarks.figures import load
from benchmarks.pace import Sent, paced, single
from benchmarks.peers import Peer, free_port
from benchmarks.sink import Sink
from benchmarks.stage import BOTH, Start, folder, stage

MOST = 100_000
"""Numbers for mails."""

FULL = 10_000
"""Mails by which the rate is found that a peer can carry."""

SECONDS = 20.0
TRICKLE = 50.0
"""Mails a second while a backlog drains."""

BULK = 1000
BACKLOG = 100_000

PATIENCE = 120.0
HEAD = (
    "| case | peer | mails | a second | dot to 250, ms: p50 | p99 | p99.9 "
    "| to the provider's 250, ms: p50 | p99 | p99.9 | commit |"
)


def percentiles(seconds: Sequence[float]) -> str:
    """The median, 99 and 99.9 of a hundred, in milliseconds."""
    if not seconds:
        return "- | - | -"
    ordered = sorted(seconds)
    return " | ".join(
        f"{ordered[min(int(len(ordered) * part), len(ordered) - 1)] * 1000:.1f}" for part in (0.5, 0.99, 0.999)
    )


def told(what: str, name: str, sent: Sequence[Sent], rate: float, sink: Sink) -> str:
    """The row of one case, once all of it has arrived."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and not all(sink.arrived(each.number) for each in sent):
        time.sleep(0.05)
    taken = percentiles([each.taken - each.dot for each in sent])
    there = percentiles([sink.arrived(each.number) - each.taken for each in sent if sink.arrived(each.number)])
    return f"| {what} | {name} | {len(sent)} | {rate:.0f} | {taken} | {there} |"


def at_half(name: str, peer: Peer, sink: Sink) -> str:
    """At half of the rate at which mail goes through it when there is always more."""
    began = time.monotonic()
    load(peer.port, FULL).wait()
    sink.wait(FULL, PATIENCE)
    rate = FULL / (time.monotonic() - began) / 2
    sent = paced(peer.port, range(min(int(rate * SECONDS), MOST)), rate)
    return told("at half of the maximum rate", name, sent, rate, sink)


def in_bulk(name: str, peer: Peer, sink: Sink) -> str:
    """Single mails, five hundred at most, from the moment that one to BULK recipients was taken until it is out."""
    single(peer.port, 0, BULK)
    sent = paced(peer.port, range(1, 501), TRICKLE, lambda: sink.count < BULK)
    return told(f"while one goes to {BULK:,} recipients", name, sent, TRICKLE, sink)


def behind(name: str, start: Start) -> str:
    """While what has waited for the provider drains."""
    port = free_port()
    with folder() as place, closing(start(place / "peer", port)) as peer:
        load(peer.port, BACKLOG).wait()
        peer.settle()
        with closing(Sink(port=port, numbers=MOST)) as sink:
            drain = Drain(peer, sink, BACKLOG, TRICKLE)
            sink.wait(1, PATIENCE)
            sent = paced(peer.port, range(MOST), TRICKLE, drain.going)
            return told(f"while {BACKLOG:,} that have waited drain", name, sent, TRICKLE, sink)


def rows(commit: str) -> Iterator[str]:
    """Each case, each peer."""
    for case in (at_half, in_bulk):
        for name, start in BOTH.items():
            with stage(start, numbers=MOST) as (peer, sink):
                yield f"{case(name, peer, sink)} {commit} |"
    for name, start in BOTH.items():
        yield f"{behind(name, start)} {commit} |"
