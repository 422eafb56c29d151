"""From mail that is due to outcomes that are written down, over providers with a script and a spool in memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from relay.bounce.report import Letterhead
from relay.delivery.account import Account
from relay.delivery.brakes import Brakes
from relay.delivery.crashes import Crashes
from relay.delivery.delivery import Delivery
from relay.delivery.flights import Flights
from relay.delivery.ledger import AGAIN
from relay.delivery.reports import Reports, Terms
from relay.delivery.settings import Settings
from relay.envelope import Envelope, Recipient
from relay.events import Events
from relay.metrics import Metrics
from relay.outcome import Deferred, Outcome, OverLimit, ProviderFault, Rejected, Retired, Uncertain
from relay.reply import Reply, no_reply
from relay.retry import Retry
from relay.schedule import Schedule
from relay.spool.spool import LostTurn, SpoolFull, State, Submission
from relay.upstream.breaker import Breaker, Probes
from relay.upstream.pool import Pool
from relay.upstream.sender import Batch
from tests.memory_spool import MemorySpool
from tests.providers import REFUSED, TAKEN, ScriptedProvider, always, takes

LATER = Deferred(Reply(451, "4.7.1", ("Greylisted",)))
NO = Rejected(Reply(550, "5.7.1", ("Not from you",)))
NOBODY = Rejected(Reply(550, "5.1.1", ("No such user",)), final=True)
LOST = Uncertain(no_reply("the connection was lost behind the final dot"))


class Lines:
    """A log in memory."""

    def __init__(self) -> None:
        self.entries: list[dict[str, object]] = []

    def write(self, entry: dict[str, object]) -> None:
        """See Sink."""
        json.dumps(entry)
        self.entries.append(entry)

    def of(self, event: str) -> list[dict[str, object]]:
        """The lines of one event."""
        return [entry for entry in self.entries if entry["event"] == event]


class House:
    """Two providers, a spool, a schedule and the delivery between them.

    spool, providers  those of a life before, if there was one
    limit             mails in memory
    now               the spool's clock
    """

    def __init__(
        self,
        names: Sequence[str] = ("first", "second"),
        at_once: bool = True,
        flights: Flights | Crashes | None = None,
        *,
        clock: Clock | None = None,
        spool: MemorySpool | None = None,
        providers: Mapping[str, ScriptedProvider] | None = None,
        limit: int = 100,
        now: Callable[[], float] | None = None,
        **settings: object,
    ) -> None:
        self.clock = clock or Clock()
        self.now = now or self.clock.seconds
        self.log = Lines()
        self.events = events = Events(self.log, self.clock.seconds)
        self.metrics = Metrics("0")
        self.account = Account(events, self.metrics, self.clock.seconds)
        self.spool = spool or MemorySpool(self.now, at_once)
        self.providers = providers or {name: ScriptedProvider(name, self.clock) for name in names}
        pools: Mapping[str, Pool] = {
            name: Pool(
                provider.config,
                provider.dial,  # type: ignore[arg-type]
                Breaker(Probes(15.0, 600.0), 0.0),
                self.clock,
                events,
                lambda: self.delivery.changed(),
            )
            for name, provider in self.providers.items()
        }
        self.pools = pools
        terms = Terms(Letterhead("relay.example", "example.com"), "sender", 3600.0, 86400.0, 20, {"first": "first"})
        defaults: dict[str, object] = {
            "workers": 10,
            "batch_size": 20,
            "batch_delay": 1.0,
            "retry": Retry((60.0, 300.0), 3600.0, 0.0, 86400.0),
            "hold_uncertain": frozenset(),
        }
        self.delivery = Delivery(
            Settings(**(defaults | settings)),  # type: ignore[arg-type]
            self.spool,
            pools,
            self.clock,
            self.now,
            lambda low, high: low,
            Reports(terms, self.spool, self.now, self.clock.seconds),
            Brakes(pools, self.spool.notes, self.now, events),
            flights,
            self.account,
            events,
        )
        self.schedule = Schedule(
            self.spool,
            self.clock,
            self.now,
            limit,
            self.delivery.ready,
            lambda text: events.warning(text),
            lambda: self.delivery.takes_mail,
        )
        self.delivery.start(self.schedule)
        self.schedule.start()

    def mail(self, *to: str, sender: str = "a@example.com") -> Envelope:
        """A new mail, durable and handed out."""
        key, uuid = self.spool.next_id()
        recipients = tuple(Recipient(address) for address in to or ("b@example.net",))
        envelope = Envelope(key, uuid, sender, recipients, self.now(), 14)
        submission = Submission(envelope, b"Subject: t\r\n\r\n", b"x\r\n")
        self.spool.submit(submission)
        self.spool.commit()
        self.schedule.add(submission)
        return envelope

    def tick(self, seconds: float, step: float = 0.1) -> None:
        """Time passes, with what a daemon does by the clock."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            for pool in self.pools.values():
                pool.tidy()
            self.delivery.tick()

    def says(self, name: str, *outcomes: Outcome) -> None:
        """What that provider says to the recipients of its transactions, by their place."""
        self.providers[name].says = lambda batch: (outcomes[: len(batch.recipients)], True)

    def went_to(self, name: str) -> list[list[str]]:
        """The recipients of each transaction that was begun there."""
        return [[recipient.address for recipient in batch.recipients] for batch in self.providers[name].batches]


