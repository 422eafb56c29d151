"""Delivery: hands mail that is due to providers and writes down what came of it.

`pump` takes from the lines as long as there are workers and connections. A transaction ends in one settlement, one
commit for all its recipients, and only then is anything logged, counted or tried on. Callers: the schedule (`ready`),
the pools (`changed`), the service.

Failure: an outcome that cannot be written is kept and written again every second; until then nothing new is begun.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from relay.delivery.account import Account
from relay.delivery.brakes import Brakes
from relay.delivery.digests import Digests, waits_for_digest
from relay.delivery.flights import Flights
from relay.delivery.judgement import GOES_ROUND, Circumstances, end_of_round, got_through, judge
from relay.delivery.lines import Lines, Task
from relay.delivery.reports import Reports
from relay.events import Events
from relay.outcome import Outcome
from relay.retry import Retry
from relay.schedule import Item, Schedule
from relay.spool.spool import UNDER_WAY, Body, Damaged, Settlement, Spool, SpoolError, Standing, State, Submission
from relay.upstream.pool import PATIENCE, Pool
from relay.upstream.sender import Batch, Result

AGAIN = 1.0
"""Seconds until something that the spool refused is asked of it again."""

ALONE = 5.0
"""Seconds that a suspected mail has to itself, before the next one goes."""

_SUSPECTED = "suspected: it was under way three times when the daemon ended without a word"


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the configuration delivery goes by. `hold_uncertain` names the providers with on_uncertain = "hold"."""

    workers: int
    batch_size: int
    batch_delay: float
    retry: Retry
    hold_uncertain: frozenset[str]


