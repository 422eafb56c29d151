"""Suspects: mail that was under way when the daemon ended without a word, and what is done with it.

It goes one after another, so that another end tells which it was. The least suspected goes first, so that of many none
is held for an end that others brought about. In a queue that is shared each process has one at a time in its memory.
"""

from __future__ import annotations

from relay.delivery.crashes import Crashes
from relay.delivery.flights import Flights
from relay.delivery.lines import Lines, Task
from relay.schedule import Item

ALONE = 5.0
"""Seconds that a suspected mail has to itself, before the next one goes."""


class Suspects:
    """See the module's docstring. With no `flights` nobody is suspected."""

    def __init__(self, flights: Flights | Crashes | None, lines: Lines) -> None:
        self._flights = flights
        self._lines = lines
        self._alone: tuple[Item, float] | None = None  # the one that is tried now, and since when

    def condemned(self, item: Item) -> bool:
        """Whether a mail is to be held instead of being tried."""
        flights = self._flights
        return flights is not None and bool(flights.suspects) and flights.suspected(item.envelope.key)

    def may_come(self, now: float) -> bool:
        """Whether one more may be taken into memory, where those that wait for their turn are left out of it."""
        return self._is_over(now) and not self._lines.aside

    def put_aside(self, item: Item, numbers: list[int], now: float) -> bool:
        """Have a mail wait until it goes alone, if it is suspected and others have come; whether it waits."""
        flights = self._flights
        if flights is None or not flights.suspects or item.envelope.key not in flights.suspects:
            return False
        if flights.come_alone and self.may_come(now):
            self._alone = item, now
            return False
        self._lines.aside.append(Task(item, numbers))
        return True

    def took_off(self, item: Item) -> None:
        """A transaction has a connection: from here on its mail may be what ends the daemon."""
        if self._flights is not None:
            self._flights.begin(item.envelope.key)

    def landed(self, item: Item, now: float, *, flew: bool) -> None:
        """A transaction is over, whatever came of it; `flew`: it had a connection."""
        flights = self._flights
        if flights is None:
            return
        if flew:
            flights.end(item.envelope.key)
        if flights.suspects and item.look() in (None, "held"):
            flights.forget(item.envelope.key)
        if self._lines.aside:
            self._try_next(flights, now)

    def seen_to(self, item: Item) -> None:
        """A person has decided about a mail: it is suspected of nothing any more."""
        if self._flights is not None:
            self._flights.forget(item.envelope.key)

    def tick(self, now: float) -> None:
        """What the clock does: the sign of life, and whose turn it is."""
        if self._flights is not None:
            self._flights.beat()
            self._try_next(self._flights, now)

    def _is_over(self, now: float) -> bool:
        """Whether the one that was tried last is done with, or has had its time."""
        if self._alone is not None:
            item, since = self._alone
            if now - since < ALONE and item.look() in ("ready", "active"):
                return False
            self._alone = None
        return True

    def _try_next(self, flights: Flights | Crashes, now: float) -> None:
        if not self._is_over(now):
            return
        if self._lines.aside:
            task = min(self._lines.aside, key=lambda task: flights.suspects.get(task.item.envelope.key, 0))
            self._lines.aside.remove(task)
            self._alone = task.item, now
            self._lines.put(task)
