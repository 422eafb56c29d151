"""Delivery: hands mail that is due to providers and writes down what came of it.

`pump` takes from the lines as long as there are workers and connections. A transaction ends in one settlement, one
commit for all its recipients, and only then is anything logged, counted or tried on. Until that is durable it holds its
worker and its place at the provider: so many mails a crash may send once more, and no others.

Failure: an outcome that cannot be written is kept and written again every second; until then nothing new is begun.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from relay.delivery.account import Account
from relay.delivery.attempts import Attempt, Attempts, held
from relay.delivery.brakes import Brakes
from relay.delivery.crashes import Crashes
from relay.delivery.digests import Digests, waits_for_digest
from relay.delivery.flights import Flights
from relay.delivery.judge import Judge
from relay.delivery.ledger import AGAIN, Ledger
from relay.delivery.lines import Lines, Task
from relay.delivery.reports import Reports
from relay.delivery.settings import Settings
from relay.delivery.suspects import Suspects
from relay.events import Events
from relay.outcome import ProviderFault
from relay.schedule import Item, Schedule
from relay.spool.spool import Body, Damaged, Spool, SpoolError, State
from relay.upstream.links import Job
from relay.upstream.pool import Pool
from relay.upstream.sender import Batch, Result

_SUSPECTED = "suspected: it was under way three times when the daemon ended without a word"


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
        flights: Flights | Crashes | None,
        account: Account,
        events: Events,
    ) -> None:
        self.settings = settings
        self.brakes = brakes
        self.lines = Lines(pools, clock, brakes, self.pump, lambda item: self._schedule.memory.no_longer_fresh(item))
        self._spool = spool
        self._pools = pools
        self._clock = clock
        self._now = now
        self._judge = Judge(pools, brakes, now, uniform)
        self._digests = Digests(spool, reports, clock, events, self._in_a_digest)
        self._ledger = Ledger(spool, reports, clock, events, self._written, self._late)
        self.suspects = Suspects(flights, self.lines)
        self._account = account
        self._events = events
        self._schedule: Schedule
        self.attempts = Attempts(clock)
        self._stopping = False
        self._pumping = False
        self._drained: Deferred[None] | None = None

    def start(self, schedule: Schedule) -> None:
        """Take what `schedule` hands out."""
        self._schedule = schedule
        self._digests.start(schedule)
        self.brakes.start()

    def follow(self, settings: Settings) -> None:
        """Go by these from now on, and by the providers as they are now."""
        self.settings = settings
        self.brakes.follow()
        self.lines.follow()
        for item in list(self._schedule.items.values()):
            self._drop_pins(item, list(item.queued))
        self.changed()

    def stop(self) -> Deferred[None]:
        """Begin nothing more; fires when no transaction is under way and every outcome is written."""
        self._stopping = True
        self.lines.stop()
        self._drained = done = Deferred[None]()
        self._tell_if_drained()
        return done

    def ready(self, item: Item, numbers: list[int]) -> None:
        """Recipients of a mail are to be tried."""
        if self.suspects.condemned(item):
            self._hold(item, numbers, _SUSPECTED)
            return
        if self.suspects.put_aside(item, numbers, self._clock.seconds()):
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
        self._schedule.refill()
        self.pump()

    def under_way(self, item: Item) -> set[int]:
        """The recipients of a mail that a transaction is under way for."""
        return {number for attempt in self.attempts.of(item) for number in attempt.numbers}

    def withdraw(self, item: Item) -> list[int]:
        """Begin nothing more for a mail; the recipients that waited, which are the caller's to put back (`ready`)."""
        return self.lines.withdraw(item) + self.attempts.withdraw(item)

    @property
    def is_blocked(self) -> bool:
        """Whether nothing is begun because an outcome cannot be written down."""
        return self._ledger.unwritten > 0

    @property
    def is_busy(self) -> bool:
        """Whether no worker is free."""
        return self.attempts.under_way >= self.settings.workers

    def idle(self) -> float | None:
        """For how many seconds no provider has taken a mail; None: never. In any thread."""
        last = max((pool.last_success_at or 0.0 for pool in list(self._pools.values())), default=0.0)
        return self._clock.seconds() - last if last else None

    def room(self, fresh: bool = False) -> int:
        """How many more might begin in a moment, were there mail; `fresh`: mail that need not wait for what is not."""
        if self._stopping or self._ledger.unwritten or not (self._spool.in_force and self.may_begin):
            return 0
        before = self.lines.fresh() if fresh else self.lines.waiting()
        busy = self.attempts.under_way - self.attempts.over  # the others are free with what is written now
        return self.settings.workers + self.attempts.pace.ahead - busy - before

    @property
    def takes_mail(self) -> bool:
        """Whether there is a provider that is up."""
        return any(pool.takes_mail for pool in self._pools.values())

    @property
    def may_begin(self) -> bool:
        """Whether there is a provider that mail may go to now."""
        return any(pool.takes_mail or pool.may_be_tried or pool.on_trial for pool in self._pools.values())

    def item(self, key: int) -> Item | None:
        """The mail with that key, if it is in memory."""
        return self._schedule.items.get(key)

    def hand_back(self, item: Item) -> None:
        """Do nothing more for a mail than what is under way for it."""
        item.queued.difference_update(self.withdraw(item))
        if not item.active:
            self._schedule.show(item)

    def hand_rest_back(self) -> None:
        """The same for mail that was taken ahead and will not be begun in a moment: providers have become slower."""
        if (many := -self.room()) > self.attempts.pace.ahead:
            for item in self.lines.last(many):
                self.hand_back(item)

    def hand_all_back(self) -> None:
        """The same for every mail that is in memory."""
        for item in list(self._schedule.items.values()):
            self.hand_back(item)

    def tick(self) -> None:
        """What the clock does, about every half second: workers back from who waits long, trials, the sign of life."""
        now = self._clock.seconds()
        self.suspects.tick(now)
        self.attempts.stalled = sum(pool.stalled() for pool in self._pools.values())
        if self.attempts.stalled:
            for item, numbers in self.attempts.held_up(now):
                self.lines.put(Task(item, numbers))
        for name, pool in self._pools.items():
            if pool.on_trial:
                self.lines.end_trial(name)
            elif pool.may_be_tried:
                self.lines.try_again(name)
        self.pump()

    def pump(self) -> None:
        """Begin transactions as long as somebody waits, a worker is free and a connection may be had."""
        if self._pumping or self._stopping or self._ledger.unwritten or not self._spool.in_force:
            return
        self._pumping = True
        try:
            while not self._ledger.unwritten:
                if self.lines.over:
                    self._end_round(self.lines.over.popleft())
                    continue
                if self.is_busy or (taken := self.lines.take()) is None:
                    break
                self._begin(*taken)
        finally:
            self._pumping = False

    def _begin(self, task: Task, pool: Pool) -> None:
        item, size = task.item, self.settings.batch_size
        age = self._now() - item.envelope.received_at
        attempt = Attempt(item, task.numbers[:size], task.numbers[size:], pool, self._clock.seconds(), age)
        self.attempts.add(attempt)
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
            self._schedule.memory.keep_body(item, body)
        batch = Batch(
            envelope.sender,
            tuple([item.standings[number].recipient for number in attempt.numbers]),
            item.head,
            body,
            envelope.size,
            envelope.eight_bit,
            envelope.ret,
            envelope.envid,
            (lambda: self._ledger.mark(attempt)) if name in self.settings.hold_uncertain else None,
        )
        attempt.pool.send(Job(batch, envelope.key, self._ended, attempt, self._took_off))

    def _took_off(self, attempt: Attempt) -> None:
        """From here on its mail may be what ends the daemon."""
        attempt.flies = True
        self.suspects.took_off(attempt.item)

    def _unreadable(self, failure: Failure, attempt: Attempt) -> None:
        """The body could not be read: held where it is damaged, tried again where the disk failed."""
        attempt.pool.reserved -= 1
        attempt.numbers, attempt.rest = attempt.numbers + attempt.rest, []
        if failure.check(Damaged):
            attempt.settled = held(attempt.item, attempt.numbers, f"quarantine: {failure.value}")
            self._ledger.settle(attempt)
            return
        if not failure.check(SpoolError):
            self._events.error("a body could not be read", failure)
        self._end(attempt)
        self.lines.pause(Task(attempt.item, attempt.numbers, self._clock.seconds() + AGAIN))

    def _hold(self, item: Item, numbers: list[int], reply: str) -> None:
        """Hold recipients without trying them."""
        attempt = self._unasked(item, numbers)
        attempt.settled = held(item, numbers, reply)
        self._ledger.settle(attempt)

    def _end_round(self, task: Task) -> None:
        """Nobody is left to be asked, since who was to be next is down: what was said is the end of the round."""
        attempt = self._unasked(task.item, task.numbers)
        self._judge.round_ended(attempt, self.settings)
        self._ledger.conclude(attempt, dsn=False)

    def _unasked(self, item: Item, numbers: list[int]) -> Attempt:
        """Something is to be written down without a transaction. That never makes a mail too old."""
        attempt = Attempt(item, numbers, [], next(iter(self._pools.values())), self._clock.seconds(), float("-inf"))
        self.attempts.add(attempt)
        return attempt

    def _drop_pins(self, item: Item, numbers: list[int]) -> None:
        for name in self.lines.drop_pins(item, numbers):
            self._events.warning(
                f"{name} is not configured any more: mail whose outcome there is uncertain goes to another provider",
                id=item.envelope.uuid,
            )

    def _ended(self, result: Result, attempt: Attempt) -> None:
        """A transaction is over: judge it, and write down what that means."""
        if not isinstance(attempt.body, bytes):
            attempt.body.close()
        self.attempts.end(attempt)
        self._judge.ended(attempt, result, self.settings)
        self._ledger.conclude(attempt, dsn=result.dsn)
        self._schedule.ended()

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
        self._account.ended(attempt, self._clock.seconds(), self._now())
        for report in attempt.reports:
            self._schedule.add(report)
        self._go_on(attempt)
        self._end(attempt)

    def _late(self, attempt: Attempt) -> None:
        """The mail is another process's, and so is all that is to be done for it."""
        self.withdraw(attempt.item)
        attempt.item.queued.clear()
        self._end(attempt)

    def _go_on(self, attempt: Attempt) -> None:
        now, item = self._clock.seconds(), attempt.item
        if attempt.again and attempt.trouble is None:
            failed = attempt.flies and any(isinstance(outcome, ProviderFault) for outcome in attempt.outcomes)
            self.lines.put(Task(item, list(attempt.again), failed=attempt.pool.name if failed else ""), first=True)
        elif attempt.again:  # the disk failed while the body left
            self.lines.pause(Task(item, list(attempt.again), now + AGAIN))
        rest, attempt.rest = attempt.rest, []
        if rest and self.settings.batch_delay:
            self.lines.pause(Task(item, rest, now + self.settings.batch_delay))
        elif rest:
            self.lines.put(Task(item, rest))

    def _end(self, attempt: Attempt) -> None:
        item = attempt.item
        self.attempts.discard(attempt)
        self.suspects.landed(item, self._clock.seconds(), flew=attempt.flies)
        self._schedule.show(item)
        self.attempts.tell_if_quiet(item)
        self._tell_if_drained()
        self.pump()

    def _in_a_digest(self, item: Item) -> None:
        self._account.finished(item.envelope, item.standings, max(self._now() - item.envelope.received_at, 0.0))
        self._schedule.show(item)

    def _tell_if_drained(self) -> None:
        if self._drained is not None and not self.attempts:
            done, self._drained = self._drained, None
            done.callback(None)
