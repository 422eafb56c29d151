"""Clock: the one scale of time by which mail ages and falls due.

It runs with the monotonic clock and only ever forward, so a step of the system's clock neither makes a mail old nor
freezes it. It starts at the system's time, or where the spool's newest mail stands if the system's clock went back
(a small machine boots in 1970), and can be read as seconds since the epoch. Dates in header fields are the system's.
"""

from __future__ import annotations

from collections.abc import Callable


class SpoolClock:
    """Call it for the time. `wall` and `monotonic` are time.time and time.monotonic or stand for them."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._base = wall() - monotonic()

    def __call__(self) -> float:
        """Seconds; never less than at the call before."""
        return self._base + self._monotonic()

    def not_before(self, known: float) -> None:
        """The spool holds mail taken at `known`: it is at least that late."""
        self._base = max(self._base, known - self._monotonic())
