"""Whose turn it is: rounds that end, pins, trials of paused providers, and outcomes that are written in their order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.delivery.ledger import AGAIN
from relay.outcome import CannotTake, OverLimit, ProviderFault, Uncertain
from relay.reply import Reply, no_reply
from relay.spool.spool import SpoolFailing, SpoolFull, State
from relay.upstream.links import PATIENCE
from tests.providers import REFUSED, TAKEN, Says, always, takes
from tests.unit.test_delivery import LATER, NO, NOBODY, House, refuse_all

CUT = ProviderFault(no_reply("the connection was lost"))
LOST = Uncertain(no_reply("the connection was lost behind the final dot"))
TOO_MANY = OverLimit(Reply(452, "4.5.3", ("Too many recipients",)))
PLAIN = CannotTake(Reply(550, "5.6.3", ("no 8BITMIME",)))


# Rounds


def test_the_next_one_fails_in_the_middle_of_a_round() -> None:
    """What the others said ends the round: it counts, and the good provider is asked again when it is due."""
    house = House()
    house.says("first", LATER)
    house.providers["second"].says = always(CUT, usable=False)
    mail = house.mail()

    [standing] = house.spool.mails[mail.key].standings
    assert (standing.state, standing.attempts, standing.provider) == (State.DEFERRED, 1, "first")


def test_the_next_one_goes_down_while_a_mail_stands_in_its_line() -> None:
    """As well."""
    house = House(workers=1)
    second = house.providers["second"]
    house.says("first", LATER)
    second.prompt = False
    house.mail("one@x.net")
    two = house.mail("two@x.net")
    second.says, second.prompt = always(CUT, usable=False), True
    second.answer()

    [standing] = house.spool.mails[two.key].standings
    assert standing.attempts == 1
    assert house.schedule.counts["deferred"] == 2


def test_a_limit_that_nobody_gets_through() -> None:
    """It counts as a deferral: otherwise it would be tried on and on."""
    house = House(names=["first"])
    house.providers["first"].says = lambda batch: ((LATER, *(TOO_MANY,) * (len(batch.recipients) - 1)), True)

    house.mail("a@x.net", "b@x.net", "c@x.net")

    assert len(house.went_to("first")) == 1
    assert house.schedule.counts["deferred"] == 1


def test_a_body_that_cannot_be_read_for_a_while() -> None:
    """Its room at the provider is given back, and it is read again until it can be."""
    house = House(names=["first"])
    house.says("first", LATER)
    house.mail()
    house.spool.refuse_reads = SpoolFailing("cannot be read")
    [mail] = house.spool.mails.values()
    house.schedule.resume(house.schedule.check_out(mail), [0])

    house.tick(3 * AGAIN)
    assert house.pools["first"].reserved == 0
    house.says("first", TAKEN)
    house.spool.refuse_reads = None
    house.tick(3 * AGAIN)

    assert house.schedule.waiting == 0


# Pins


def test_pinned_and_then_refused() -> None:
    """It surely has it not: the next provider is asked at once."""
    house = House()
    house.providers["first"].says = always(LOST, usable=False)
    house.mail()
    house.says("first", NO)

    house.tick(61.0)

    assert house.went_to("second") == [["b@example.net"]]
    assert house.schedule.waiting == 0


def test_pinned_to_one_that_lacks_what_it_needs_now() -> None:
    """That is no refusal for good either: the next provider is asked."""
    house = House()
    house.providers["first"].says = always(LOST, usable=False)
    house.mail()
    house.says("first", PLAIN)

    house.tick(61.0)

    assert house.went_to("second") == [["b@example.net"]]


def test_pinned_to_a_provider_that_is_gone() -> None:
    """It is said, and the mail goes to another one, to which it is not pinned."""
    house = House()
    house.providers["first"].says = always(LOST, usable=False)
    mail = house.mail()
    house.clock.advance(0.5)

    house.schedule.stop()
    after = House(["second"], spool=house.spool.killed(house.clock.seconds), clock=house.clock)
    after.says("second", LATER)
    after.tick(61.0)

    assert len(after.log.of("warning")) == 1
    assert "first" in str(after.log.of("warning")[0]["message"])
    assert after.went_to("second") == [["b@example.net"]]
    assert not after.spool.mails[mail.key].standings[0].pinned


# Trials


def paused() -> House:
    """One provider that refused everything and is paused; its next trial is due in ten minutes."""
    house = House(names=["first"])
    house.providers["first"].says = refuse_all
    for _ in range(20):
        house.mail(sender="s@example.com")
    assert house.pools["first"].breaker.state == "paused"
    return house


def test_the_mail_of_a_trial_is_withdrawn() -> None:
    """The trial ends with that, and the next mail of a sender that was not refused is one."""
    house = paused()
    usual = house.delivery.settings
    house.delivery.settings = replace(usual, workers=0)
    mail = house.mail(sender="new@example.com")
    assert house.pools["first"].on_trial
    house.delivery.withdraw(house.schedule.items[mail.key])
    house.tick(1.0)
    assert not house.pools["first"].on_trial

    house.delivery.settings = usual
    house.providers["first"].says = takes
    house.mail(sender="newer@example.com")

    assert str(house.pools["first"].breaker.state) == "up"


def test_a_trial_survives_a_change_of_another_provider() -> None:
    """The mail that is to be it does not go elsewhere because somebody came or went."""
    house = House()
    house.providers["first"].says = refuse_all
    house.providers["second"].up = REFUSED
    for _ in range(20):
        house.mail(sender="s@example.com")
    assert house.pools["first"].breaker.state == "paused"
    house.delivery._ledger.unwritten += 1  # nothing is begun for a moment
    house.mail(sender="new@example.com")
    house.delivery.changed()
    house.delivery._ledger.unwritten -= 1
    house.providers["first"].says = takes
    house.delivery.pump()

    assert str(house.pools["first"].breaker.state) == "up"


def test_a_mail_that_waits_for_another_provider_is_no_trial() -> None:
    """Who is pinned elsewhere begins none, so that the next one may be one."""
    house = House()
    house.providers["first"].says = refuse_all
    house.providers["second"].says = always(LATER)
    for _ in range(20):
        house.mail(sender="s@example.com")
    house.providers["second"].says = always(LOST, usable=False)
    house.mail(sender="s@example.com")
    house.providers["second"].up = REFUSED
    house.tick(700.0, step=1.0)
    house.providers["first"].says = takes

    house.mail(sender="new@example.com")

    assert str(house.pools["first"].breaker.state) == "up"


# One mail at which a provider fails


BAD_SENDER = ProviderFault(Reply(501, "", ("Invalid MAIL FROM address provided",)))
UNKNOWN_USER = ProviderFault(Reply(530, "5.7.0", ("Authentication required",)))


def fails_at(sender: str, fault: ProviderFault) -> Says:
    """A provider that takes every mail but those of one sender."""
    return lambda batch: always(fault, usable=False)(batch) if batch.sender == sender else takes(batch)


@pytest.mark.parametrize("fault", [BAD_SENDER, CUT, UNKNOWN_USER])
def test_a_mail_that_fails_at_its_mail_command(fault: ProviderFault) -> None:
    """Others are tried before it, so that it keeps the provider from none of them for longer than to the next probe."""
    house = House(names=["first"], workers=1)
    house.providers["first"].says = fails_at("bad@example.com", fault)
    house.mail("one@x.net", sender="bad@example.com")
    house.mail("two@x.net")
    house.mail("three@x.net")

    house.tick(16.0)

    assert house.went_to("first") == [["one@x.net"], ["two@x.net"], ["three@x.net"], ["one@x.net"]]
    assert house.schedule.waiting == 1


@pytest.mark.parametrize(("fault", "attempts"), [(BAD_SENDER, 1), (CUT, 1), (UNKNOWN_USER, 0)])
def test_a_mail_that_fails_again_where_another_went_through(fault: ProviderFault, attempts: int) -> None:
    """That is its own fault, each time anew; a login that is missing never is."""
    house = House(names=["first"], workers=1)
    house.providers["first"].says = fails_at("bad@example.com", fault)
    mail = house.mail(sender="bad@example.com")
    house.mail()
    house.tick(16.0)

    [standing] = house.spool.mails[mail.key].standings
    assert standing.attempts == attempts
    assert str(house.pools["first"].breaker.state) == ("up" if attempts else "down")

    if attempts:
        house.mail()
        house.tick(61.0)
        [standing] = house.spool.mails[mail.key].standings
        assert (standing.attempts, str(house.pools["first"].breaker.state)) == (2, "up")


def test_a_mail_that_fails_where_nothing_goes_through() -> None:
    """That is the provider's fault, however often."""
    house = House(names=["first"])
    house.providers["first"].says = always(BAD_SENDER, usable=False)
    mail = house.mail()
    house.tick(3600.0, step=1.0)

    [standing] = house.spool.mails[mail.key].standings
    assert (standing.attempts, standing.state) == (0, State.READY)
    assert str(house.pools["first"].breaker.state) == "down"
    assert len(house.went_to("first")) > 3


