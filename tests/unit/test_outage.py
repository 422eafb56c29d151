"""Providers that are away, flap, are slow or cut off; and a machine whose clock is set. No mail suffers from it."""

from __future__ import annotations

from collections import Counter

import pytest
from twisted.internet.task import Clock

from relay.bounce.digest import read
from relay.bounce.fate import Fate
from relay.clock import SpoolClock
from relay.envelope import Envelope
from relay.outcome import Outcome, OverLimit, ProviderFault, Uncertain
from relay.reply import Reply, no_reply
from relay.retry import Retry
from relay.spool.spool import Standing, State
from relay.upstream.sender import Batch
from tests.providers import REFUSED, TAKEN, ScriptedProvider, always, takes
from tests.unit.test_delivery import LATER, NO, NOBODY, House

HOUR = 3600.0
DAY = 24 * HOUR
CUT = ProviderFault(no_reply("the connection was lost"))
OVER = OverLimit(Reply(452, "4.5.3", ("Too many",)))
LOST = Uncertain(no_reply("the connection was lost behind the final dot"))


def given(*providers: ScriptedProvider) -> Counter[str]:
    """How often each recipient was in a transaction."""
    return Counter(to.address for provider in providers for batch in provider.batches for to in batch.recipients)


def one_standing(house: House, mail: Envelope) -> Standing:
    """How the only recipient of a mail stands."""
    return house.spool.mails[mail.key].standings[0]


# Outages


def test_a_week_without_providers() -> None:
    """Nothing bounces, whatever its age; then all of it is delivered once. A change of state is said once."""
    house = House(retry=Retry((60.0,), HOUR, 0.0, DAY))
    for name in house.providers:
        house.says(name, LATER)
    house.mail("deferred@x.net")
    for provider in house.providers.values():
        provider.says, provider.up = always(CUT, usable=False), REFUSED
    for day in range(7):
        for number in range(10):
            house.mail(f"a-{day}-{number}@x.net", f"b-{day}-{number}@x.net")
        house.tick(DAY, step=30.0)

    assert [len(house.log.of(event)) for event in ("bounced", "expired", "delivered", "held")] == [0, 0, 0, 0]
    assert house.schedule.waiting == 71
    assert [line["provider"] for line in house.log.of("provider_down")] == ["first", "second"]
    assert house.providers["first"].dialled <= 7 * DAY / 600 + 8

    for provider in house.providers.values():
        provider.says, provider.up = takes, None
        provider.batches.clear()
    house.tick(2 * HOUR, step=1.0)

    assert house.schedule.waiting == 0
    assert {line["result"] for line in house.log.of("finished")} == {"delivered"}
    delivered = given(*house.providers.values())
    assert set(delivered.values()) == {1}
    assert len(delivered) == 141
    assert sorted(str(line["provider"]) for line in house.log.of("provider_up")) == ["first", "second"]


def test_no_stampede_when_it_is_back() -> None:
    """One mail at first, then twice as many each time: what gathered does not bring the provider down again."""
    house = House(names=["first"], workers=100)
    first = house.providers["first"]
    first.up = REFUSED
    for number in range(60):
        house.mail(f"r{number}@x.net")
    house.tick(HOUR, step=5.0)
    first.up, first.prompt = None, False
    house.tick(700.0, step=1.0)

    rounds = []
    while first.under_way:
        rounds.append(len(first.under_way))
        for _ in range(rounds[-1]):
            first.answer()

    assert rounds[:5] == [1, 2, 4, 8, 10]
    assert first.open <= 10
    assert house.schedule.waiting == 0