@dataclass(slots=True, eq=False)
class Attempt:
    """One transaction under way, and then what came of it.

    rest    recipients of the same task that wait until it is over
    age     of the mail, when this began
    marked  whether it is written down that a dot is under way
    failed  whether its outcome could not be written when that was last tried
    flies   whether it has, or had, a connection
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


class Delivery:
    """See the module's docstring. `now` is on the spool's scale."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        pools: Mapping[str, Pool],
        clock: IReactorTime,
        now: Callable[[], float],
        uniform: Callable[[float, float], float],
        reports: Reports,
        brakes: Brakes,
        flights: Flights | None,
        account: Account,
        events: Events,
    ) -> None:
        self.settings = settings
        self.brakes = brakes
        self.lines = Lines(pools, clock, brakes, self.pump)
        self._spool = spool
        self._pools = pools
        self._names = list(pools)
        self._clock = clock
        self._now = now
        self._uniform = uniform
        self._reports = reports
        self._digests = Digests(spool, reports, clock, events, self._in_a_digest)
        self._flights = flights
        self._account = account
        self._events = events
        self._schedule: Schedule
        self._attempts: set[Attempt] = set()
        self._settling: dict[int, list[Attempt]] = {}  # by mail: those whose outcomes are written after the one that is
        self._quiet: dict[int, Deferred[None]] = {}
        self._stalled = 0
        self._unwritten = 0
        self._stopping = False
        self._pumping = False
        self._drained: Deferred[None] | None = None
        self._suspect: tuple[Item, float] | None = None  # the one that is tried now, and since when

    def start(self, schedule: Schedule) -> None:
        """Take what `schedule` hands out."""
        self._schedule = schedule
        self._digests.start(schedule)
        self.brakes.start()

    def follow(self, settings: Settings) -> None:
        """Go by these from now on, and by the providers as they are now."""
        self.settings = settings
        self._names = list(self._pools)
        self.brakes.follow()
        self.lines.follow()
        for item in list(self._schedule.items.values()):
            self._drop_pins(item, list(item.queued))
        self.changed()

    def stop(self) -> Deferred[None]:
        """Begin nothing more; fires when no transaction is under way and every outcome is written."""
        self._stopping = True
        self.lines.stop()
        done: Deferred[None] = Deferred()
        self._drained = done
        self._tell_if_drained()
        return done

    def ready(self, item: Item, numbers: list[int]) -> None:
        """Recipients of a mail are to be tried."""
        if self._flights is not None and self._flights.suspects:
            if self._flights.suspected(item.envelope.key):
                self._hold(item, numbers, _SUSPECTED)
                return
            if item.envelope.key in self._flights.suspects:
                self.lines.aside.append(Task(item, numbers))
                return
        if waits_for_digest(item):
            self._digests.add(item)
            return
        self._drop_pins(item, numbers)
        self.lines.put(Task(item, numbers))
        self.pump()

    def changed(self) -> None:
        """A provider came up or went down: whoever waits may have to wait elsewhere."""
        self.lines.sort_again()
        self.pump()

    def under_way(self, item: Item) -> set[int]:
        """The recipients of a mail that a transaction is under way for."""
        return {number for attempt in self._attempts if attempt.item is item for number in attempt.numbers}

    def withdraw(self, item: Item) -> list[int]:
        """Begin nothing more for a mail; the recipients that waited, which are the caller's to put back (`ready`)."""
        numbers = self.lines.withdraw(item)
        for attempt in self._attempts:
            if attempt.item is item:
                numbers += attempt.rest
                attempt.rest = []
        return numbers

    def quiet(self, item: Item) -> Deferred[None]:
        """Fires when no transaction of a mail is under way. It may be cancelled."""
        key = item.envelope.key

        def forget(_: object) -> None:
            self._quiet.pop(key, None)

        waiting: Deferred[None] = Deferred(forget)
        self._quiet[key] = waiting
        if not item.active:
            self._is_quiet(key)
        return waiting

    @property
    def is_blocked(self) -> bool:
        """Whether nothing is begun because an outcome cannot be written down."""
        return self._unwritten > 0

    @property
    def is_busy(self) -> bool:
        """Whether as many transactions are under way as there are workers."""
        return len(self._attempts) - self._stalled >= self.settings.workers

    def began(self, item: Item, number: int) -> tuple[str, float] | None:
        """At which provider a transaction is under way for a recipient, and for how many seconds."""
        for attempt in self._attempts:
            if attempt.item is item and number in attempt.numbers:
                return attempt.pool.name, self._clock.seconds() - attempt.began
        return None

    def seen_to(self, item: Item) -> None:
        """A person has decided about a mail: it is suspected of nothing any more."""
        if self._flights is not None:
            self._flights.forget(item.envelope.key)

    def tick(self) -> None:
        """What the clock does, about every half second: workers back from who waits long, trials, the sign of life."""
        if self._flights is not None:
            self._flights.beat()
            self._try_suspect(self._flights)
        self._stalled = sum(pool.stalled() for pool in self._pools.values())
        if self._stalled:
            self._release_rests()
        for name, pool in self._pools.items():
            if pool.on_trial:
                self.lines.end_trial(name)
            elif pool.may_be_tried:
                self.lines.try_again(name)
        self.pump()

    def pump(self) -> None:
        """Begin transactions as long as somebody waits, a worker is free and a connection may be had."""
        if self._pumping or self._stopping or self._unwritten:
            return
        self._pumping = True
        try:
            taking = self.lines.take()
            while not self._unwritten:
                if self.lines.over:
                    self._end_round(self.lines.over.popleft())
                    continue
                task, pool = (None, None) if self.is_busy else next(taking, (None, None))
                if task is None or pool is None:
                    break
                self._begin(task, pool)
        finally:
            self._pumping = False

    def _begin(self, task: Task, pool: Pool) -> None:
        item, size = task.item, self.settings.batch_size
        age = self._now() - item.envelope.received_at
        attempt = Attempt(item, task.numbers[:size], task.numbers[size:], pool, self._clock.seconds(), age)
        self._attempts.add(attempt)
        item.active += 1
        self._schedule.show(item)
        pool.reserved += 1
        if item.body is not None:
            self._send(item.body, attempt)
        else:
            reading = self._spool.body(item.mail())
            reading.addCallbacks(self._send, self._unreadable, (attempt,), {}, (attempt,))

    def _send(self, body: Body, attempt: Attempt) -> None:
        item, envelope, name = attempt.item, attempt.item.envelope, attempt.pool.name
        attempt.body = body
        if isinstance(body, bytes):
            self._schedule.keep_body(item, body)
        batch = Batch(
            envelope.sender,
            tuple([item.standings[number].recipient for number in attempt.numbers]),
            item.head,
            body,
            envelope.size,
            envelope.eight_bit,
            envelope.ret,
            envelope.envid,
            (lambda: self._mark(attempt)) if name in self.settings.hold_uncertain else None,
        )
        attempt.pool.send(batch, envelope.key, self._ended, attempt, self._took_off)

    def _took_off(self, attempt: Attempt) -> None:
        """From here on its mail may be what ends the daemon."""
        if self._flights is not None:
            attempt.flies = True
            self._flights.begin(attempt.item.envelope.key)

    def _try_suspect(self, flights: Flights) -> None:
        """Mail that was under way when the daemon ended goes one after another, so that another end tells which it was.

        The least suspected goes first, so that of many none is held for an end that others brought about.
        """
        now = self._clock.seconds()
        if self._suspect is not None:
            item, since = self._suspect
            if now - since < ALONE and item.look() in ("ready", "active"):
                return
            self._suspect = None
        if self.lines.aside:
            task = min(self.lines.aside, key=lambda task: flights.suspects.get(task.item.envelope.key, 0))
            self.lines.aside.remove(task)
            self._suspect = task.item, now
            self.lines.put(task)

    def _mark(self, attempt: Attempt) -> Deferred[None]:
        """Write down that a dot is under way: a crash from here on holds the mail, and sends no second copy."""
        attempt.marked = True
        envelope, name = attempt.item.envelope, attempt.pool.name
        marks = [
            replace(
                attempt.item.standings[number], state=State.HELD, due=0.0, provider=name, pinned=True, reply=UNDER_WAY
            )
            for number in attempt.numbers
        ]
        return self._spool.settle(Settlement(envelope.key, envelope.uuid, marks))

    def _unreadable(self, failure: Failure, attempt: Attempt) -> None:
        """The body could not be read: held where it is damaged, tried again where the disk failed."""
        attempt.pool.reserved -= 1
        attempt.numbers, attempt.rest = attempt.numbers + attempt.rest, []
        if failure.check(Damaged):
            attempt.settled = _held(attempt.item, attempt.numbers, f"quarantine: {failure.value}")
            self._settle(attempt)
            return
        if not failure.check(SpoolError):
            self._events.error("a body could not be read", failure)
        self._end(attempt)
        self.lines.pause(Task(attempt.item, attempt.numbers, self._clock.seconds() + AGAIN))

    def _hold(self, item: Item, numbers: list[int], reply: str) -> None:
        """Hold recipients without trying them."""
        attempt = self._unasked(item, numbers)
        attempt.settled = _held(item, numbers, reply)
        self._settle(attempt)

    def _end_round(self, task: Task) -> None:
        """Nobody is left to be asked, since who was to be next is down: what was said is the end of the round."""
        attempt = self._unasked(task.item, task.numbers)
        case = self._circumstances(attempt)
        ends = {number: end_of_round(task.item.standings[number], task.item.rounds, case) for number in task.numbers}
        attempt.settled = tuple([standing for standing in ends.values() if standing is not None])
        attempt.again = tuple([number for number, standing in ends.items() if standing is None])
        self._conclude(attempt, dsn=False)

    def _unasked(self, item: Item, numbers: list[int]) -> Attempt:
        """Something is to be written down without a transaction. That never makes a mail too old."""
        attempt = Attempt(item, numbers, [], next(iter(self._pools.values())), self._clock.seconds(), float("-inf"))
        self._attempts.add(attempt)
        item.active += 1
        return attempt

    def _drop_pins(self, item: Item, numbers: list[int]) -> None:
        """Who waits for a provider that is not configured any more may go to any other."""
        gone: set[str] = set()
        for number in numbers:
            standing = item.standings[number]
            if standing.pinned and standing.provider not in self._pools:
                gone.add(standing.provider)
                item.standings[number] = replace(standing, pinned=False)
        for name in gone:
            self._events.warning(
                f"{name} is not configured any more: mail whose outcome there is uncertain goes to another provider",
                id=item.envelope.uuid,
            )

    def _ended(self, result: Result, attempt: Attempt) -> None:
        """A transaction is over: judge it, and write down what that means."""
        item, name = attempt.item, attempt.pool.name
        if not isinstance(attempt.body, bytes):
            attempt.body.close()
        outcomes, attempt.notes = self.brakes.judge(name, item.envelope, got_through(result.outcomes))
        attempt.outcomes, attempt.trouble = outcomes, result.trouble
        for number, outcome in zip(attempt.numbers, outcomes, strict=True):
            if isinstance(outcome, GOES_ROUND):
                item.rounds.setdefault(number, {})[name] = outcome
        judged = judge(
            [item.standings[number] for number in attempt.numbers],
            outcomes,
            item.rounds,
            self._circumstances(attempt),
        )
        attempt.settled, attempt.again = judged.standings, judged.again
        if attempt.marked:
            attempt.settled += tuple([item.standings[number] for number in attempt.again])
        self._conclude(attempt, result.dsn)

    def _conclude(self, attempt: Attempt, dsn: bool) -> None:
        """Write down what was judged, with what is to be reported of it."""
        if not (attempt.settled or attempt.notes):
            self._written(attempt)
        elif self._reports.owed(attempt.item, attempt.settled, dsn):
            Deferred.fromCoroutine(self._settle_with_reports(attempt, dsn))
        else:
            self._settle(attempt)

    def _circumstances(self, attempt: Attempt) -> Circumstances:
        name = attempt.pool.name
        return Circumstances(
            provider=name,
            order=self._names,
            up=[other for other, pool in self._pools.items() if pool.takes_mail],
            hold_uncertain=name in self.settings.hold_uncertain,
            retry=self.settings.retry,
            age=attempt.age,
            now=self._now(),
            uniform=self._uniform,
        )

    async def _settle_with_reports(self, attempt: Attempt, dsn: bool) -> None:
        """A report that cannot be written for a reason of ours must not keep its mail from being settled."""
        try:
            written = await self._reports.write(attempt.item, attempt.settled, dsn)
            attempt.settled, attempt.reports = written.standings, written.reports
            attempt.notes += written.notes
        except Exception:
            self._events.error("a report could not be written", Failure(), id=attempt.item.envelope.uuid)
        self._settle(attempt)

    def _settle(self, attempt: Attempt) -> None:
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
            Settlement(item.envelope.key, item.envelope.uuid, attempt.settled, attempt.reports, finished, attempt.notes)
        )
        writing.addCallbacks(self._written_down, self._not_written, (attempt,), {}, (attempt,))

    def _not_written(self, failure: Failure, attempt: Attempt) -> None:
        if not attempt.failed:
            self._events.error(f"an outcome could not be written and is kept in memory: {failure.value}")
            self._unwritten += 1
        attempt.failed = True
        self._clock.callLater(AGAIN, self._write, attempt)

    def _written_down(self, _: None, attempt: Attempt) -> None:
        self._unwritten -= attempt.failed
        after = self._settling.pop(attempt.item.envelope.key)
        self._written(attempt)
        for each in after:
            self._settle(each)

    def _written(self, attempt: Attempt) -> None:
        """What came of it is durable: say so, and go on with whoever is left."""
        item, again = attempt.item, set(attempt.again)
        for standing in attempt.settled:
            item.standings[standing.number] = standing
            if standing.number in again:
                continue
            item.queued.discard(standing.number)
            item.rounds.pop(standing.number, None)
            if standing.state is State.DEFERRED:
                self._schedule.due_at(standing.due)
        self._tell(attempt)
        for report in attempt.reports:
            self._schedule.add(report)
        self._go_on(attempt)
        self._end(attempt)

    def _go_on(self, attempt: Attempt) -> None:
        now, item = self._clock.seconds(), attempt.item
        if attempt.again and attempt.trouble is None:
            self.lines.put(Task(item, list(attempt.again)), first=True)
        elif attempt.again:  # the disk failed while the body left
            self.lines.pause(Task(item, list(attempt.again), now + AGAIN))
        if attempt.rest:
            rest, attempt.rest = attempt.rest, []
            if self.settings.batch_delay:
                self.lines.pause(Task(item, rest, now + self.settings.batch_delay))
            else:
                self.lines.put(Task(item, rest))

    def _release_rests(self) -> None:
        """A batch whose provider does not answer holds up no further batch of its mail."""
        before = self._clock.seconds() - PATIENCE
        for attempt in self._attempts:
            if attempt.rest and attempt.began <= before:
                rest, attempt.rest = attempt.rest, []
                self.lines.put(Task(attempt.item, rest))

    def _end(self, attempt: Attempt) -> None:
        item, flights = attempt.item, self._flights
        self._attempts.discard(attempt)
        item.active -= 1
        if flights is not None:
            if attempt.flies:
                flights.end(item.envelope.key)
            if item.look() in (None, "held"):
                flights.forget(item.envelope.key)
            if self.lines.aside:
                self._try_suspect(flights)
        self._schedule.show(item)
        if self._quiet and not item.active:
            self._is_quiet(item.envelope.key)
        self._tell_if_drained()
        self.pump()

    def _is_quiet(self, key: int) -> None:
        waiting = self._quiet.pop(key, None)
        if waiting is not None:
            waiting.callback(None)

    def _in_a_digest(self, item: Item) -> None:
        self._account.finished(item.envelope, item.standings, max(self._now() - item.envelope.received_at, 0.0))
        self._schedule.show(item)

    def _tell_if_drained(self) -> None:
        if self._drained is not None and not self._attempts:
            done, self._drained = self._drained, None
            done.callback(None)

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


def _held(item: Item, numbers: list[int], reply: str) -> tuple[Standing, ...]:
    return tuple([replace(item.standings[number], state=State.HELD, due=0.0, reply=reply) for number in numbers])