def test_a_mail_goes_at_once_from_the_provider_that_failed() -> None:
    """To the head of the next one's line: only where it failed others come first."""
    house = House(workers=1)
    house.providers["first"].says = fails_at("bad@example.com", BAD_SENDER)
    house.providers["first"].prompt = False
    house.mail("one@x.net", sender="bad@example.com")
    house.mail("two@x.net")
    house.providers["first"].answer()

    assert house.went_to("second") == [["one@x.net"], ["two@x.net"]]


# What is written down


def test_outcomes_of_one_mail_that_wait_for_the_disk_together() -> None:
    """The later one is written when the earlier is durable, so that the last one removes the mail."""
    house = House(names=["first"], batch_size=1, batch_delay=0.0)
    house.providers["first"].prompt = False
    mail = house.mail("a@x.net", "b@x.net")
    [connection] = house.providers["first"].connections
    connection.waiting_since = -PATIENCE
    house.tick(PATIENCE + 1.0)
    assert len(house.providers["first"].under_way) == 2

    house.spool.at_once = False
    house.providers["first"].answer()
    house.providers["first"].answer()
    house.spool.commit()
    house.spool.commit()

    assert mail.key not in house.spool.mails
    assert [line["result"] for line in house.log.of("finished")] == ["delivered"]