def test_a_mail_goes_through() -> None:
    """Delivered, settled in one commit, logged and counted; nothing of it is left."""
    house = House()

    mail = house.mail()

    assert [(settled.finished, settled.standings[0].state) for settled in house.spool.settled] == [
        (True, State.DELIVERED)
    ]
    assert house.spool.mails == {}
    assert house.schedule.waiting == 0
    assert [line["id"] for line in house.log.of("delivered")] == [mail.uuid]
    assert [line["result"] for line in house.log.of("finished")] == ["delivered"]
    assert (house.account.totals.delivered, house.account.totals.recipients) == (1, 1)
    assert (
        house.metrics.registry.get_sample_value(
            "mailrelay_recipients_total", {"provider": "first", "outcome": "delivered"}
        )
        == 1.0
    )


def test_nothing_is_logged_before_it_is_durable() -> None:
    """The outcome is said once its commit is done."""
    house = House(at_once=False)
    house.mail()

    assert house.log.of("delivered") == []
    house.spool.commit()

    assert len(house.log.of("delivered")) == 1


def test_the_second_provider_while_the_first_is_down() -> None:
    """Its mail goes to the next one at once, and back once it is there again; no attempt is counted."""
    house = House()
    house.providers["first"].up = REFUSED

    house.mail()
    assert house.went_to("second") == [["b@example.net"]]
    assert [line["error"] for line in house.log.of("provider_down")] == ["connection refused"]

    house.providers["first"].up = None
    house.tick(16.0)
    house.mail()

    assert house.went_to("first") == [["b@example.net"]]
    assert len(house.log.of("provider_up")) == 1


def test_all_providers_down() -> None:
    """The mail stays ready, whatever happens; nothing is counted, nothing bounces."""
    house = House()
    for provider in house.providers.values():
        provider.up = REFUSED
    house.mail()

    house.tick(3600.0)
    assert house.schedule.counts == {"ready": 1, "active": 0, "deferred": 0, "held": 0}
    assert house.spool.settled == []
    house.providers["second"].up = None
    house.tick(700.0)

    assert house.went_to("second") == [["b@example.net"]]


def test_deferred_by_both() -> None:
    """One attempt, and again after the first step."""
    house = House()
    for name in house.providers:
        house.says(name, LATER)

    house.mail()
    [settled] = house.spool.settled
    assert (settled.standings[0].attempts, settled.standings[0].due) == (1, 60.0)
    assert house.schedule.counts["deferred"] == 1
    assert len(house.log.of("deferred")) == 2
    house.says("first", TAKEN)
    house.tick(61.0)

    assert len(house.went_to("first")) == 2
    assert len(house.went_to("second")) == 1
    assert house.schedule.waiting == 0


