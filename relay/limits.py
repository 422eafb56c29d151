"""Limits: how many mails one client or sender may hand in, exactly, in any stretch of time.

A sliding window: at no moment were more than `messages` counted within the last `per` seconds. Pure: the caller says
what time it is, on a clock that only moves forward.
"""

from __future__ import annotations

from collections import deque


class Window:
    """At most `messages` in any `per` seconds for each key; `messages` 0 switches it off, and then nothing is kept.

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