def test_nothing_begins_while_an_outcome_is_being_written_again() -> None:
    """Only once it is durable: not in the moment in which it is tried."""
    house = House(names=["first"])
    house.spool.at_once = False
    house.mail("one@x.net")
    house.spool.refuse = SpoolFull("no space")
    house.spool.commit()
    assert house.delivery.is_blocked

    house.clock.advance(AGAIN)
    house.delivery.pump()
    assert house.delivery.is_blocked
    house.spool.refuse = None
    house.spool.commit()

    assert not house.delivery.is_blocked
    assert house.schedule.waiting == 0


def test_a_pause_that_begins_while_another_ends() -> None:
    """Batches of several mails follow each other, and the clock of pauses stops with the last one."""
    house = House(names=["first"], batch_size=2, batch_delay=0.1)
    for number in range(3):
        house.mail(*[f"r{number}-{each}@x.net" for each in range(9)])

    house.tick(5.0)

    assert house.schedule.waiting == 0
    assert not house.delivery.lines._pauses.running
    assert sorted(len(batch) for batch in house.went_to("first")) == [1] * 3 + [2] * 12


def test_silence_lets_go_of_what_waits_for_a_connection() -> None:
    """A provider whose only connection says nothing keeps no other mail from the next provider."""
    house = House(workers=3)
    first = house.providers["first"]
    first.prompt = False
    house.mail("one@x.net")
    house.pools["first"]._ceiling.now = 2
    first.up = REFUSED
    house.mail("two@x.net")
    assert len(house.pools["first"]._waiting) == 1
    first.connections[0].waiting_since = house.clock.seconds()

    house.tick(PATIENCE + 1.0)

    assert house.went_to("second") == [["two@x.net"]]


def test_fresh_mail_and_what_has_waited_take_turns() -> None:
    """A mail that has just come does not wait for all that waited before, nor that for all that comes."""
    before = House(names=["first"], workers=1)
    first = before.providers["first"]
    first.up, first.prompt = REFUSED, False
    for number in range(4):
        before.mail(f"old{number}@x.net")
    first.up = None
    spool = before.spool.killed(before.now)
    house = House(["first"], workers=1, spool=spool, providers=before.providers, clock=before.clock)
    for number in range(3):
        house.mail(f"new{number}@x.net")

    while house.schedule.waiting:
        first.answer()

    order = [to for [to] in house.went_to("first")]
    assert order == [f"{who}{number}@x.net" for number in range(3) for who in ("old", "new")] + ["old3@x.net"]


def test_mail_that_nobody_took_is_not_fresh_any_more() -> None:
    """Once the provider is back, what came while it was away takes turns with what comes now."""
    house = House(names=["first"], workers=1)
    first = house.providers["first"]
    first.up = REFUSED
    house.mail("trial@x.net")
    for number in range(3):
        house.mail(f"old{number}@x.net")
    first.up, first.prompt = None, False
    house.tick(20.0)
    for number in range(3):
        house.mail(f"new{number}@x.net")

    while house.schedule.waiting:
        house.tick(0.5)
        if first.under_way:
            first.answer()

    order = [to for [to] in house.went_to("first")]
    assert order == ["trial@x.net", *[f"{who}{number}@x.net" for number in range(3) for who in ("new", "old")]]


def test_a_backlog_does_not_wait_for_reports_about_fresh_mail() -> None:
    """However much new mail comes and bounces: the reports stand behind what waits, not in its place."""
    house = House(names=["first"], workers=1, limit=16)
    first = house.providers["first"]
    first.prompt = False
    first.says = lambda batch: ((NOBODY if batch.recipients[0].address == "nobody@x.net" else TAKEN,), True)
    old = [house.mail() for _ in range(60)]

    for number in range(180):
        if not any(item.fresh and not item.active for item in house.schedule.items.values()):
            house.mail("nobody@x.net", sender=f"s{number}@example.com")
        first.answer()

    assert len(house.log.of("bounced")) > 60
    assert not house.spool.mails.keys() & {mail.key for mail in old}
