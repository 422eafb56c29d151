"""Delivery: hands mail that is due to providers and writes down what came of it.

Recipients of a mail that may go to one provider stand in that provider's line; `pump` takes from the lines as long as
there are workers and connections. A transaction ends in one settlement, one commit for all its recipients, and only
then is anything logged, counted or tried on. Callers: the schedule (`ready`), the pools (`changed`), the service.

Failure: an outcome that cannot be written is kept and written again every second; until then nothing new is begun.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from relay.delivery.account import Account
from relay.delivery.judgement import Circumstances, judge
from relay.delivery.reports import Reports
from relay.events import Events
from relay.outcome import CannotTake, Outcome, Rejected
from relay.outcome import Deferred as Postponed
from relay.retry import Retry
from relay.schedule import Item, Schedule
from relay.spool.spool import Body, Damaged, Settlement, Spool, SpoolError, Standing, State, Submission
from relay.upstream.pool import Pool
from relay.upstream.router import Ask, next_step
from relay.upstream.sender import Batch, Result

AGAIN = 1.0
"""Seconds until something that the spool refused is asked of it again."""

GOES_ROUND = (CannotTake, Postponed, Rejected)
"""What a provider says of the mail, so that the next one is asked."""


@dataclass(slots=True)
class Task:
    """Recipients of one mail, by number, that are to go to one provider; none of them before `not_before`."""

    item: Item
    numbers: list[int]
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the configuration delivery goes by."""

    workers: int
    batch_size: int
    batch_delay: float
    retry: Retry
    hold_uncertain: frozenset[str]


@dataclass(slots=True)
class Attempt:
    """One transaction under way: which recipients of which mail, where, since when."""

    item: Item
    numbers: list[int]
    rest: list[int]
    pool: Pool
    began: float
    body: Body = b""
    outcomes: tuple[Outcome, ...] = ()
    settled: tuple[Standing, ...] = ()
    again: tuple[int, ...] = ()
    reports: tuple[Submission, ...] = ()
    trouble: Exception | None = None


