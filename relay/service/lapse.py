"""Lapse: the time in which the spool takes no mail, said in the log when it begins and when it is over."""

from __future__ import annotations

from collections.abc import Callable

from relay.events import Events
from relay.observer import STALE
from relay.spool.spool import Health


class Lapse:
    """See the module's docstring. `health` says how the spool is; `now` is on its scale."""

    def __init__(self, health: Callable[[], Health], now: Callable[[], float], events: Events) -> None:
        self._health = health
        self._now = now
        self._events = events
        self._since: float | None = None

    def tick(self) -> None:
        """To be called about every half second."""
        now, health = self._now(), self._health()
        silent = now - health.checked_at >= STALE
        well = health.writable and not silent
        if well and self._since is not None:
            self._events.warning(f"the spool takes mail again, after {now - self._since:.1f} s")
            self._since = None
        elif not well and self._since is None:
            self._since = now
            why = f"it has not answered for {STALE:g} s" if silent else "the last write failed"
            self._events.error(f"the spool takes no mail: {why}")
