"""Figures: what one run of one peer came to, and the load that it was measured with."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers import Peer


@dataclass(frozen=True)
class Figures:
    """One run: per second taken and arrived, milliseconds of CPU a mail, MiB at most, recipients missing.

    idle        MiB before the first mail
    twice, cut  recipients that came again, and mails of another size than most
    """

    taken: float
    arrived: float
    cpu: float
    memory: float
    idle: float
    missing: int
    twice: int = 0
    cut: int = 0


HEAD = (
    "| case | peer | accepted/s | × | drained/s | × | CPU ms a mail | × | MiB | grown by | syncs a mail "
    "| lost, twice, cut | commit |"
)


def row(case: str, peer: str, runs: Sequence[Figures], base: Sequence[Figures], syncs: float, commit: str) -> str:
    """Of one peer: the medians of its runs, each with its ratio to that of `base`; the most that memory was."""

    def beside(name: str, digits: int) -> str:
        own, other = (statistics.median(getattr(run, name) for run in each) for each in (runs, base))
        return f"{own:.{digits}f} | {own / other:.2f}"

    return (
        f"| {case} | {peer} | {beside('taken', 0 if runs[0].taken > 20 else 1)} "
        f"| {beside('arrived', 0 if runs[0].arrived > 20 else 1)} | {beside('cpu', 2)} "
        f"| {max(run.memory for run in runs):.0f} | {max(run.memory - run.idle for run in runs):.0f} | {syncs:.2f} "
        f"| {sum(run.missing for run in runs)}, {sum(run.twice for run in runs)}, {sum(run.cut for run in runs)} "
        f"| {commit} |"
    )


class Highest:
    """The most that a peer had in memory, looked at as often as takes no more than a fiftieth of a processor."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._next = 0.0
        self.idle = self.memory = peer.memory()

    def look(self) -> None:
        """To be called often."""
        if (began := time.monotonic()) >= self._next:
            self.memory = max(self.memory, self._peer.memory())
            self._next = time.monotonic() + max(0.2, 50 * (time.monotonic() - began))


def load(
    port: int, mails: int, *, size: int = 4096, sessions: int = 20, recipients: int = 1, persistent: bool = True
) -> subprocess.Popen[bytes]:
    """smtp-source, which has begun to hand in."""
    command = ["smtp-source", "-s", str(sessions), "-m", str(mails), "-l", str(size), "-r", str(recipients)]
    command += ["-f", "a@example.com", "-t", "b@example.net", *(["-d"] if persistent else [])]
    return subprocess.Popen([*command, f"127.0.0.1:{port}"])
