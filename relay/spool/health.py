"""Health: how the disk is, looked at every second by a thread of its own, so that a disk that hangs delays nobody."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

from relay.spool.spool import Health

PERIOD = 1.0
"""Seconds between two looks."""

IDLE = 2
"""Looks without a commit in between, after which one is made to see whether the disk takes it."""


def look(directory: Path, writable: bool, checked_at: float) -> Health:
    """What the file system of `directory` says."""
    found = os.statvfs(directory)
    return Health(
        writable,
        found.f_bavail * found.f_frsize,
        found.f_blocks * found.f_frsize,
        found.f_favail if found.f_files else 0,
        found.f_files,
        checked_at,
    )


class Pulse:
    """Calls `beat` every PERIOD in a thread of its own, until closed."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._end = Event()
        self._thread = Thread(target=self._run, name="spool-health", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Wait until the thread has ended. Not for the reactor's thread."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(PERIOD):
            self._beat()
