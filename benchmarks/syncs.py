"""Syncs: how often each peer syncs for a mail and what else it asks the kernel for, by strace.

It slows what it looks at, so groups are larger than they are without it; with one session each mail has its own.
"""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.figures import load
from benchmarks.group import Processes
from benchmarks.pace import Sent, in_turn
from benchmarks.peers import Peer
from benchmarks.sink import Sink
from benchmarks.stage import BOTH, stage

MAILS = 500
SESSIONS = (1, 20)
HEAD = "| sessions | peer | syncs a mail | between its dot and its 250: least | mean | system calls a mail | commit |"
SYNCS = ("fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync")
_COUNTED = re.compile(r"^\s*[0-9.]+\s+[0-9.]+\s+[0-9]+\s+([0-9]+)\s+(?:[0-9]+\s+)?(\w+)$", re.MULTILINE)
_DONE = re.compile(r"^[0-9]+ +([0-9.]+) (<\.\.\. )?\w+.* = 0 <([0-9.]+)>$", re.MULTILINE)


@contextmanager
def _attached(peer: Processes, *options: str) -> Iterator[list[str]]:
    """What strace has said, once the block has ended."""
    said: list[str] = []
    with tempfile.NamedTemporaryFile("r", dir="/var/tmp") as table:
        strace = subprocess.Popen(
            ["strace", "-f", *options, "-o", table.name, *(f"-p{pid}" for pid in peer.processes())],
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(1.0)
            yield said
        finally:
            strace.send_signal(signal.SIGINT)
            strace.wait()
        said.append(table.read())


@contextmanager
def traced(peer: Processes, names: Sequence[str] = ()) -> Iterator[dict[str, int]]:
    """How often each system call (or those of these names) was made within the block, known behind it."""
    calls: dict[str, int] = {}
    only = [f"--trace={','.join(names)}"] if names else []
    with _attached(peer, "-c", *only) as said:
        yield calls
    calls.update((name, int(count)) for count, name in _COUNTED.findall(said[0]) if name != "total")


@contextmanager
def synced(peer: Processes) -> Iterator[list[tuple[float, float]]]:
    """When each sync within the block began and was done, on the monotonic clock, known behind it."""
    found: list[tuple[float, float]] = []
    with _attached(peer, "-ttt", "-T", f"--trace={','.join(SYNCS)}") as said:
        yield found
    found.extend(spans(said[0], time.time() - time.monotonic()))


def spans(said: str, offset: float) -> Iterator[tuple[float, float]]:
    """Beginnings and ends from lines of `strace -f -ttt -T`; one that another process interrupted says its end."""
    for at, resumed, lasted in _DONE.findall(said):
        began = float(at) - offset - (float(lasted) if resumed else 0.0)
        yield began, began + float(lasted)


def within(sent: Sequence[Sent], syncs: Sequence[tuple[float, float]]) -> list[int]:
    """For each mail, how many syncs began after its dot and were done before its 250."""
    return [sum(mail.dot <= began and ended <= mail.taken for began, ended in syncs) for mail in sent]


def rows(commit: str) -> Iterator[str]:
    """For one session and for many, each peer."""
    for sessions in SESSIONS:
        for name, start in BOTH.items():
            with stage(start) as (peer, sink):
                yield f"| {sessions} | {name} | {_counted(peer, sink, sessions)} | {commit} |"


def _counted(peer: Peer, sink: Sink, sessions: int) -> str:
    with synced(peer) as syncs:
        sent = in_turn(peer.port, range(MAILS), sessions)
        sink.wait(MAILS, 60)
    waits = within(sent, syncs)
    with traced(peer) as calls:
        load(peer.port, MAILS, sessions=sessions).wait()
        sink.wait(2 * MAILS, 60)
    every = sum(calls.values()) / MAILS
    own = sum(calls.get(name, 0) for name in SYNCS) / MAILS
    return f"{own:.2f} | {min(waits)} | {sum(waits) / len(waits):.2f} | {every:.0f}"