def test_no_such_user() -> None:
    """It bounces at once: the report stands in the same settlement, and is delivered."""
    house = House()
    house.providers["first"].says = lambda batch: ((NOBODY if batch.sender else TAKEN,), True)
    mail = house.mail()

    [settled, _] = house.spool.settled
    assert settled.finished
    assert [report.envelope.recipients[0].address for report in settled.reports] == ["a@example.com"]
    assert house.went_to("second") == []
    [bounced] = house.log.of("bounced")
    assert (bounced["id"], bounced["report"]) == (mail.uuid, settled.reports[0].envelope.uuid)
    assert b"No such user" in bytes(house.providers["first"].batches[-1].body)  # type: ignore[arg-type]
    assert house.account.totals.failed == 1


def test_a_report_that_is_refused() -> None:
    """It ends with a log line, and causes nothing further."""
    house = House(names=["first"])
    house.says("first", NOBODY)

    house.mail()

    assert house.schedule.waiting == 0
    assert len(house.log.of("bounced")) == 2
    assert house.account.totals.failed == 1


def test_recipients_differ() -> None:
    """Each recipient of a transaction has its own fate; only what is left is tried on."""
    house = House()
    house.says("first", TAKEN, NOBODY, LATER)
    house.says("second", TAKEN)

    house.mail("a@x.net", "b@x.net", "c@x.net")

    assert house.went_to("second") == [["c@x.net"]]
    assert next(line["result"] for line in house.log.of("finished")) == "bounced"


def test_batches_with_a_pause() -> None:
    """Twenty recipients at a time, a pause between two batches of one mail, and other mail meanwhile."""
    house = House()

    house.mail(*[f"r{number}@x.net" for number in range(45)])
    assert [len(batch) for batch in house.went_to("first")] == [20]
    house.mail("other@x.net")
    assert house.went_to("first")[1:] == [["other@x.net"]]
    house.tick(0.9)
    assert len(house.went_to("first")) == 2
    house.tick(0.3)
    assert [len(batch) for batch in house.went_to("first")] == [20, 1, 20]
    house.tick(1.2)

    assert [len(batch) for batch in house.went_to("first")] == [20, 1, 20, 5]
    assert house.schedule.waiting == 0
    assert not house.delivery.lines._pauses.running


def test_over_the_limit_of_recipients() -> None:
    """The rest goes in a next transaction at once."""
    house = House()

    def two_at_most(batch: Batch) -> tuple[tuple[Outcome, ...], bool]:
        rest = len(batch.recipients) - 2
        return (TAKEN,) * min(2, len(batch.recipients)) + (OverLimit(Reply(452, "4.5.3", ("no more",))),) * rest, True

    house.providers["first"].says = two_at_most

    house.mail(*[f"r{number}@x.net" for number in range(5)])

    assert [len(batch) for batch in house.went_to("first")] == [5, 3, 1]
    assert house.schedule.waiting == 0


def test_a_connection_that_had_done_its_work() -> None:
    """The mail goes over another one at once, and no attempt is counted."""
    house = House()
    says = iter([always(Retired(Reply(421, "", ("bye",))), usable=False), takes])
    house.providers["first"].says = lambda batch: next(says)(batch)

    house.mail()

    assert len(house.went_to("first")) == 2
    assert house.spool.settled[-1].standings[0].attempts == 1


def test_unanswered_dot_is_tried_at_the_same_provider() -> None:
    """No failover, which would make a second copy for sure."""
    house = House()
    house.providers["first"].says = always(LOST, usable=False)
    house.mail()
    assert house.went_to("second") == []
    house.providers["first"].says = takes

    house.tick(61.0)

    assert len(house.went_to("first")) == 2
    assert house.schedule.waiting == 0


