"""When alerts are looked for, and how a provider, a queue and a spool in trouble are told."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relay.alerts.alerts import Alerts
from relay.alerts.decision import Change
from relay.alerts.figures import Bounds
from relay.alerts.lookout import Lookout
from relay.alerts.outbox import Outbox, Outdated
from relay.envelope import Envelope, Recipient
from relay.events import Events
from relay.outcome import Deferred as Postponed
from relay.outcome import ProviderFault
from relay.reply import Reply, no_reply
from relay.schedule import Item, Schedule
from relay.spool.spool import Held, SpoolFailing, Standing, State, Submission
from relay.upstream.breaker import Breaker, Probes
from relay.upstream.links import Job
from relay.upstream.pool import Pool
from relay.upstream.sender import Batch
from tests.alerting import BOUNDS
from tests.memory_spool import MemorySpool
from tests.providers import ScriptedProvider, always

WALL = 1_700_000_000.0


class House:
    """All that alerts look at: two providers, a queue and a spool; `told` is what came over a way besides the log."""

    def __init__(self, bounds: Bounds = BOUNDS, repeat: float = 3600.0) -> None:
        self.clock = Clock()
        self.lines: list[dict[str, Any]] = []
        self.told: list[Change] = []
        self.events = Events(self, self.wall)
        self.spool = MemorySpool(self.clock.seconds)
        self.spool.health = replace(self.spool.health, free_bytes=2**40)
        self.providers = {name: ScriptedProvider(name, self.clock) for name in ("a", "b")}
        self.pools = {name: self.pool(provider) for name, provider in self.providers.items()}
        self.newest = (-math.inf, "", "")
        self.items: list[Item] = []
        self.schedule = Schedule(
            self.spool,
            self.clock,
            self.clock.seconds,
            100,
            lambda item, _: self.items.append(item),
            print,
            lambda: True,
        )
        self.schedule.start()
        self.alerts = Alerts(
            bounds,
            repeat,
            [Outbox(self.carry, print)],
            Lookout(
                self.spool,
                self.schedule,
                lambda: list(self.pools.values()),
                lambda: self.newest,
                self.clock,
                self.clock.seconds,
                self.wall,
            ),
            self.spool,
            self.clock,
            self.wall,
            self.events,
        )
        self.alerts.start()

    def pool(self, provider: ScriptedProvider) -> Pool:
        """A pool before `provider`."""
        return Pool(
            provider.config,
            provider.dial,  # type: ignore[arg-type]
            Breaker(Probes(15.0, 600.0), 0.0),
            self.clock,
            self.events,
            lambda: None,
        )

    def wall(self) -> float:
        """The system's time."""
        return WALL + self.clock.seconds()

    def write(self, entry: dict[str, Any]) -> None:
        """See Sink."""
        self.lines.append(entry)

    async def carry(self, change: Change, outdated: Outdated) -> None:
        """See Carry."""
        self.told.append(change)

    def logged(self) -> list[tuple[str, str]]:
        """Lines about alerts: the event and the alert."""
        return [(line["event"], line["alert"]) for line in self.lines if line["event"].startswith("alert")]

    def names(self) -> list[str]:
        """Alerts that are active."""
        return [alert.name for alert in self.alerts.active]

    def tick(self, seconds: float) -> None:
        """Time passes, with what a daemon does by the clock."""
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)
            for pool in self.pools.values():
                pool.tidy()
            self.alerts.tick()

    def mail(self) -> Item:
        """A mail that waits, with nobody to deliver it."""
        key, uuid = self.spool.next_id()
        envelope = Envelope(key, uuid, "a@example.com", (Recipient("b@example.net"),), self.clock.seconds(), 3)
        submission = Submission(envelope, b"", b"x\r\n")
        self.spool.submit(submission)
        self.schedule.add(submission)
        if self.spool.oldest is None:
            self.spool.oldest = self.clock.seconds()
        return self.items[-1]

    def send(self, name: str) -> None:
        """A transaction at that provider."""
        pool = self.pools[name]
        pool.reserved += 1
        pool.send(Job(Batch("a@b.c", (Recipient("x@y.z"),), b"", b"x\r\n", 3), 1, lambda *_: None, None))


def test_all_is_well() -> None:
    """Nothing is said."""
    house = House()

    house.tick(600)

    assert house.lines == []
    assert house.names() == []


