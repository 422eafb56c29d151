"""Deadline: the one that a connection has at a time, moved forward with each reply."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

LOOKS_EVERY = 20.0
"""The timer is not moved with the deadline, which would cost more than the rest: it looks so often where that is."""


class Deadline:
    """Calls `passed` once the deadline has passed. `since` is when it was last set, and to how many `seconds`."""

    def __init__(self, clock: IReactorTime, passed: Callable[[], None]) -> None:
        self.since = self.seconds = 0.0
        self._clock = clock
        self._passed = passed
        self._at: float | None = None
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0

    def set(self, seconds: float) -> None:
        """So many seconds from now."""
        now = self.since = self._clock.seconds()
        self._at = now + seconds
        self.seconds = seconds
        if self._timer is None:
            self._look_in(min(seconds, LOOKS_EVERY), now)
        elif self._timer_at > self._at:
            self._timer.reset(seconds)
            self._timer_at = self._at

    def clear(self) -> None:
        """There is none."""
        self._at = None

    def stop(self) -> None:
        """There will be none any more."""
        self._at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_in(self, seconds: float, now: float) -> None:
        self._timer = self._clock.callLater(seconds, self._look)
        self._timer_at = now + seconds

    def _look(self) -> None:
        self._timer = None
        if self._at is None:
            return
        now = self._clock.seconds()
        if now < self._at:
            self._look_in(min(self._at - now, LOOKS_EVERY), now)
        else:
            self._at = None
            self._passed()