def test_unanswered_dots_three_times() -> None:
    """Held, for a person to look."""
    house = House(names=["first"])
    house.providers["first"].says = always(LOST, usable=False)
    house.mail()

    house.tick(400.0)

    assert house.schedule.counts["held"] == 1
    assert len(house.log.of("held")) == 1


def test_an_outcome_that_cannot_be_written() -> None:
    """It is kept and written again; meanwhile that mail is not sent again and nothing new begins."""
    house = House()
    house.spool.refuse = SpoolFull("no space")
    key, uuid = house.spool.next_id()
    envelope = Envelope(key, uuid, "a@example.com", (Recipient("b@example.net"),), 0.0, 3)
    submission = Submission(envelope, b"", b"x\r\n")
    later = Submission(replace(envelope, key=key + 1), b"", b"y\r\n")
    house.spool._insert(submission)
    house.spool._insert(later)
    house.schedule.add(submission)
    house.schedule.add(later)

    house.tick(5.0)
    assert len(house.went_to("first")) == 1
    assert house.log.of("delivered") == []
    house.spool.refuse = None
    house.tick(AGAIN + 0.2)

    assert len(house.log.of("delivered")) == 2


def test_a_damaged_body() -> None:
    """Held with the reason, never delivered and never deleted."""
    house = House()
    key, uuid = house.spool.next_id()
    envelope = Envelope(key, uuid, "a@example.com", (Recipient("b@example.net"),), 0.0, 3)
    house.spool.damaged.add(key)
    large = house.spool.new_body()
    large.write(b"x\r\n")
    submission = Submission(envelope, b"", large)
    house.spool.submit(submission)

    house.schedule.add(submission)

    assert house.went_to("first") == []
    assert house.schedule.counts["held"] == 1
    assert "quarantine" in str(house.log.of("held")[0]["reply"])
    assert house.pools["first"].reserved == 0


def test_a_delay_warning() -> None:
    """Once, at the first deferral after its time."""
    house = House(names=["first"], retry=Retry((), 1800.0, 0.0, 86400.0))
    house.says("first", LATER)
    house.mail()

    house.tick(1801.0)
    assert house.spool.settled[-1].reports == ()
    house.tick(1801.0)
    warnings = [report for settled in house.spool.settled for report in settled.reports]
    assert [b"delayed" in bytes(report.body) for report in warnings] == [True]  # type: ignore[arg-type]
    house.tick(1801.0)

    assert sum(len(settled.reports) for settled in house.spool.settled) == 1


def test_the_stop_waits_for_what_is_under_way() -> None:
    """It fires when the outcome of the last transaction is durable, and nothing new begins."""
    house = House(at_once=False)
    house.providers["first"].prompt = False
    house.mail()
    stopped: list[None] = []

    house.delivery.stop().addCallback(stopped.append)
    house.mail()
    assert len(house.went_to("first")) == 1
    house.providers["first"].answer()
    assert stopped == []
    house.spool.commit()

    assert stopped == [None]


def test_no_more_workers_than_allowed() -> None:
    """`workers` bounds the transactions under way over all providers."""
    house = House(workers=2)
    house.providers["first"].prompt = False

    for _ in range(5):
        house.mail()

    assert len(house.went_to("first")) == 2
    house.providers["first"].answer()
    assert len(house.went_to("first")) == 3


@pytest.mark.parametrize(("workers", "connections"), [(2, 5), (5, 2)])
def test_a_worker_and_a_place_are_held_until_the_outcome_is_durable(workers: int, connections: int) -> None:
    """A crash sends what was under way once more, and so there is never more of that than there are of either."""
    clock = Clock()
    first = ScriptedProvider("first", clock, connections=connections)
    first.prompt = False
    house = House(workers=workers, clock=clock, providers={"first": first}, at_once=False)
    for _ in range(5):
        house.mail()
    assert len(first.batches) == 2

    first.answer()
    first.answer()
    assert len(first.batches) == 2

    house.spool.commit()
    assert len(first.batches) == 4


