"""History: how the last hour and the last week went, for the plots of the page.

A sample a second is kept by the second for an hour, and what a minute's samples say together for a week, in arrays
that have their whole size from the start (about 1 MB). Quantiles of the delay come from a histogram of fixed size, so
a mail costs one addition; they are off by a fifth at most.

Samples stand in slots that are numbered by the steady clock; slot n of a grain tells of the time that ended at
n × step. What is not known (before the start, while the process stood still, the delay where no mail finished) is a
gap, never a zero.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import nan
from typing import NamedTuple

from relay.http.figures import Queue

RATES = ("accepted", "delivered", "failed")
"""Mails a second, on average over the slot."""

DELAYS = ("p50", "p99")
"""Seconds from received to finished within which half, and 99 of 100, of the slot's finished mails were."""

LEVELS = ("ready", "active", "deferred", "held")
"""Mails that waited at the end of the slot, by state."""

SERIES = (*RATES, *DELAYS, *LEVELS)

GRAINS: Mapping[int, int] = {1: 3600, 60: 7 * 24 * 60}
"""How many slots are kept, by the seconds that one tells of."""

AT_ONCE = 1800
"""Slots in one excerpt at most: a page that has none yet asks several times, and delays nobody."""

_UNKNOWN = (nan,) * (len(DELAYS) + len(LEVELS))
_BOUNDS = tuple(0.001 * 2 ** (quarter / 4) for quarter in range(120))  # a millisecond to ten days


class Counted(NamedTuple):
    """Mails since the start of the process: taken, finished well, and finished otherwise; our own reports left out."""

    accepted: int
    delivered: int
    failed: int


NOTHING = Counted(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Slots of one grain, one behind the other.

    first    the number of the first of them
    offset   what to add to number × step for seconds since the epoch
    columns  a value for each slot, by SERIES; NaN where there is none
    more     whether there are further slots behind these
    """

    step: int
    first: int
    offset: float
    columns: Mapping[str, Sequence[float]]
    more: bool


class Delays:
    """A histogram of seconds."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS) + 1)

    def add(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(_BOUNDS, seconds)] += 1

    def merge(self, other: Delays) -> None:
        """Count what `other` has counted as well."""
        self._counts = [mine + its for mine, its in zip(self._counts, other._counts, strict=True)]

    def quantile(self, part: float) -> float:
        """Seconds within which that part of what was counted is; NaN if nothing was."""
        totals = list(accumulate(self._counts))
        if not totals[-1]:
            return nan
        return _BOUNDS[min(bisect_left(totals, part * totals[-1]), len(_BOUNDS) - 1)]


class _Grain:
    """The slots of one step, in a ring, since the second `begun` of the steady clock."""

    def __init__(self, step: int, length: int, begun: int, counted: Counted) -> None:
        self.step = step
        self._length = length
        self._columns = {name: array("d", [nan]) * length for name in SERIES}
        self._first = self._end = begun // step + 1  # slots from the one up to the other, without it
        self._closed = begun
        self._counted = counted
        self._delays = Delays()

    def sample(self, second: int, counted: Counted, delays: Delays, queue: Queue) -> None:
        """Slots that were passed by share in the rates, and have gaps otherwise."""
        self._delays.merge(delays)
        slot, passed = second // self.step, second - self._closed
        if slot < self._end:
            return
        rates = [(now - before) / passed for now, before in zip(counted, self._counted, strict=True)]
        for skipped in range(max(self._end, slot - self._length + 1), slot):
            self._write(skipped, [*rates, *_UNKNOWN])
        delay = self._delays.quantile(0.5), self._delays.quantile(0.99)
        self._write(slot, [*rates, *delay, queue.ready, queue.active, queue.deferred, queue.held])
        self._end = slot + 1
        self._first = max(self._first, self._end - self._length)
        self._closed, self._counted, self._delays = second, counted, Delays()

    def _write(self, slot: int, row: Sequence[float]) -> None:
        for column, value in zip(self._columns.values(), row, strict=True):
            column[slot % self._length] = round(value, 4)

    def after(self, slot: int, offset: float) -> Excerpt:
        if not self._first - 1 <= slot < self._end:
            slot = self._first - 1
        first, end = slot + 1, min(slot + 1 + AT_ONCE, self._end)
        places = [each % self._length for each in range(first, end)]
        columns = {name: [column[place] for place in places] for name, column in self._columns.items()}
        return Excerpt(self.step, first, offset, columns, end < self._end)


class History:
    """See the module's docstring.

    now, wall  the steady clock's time and the system's, when it begins
    """

    def __init__(self, now: float, wall: float, counted: Counted = NOTHING) -> None:
        self._begun = now
        self._offset = wall - now
        self._delays = Delays()
        self._grains = {step: _Grain(step, length, int(now), counted) for step, length in GRAINS.items()}

    def took(self, seconds: float) -> None:
        """A mail finished, so long after it was received."""
        self._delays.add(seconds)

    def sample(self, now: float, wall: float, counted: Counted, queue: Queue) -> None:
        """To be called every second. A call that comes late is in its slot all the same."""
        self._offset = wall - now
        second = int(self._begun) + round(now - self._begun)
        delays, self._delays = self._delays, Delays()
        for grain in self._grains.values():
            grain.sample(second, counted, delays, queue)

    def after(self, step: int, slot: int) -> Excerpt:
        """What came behind slot `slot`; all, if it is none of those that are kept. KeyError: there is no such step."""
        return self._grains[step].after(slot, round(self._offset, 3))