def test_a_provider_is_down_for_long() -> None:
    """Told by log and by way, once; and again when a mail was taken there."""
    house = House()
    house.tick(30)
    house.providers["a"].up = ProviderFault(no_reply("connection refused"))
    house.send("a")
    house.tick(60)
    assert house.names() == []

    house.tick(300)
    assert house.logged() == [("alert", "provider_down:a")]
    [alert] = house.alerts.active
    assert alert.since == WALL + 120
    assert "down for 5 minutes: connection refused" in alert.message

    house.providers["a"].up = None
    house.tick(300)
    house.send("a")
    house.tick(60)

    assert house.logged() == [("alert", "provider_down:a"), ("alert_cleared", "provider_down:a")]
    assert [(change.state, change.since) for change in house.told] == [
        ("raised", WALL + 120),
        ("cleared", WALL + 120),
    ]
    assert house.names() == []


def test_a_provider_that_flaps() -> None:
    """Let in and failing again is one outage: told once, not over when it is up for a moment."""
    house = House()
    house.providers["a"].says = always(ProviderFault(Reply(421, "4.3.2", ("Going down",))), usable=False)
    for _ in range(20):
        if house.pools["a"].takes_mail:
            house.send("a")
        house.tick(30)

    assert house.logged() == [("alert", "provider_down:a")]


def test_a_refused_login() -> None:
    """It does not wait for a check."""
    house = House()
    house.tick(1)
    house.providers["a"].up = ProviderFault(Reply(535, "5.7.8", ("Wrong password",)), auth=True)
    house.send("a")

    house.tick(0.5)

    assert house.logged() == [("alert", "provider_down:a")]
    assert house.told[0].message.startswith('The provider a refuses our login; it said "535 5.7.8 Wrong password".')
    house.tick(900)
    assert house.names() == ["provider_down:a"]


def test_a_paused_provider() -> None:
    """It does not wait for a check, and is over once a mail is taken."""
    house = House()
    breaker = house.pools["a"].breaker
    house.tick(1)
    breaker.pause(house.clock.seconds(), "550 5.7.1 Suspended")
    house.tick(0.5)
    assert house.logged() == [("alert", "provider_paused:a")]

    breaker.succeeded(house.clock.seconds())
    house.tick(60)

    assert house.logged()[1:] == [("alert_cleared", "provider_paused:a")]


def test_a_certificate_that_ends() -> None:
    """It is told two weeks before, and over with the next connection that sees another one."""
    house = House()
    house.providers["a"].certificate_ends = WALL + 10 * 86400
    house.send("a")
    house.tick(60)
    assert house.names() == ["certificate:a"]
    assert "ends in 9 days, on 2023-11-24" in house.alerts.active[0].message

    house.providers["a"].certificate_ends = WALL + 100 * 86400
    house.send("a")
    house.tick(60)

    assert house.logged() == [("alert", "certificate:a"), ("alert_cleared", "certificate:a")]


def test_mail_that_waits() -> None:
    """Too much of it, for too long, and nothing delivered: three alerts, all over once it went."""
    house = House(Bounds(60.0, 2, 300.0, 0))
    house.tick(600)
    items = [house.mail() for _ in range(3)]
    house.tick(60)
    assert house.names() == []

    house.tick(60)
    assert house.names() == ["backlog"]

    house.tick(300)
    assert house.names() == ["backlog", "oldest", "stalled"]

    house.send("a")
    house.tick(60)
    assert house.names() == ["backlog", "oldest"]

    for item in items:
        item.standings[0] = replace(item.standings[0], state=State.DELIVERED)
        item.queued.clear()
        house.schedule.show(item)
    house.spool.oldest = None
    house.tick(60)

    assert house.names() == []
    assert len(house.logged()) == 6


def test_mail_that_everybody_defers() -> None:
    """Every provider is up, so it is the newest failure that says why; not one from before the oldest mail came."""
    house = House()
    house.tick(100)
    house.newest = (house.wall() - 1, "a", "450 4.2.1 <b@example.net> has enough")
    house.mail()
    house.tick(1900)
    [before, *_] = house.told
    house.newest = (house.wall(), "b", "450 4.2.1 <b@example.net> has enough")
    house.tick(3600)

    assert before.alert == "oldest"
    assert "All providers are up. `mailrelay" in before.message
    assert house.told[-1].state == "repeated"
    assert (
        'All providers are up. The newest failure was at b; it said "450 4.2.1 <[address]> has enough". '
        in house.told[-1].message
    )