def test_a_fault_moves_everybody_who_waits() -> None:
    """Mail that stood in the line of a provider that goes down goes to the next one."""
    house = House(workers=2)
    house.providers["first"].prompt = False
    for _ in range(4):
        house.mail()
    house.providers["first"].says = always(ProviderFault(no_reply("timed out")), usable=False)

    house.providers["first"].answer()
    house.providers["first"].answer()

    assert len(house.went_to("second")) == 4
    assert house.schedule.waiting == 0


def refuse_all(batch: Batch) -> tuple[tuple[Outcome, ...], bool]:
    """Everything is refused, but for our own reports."""
    return ((TAKEN if not batch.sender else NO,) * len(batch.recipients), True)


def test_a_provider_that_refuses_everything() -> None:
    """Five bounce, the others are deferred, and at twenty it is paused; nothing bounces any more."""
    house = House(names=["first"])
    house.providers["first"].says = refuse_all

    for number in range(30):
        house.mail(sender=f"s{number % 3}@example.com")

    assert len(house.log.of("bounced")) == 5
    assert house.pools["first"].breaker.state == "paused"
    assert len(house.log.of("provider_paused")) == 1
    assert house.schedule.counts["deferred"] + house.schedule.counts["ready"] == 25


def test_reports_outlive_a_provider_that_refuses_everything() -> None:
    """Once it is not believed any more they are deferred as well, so that senders hear of what bounced."""
    house = House(names=["first"])
    house.providers["first"].says = lambda batch: ((NO if batch.sender else LATER,) * len(batch.recipients), True)
    for _ in range(5):
        house.mail()
    house.says("first", NO)
    house.tick(61.0)
    assert [line["to"] for line in house.log.of("bounced")] == [["b@example.net"]] * 5

    house.says("first", TAKEN)
    house.tick(3600.0, step=1.0)

    assert house.schedule.waiting == 0
    assert len([mail for mail in house.spool.settled if mail.reports]) == 5
    assert Counter(line["result"] for line in house.log.of("finished")) == {"bounced": 5, "delivered": 5}


def test_a_pause_ends_with_the_first_mail_that_is_taken() -> None:
    """A mail of a sender that was not refused goes there at once; taken, it frees the provider."""
    house = House(names=["first"])
    house.providers["first"].says = refuse_all
    for _ in range(20):
        house.mail(sender="s@example.com")
    house.providers["first"].says = takes

    house.mail(sender="s@example.com")
    assert house.pools["first"].breaker.state == "paused"
    house.mail(sender="other@example.com")

    assert str(house.pools["first"].breaker.state) == "up"
    house.tick(61.0)
    assert house.schedule.waiting == 0


def test_a_pause_is_tried_every_ten_minutes() -> None:
    """With mail of refused senders alone there is one trial in ten minutes, each with another mail."""
    house = House(names=["first"])
    house.providers["first"].says = refuse_all
    for _ in range(20):
        house.mail(sender="s@example.com")
    before = len(house.went_to("first"))

    house.tick(599.0)
    assert len(house.went_to("first")) == before
    house.tick(3.0)
    assert len(house.went_to("first")) == before + 1
    house.tick(601.0)

    assert len(house.went_to("first")) == before + 2
    tried = house.delivery.brakes._brakes["first"].tried
    assert len(set(tried)) == 2


def test_a_pause_outlives_a_restart() -> None:
    """The brake's count is in the commit that made it."""
    house = House(names=["first"])
    house.providers["first"].says = refuse_all
    for _ in range(20):
        house.mail(sender="s@example.com")

    again = House(names=["first"])
    again.spool.notes = house.spool.notes
    again.delivery._judge._brakes = again.delivery.brakes = Brakes(
        again.pools, again.spool.notes, again.clock.seconds, Events(again.log, again.clock.seconds)
    )
    again.delivery.brakes.start()

    assert again.pools["first"].breaker.state == "paused"


