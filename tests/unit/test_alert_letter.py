"""The mail that tells of an alert, and the providers over which it goes."""

from __future__ import annotations

from collections.abc import Sequence
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relay.alerts.decision import Change, State
from relay.alerts.letter import PATIENCE, Letterhead, Letters, letter
from relay.alerts.outbox import Outbox
from relay.outcome import Rejected, Uncertain
from relay.reply import Reply, no_reply
from relay.upstream.breaker import Breaker, Probes
from relay.upstream.pool import Pool
from tests.providers import REFUSED, TAKEN, ScriptedProvider, always

CHANGE = Change("provider_down:a", "raised", "The provider a has been down for 5 minutes.", 1_700_000_000.0)
LETTERHEAD = Letterhead("relay.example", "app1", "mailrelay@example.com", ("ops@example.com", "duty@example.com"))


def read(octets: bytes) -> Any:
    return message_from_bytes(octets, policy=default)


def test_a_letter() -> None:
    """It says who writes of what to whom, that no person wrote it, and what there is to know."""
    octets = letter(LETTERHEAD, CHANGE, 1_700_000_001.0, 7)
    mail = read(octets)

    assert octets.isascii()
    assert octets.count(b"\n") == octets.count(b"\r\n")
    assert mail["From"] == "mailrelay@example.com"
    assert mail["To"] == "ops@example.com, duty@example.com"
    assert mail["Subject"] == "mailrelay app1: provider_down:a"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"] == "<18bcfe56be8.0000000000000007@relay.example>"
    assert mail["Date"].datetime.timestamp() == 1_700_000_001.0
    text = mail.get_content().replace("\r\n", "\n")
    assert text.startswith(
        "The provider a has been down for 5 minutes.\n\nAlert:    provider_down:a\nState:    raised\n"
    )
    assert "Instance: app1\n" in text


@pytest.mark.parametrize(("state", "ending"), [("repeated", ", still"), ("cleared", " is over")])
def test_its_subject(state: State, ending: str) -> None:
    """It says from afar whether the alert is new, lasts or is over."""
    change = Change("disk", state, "Words.", 0.0)

    assert read(letter(LETTERHEAD, change, 0.0, 0))["Subject"] == f"mailrelay app1: disk{ending}"


def test_names_that_are_not_ascii() -> None:
    """What leaves is ASCII all the same, and the words come out as they were."""
    letterhead = Letterhead("relay.example", "büro", "relay@exämple.com", ("öps@exämple.com", "ops@example.com"))
    change = Change("provider_down:höst", "raised", 'höst said "450 später\x00".', 0.0)
    octets = letter(letterhead, change, 0.0, 0)
    mail = read(octets)

    assert octets.isascii()
    assert mail["From"] == "relay@xn--exmple-cua.com"
    assert [str(address) for address in mail["To"].addresses] == ["ops@example.com"]
    assert 'höst said "450 später' in mail.get_content()

    nobody = Letterhead("relay.example", "app1", "ö@example.com", ("ops@example.com",))
    assert read(letter(nobody, change, 0.0, 0))["From"] == "mailrelay@relay.example"


class House:
    """Two providers, and letters that go over them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.providers = [ScriptedProvider(name, self.clock) for name in ("first", "second")]
        self.pools = [self.pool(provider) for provider in self.providers]
        self.warnings: list[str] = []
        letters = Letters(
            LETTERHEAD, lambda: self.pools, self.clock, self.clock.seconds, lambda bits: 7, self.warnings.append
        )
        self.outbox = Outbox(letters.carry, self.warnings.append)

    def pool(self, provider: ScriptedProvider) -> Pool:
        """A pool before `provider`."""
        return Pool(
            provider.config,
            provider.dial,  # type: ignore[arg-type]
            Breaker(Probes(15.0, 600.0), 0.0),
            self.clock,
            None,  # type: ignore[arg-type]  # nothing is told of a pool through which nothing goes
            lambda: None,
        )

    def sent(self, number: int) -> Sequence[str]:
        """To whom the last transaction at that provider was."""
        return [recipient.address for recipient in self.providers[number].batches[-1].recipients]


def test_the_first_provider_that_is_up() -> None:
    """It gets the mail for everybody in one transaction, over a connection that is closed again."""
    house = House()
    house.outbox.put(CHANGE)

    [batch] = house.providers[0].batches
    assert house.sent(0) == ["ops@example.com", "duty@example.com"]
    assert (batch.sender, batch.size, batch.eight_bit) == ("mailrelay@example.com", len(batch.body), False)  # type: ignore[arg-type]
    assert house.providers[0].open == 0
    assert house.providers[1].batches == []
    assert house.warnings == []


def test_a_provider_that_is_down() -> None:
    """It is not even asked."""
    house = House()
    house.pools[0].breaker.fault(0.0, "refused")

    house.outbox.put(CHANGE)

    assert house.providers[0].dialled == 0
    assert house.sent(1) == ["ops@example.com", "duty@example.com"]


def test_who_is_refused_by_one_provider() -> None:
    """Goes to the next one, alone; who is refused by all is named, with the words of the last."""
    house = House()
    no = Rejected(Reply(550, "5.7.1", ("Not from you",)))
    house.providers[0].says = lambda batch: ((TAKEN, no), True)
    house.providers[1].says = always(no)

    house.outbox.put(CHANGE)

    assert house.sent(1) == ["duty@example.com"]
    assert house.warnings == [
        "the alert provider_down:a could not be mailed to duty@example.com: second: 550 5.7.1 Not from you"
    ]


def test_no_connection() -> None:
    """A provider that refuses one is no way, though it counts as up; it stays up all the same."""
    house = House()
    house.providers[0].up = REFUSED

    house.outbox.put(CHANGE)

    assert len(house.providers[1].batches) == 1
    assert house.pools[0].takes_mail


def test_no_provider_is_up() -> None:
    """A line in the log says so."""
    house = House()
    for pool in house.pools:
        pool.breaker.fault(0.0, "refused")

    house.outbox.put(CHANGE)

    assert house.warnings == [
        "the alert provider_down:a could not be mailed to ops@example.com, duty@example.com: no provider is up"
    ]


def test_a_provider_that_hangs() -> None:
    """Neither a connection nor a mail is waited for without an end; then the next provider is asked."""
    house = House()
    dialled: list[Deferred[Any]] = []

    def hangs(pipelining: bool) -> Deferred[Any]:
        dialled.append(Deferred())
        return dialled[-1]

    house.pools[0].dial = hangs
    house.providers[1].prompt = False
    house.outbox.put(CHANGE)
    assert len(dialled) == 1

    house.clock.advance(PATIENCE)
    assert house.providers[1].open == 1
    house.clock.advance(PATIENCE)
    assert house.providers[1].open == 0
    house.providers[1].says = always(Uncertain(no_reply("we gave up")), usable=False)
    house.providers[1].answer()

    assert house.warnings == [
        "the alert provider_down:a could not be mailed to ops@example.com, duty@example.com: second: we gave up"
    ]
    assert house.clock.getDelayedCalls() == []


def test_an_alert_that_is_over_while_a_provider_hangs() -> None:
    """The old state is not told any further; the new one is."""
    house = House()
    house.providers[0].prompt = False
    house.outbox.put(CHANGE)
    house.outbox.put(Change("provider_down:a", "cleared", "It is up.", 0.0))

    house.providers[0].says = always(Rejected(Reply(550, "", ("No",))))
    house.providers[0].answer()

    assert house.providers[1].batches == []
    assert b"is over" in bytes(house.providers[0].batches[-1].body)  # type: ignore[arg-type]
