"""Delivery that never loses: the real delivery, schedule and pools, driven through whatever may happen to them.

Providers say anything, fall silent, go and come back; time passes; the spool is slow, refuses or cannot be read; the
process is killed or stopped. In between, and once all is well again, what delivery promises must hold.

MAILRELAY_MACHINE_RUNS says how many lives are lived, MAILRELAY_MACHINE_SEED which (a number; "random" for new ones).
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred as Promise
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from relay.delivery.flights import Flights
from relay.delivery.operator import AT_ONCE, Operator, Order
from relay.delivery.selection import Selection
from relay.envelope import Envelope, Recipient
from relay.outcome import (
    CannotTake,
    Deferred,
    Delivered,
    Outcome,
    OverLimit,
    ProviderFault,
    Rejected,
    Retired,
    Stage,
    Uncertain,
)
from relay.reply import Reply, no_reply
from relay.retry import Retry
from relay.spool.spool import SpoolFailing, SpoolFull, Submission
from relay.upstream.sender import Batch, Fault, Result
from tests.ledger import Ledger, named
from tests.memory_spool import MemorySpool
from tests.providers import TAKEN, ScriptedConnection, ScriptedProvider
from tests.unit.test_delivery import House

RUNS = int(os.environ.get("MAILRELAY_MACHINE_RUNS", "120"))
SEED = os.environ.get("MAILRELAY_MACHINE_SEED", "1")
MAX_AGE = 86400.0
NAMES = ("first", "second", "third")

SAYINGS: dict[str, Outcome] = {
    "takes": TAKEN,
    "later": Deferred(Reply(451, "4.7.1", ("Greylisted",))),
    "no": Rejected(Reply(550, "5.7.1", ("Not from you",))),
    "nobody": Rejected(Reply(550, "5.1.1", ("No such user",)), final=True),
    "cannot": CannotTake(Reply(550, "5.6.3", ("no 8BITMIME",))),
    "limit": OverLimit(Reply(452, "4.5.3", ("Too many",))),
}
ENDS: dict[str, Outcome] = {
    "fault": ProviderFault(no_reply("the connection was lost")),
    "login": ProviderFault(Reply(530, "5.7.0", ("Log in first",))),
    "closing": ProviderFault(Reply(421, "4.7.0", ("Closing",))),
    "retired": Retired(Reply(421, "4.4.2", ("idle",))),
    "lost": Uncertain(no_reply("the connection was lost behind the final dot")),
    "lost, taken": Uncertain(no_reply("the connection was lost behind the final dot")),
}
DOWN: dict[str, ProviderFault] = {
    "refused": ProviderFault(no_reply("connection refused")),
    "busy": ProviderFault(Reply(421, "4.3.2", ("Too many connections",))),
    "login": ProviderFault(Reply(535, "5.7.8", ("Wrong",)), auth=True),
}
NOTIFY = (None, frozenset({"NEVER"}), frozenset({"SUCCESS"}), frozenset({"FAILURE"}), frozenset({"FAILURE", "DELAY"}))
SECONDS = (0.1, 0.6, 3.0, 16.0, 31.0, 61.0, 310.0, 700.0, 4000.0, 90000.0)


class MovedConnection(ScriptedConnection):
    """A connection whose transactions wait for the spool where a dot is written down, and end when they are told to."""

    provider: Actor

    def deliver(self, batch: Batch) -> Promise[Result]:
        """See Connection."""
        done: Promise[Result] = Promise()
        transaction = Transaction(self, batch, done)
        actor = self.provider
        actor.transactions.append(transaction)
        self.waiting_since = actor.clock.seconds()
        if batch.before is None:
            transaction.left = True
        else:
            batch.before().addCallbacks(transaction.marked, transaction.not_marked)
        if actor.prompt:
            actor.go_on()
        return done


class Transaction:
    """One that is under way; `left` says whether its dot may have."""

    def __init__(self, connection: MovedConnection, batch: Batch, done: Promise[Result]) -> None:
        self.connection = connection
        self.batch = batch
        self.done = done
        self.began = connection.provider.clock.seconds()
        self.left = False

    def marked(self, _: None) -> None:
        """It is durable that the dot is about to leave."""
        self.left = True
        if self.connection.provider.prompt:
            self.connection.provider.go_on()

    def not_marked(self, failure: object) -> None:
        """It could not be made durable."""
        actor = self.connection.provider
        if self in actor.transactions:
            actor.transactions.remove(self)
            said = Retired(no_reply("trouble of our own"))
            self.end((said,) * len(self.batch.recipients), usable=False, trouble=SpoolFailing(str(failure)))

    def end(self, outcomes: tuple[Outcome, ...], usable: bool, trouble: Exception | None = None) -> None:
        """It is over."""
        connection = self.connection
        connection.waiting_since = None
        connection.carried += usable
        connection.idle_since = connection.provider.clock.seconds()
        self.done.callback(Result(outcomes, usable, connection.provider.begun, trouble))


class Actor(ScriptedProvider):
    """A provider that does as the machine says, and keeps the ledger.

    sayings       what is said to recipients, over and over
    end           how transactions end instead of that, if they do
    dials         whether connections are let in at once
    """

    def __init__(self, name: str, clock: Clock, ledger: Ledger, connections: int) -> None:
        super().__init__(name, clock, connections=connections)
        self.ledger = ledger
        self.sayings: Sequence[str] = ("takes",)
        self.end = ""
        self.dials = True
        self.begun = True
        self.transactions: list[Transaction] = []
        self.waiting: list[Promise[ScriptedConnection]] = []
        self._turn = 0

    def dial(self, pipelining: bool) -> Promise[ScriptedConnection]:
        """See connect."""
        done: Promise[ScriptedConnection] = Promise(self._cancelled)
        self.waiting.append(done)
        if self.dials:
            self.let_in()
        return done

    def _cancelled(self, done: Promise[ScriptedConnection]) -> None:
        if done in self.waiting:
            self.waiting.remove(done)

    def let_in(self) -> None:
        """Whoever waits for a connection gets one, or none."""
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            if self.up is not None:
                done.errback(Fault(self.up, Stage.CONNECT, 0.0))
            else:
                done.callback(MovedConnection(self))

    def go_on(self) -> None:
        """Answer everything whose dot has left; what comes of it may bring more."""
        while (found := next((each for each in self.transactions if each.left), None)) is not None:
            self.transactions.remove(found)
            self._answer(found)

    def _answer(self, transaction: Transaction) -> None:
        batch = transaction.batch
        end = self.end if self.end != "retired" or transaction.connection.carried else ""
        outcomes = (ENDS[end],) * len(batch.recipients) if end else self._said(batch)
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, Delivered) or (isinstance(outcome, Uncertain) and end == "lost, taken"):
                self.ledger.take(batch, number)
                self.ledger.excused[named(batch, number)] += isinstance(outcome, Uncertain)
        self.ledger.said(self.name, batch, outcomes, transaction.began - self._received(batch))
        transaction.end(outcomes, usable=not end)

    def _said(self, batch: Batch) -> tuple[Outcome, ...]:
        outcomes: list[Outcome] = []
        for _ in batch.recipients:
            saying = SAYINGS[self.sayings[self._turn % len(self.sayings)]]
            self._turn += 1
            accepted = any(isinstance(outcome, Delivered | Deferred) for outcome in outcomes)
            outcomes.append(SAYINGS["later"] if isinstance(saying, OverLimit) and not accepted else saying)
        return tuple(outcomes)

    def _received(self, batch: Batch) -> float:
        address = batch.recipients[0].address
        found = self.ledger.acknowledged.values()
        return next((each.received_at for each in found if each.recipients[0].address == address), 0.0)

    def cut_off(self, clock: Clock, choose: random.Random) -> None:
        """The process is gone. What it was about to say was not heard; it may have taken mail all the same."""
        for transaction in self.transactions:
            if transaction.left and choose.random() < 0.5:
                for number in range(len(transaction.batch.recipients)):
                    self.ledger.take(transaction.batch, number)
        self.transactions.clear()
        self.waiting.clear()
        self.clock = clock

    def be_good(self) -> None:
        """From now on everything is taken at once."""
        self.up, self.end, self.sayings = None, "", ("takes",)
        self.prompt = self.dials = True
        self.let_in()
        self.go_on()


async def at_once() -> None:
    """Somebody waits for the answer."""


class Machine(RuleBasedStateMachine):
    """See the module's docstring."""

    house: House

    @initialize(
        providers=st.integers(1, 3),
        holding=st.booleans(),
        suspecting=st.booleans(),
        connections=st.sampled_from([1, 2, 10]),
        limit=st.sampled_from([1, 3, 8, 100]),
        chosen=st.fixed_dictionaries(
            {
                "workers": st.sampled_from([1, 3, 10]),
                "batch_size": st.sampled_from([1, 4, 20]),
                "batch_delay": st.sampled_from([0.0, 1.0]),
            }
        ),
        schedule=st.sampled_from([(60.0, 300.0), (0.0,), ()]),
    )
    def begin(
        self,
        providers: int,
        holding: bool,
        suspecting: bool,
        connections: int,
        limit: int,
        chosen: dict[str, object],
        schedule: tuple[float, ...],
    ) -> None:
        """The first life begins."""
        self.names = NAMES[:providers]
        self.ledger = Ledger(MAX_AGE)
        self.folder = tempfile.TemporaryDirectory() if suspecting else None
        self.limit = limit
        self.settings = chosen | {
            "retry": Retry(schedule, 3600.0, 0.0, MAX_AGE),
            "hold_uncertain": frozenset(self.names[:1] if holding else ()),
        }
        self.mails = 0
        self.troubles: list[Failure] = []
        globalLogPublisher.addObserver(self.observe)  # type: ignore[arg-type]
        clock = Clock()
        clock.advance(1000.0)
        self.actors = {name: Actor(name, clock, self.ledger, connections) for name in self.names}
        self.live(clock)

    def live(self, clock: Clock, spool: MemorySpool | None = None) -> None:
        """A life begins, with what one before has left, if there was one."""
        flights = Flights(Path(self.folder.name) / "flights", clock.seconds) if self.folder is not None else None
        self.house = House(
            self.names,
            flights=flights,
            clock=clock,
            spool=spool,
            providers=self.actors,
            limit=self.limit,
            **self.settings,  # type: ignore[arg-type]
        )
        house = self.house
        self.operator = Operator(
            house.spool,
            house.schedule,
            house.delivery,
            house.pools,
            house.account,
            house.events,
            house.clock,
            house.clock.seconds,
        )

    def observe(self, event: LogEvent) -> None:  # an ILogObserver
        """Failures that nobody took."""
        if "log_failure" in event:
            self.troubles.append(event["log_failure"])

    # What may happen

    @rule(
        recipients=st.integers(1, 45),
        notify=st.sampled_from(NOTIFY),
        null=st.booleans(),
        sender=st.sampled_from(["a", "b"]),
    )
    def mail(self, recipients: int, notify: frozenset[str] | None, null: bool, sender: str) -> None:
        """A mail is submitted, and told once it is durable."""
        house, spool = self.house, self.house.spool
        self.mails += 1
        key, uuid = spool.next_id()
        to = tuple(Recipient(f"r{number}-m{self.mails}@example.net", notify) for number in range(recipients))
        envelope = Envelope(key, uuid, "" if null else f"{sender}@example.com", to, house.clock.seconds(), 14)
        submission = Submission(envelope, b"Subject: t\r\n\r\n", b"x\r\n")

        def durable(_: None) -> None:
            self.ledger.acknowledge(envelope)
            house.schedule.add(submission)

        spool.submit(submission).addCallbacks(durable, lambda failure: None)

    @rule(name=st.sampled_from(NAMES), sayings=st.lists(st.sampled_from(sorted(SAYINGS)), min_size=1, max_size=4))
    def answer_so(self, name: str, sayings: list[str]) -> None:
        """A provider says this to recipients from now on."""
        if name in self.actors:
            self.actors[name].sayings, self.actors[name].end = sayings, ""

    @rule(name=st.sampled_from(NAMES), end=st.sampled_from(sorted(ENDS)), begun=st.booleans())
    def end_so(self, name: str, end: str, begun: bool) -> None:
        """A provider ends all its transactions so from now on."""
        if name in self.actors:
            self.actors[name].end, self.actors[name].begun = end, begun

    @rule(name=st.sampled_from(NAMES), down=st.sampled_from(["", *sorted(DOWN)]))
    def let_in(self, name: str, down: str) -> None:
        """A provider lets nobody in, or everybody again."""
        if name in self.actors:
            self.actors[name].up = DOWN.get(down)

    @rule(name=st.sampled_from(NAMES), prompt=st.booleans(), dials=st.booleans())
    def speak(self, name: str, prompt: bool, dials: bool) -> None:
        """A provider falls silent, or speaks again."""
        if name in self.actors:
            actor = self.actors[name]
            actor.prompt, actor.dials = prompt, dials
            if dials:
                actor.let_in()
            if prompt:
                actor.go_on()

    @rule(name=st.sampled_from(NAMES))
    def answer(self, name: str) -> None:
        """A silent provider answers what has waited so far."""
        if name in self.actors:
            self.actors[name].let_in()
            self.actors[name].go_on()

    @rule(seconds=st.sampled_from(SECONDS))
    def pass_by(self, seconds: float) -> None:
        """Time passes."""
        self.tick(seconds)

    @rule(at_once=st.booleans(), tells=st.booleans())
    def spool_slow(self, at_once: bool, tells: bool) -> None:
        """The spool takes its time, or does not."""
        spool = self.house.spool
        spool.at_once, spool.tells_at_once = at_once, tells
        if at_once:
            spool.commit()
        if tells:
            spool.tell()

    @rule()
    def commit(self) -> None:
        """What waits for the spool has waited long enough."""
        self.house.spool.commit()
        self.house.spool.tell()

    @rule()
    def tell(self) -> None:
        """What was read is told, and nothing is written yet."""
        self.house.spool.tell()

    @rule(writes=st.booleans(), reads=st.booleans())
    def spool_fails(self, writes: bool, reads: bool) -> None:
        """The disk is full, or cannot be read, or is well again."""
        self.house.spool.refuse = SpoolFull("no space") if writes else None
        self.house.spool.refuse_reads = SpoolFailing("cannot be read") if reads else None

    @rule(order=st.sampled_from(Order), state=st.sampled_from([None, "ready", "deferred", "held"]))
    def command(self, order: Order, state: str | None) -> None:
        """A person wants something of all mails, or of those in some state."""
        if order is Order.RELEASE:
            self.ledger.sent_again()
        selection = Selection(everything=True, state=state)
        Promise.fromCoroutine(self.operator.change(order, selection, at_once)).addErrback(self.command_failed)
        self.house.clock.advance(0)

    def command_failed(self, failure: Failure) -> None:
        """What was asked could not be read or written."""
        failure.trap(SpoolFailing)

    @rule(committed=st.integers(0, 3), seed=st.integers(0, 7), tells=st.booleans())
    def kill(self, committed: int, seed: int, tells: bool) -> None:
        """The process is killed; some of what was to be written may have been. Another one starts; the disk is slow."""
        clock = Clock()
        clock.advance(self.house.clock.seconds() + 0.5)
        choose = random.Random(seed)
        for actor in self.actors.values():
            actor.cut_off(clock, choose)
        spool = self.house.spool.killed(clock.seconds, committed)
        spool.tells_at_once = tells
        self.ledger.follow(spool.settled)
        self.ledger.sent_again()
        self.live(clock, spool)

    # What must hold

    @invariant()
    @precondition(lambda self: hasattr(self, "house"))
    def at_every_moment(self) -> None:
        """Nobody is lost, comes to two ends, or gets a mail twice without need; the figures are true."""
        house = self.house
        for trouble in self.troubles:
            trouble.raiseException()
        assert [line for line in house.log.of("error") if "traceback" in line] == []
        self.ledger.follow(house.spool.settled)
        self.ledger.check_copies()
        self.check_nobody_lost()
        assert min(house.schedule.counts.values()) >= 0, house.schedule.counts
        assert len(house.schedule.items) <= self.limit + AT_ONCE
        assert all(pool.reserved >= 0 for pool in house.pools.values())
        assert house.delivery.attempts.under_way <= max(house.delivery.settings.workers, 1)
        if house.spool.is_quiet and not house.delivery.is_blocked:
            assert house.schedule.waiting == len(house.spool.mails)

    def check_nobody_lost(self) -> None:
        """Whoever was acknowledged has come to an end, or waits."""
        mails = self.house.spool.mails
        for key, envelope in self.ledger.acknowledged.items():
            if key not in mails:
                for recipient in envelope.recipients:
                    name = envelope.uuid if envelope.report else recipient.address
                    assert name in self.ledger.ended, f"{name} is lost"

    def teardown(self) -> None:
        """All is well again: everything comes to its end."""
        if hasattr(self, "house"):
            try:
                self.be_well()
            finally:
                globalLogPublisher.removeObserver(self.observe)  # type: ignore[arg-type]
                if self.folder is not None:
                    self.folder.cleanup()

    def be_well(self) -> None:
        """The disk works and every provider takes everything, for as long as it takes."""
        spool = self.house.spool
        spool.refuse = spool.refuse_reads = None
        spool.at_once = spool.tells_at_once = True
        spool.commit()
        spool.tell()
        for actor in self.actors.values():
            actor.be_good()
        for _ in range(40):
            if self.is_done():
                break
            self.tick(700.0, step=5.0)
        self.tick(2.0)
        self.at_every_moment()
        self.ledger.check_ends(len(self.names))
        self.check_held()
        self.check_empty()

    def is_done(self) -> bool:
        """Whether only what is held waits."""
        counts = self.house.schedule.counts
        return counts["held"] == self.house.schedule.waiting

    def check_held(self) -> None:
        """Whoever still waits is held for a reason."""
        for mail in self.house.spool.mails.values():
            for standing in mail.standings:
                if standing.state.waiting:
                    assert standing.reply.startswith(("uncertain: ", "suspected: ", "by command")), standing

    def check_empty(self) -> None:
        """Nothing is left in memory."""
        house, delivery = self.house, self.house.delivery
        assert house.schedule.counts == {"ready": 0, "active": 0, "deferred": 0, "held": len(house.spool.mails)}
        assert house.schedule.memory.empty
        assert not delivery.attempts
        assert not delivery.attempts.over
        assert not delivery._ledger._settling
        assert not delivery.is_blocked
        assert not delivery._digests._waiting
        lines = delivery.lines
        assert not any((lines._stranded, lines._paused, lines.over, lines.aside, lines.waiting()))
        assert not lines._pauses.running
        for pool in house.pools.values():
            assert (pool.reserved, len(pool._waiting), pool._under_way) == (0, 0, 0)

    def tick(self, seconds: float, step: float | None = None) -> None:
        """Time passes, with what a daemon does by the clock; in large steps, where it is much."""
        house = self.house
        step = step or max(seconds / 40, min(seconds, 0.5))
        until = house.clock.seconds() + seconds
        while (left := until - house.clock.seconds()) > 1e-6:
            house.clock.advance(min(step, left))
            for pool in house.pools.values():
                pool.tidy()
            house.delivery.tick()


def test_machine() -> None:
    """Whatever happens in whichever order."""
    machine = Machine
    if SEED != "random":
        machine = seed(int(SEED))(machine)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=30,
            deadline=None,
            database=None,
            print_blob=False,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