def test_refusals_by_one_of_two() -> None:
    """The second provider takes each at once; the first one is paused all the same."""
    house = House()
    house.providers["first"].says = refuse_all

    for _ in range(25):
        house.mail()

    assert house.log.of("bounced") == []
    assert house.schedule.waiting == 0
    assert house.pools["first"].breaker.state == "paused"
    assert len(house.went_to("first")) == 20


def test_a_poisonous_mail() -> None:
    """A second fault in a row behind its MAIL defers it, and the provider stays up."""
    house = House(names=["first"])
    house.providers["first"].says = always(ProviderFault(no_reply("the connection was lost")), usable=False)
    house.providers["first"].begun = True
    house.mail()
    assert house.pools["first"].breaker.state == "down"

    house.tick(16.0)

    assert len(house.went_to("first")) == 2
    assert house.schedule.counts["deferred"] == 1
    assert str(house.pools["first"].breaker.state) == "up"


def test_a_dot_under_way_is_written_down() -> None:
    """Where an unanswered dot holds, the mail is HELD on disk before the dot leaves, and free again after its reply."""
    house = House(hold_uncertain=frozenset({"first"}))
    seen: list[State] = []

    def look(batch: Batch) -> tuple[tuple[Outcome, ...], bool]:
        assert batch.before is not None
        batch.before()
        seen.append(next(iter(house.spool.mails.values())).standings[0].state)
        return (LATER,), True

    house.providers["first"].says = look
    house.says("second", LATER)
    house.mail()

    assert seen == [State.HELD]
    assert [mail.standings[0].state for mail in house.spool.mails.values()] == [State.DEFERRED]


def test_a_mail_that_was_there_at_three_deaths(tmp_path: Path) -> None:
    """It is held instead of being tried; a person may release it."""
    clock = Clock()
    flights = Flights(tmp_path / "flights", clock.seconds)
    key = MemorySpool(clock.seconds).next_id()[0]
    flights.suspects[key] = 3
    house = House(flights=flights)

    house.mail()

    assert house.went_to("first") == []
    assert house.schedule.counts["held"] == 1
    assert flights.suspects == {}


def test_mails_that_were_there_at_a_death(tmp_path: Path) -> None:
    """They go one after another, the least suspected first; nobody else waits for them."""
    clock = Clock()
    flights = Flights(tmp_path / "flights", clock.seconds)
    spool = MemorySpool(clock.seconds)
    flights.suspects = {spool.next_id()[0]: suspected for suspected in (2, 1, 1)}
    house = House(names=["first"], flights=flights)
    house.providers["first"].prompt = False

    for name in ("twice", "once", "once-too", "never"):
        house.mail(f"{name}@example.net")
    assert house.went_to("first") == [["never@example.net"]]
    house.tick(1.0)
    assert house.went_to("first")[1:] == [["once@example.net"]]

    house.providers["first"].answer()
    house.providers["first"].answer()
    assert house.went_to("first")[2:] == [["once-too@example.net"]]
    house.tick(6.0)
    assert house.went_to("first")[3:] == [["twice@example.net"]]
    for _ in range(2):
        house.providers["first"].answer()

    assert house.schedule.waiting == 0
    assert flights.suspects == {}


def test_mails_that_were_there_at_the_ends_of_other_processes() -> None:
    """Of one end nothing follows; after two they go one after another, and no more of them are to come meanwhile."""
    spool, crashes = MemorySpool(Clock().seconds), Crashes()
    for crashed in (1, 2, 2):
        crashes.add(spool.next_id()[0], crashed)
    house = House(names=["first"], flights=crashes)
    house.providers["first"].prompt = False
    suspects = house.delivery.suspects

    for name in ("once", "twice"):
        house.mail(f"{name}@example.net")
    assert not suspects.may_come(house.clock.seconds())
    house.mail("twice-too@example.net")
    assert house.went_to("first") == [["once@example.net"], ["twice@example.net"]]
    house.providers["first"].answer()
    house.providers["first"].answer()
    assert house.went_to("first")[2:] == [["twice-too@example.net"]]
    house.tick(6.0)
    assert suspects.may_come(house.clock.seconds())
    house.providers["first"].answer()

    assert house.schedule.waiting == 0
    assert crashes.suspects == {}


