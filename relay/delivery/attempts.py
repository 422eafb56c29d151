"""Attempts: the transactions that are under way, those whose outcome is not durable yet, and who waits for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from relay.delivery.pace import Pace
from relay.outcome import Outcome
from relay.schedule import Item
from relay.spool.spool import Body, Standing, State, Submission
from relay.upstream.links import PATIENCE
from relay.upstream.pool import Pool


@dataclass(slots=True, eq=False)
class Attempt:
    """One transaction under way, and then what came of it.

    rest    recipients of the same task that wait until it is over
    age     of the mail, when this began
    marked  whether it is written down that a dot is under way
    failed  whether its outcome could not be written when that was last tried
    flies   whether it has, or had, a connection
    over    whether its transaction is: its outcome is written, and until then it keeps its place at the provider
    """

    item: Item
    numbers: list[int]
    rest: list[int]
    pool: Pool
    began: float
    age: float
    marked: bool = False
    body: Body = b""
    outcomes: tuple[Outcome, ...] = ()
    settled: tuple[Standing, ...] = ()
    again: tuple[int, ...] = ()
    reports: tuple[Submission, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    trouble: Exception | None = None
    failed: bool = False
    flies: bool = False
    over: bool = False


def held(item: Item, numbers: list[int], reply: str) -> tuple[Standing, ...]:
    """How recipients stand once they wait for a person; `reply` says why."""
    return tuple([replace(item.standings[number], state=State.HELD, due=0.0, reply=reply) for number in numbers])


class Attempts:
    """Those that are not durable yet.

    stalled  of those under way: how many have waited so long for a reply that they are no worker's any more
    over     how many of them are over
    pace     how fast they end
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.stalled = 0
        self.over = 0
        self.pace = Pace(clock)
        self._attempts: set[Attempt] = set()
        self._quiet: dict[int, Deferred[None]] = {}

    def __len__(self) -> int:
        """How many."""
        return len(self._attempts)

    @property
    def under_way(self) -> int:
        """How many have a worker."""
        return len(self._attempts) - self.stalled

    def add(self, attempt: Attempt) -> None:
        """One begins."""
        self._attempts.add(attempt)
        attempt.item.active += 1

    def end(self, attempt: Attempt) -> None:
        """Its transaction is over; what came of it is not durable yet."""
        attempt.over = True
        attempt.pool.reserved += 1
        self.over += 1

    def discard(self, attempt: Attempt) -> None:
        """One is over, and what came of it durable."""
        self._attempts.discard(attempt)
        attempt.pool.reserved -= attempt.over
        self.over -= attempt.over
        self.pace.ended()
        attempt.item.active -= 1

    def of(self, item: Item) -> Iterator[Attempt]:
        """Those of one mail."""
        return (attempt for attempt in self._attempts if attempt.item is item)

    def began(self, item: Item, number: int, now: float) -> tuple[str, float] | None:
        """At which provider one is under way for a recipient, and for how many seconds."""
        for attempt in self.of(item):
            if number in attempt.numbers:
                return attempt.pool.name, now - attempt.began
        return None

    def withdraw(self, item: Item) -> list[int]:
        """Have nothing follow on those of a mail; the recipients that would have."""
        numbers: list[int] = []
        for attempt in self.of(item):
            numbers += attempt.rest
            attempt.rest = []
        return numbers

    def held_up(self, now: float) -> list[tuple[Item, list[int]]]:
        """Batches that wait for one whose provider does not answer; they wait for it no more."""
        found = []
        for attempt in self._attempts:
            if attempt.rest and attempt.began <= now - PATIENCE:
                found.append((attempt.item, attempt.rest))
                attempt.rest = []
        return found

    def quiet(self, item: Item) -> Deferred[None]:
        """Fires when none of a mail is under way. It may be cancelled."""
        key = item.envelope.key

        def forget(_: object) -> None:
            self._quiet.pop(key, None)

        waiting: Deferred[None] = Deferred(forget)
        self._quiet[key] = waiting
        self.tell_if_quiet(item)
        return waiting

    def tell_if_quiet(self, item: Item) -> None:
        """Fire what `quiet` gave, if none is under way."""
        if self._quiet and not item.active and (waiting := self._quiet.pop(item.envelope.key, None)) is not None:
            waiting.callback(None)
