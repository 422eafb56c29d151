"""`python -m benchmarks.fairness`: how long one mail takes, while others are on their way. As root.

From the final dot to its 250, and from there to the provider's 250, at half of the rate that is taken at most, and
while a backlog drains; and a single mail while another one goes out to a thousand recipients.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.figures import load
from benchmarks.pace import Sent, paced, single
from benchmarks.peers import Mailrelay, Peer, Postfix, free_port
from benchmarks.sink import Sink

MOST = 100_000
"""Numbers for mails."""

SECONDS = 10.0
TRICKLE = 20.0
"""Mails a second while a backlog drains."""

BULK = 1000
PATIENCE = 120.0


def percentiles(seconds: Sequence[float]) -> str:
    """The median, 99 and 99.9 of a hundred, in milliseconds."""
    if not seconds:
        return "- | - | -"
    ordered = sorted(seconds)
    return " | ".join(
        f"{ordered[min(int(len(ordered) * part), len(ordered) - 1)] * 1000:.1f}" for part in (0.5, 0.99, 0.999)
    )


def told(what: str, name: str, sent: Sequence[Sent], sink: Sink) -> str:
    """The row of one case, once all of it has arrived."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and not all(sink.arrived(each.number) for each in sent):
        time.sleep(0.05)
    taken = percentiles([each.taken - each.dot for each in sent])
    there = percentiles([sink.arrived(each.number) - each.taken for each in sent if sink.arrived(each.number)])
    return f"| {what} | {name} | {len(sent)} | {taken} | {there} |"


def await_count(sink: Sink, count: int) -> None:
    """Wait until so many recipients have arrived."""
    end = time.monotonic() + PATIENCE
    while sink.count < count and time.monotonic() < end:
        time.sleep(0.05)


def at_half(name: str, peer: Peer, sink: Sink) -> str:
    """At half of the rate at which it takes mail."""
    began = time.monotonic()
    load(peer.port, 3000, size=4096, sessions=20).wait()
    rate = 3000 / (time.monotonic() - began) / 2
    await_count(sink, 3000)
    return told(
        f"at {rate:.0f}/s, half of what is taken", name, paced(peer.port, range(int(rate * SECONDS)), rate), sink
    )


def in_bulk(name: str, peer: Peer, sink: Sink) -> str:
    """While a mail to BULK recipients goes out."""
    single(peer.port, 0, BULK)
    time.sleep(0.5)
    return told(f"a single mail, while one goes to {BULK:,} recipients", name, [single(peer.port, 1)], sink)


def behind(backlog: int, name: str, start: Callable[[Path, int], Peer], folder: Path) -> str:
    """While what has waited for the provider drains."""
    port = free_port()
    with closing(start(folder, port)) as peer:
        load(peer.port, backlog, size=4096, sessions=20).wait()
        sink = Sink(port=port, numbers=MOST)
        try:
            peer.retry()
            await_count(sink, 1)
            sent = paced(peer.port, range(MOST), TRICKLE, lambda: sink.count < backlog)
            return told(f"while {backlog:,} that have waited drain", name, sent, sink)
        finally:
            sink.close()


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(prog="benchmarks.fairness", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backlog", type=int, default=20_000)
    arguments = parser.parse_args()
    peers: dict[str, Callable[[Path, int], Peer]] = {
        "Postfix": lambda folder, port: Postfix(folder, port, connections=10),
        "mailrelay": lambda folder, port: Mailrelay(folder, port, connections=10),
    }
    print("| case | peer | mails | dot to 250, ms: p50 | p99 | p99.9 | to the provider's 250, ms: p50 | p99 | p99.9 |")
    print("|---|---|---|---|---|---|---|---|---|")
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        for number, case in enumerate((at_half, in_bulk)):
            for name, start in peers.items():
                sink = Sink(numbers=MOST)
                try:
                    with closing(start(folder / f"{name}{number}", sink.port)) as peer:
                        print(case(name, peer, sink), flush=True)
                finally:
                    sink.close()
        for name, start in peers.items():
            print(behind(arguments.backlog, name, start, folder / f"{name}-backlog"), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
