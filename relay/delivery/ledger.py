"""Ledger: where what came of attempts is written down: one commit for each, all its recipients, reports and notes.

Failure: an outcome that cannot be written is kept and written again every second. A report that cannot be made for a
reason of ours is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from relay.delivery.attempts import Attempt
from relay.delivery.reports import Reports
from relay.events import Events
from relay.schedule import LOST
from relay.spool.spool import UNDER_WAY, LostTurn, Settlement, Spool, State

AGAIN = 1.0
"""Seconds until something that the spool refused is asked of it again."""


class Ledger:
    """See the module's docstring. `written` is called with each attempt once it is durable what came of it.

    `late` is called with one whose mail is another process's by now: nothing that came of it counts.

    unwritten  outcomes that could not be written when that was last tried
    """

    def __init__(
        self,
        spool: Spool,
        reports: Reports,
        clock: IReactorTime,
        events: Events,
        written: Callable[[Attempt], None],
        late: Callable[[Attempt], None],
    ) -> None:
        self.unwritten = 0
        self._spool = spool
        self._reports = reports
        self._clock = clock
        self._events = events
        self._written = written
        self._late = late
        self._settling: dict[int, list[Attempt]] = {}  # by mail: those whose outcomes are written after the one that is

    def mark(self, attempt: Attempt) -> Deferred[None]:
        """Write down that a dot is under way: a crash from here on holds the mail, and sends no second copy."""
        attempt.marked = True
        envelope, name = attempt.item.envelope, attempt.pool.name
        marks = [
            replace(
                attempt.item.standings[number], state=State.HELD, due=0.0, provider=name, pinned=True, reply=UNDER_WAY
            )
            for number in attempt.numbers
        ]
        return self._spool.settle(Settlement(envelope.key, envelope.uuid, marks, turn=attempt.item.turn))

    def conclude(self, attempt: Attempt, *, dsn: bool) -> None:
        """Write down what was judged, with what is to be reported of it. `dsn`: the provider reports deliveries."""
        if not (attempt.settled or attempt.notes):
            self._written(attempt)
        elif self._reports.owed(attempt.item, attempt.settled, dsn):
            Deferred.fromCoroutine(self._settle_with_reports(attempt, dsn))
        else:
            self.settle(attempt)

    async def _settle_with_reports(self, attempt: Attempt, dsn: bool) -> None:
        try:
            written = await self._reports.write(attempt.item, attempt.settled, dsn)
            attempt.settled, attempt.reports = written.standings, written.reports
            attempt.notes += written.notes
        except Exception:
            self._events.error("a report could not be written", Failure(), id=attempt.item.envelope.uuid)
        self.settle(attempt)

    def settle(self, attempt: Attempt) -> None:
        """One after another for each mail: the last one, which removes it, has to know that the others are durable."""
        key = attempt.item.envelope.key
        if (after := self._settling.get(key)) is not None:
            after.append(attempt)
            return
        self._settling[key] = []
        self._write(attempt)

    def _write(self, attempt: Attempt) -> None:
        item = attempt.item
        changed = {standing.number: standing for standing in attempt.settled}
        finished = not any(changed.get(old.number, old).state.waiting for old in item.standings)
        writing = self._spool.settle(
            Settlement(
                item.envelope.key,
                item.envelope.uuid,
                attempt.settled,
                attempt.reports,
                finished,
                attempt.notes,
                item.turn,
                released=item.active == 1 and len(changed) == len(item.queued) and not attempt.again,
            )
        )
        writing.addCallbacks(self._written_down, self._not_written, (attempt,), {}, (attempt,))

    def _not_written(self, failure: Failure, attempt: Attempt) -> None:
        if failure.check(LostTurn):
            self._refused(failure, attempt)
            return
        if not attempt.failed:
            self._events.error(f"an outcome could not be written and is kept in memory: {failure.value}")
            self.unwritten += 1
        attempt.failed = True
        self._clock.callLater(AGAIN, self._write, attempt)

    def _refused(self, failure: Failure, attempt: Attempt) -> None:
        """Another process has the mail by now, and will see to it that its own outcome is written."""
        envelope = attempt.item.envelope
        self.unwritten -= attempt.failed
        self._events.error(f"an outcome came too late and is not written: {failure.value}", id=envelope.uuid)
        attempt.item.turn = LOST
        after = self._settling.pop(envelope.key)
        self._late(attempt)
        for each in after:
            self._late(each)

    def _written_down(self, _: None, attempt: Attempt) -> None:
        self.unwritten -= attempt.failed
        after = self._settling.pop(attempt.item.envelope.key)
        self._written(attempt)
        for each in after:
            self.settle(each)