@pytest.mark.parametrize("senders", [1, 2, 60])
def test_it_refuses_everything_for_ten_minutes(senders: int) -> None:
    """Sixty mails wait for it: five of them bounce, and the others are delivered once it takes mail again."""
    house = House(names=["first"])
    first = house.providers["first"]
    first.up = REFUSED
    mails = [house.mail(f"r{number}@x.net", sender=f"s{number % senders}@example.com") for number in range(60)]
    house.tick(20.0)
    taken: Counter[str] = Counter()

    def says(batch: Batch) -> tuple[tuple[Outcome, ...], bool]:
        suspended = bool(batch.sender) and house.clock.seconds() < 620.0
        taken.update([to.address for to in batch.recipients if not suspended])
        return ((NO if suspended else TAKEN,) * len(batch.recipients), True)

    first.up, first.says = None, says
    house.tick(600.0, step=1.0)
    assert len(house.log.of("bounced")) == 5
    assert len(house.log.of("provider_paused")) == 1
    house.tick(2 * HOUR, step=1.0)

    assert house.schedule.waiting == 0
    bounced = {line["id"] for line in house.log.of("bounced")}
    assert len(bounced) == len(house.log.of("bounced")) == 5
    for mail in mails:
        assert taken[mail.recipients[0].address] == (mail.uuid not in bounced)
    results = Counter(str(line["result"]) for line in house.log.of("finished"))
    assert results == {"delivered": 55 + 5, "bounced": 5}  # five of them are reports


def test_reports_wait_behind_what_waits() -> None:
    """One that refuses everything sees none of them before it is braked: who sent what bounced hears of it."""
    house = House(names=["first"])
    first = house.providers["first"]
    first.up = REFUSED
    mails = {house.mail(f"r{number}@x.net").uuid for number in range(60)}
    house.tick(20.0)
    first.up, first.says = None, always(NO)
    house.tick(60.0)

    bounced = [line["id"] for line in house.log.of("bounced")]
    assert len(bounced) == 5
    assert mails.issuperset(bounced)
    first.says = takes
    house.delivery.brakes.release("first")
    house.tick(HOUR, step=1.0)
    assert len([batch for batch in first.batches if not batch.sender]) == 5
    assert house.schedule.waiting == 0


def test_the_second_provider_goes_down_while_the_first_defers() -> None:
    """The round ends with what the first one said, and that one is tried again: a good provider is never waited for."""
    house = House()
    house.says("first", LATER)
    house.providers["second"].up = REFUSED

    mail = house.mail()
    assert (one_standing(house, mail).state, one_standing(house, mail).attempts) == (State.DEFERRED, 1)
    house.says("first", TAKEN)
    house.tick(61.0)

    assert house.schedule.waiting == 0


def test_refused_by_the_first_while_the_second_is_down() -> None:
    """The second one may take it yet, so it is deferred; once that refuses as well it bounces."""
    house = House()
    house.says("first", NO)
    house.providers["second"].up = REFUSED
    mail = house.mail()
    house.tick(HOUR, step=1.0)
    assert one_standing(house, mail).state is State.DEFERRED
    assert house.log.of("bounced") == []

    house.providers["second"].up = None
    house.says("second", NO)
    house.tick(2 * HOUR, step=1.0)

    assert [line["provider"] for line in house.log.of("bounced")][:1] == ["second"]


def test_too_old_only_after_a_fresh_attempt() -> None:
    """What grew old in an outage is tried before it is given up; a round that only ended with it gives nothing up."""
    house = House(retry=Retry((60.0,), HOUR, 0.0, DAY))
    house.says("first", LATER)
    house.says("second", LATER)
    mail = house.mail()
    house.says("first", CUT)
    house.says("second", CUT)
    house.tick(3 * DAY, step=30.0)
    assert house.log.of("expired") == []
    assert one_standing(house, mail).attempts == 1

    house.says("first", LATER)
    house.tick(2 * HOUR, step=1.0)

    assert [line["id"] for line in house.log.of("expired")] == [mail.uuid]


