"""Ceiling: how many connections a provider lets in: as many as are configured, or as it has turned out."""

from __future__ import annotations

GROWS = 60.0
"""Seconds after which a number that was learned is tried one higher."""


class Ceiling:
    """`now` holds; `most` is what is configured."""

    def __init__(self, most: int) -> None:
        self.now = self.most = most
        self._lowered_at = 0.0

    def follow(self, most: int) -> None:
        """Another number is configured; what was learned is forgotten."""
        self.now = self.most = most

    def lower(self, working: int, now: float) -> bool:
        """One more was refused while so many worked: if any did, that is the number; whether it is."""
        if working:
            self.now = working
            self._lowered_at = now
        return working > 0

    def grow(self, now: float) -> None:
        """To be called about once a second."""
        if self.now < self.most and now - self._lowered_at >= GROWS:
            self.now += 1
            self._lowered_at = now
