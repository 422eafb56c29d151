"""Retry: when a mail that was deferred is tried again, when it has waited too long, and when its sender is told.

Pure: the clock's readings and the dice are arguments. Times are seconds.

An age is what a clock that only moves forward says has passed since the mail was taken, so that a step of the system's
clock makes no mail old. RFC 5321 (4.5.4.1) asks to go on for four or five days.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """The policy of one configuration.

    schedule  waits after the first, second, … attempt
    interval  the wait after every later one
    jitter    0 to 1: each wait is multiplied by a number between 1 - jitter and 1 + jitter, so that mail deferred
              together does not come back together
    max_age   a mail older than this is given up once more has been tried; 0: after its first attempt
    """

    schedule: tuple[float, ...]
    interval: float
    jitter: float
    max_age: float

    def delay(self, attempts: int, uniform: Callable[[float, float], float]) -> float:
        """Seconds from the end of an attempt to the next one, `attempts` (1 or more) being counted so far.

        `uniform(low, high)` is random.uniform or stands for it.
        """
        wait = self.schedule[attempts - 1] if attempts <= len(self.schedule) else self.interval
        return wait * uniform(1 - self.jitter, 1 + self.jitter) if self.jitter else wait

    def expired(self, age: float, *, counted: bool = True) -> bool:
        """Whether a mail is given up after an attempt that began at this `age`.

        `counted`: whether the attempt counts. A round of provider faults does not, so an outage expires nothing, and
        a mail that grew old while nothing ran is tried once more first.
        """
        return counted and age >= self.max_age


def delay_warning_due(age: float, after: float, *, warned: bool) -> bool:
    """Whether the sender of a mail of this `age` is told now that it waits; once a recipient. `after` 0: never."""
    return not warned and 0 < after <= age
