"""Pace: how many transactions have ended of late, and so how many more will be begun in a moment.

For so much mail is asked ahead where a claim is a round to another process, or workers would wait for it. Where
providers fall silent nothing is asked ahead two stretches later.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

STRETCH = 0.1
"""Seconds for which mail is taken ahead."""


class Pace:
    """See the module's docstring."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._began = 0.0
        self._ended = self._before = 0

    def ended(self) -> None:
        """One transaction."""
        self._look()
        self._ended += 1

    @property
    def ahead(self) -> int:
        """How many will end within a stretch, going by the last one that is over."""
        self._look()
        return self._before

    def _look(self) -> None:
        passed = self._clock.seconds() - self._began
        if passed >= STRETCH:
            self._before = self._ended if passed < 2 * STRETCH else 0
            self._began += passed
            self._ended = 0