def test_what_is_asked_ahead() -> None:
    """As much as ended within the last tenth of a second; once nothing ends what is not begun is given back."""
    house = House(names=["first"], workers=2)
    assert house.delivery.room() == 2
    for _ in range(5):
        house.mail()
    house.clock.advance(0.1)
    assert house.delivery.room() == 2 + 5

    house.providers["first"].prompt = False
    for number in range(6):
        house.mail(f"{number}@example.net")
    assert house.delivery.room() == 2 + 5 - 6
    house.delivery.hand_rest_back()
    assert len(house.schedule.items) == 6
    house.clock.advance(0.2)
    assert house.delivery.room() == 2 - 6
    house.delivery.hand_rest_back()

    assert house.delivery.room() == 0
    assert house.went_to("first")[5:] == [["0@example.net"], ["1@example.net"]]
    assert len(house.schedule.items) == 2
    for _ in range(2):
        house.providers["first"].answer()


@pytest.mark.parametrize("limit", [5, 100])
def test_more_reports_than_an_hour_bears(limit: int) -> None:
    """Twenty go one by one; the others are one digest an hour after the first."""
    house = House(names=["first"], limit=limit)
    house.providers["first"].says = lambda batch: ((TAKEN if not batch.sender else NOBODY,), True)

    for _ in range(25):
        house.mail()
    reports = [batch for batch in house.providers["first"].batches if not batch.sender]
    assert len(reports) == 20
    assert house.schedule.counts["deferred"] == 5
    house.tick(3700.0)

    digests = [batch for batch in house.providers["first"].batches if not batch.sender][20:]
    assert len(digests) == 1
    assert bytes(digests[0].body).count(b"b@example.net") >= 5  # type: ignore[arg-type]
    assert house.schedule.waiting == 0


def test_a_report_that_is_another_process_s_when_its_digest_is_due() -> None:
    """It is let go of, and not asked for again and again."""
    house = House(names=["first"])
    house.providers["first"].says = lambda batch: ((TAKEN if not batch.sender else NOBODY,), True)
    for _ in range(21):
        house.mail()
    house.tick(3590.0)
    (report,) = house.spool.mails.values()
    house.spool.refuse = LostTurn("another process has this mail")
    house.tick(60.0)

    house.spool.refuse = None
    before = len(house.providers["first"].batches)
    house.tick(5.0)
    assert report.envelope.key not in house.schedule.items
    assert len(house.providers["first"].batches) == before


def test_a_batch_without_an_answer_holds_up_no_other() -> None:
    """After half a minute the rest of the mail goes on, and its worker is free."""
    house = House(names=["first"], workers=1)
    house.providers["first"].prompt = False
    house.mail(*[f"r{number}@x.net" for number in range(25)])
    house.providers["first"].connections[0].waiting_since = 0.0

    house.tick(31.0)

    assert [len(batch) for batch in house.went_to("first")] == [20, 5]


def test_success_is_reported_where_the_provider_does_not() -> None:
    """NOTIFY=SUCCESS gets a report of ours, that it was handed on."""
    house = House(names=["first"])
    key, uuid = house.spool.next_id()
    recipient = Recipient("b@example.net", frozenset({"SUCCESS"}))
    submission = Submission(Envelope(key, uuid, "a@example.com", (recipient,), 0.0, 3), b"Subject: t\r\n\r\n", b"x\r\n")
    house.spool.submit(submission)

    house.schedule.add(submission)

    [_, report] = house.providers["first"].batches
    assert b"Action: relayed" in bytes(report.body)  # type: ignore[arg-type]
