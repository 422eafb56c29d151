"""Clock: the one scale of time by which mail ages and falls due.

It runs with the monotonic clock and only ever forward, so a step of the system's clock neither makes a mail old nor
freezes it. It begins at the system's time; where mail waits, it goes on where that mail was taken: never before its
newest, and as far from the system's time as it was then (a small machine boots in 1970 and is set right a minute
later). Dates in header fields are the system's.
"""

from __future__ import annotations

from collections.abc import Callable

DRIFT = "drift"
"""The note in which a spool keeps how far the system's clock was set since its mail was taken."""


class SpoolClock:
    """Call it for the time, in seconds. `wall` and `monotonic` are time.time and time.monotonic or stand for them."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._base = wall() - monotonic()

    def __call__(self) -> float:
        """Never less than at the call before."""
        return self._base + self._monotonic()

    @property
    def drift(self) -> float:
        """Seconds by which the system's clock is ahead: what it was set forward since the mail was taken."""
        return self._wall() - self()

    def resume(self, drift: float, newest: float) -> None:
        """Go on where a life before left it: with that drift, and not before the time of its newest mail."""
        monotonic = self._monotonic()
        self._base = max(self._wall() - drift, newest) - monotonic