class Delivery:
    """See the module's docstring."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        pools: Mapping[str, Pool],
        clock: IReactorTime,
        now: Callable[[], float],
        uniform: Callable[[float, float], float],
        reports: Reports,
        account: Account,
        events: Events,
    ) -> None:
        self.settings = settings
        self._spool = spool
        self._pools = dict(pools)
        self._names = list(self._pools)
        self._clock = clock
        self._now = now
        self._uniform = uniform
        self._reports = reports
        self._account = account
        self._events = events
        self._schedule: Schedule
        self._lines: dict[str, deque[Task]] = {name: deque() for name in self._pools}
        self._stranded: deque[Task] = deque()
        self._paused: list[Task] = []
        self._pauses = LoopingCall(self._end_pauses)
        self._pauses.clock = clock
        self._active = 0
        self._unwritten = 0
        self._stopping = False
        self._pumping = False
        self._drained: Deferred[None] | None = None

    def start(self, schedule: Schedule) -> None:
        """Take what `schedule` hands out."""
        self._schedule = schedule

    def stop(self) -> Deferred[None]:
        """Begin nothing more; fires when no transaction is under way and every outcome is written."""
        self._stopping = True
        if self._pauses.running:
            self._pauses.stop()
        done: Deferred[None] = Deferred()
        self._drained = done
        self._tell_if_drained()
        return done

    def ready(self, item: Item, numbers: list[int]) -> None:
        """Recipients of a mail are to be tried: put each into the line of the provider that is next for it."""
        self._route(Task(item, numbers))
        self.pump()

    def changed(self) -> None:
        """A provider came up or went down: whoever waits may have to wait elsewhere."""
        waiting = [*self._stranded]
        self._stranded.clear()
        for line in self._lines.values():
            waiting.extend(line)
            line.clear()
        for task in waiting:
            self._route(task)
        self.pump()

    def pump(self) -> None:
        """Begin transactions as long as somebody waits, a worker is free and a connection may be had."""
        if self._pumping:
            return
        self._pumping = True
        try:
            begun = True
            while begun and not self._stopping and not self._unwritten:
                begun = False
                for name, line in self._lines.items():
                    if line and self._active < self.settings.workers and self._pools[name].room() > 0:
                        self._begin(line.popleft(), self._pools[name])
                        begun = True
        finally:
            self._pumping = False

    def _route(self, task: Task, first: bool = False) -> None:
        """Split `task` by the provider that each recipient is to go to, and put the parts into their lines."""
        item = task.item
        up = [name for name, pool in self._pools.items() if pool.takes_mail]
        parts: dict[str | None, list[int]] = {}
        for number in task.numbers:
            standing = item.standings[number]
            pinned = standing.pinned and standing.provider in self._pools
            order = [standing.provider] if pinned else self._names
            step = next_step(item.rounds.get(number, {}), order, up)
            parts.setdefault(step.provider if isinstance(step, Ask) else None, []).append(number)
        for name, numbers in parts.items():
            line = self._stranded if name is None else self._lines[name]
            (line.appendleft if first else line.append)(Task(item, numbers))

    def _begin(self, task: Task, pool: Pool) -> None:
        item, size = task.item, self.settings.batch_size
        attempt = Attempt(item, task.numbers[:size], task.numbers[size:], pool, self._clock.seconds())
        self._active += 1
        item.active += 1
        self._schedule.show(item)
        pool.reserved += 1
        if item.body is not None:
            self._send(item.body, attempt)
        else:
            reading = self._spool.body(item.mail())
            reading.addCallbacks(self._send, self._unreadable, (attempt,), {}, (attempt,))

    def _send(self, body: Body, attempt: Attempt) -> None:
        item, envelope = attempt.item, attempt.item.envelope
        attempt.body = body
        if isinstance(body, bytes):
            self._schedule.keep_body(item, body)
        recipients = tuple([item.standings[number].recipient for number in attempt.numbers])
        batch = Batch(
            envelope.sender,
            recipients,
            item.head,
            body,
            envelope.size,
            envelope.eight_bit,
            envelope.ret,
            envelope.envid,
        )
        attempt.pool.send(batch, self._ended, attempt)

    def _unreadable(self, failure: Failure, attempt: Attempt) -> None:
        """The body could not be read: held where it is damaged, tried again where the disk failed."""
        attempt.pool.reserved -= 1
        item = attempt.item
        numbers = attempt.numbers + attempt.rest
        attempt.numbers, attempt.rest = numbers, []
        if failure.check(Damaged):
            reply = f"quarantine: {failure.value}"
            attempt.settled = tuple(
                [
                    Standing(number, standing.recipient, State.HELD, standing.attempts, reply=reply)
                    for number, standing in ((number, item.standings[number]) for number in numbers)
                ]
            )
            self._settle(attempt)
            return
        if not failure.check(SpoolError):
            self._events.error("a body could not be read", failure)
        self._end(attempt)
        self._pause(Task(item, numbers, self._clock.seconds() + AGAIN))

    def _ended(self, result: Result, attempt: Attempt) -> None:
        """A transaction is over: judge it, and write down what that means."""
        item, name = attempt.item, attempt.pool.name
        attempt.outcomes, attempt.trouble = result.outcomes, result.trouble
        if not isinstance(attempt.body, bytes):
            attempt.body.close()
        for number, outcome in zip(attempt.numbers, result.outcomes, strict=True):
            if isinstance(outcome, GOES_ROUND):
                item.rounds.setdefault(number, {})[name] = outcome
        judged = judge(
            [item.standings[number] for number in attempt.numbers],
            result.outcomes,
            item.rounds,
            self._circumstances(item, name),
        )
        attempt.settled, attempt.again = judged.standings, judged.again
        if not attempt.settled:
            self._written(attempt)
        elif self._reports.owed(item, attempt.settled):
            Deferred.fromCoroutine(self._settle_with_reports(attempt)).addErrback(self._report_failed, attempt)
        else:
            self._settle(attempt)

    def _circumstances(self, item: Item, name: str) -> Circumstances:
        now = self._now()
        return Circumstances(
            provider=name,
            order=self._names,
            up=[other for other, pool in self._pools.items() if pool.takes_mail],
            hold_uncertain=name in self.settings.hold_uncertain,
            retry=self.settings.retry,
            age=now - item.envelope.received_at,
            now=now,
            uniform=self._uniform,
        )

    async def _settle_with_reports(self, attempt: Attempt) -> None:
        attempt.settled, attempt.reports = await self._reports.write(attempt.item, attempt.settled)
        self._settle(attempt)

    def _report_failed(self, failure: Failure, attempt: Attempt) -> None:
        """A report that cannot be written for a reason of ours must not keep its mail from being settled."""
        self._events.error("a report could not be written", failure)
        self._settle(attempt)

    def _settle(self, attempt: Attempt) -> None:
        item = attempt.item
        changed = {standing.number: standing for standing in attempt.settled}
        finished = not any(changed.get(old.number, old).state.waiting for old in item.standings)
        settlement = Settlement(item.envelope.key, item.envelope.uuid, attempt.settled, attempt.reports, finished)
        writing = self._spool.settle(settlement)
        writing.addCallbacks(self._written_down, self._not_written, (attempt,), {}, (attempt,))

    def _not_written(self, failure: Failure, attempt: Attempt) -> None:
        self._events.error(f"an outcome could not be written and is kept in memory: {failure.value}")
        self._unwritten += 1

        def write_again() -> None:
            self._unwritten -= 1
            self._settle(attempt)

        self._clock.callLater(AGAIN, write_again)

    def _written_down(self, _: None, attempt: Attempt) -> None:
        self._written(attempt)

    def _written(self, attempt: Attempt) -> None:
        """What came of it is durable: say so, and go on with whoever is left."""
        item = attempt.item
        for standing in attempt.settled:
            item.standings[standing.number] = standing
            item.queued.discard(standing.number)
            item.rounds.pop(standing.number, None)
            if standing.state is State.DEFERRED:
                self._schedule.due_at(standing.due)
        self._tell(attempt)
        for report in attempt.reports:
            self._schedule.add(report)
        if attempt.again and attempt.trouble is None:
            self._route(Task(item, list(attempt.again)), first=True)
        elif attempt.again:  # the disk failed while the body left
            self._pause(Task(item, list(attempt.again), self._clock.seconds() + AGAIN))
        if attempt.rest:
            delay = self.settings.batch_delay
            task = Task(item, attempt.rest, self._clock.seconds() + delay)
            if delay:
                self._pause(task)
            else:
                self._route(task)
        self._end(attempt)

    def _end(self, attempt: Attempt) -> None:
        self._active -= 1
        attempt.item.active -= 1
        self._schedule.show(attempt.item)
        self._tell_if_drained()
        self.pump()

    def _tell_if_drained(self) -> None:
        if self._drained is not None and not self._active:
            done, self._drained = self._drained, None
            done.callback(None)

    def _pause(self, task: Task) -> None:
        """Let a task wait until its time; the LoopingCall runs only while one does."""
        if self._stopping:
            return
        self._paused.append(task)
        if not self._pauses.running:
            self._pauses.start(min(max(self.settings.batch_delay / 10, 0.02), 0.5), now=False)

    def _end_pauses(self) -> None:
        now = self._clock.seconds()
        over = [task for task in self._paused if task.not_before <= now]
        self._paused = [task for task in self._paused if task.not_before > now]
        if not self._paused:
            self._pauses.stop()
        for task in over:
            self._route(task)
        if over:
            self.pump()

    def _tell(self, attempt: Attempt) -> None:
        """Log and count the outcomes of a transaction, and the end of its mail if that was it."""
        item, account = attempt.item, self._account
        standings, envelope = item.standings, item.envelope
        if attempt.outcomes:
            addresses = [standings[number].recipient.address for number in attempt.numbers]
            seconds = self._clock.seconds() - attempt.began
            account.transaction(envelope, attempt.pool.name, addresses, attempt.outcomes, seconds)
        if not attempt.settled:
            return
        account.settled(envelope, attempt.settled, attempt.reports[0].envelope.uuid if attempt.reports else "")
        if not any(standing.state.waiting for standing in standings):
            account.finished(envelope, standings, max(self._now() - envelope.received_at, 0.0))
