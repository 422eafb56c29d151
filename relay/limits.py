"""Limits: how many mails a client may hand in, and how many reports an address gets. Pure.

The caller says what time it is, in seconds on a clock that only moves forward.
"""

from __future__ import annotations

from collections import deque

HOUR = 3600.0
"""Seconds from the first report to an address to the digest of those that were too many."""


class Window:
    """At most `messages` in any `per` seconds for each key, exactly; `messages` 0 switches it off and keeps nothing.

    It slides: at no moment were more than `messages` counted within the last `per` seconds.

    Memory: one time for each mail counted within the last `per` seconds, or a little longer where a key falls quiet;
    at most `messages` times for one key.
    """

    def __init__(self, messages: int, per: float) -> None:
        self.messages = messages
        self.per = per
        self._counted: dict[str, deque[float]] = {}
        self._swept_at = 0.0

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._counted)

    def allows(self, key: str, now: float) -> bool:
        """Whether one more mail of `key` may be taken now. Asking counts nothing."""
        times = self._counted.get(key)
        if times is None or not self.messages:
            return True
        self._forget(times, now)
        return len(times) < self.messages

    def take(self, key: str, now: float) -> bool:
        """Whether one more mail of `key` may be taken now; if so it is counted."""
        if not self.allows(key, now):
            return False
        self.count(key, now)
        return True

    def count(self, key: str, now: float) -> None:
        """One mail of `key` was taken now."""
        if not self.messages:
            return
        if now - self._swept_at >= self.per:
            self._sweep(now)
        times = self._counted.get(key)
        if times is None:
            times = self._counted[key] = deque()
        self._forget(times, now)
        times.append(now)

    def _forget(self, times: deque[float], now: float) -> None:
        while times and times[0] <= now - self.per:
            times.popleft()

    def _sweep(self, now: float) -> None:
        """Once a window: drop the keys that were quiet for one."""
        self._swept_at = now
        start = now - self.per
        self._counted = {key: times for key, times in self._counted.items() if times and times[-1] > start}


class Quota:
    """How many reports one address gets one by one: `per_hour` within an hour, counted from the first; 0: none.

    The others wait for the end of that hour and become one digest. Then a new hour begins with the next report.

    hours  address to (when its hour began, how many went at once): all there is to remember over a restart
    """

    def __init__(self, per_hour: int, hours: dict[str, tuple[float, int]] | None = None) -> None:
        self.per_hour = per_hour
        self.hours = {} if hours is None else hours
        self._swept_at = 0.0

    def admit(self, address: str, now: float) -> float | None:
        """Count one report to `address`: None, if it goes at once; else the time of its digest, not before `now`."""
        if now - self._swept_at >= HOUR:
            self._swept_at = now
            self.hours = {key: hour for key, hour in self.hours.items() if now - hour[0] < HOUR}
        key = address.lower()
        began, sent = self.hours.get(key, (now, 0))
        if now - began >= HOUR:
            began, sent = now, 0
        at_once = sent < self.per_hour
        self.hours[key] = (began, sent + at_once)
        return None if at_once else began + HOUR