@pytest.mark.parametrize("says", ["limit", "poison"])
def test_too_old_after_what_is_as_good_as_a_deferral(says: str) -> None:
    """A limit that nobody gets through counts, and so does a connection that ends behind the mail's MAIL again."""
    house = House(["first"], retry=Retry((60.0,), HOUR, 0.0, DAY))
    first = house.providers["first"]
    first.up = REFUSED
    mail = house.mail("a@x.net", "b@x.net")
    house.tick(25 * HOUR, step=10.0)
    assert house.log.of("deferred") == []

    first.up, first.begun = None, True
    first.says = (
        always(CUT, usable=False) if says == "poison" else lambda batch: ((LATER, OVER)[: len(batch.recipients)], True)
    )
    house.tick(HOUR, step=10.0)

    assert {line["id"] for line in house.log.of("expired")} == {mail.uuid}
    assert mail.key not in house.spool.mails


def test_a_provider_that_flaps() -> None:
    """It takes a mail and fails, over and over: its mail goes to the other one at once, and attempts count nothing."""
    house = House()
    answers = [takes, always(CUT, usable=False)] * 2000
    house.providers["first"].says = lambda batch: answers.pop()(batch)

    for number in range(600):
        house.mail(f"r{number}@x.net")
        house.tick(6.0, step=1.0)

    assert house.schedule.waiting == 0
    assert len(house.log.of("delivered")) == 600
    assert house.log.of("bounced") == []
    assert len(house.log.of("deferred")) == 0
    down, up = len(house.log.of("provider_down")), len(house.log.of("provider_up"))
    assert down - 1 <= up <= down
    assert down < HOUR / 15


def test_a_provider_that_lets_in_and_fails() -> None:
    """Only a mail that is taken ends its outage: it is tried ever more rarely, and nothing is lost by that."""
    house = House()
    house.providers["first"].says = always(CUT, usable=False)

    for number in range(600):
        house.mail(f"r{number}@x.net")
        house.tick(6.0, step=1.0)

    assert house.schedule.waiting == 0
    assert len(house.log.of("delivered")) == 600
    assert len(house.went_to("first")) < 15


def test_a_slow_provider_beside_a_good_one() -> None:
    """After half a minute nobody waits for it any more; once it answers it gets mail again, and nothing goes twice."""
    house = House(workers=4)
    first = house.providers["first"]
    first.prompt = False
    connections = first.config.connections
    for number in range(connections):
        house.mail(f"slow-{number}@x.net")
        for connection in first.connections:
            connection.waiting_since = connection.waiting_since or house.clock.seconds()
        house.tick(31.0, step=0.5)
    assert not house.pools["first"].takes_mail

    house.mail("good@x.net")
    assert house.went_to("second") == [["good@x.net"]]

    while first.under_way:
        first.under_way[0][0].waiting_since = None
        first.answer()
    house.tick(1.0)
    house.mail("again@x.net")
    first.answer()

    assert house.went_to("first")[-1] == ["again@x.net"]
    assert house.schedule.waiting == 0
    assert set(given(*house.providers.values()).values()) == {1}


# Many recipients


def test_a_thousand_recipients() -> None:
    """Some refused, some deferred, some cut off: each comes to its end once, and the sender hears of the refused."""
    house = House(names=["first"], batch_delay=0.0)
    first = house.providers["first"]
    asked: Counter[str] = Counter()
    turns: Counter[str] = Counter()

    def fate(address: str) -> Outcome:
        kind = address.partition("-")[0]
        if kind == "nobody":
            return NOBODY
        return LATER if kind == "later" and asked[address] < 3 else TAKEN

    def says(batch: Batch) -> tuple[tuple[Outcome, ...], bool]:
        addresses = [to.address for to in batch.recipients]
        turns["all"] += 1
        if turns["all"] % 7 == 3:
            return (CUT,) * len(addresses), False
        if turns["all"] == 12:
            return (LOST,) * len(addresses), False
        asked.update(addresses)
        return tuple([fate(address) for address in addresses]), True

    first.says = says
    kinds = ["taken", "taken", "nobody", "later"]
    to = [f"{kinds[number % 4]}-{number}@x.net" for number in range(1000)]
    mail = house.mail(*to)
    house.tick(6 * HOUR, step=1.0)

    reports = [report for settled in house.spool.settled for report in settled.reports]
    named = [fate.recipient.address for report in reports for fate in accounted(report.body)]
    assert house.schedule.waiting == 0
    assert Counter(named) == Counter(address for address in to if address.startswith("nobody"))
    assert [asked[address] for address in to if address.startswith(("taken", "nobody"))] == [1] * 750
    assert [asked[address] for address in to if address.startswith("later")] == [3] * 250
    ended = [s for settled in house.spool.settled for s in settled.standings if settled.key == mail.key]
    assert Counter(s.number for s in ended if not s.state.waiting) == Counter(range(1000))
    assert [line["result"] for line in house.log.of("finished") if line["id"] == mail.uuid] == ["bounced"]


