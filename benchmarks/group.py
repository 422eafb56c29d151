"""Group: the processes of a peer in a control group of their own, so that the CPU of those that ended is known as well.

Where no control group can be made it is what the processes and the children that they have seen end have used.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol


class Processes(Protocol):
    """Whatever knows its processes."""

    def processes(self) -> Sequence[int]:
        """All of them, by their ids."""


class Group:
    """All processes of `peer`, and what they start from now on; `close` when they have ended."""

    def __init__(self, peer: Processes) -> None:
        self._peer = peer
        self._folder = _made()
        self._join()
        self._join()  # what was started by one that had not joined

    def _join(self) -> None:
        if self._folder is not None:
            for pid in self._peer.processes():
                with suppress(OSError):  # it has ended
                    (self._folder / "cgroup.procs").write_text(str(pid))

    def cpu(self) -> float:
        """Seconds of CPU used so far; only the difference of two of them says something."""
        if self._folder is None:
            return sum(map(_used, self._peer.processes()))
        lines = (self._folder / "cpu.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("usage_usec")) / 1e6

    def close(self) -> None:
        """Remove the control group, once it is empty."""
        end = time.monotonic() + 5
        while self._folder is not None:
            try:
                self._folder.rmdir()
            except OSError:
                if time.monotonic() < end:
                    time.sleep(0.05)
                    continue
            self._folder = None


def _made() -> Path | None:
    """A control group, if the unified hierarchy is there and lets us."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    for _, place, kind, *_ in mounts:
        if kind == "cgroup2":
            folder = Path(place) / f"benchmarks-{os.getpid()}-{time.monotonic_ns()}"
            try:
                folder.mkdir()
            except OSError:
                return None
            if (folder / "cpu.stat").exists():
                return folder
            folder.rmdir()
    return None


def _used(pid: int) -> float:
    """By a process, its threads and the children that it has seen end."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
