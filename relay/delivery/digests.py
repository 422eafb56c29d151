"""Digests: reports that would have been too many, gathered into one mail an hour after the first.

Until then each of them is a mail of its own in the spool, DEFERRED and never tried. When they fall due together the
digest becomes durable in the commit that ends the first of them, and only then do the others end. A crash between
leaves those for a digest of their own: said twice, never left out.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from relay.bounce.digest import Account, read
from relay.delivery.reports import Reports
from relay.events import Events
from relay.schedule import LOST, Item, Schedule
from relay.spool.spool import LostTurn, Settlement, Spool, SpoolError, Standing, State, Submission

GATHER = 1.0
"""Seconds in which reports to one address that fall due are put together."""


def waits_for_digest(item: Item) -> bool:
    """Whether it is a report that was put off as one too many."""
    return item.envelope.report and item.standings[0].state is State.DEFERRED and not item.standings[0].attempts


class Digests:
    """See the module's docstring. `ended` is called for each report that has become part of a digest."""

    def __init__(
        self,
        spool: Spool,
        reports: Reports,
        clock: IReactorTime,
        events: Events,
        ended: Callable[[Item], None],
    ) -> None:
        self._spool = spool
        self._reports = reports
        self._clock = clock
        self._events = events
        self._ended = ended
        self._waiting: dict[str, list[Item]] = {}

    def start(self, schedule: Schedule) -> None:
        """New mails go to `schedule`."""
        self._schedule = schedule

    def add(self, item: Item) -> None:
        """A report has fallen due."""
        to = item.envelope.recipients[0].address
        waiting = self._waiting.setdefault(to.lower(), [])
        waiting.append(item)
        if len(waiting) == 1:
            self._clock.callLater(GATHER, self._flush, to)

    def _flush(self, to: str) -> None:
        Deferred.fromCoroutine(self._write(to, self._waiting.pop(to.lower()))).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self._events.error("a digest could not be written", failure)

    async def _write(self, to: str, items: list[Item]) -> None:
        try:
            accounts = [account for item in items if (account := await self._account(item)) is not None]
            if accounts:
                await self._end(items[0], self._reports.digest(to, accounts))
            for item in items[1 if accounts else 0 :]:
                await self._end(item)
        except SpoolError as error:
            self._events.error(f"a digest could not be written and is tried again: {error}")
            for item in items:
                if item.queued:
                    self.add(item)

    async def _account(self, item: Item) -> Account | None:
        body = item.body if item.body is not None else await self._spool.body(item.mail())
        return read(item.head + body) if isinstance(body, bytes) else None

    async def _end(self, item: Item, *reports: Submission) -> None:
        old = item.standings[0]
        standing = Standing(0, old.recipient, State.DELIVERED, reply="in a digest")
        envelope = item.envelope
        try:
            await self._spool.settle(
                Settlement(envelope.key, envelope.uuid, (standing,), reports, finished=True, turn=item.turn)
            )
        except LostTurn:  # it is another process's by now, which puts it into a digest of its own
            item.turn = LOST
            item.queued.clear()
            self._schedule.show(item)
            raise
        for report in reports:
            self._schedule.add(report)
        item.standings[0] = standing
        item.queued.clear()
        self._ended(item)