def accounted(body: object) -> tuple[Fate, ...]:
    """The recipients that a report names; none, if it is a digest of others."""
    assert isinstance(body, bytes)
    account = read(body)
    return account.fates if account is not None else ()


# Clocks


class Machine:
    """A machine whose system clock may be set."""

    def __init__(self, wall: float) -> None:
        self.clock = Clock()
        self._ahead = wall

    def set_forward(self, seconds: float) -> None:
        """Or back, if it is negative."""
        self._ahead += seconds

    def wall(self) -> float:
        """The system's time."""
        return self._ahead + self.clock.seconds()

    def spool_clock(self) -> SpoolClock:
        """A new process."""
        return SpoolClock(self.wall, self.clock.seconds)


@pytest.mark.parametrize("step", [56 * 365 * DAY, 5 * DAY + HOUR, -14 * DAY])
@pytest.mark.parametrize("restart", [False, True])
def test_the_clock_is_set(step: float, restart: bool) -> None:
    """Mail is as old as the time that passed: no wait grows, nothing expires, no age is negative."""
    machine = Machine(60.0 if step > 6 * DAY else 1.7e9)
    now, retry = machine.spool_clock(), Retry((2.0,), 2.0, 0.0, 5 * DAY)
    house = House(["first"], clock=machine.clock, now=now, retry=retry)
    house.says("first", LATER)
    mail = house.mail()

    machine.set_forward(step)
    if restart:
        house.schedule.stop()
        drift, now = now.drift, machine.spool_clock()
        now.resume(drift, mail.received_at)
        spool = house.spool.killed(now)
        house = House(["first"], clock=machine.clock, now=now, spool=spool, providers=house.providers, retry=retry)
    house.tick(2.5)
    assert len(house.went_to("first")) == 2
    assert 0.0 <= now() - mail.received_at <= 5.0
    house.says("first", TAKEN)
    house.tick(2.5)

    assert len(house.went_to("first")) == 3
    assert [line["result"] for line in house.log.of("finished")] == ["delivered"]
    assert house.log.of("expired") == []


def test_a_machine_that_was_off_for_a_week() -> None:
    """Its mail is older than allowed, and is tried before anything is given up; a fault counts for nothing."""
    machine = Machine(1.7e9)
    now, retry = machine.spool_clock(), Retry((2.0,), 2.0, 0.0, 5 * DAY)
    house = House(["first"], clock=machine.clock, now=now, retry=retry)
    house.says("first", LATER)
    mail, taken = house.mail(), house.mail("taken@x.net")

    house.schedule.stop()
    machine.set_forward(7 * DAY)
    now = machine.spool_clock()
    now.resume(0.0, mail.received_at)
    first, spool = house.providers["first"], house.spool.killed(now)
    first.up = REFUSED
    house = House(["first"], clock=machine.clock, now=now, spool=spool, providers=house.providers, retry=retry)
    house.tick(HOUR, step=5.0)
    assert house.log.of("expired") == []
    first.up = None
    first.says = lambda batch: ((LATER if batch.recipients[0].address == "b@example.net" else TAKEN,), True)
    house.tick(HOUR, step=5.0)

    assert [line["id"] for line in house.log.of("expired")] == [mail.uuid]
    assert taken.uuid in [line["id"] for line in house.log.of("delivered")]