def test_mail_after_a_quiet_night() -> None:
    """That nothing was delivered while nothing waited is no standstill."""
    house = House(Bounds(60.0, 100, 300.0, 0))
    house.tick(36000)

    house.mail()
    house.tick(60)

    assert house.names() == []


def test_a_burst_that_flows() -> None:
    """However many mails come and go within a check, they are no backlog."""
    house = House(Bounds(60.0, 2, 300.0, 0))
    for _ in range(10):
        house.tick(55)
        items = [house.mail() for _ in range(50)]
        house.tick(5)
        for item in items:
            item.standings[0] = replace(item.standings[0], state=State.DELIVERED)
            item.queued.clear()
            house.schedule.show(item)
        house.send("a")
        house.spool.oldest = None

    assert house.lines == []


def test_held_mail() -> None:
    """Damage and uncertainty are two alerts, each until nothing is held for it."""
    house = House()
    for reply in ("quarantine: its body", "uncertain: the connection was lost", "by command"):
        item = house.mail()
        key = item.envelope.key
        standing = Standing(0, item.envelope.recipients[0], State.HELD, reply=reply)
        house.spool.mails[key] = replace(house.spool.mails[key], standings=(standing,))
    house.tick(60)
    assert house.names() == ["quarantine", "uncertain_held"]

    house.spool.mails.clear()
    house.tick(60)

    assert [event for event, _ in house.logged()] == ["alert", "alert", "alert_cleared", "alert_cleared"]


def test_a_spool_that_does_not_answer() -> None:
    """It is asked once; meanwhile all other alerts go on, and those about held mail stay as they are."""
    house = House()
    answers: list[Deferred[Held]] = []

    def held() -> Deferred[Held]:
        answers.append(Deferred())
        return answers[-1]

    house.spool.held = held  # type: ignore[method-assign]
    house.spool.health = replace(house.spool.health, free_bytes=0)
    house.tick(300)
    assert house.names() == ["disk"]
    assert len(answers) == 1

    answers[0].callback(Held(quarantine=1))
    house.tick(60)
    assert house.names() == ["disk", "quarantine"]

    answers[1].errback(SpoolFailing("no"))
    house.tick(60)
    assert house.names() == ["disk", "quarantine"]
    assert len(answers) == 3


def test_an_alert_is_repeated() -> None:
    """The log says `alert` again, a way that it is a repetition."""
    house = House(repeat=300.0)
    house.spool.health = replace(house.spool.health, free_bytes=0)

    house.tick(660)

    assert house.logged() == [("alert", "disk")] * 3
    assert [change.state for change in house.told] == ["raised", "repeated", "repeated"]


def test_a_provider_that_is_configured_no_more() -> None:
    """Its alerts are over."""
    house = House()
    house.pools["a"].breaker.pause(0.0, "550")
    house.tick(1)

    del house.pools["a"]
    house.tick(60)

    assert house.logged() == [("alert", "provider_paused:a"), ("alert_cleared", "provider_paused:a")]


def test_new_bounds() -> None:
    """They hold from the next check on; what is active stays until then."""
    house = House()
    house.spool.health = replace(house.spool.health, free_bytes=2**20)
    house.tick(60)
    assert house.names() == ["disk"]

    house.alerts.reload(Bounds(10.0, 100, 1800.0, 1024), 0.0, [])
    assert house.names() == ["disk"]
    house.tick(10)

    assert house.names() == []
    assert [change.state for change in house.told] == ["raised"]


def test_the_end() -> None:
    """Nothing is looked for any more."""
    house = House()
    house.spool.health = replace(house.spool.health, free_bytes=0)

    house.alerts.stop()
    house.clock.advance(600.0)

    assert house.lines == []


def test_a_deferral_is_no_outage() -> None:
    """A provider that replies is up, whatever it says of the mail."""
    house = House()
    house.providers["a"].says = always(Postponed(Reply(451, "4.7.1", ("Greylisted",))))
    for _ in range(10):
        house.send("a")
        house.tick(60)

    assert house.lines == []
