"""What a person asks of the queue, at whichever moment, over providers with a script and a spool in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from relay.delivery.operator import BY_COMMAND, WAIT, Operator, Order, Tally
from relay.delivery.selection import BadSelection, Selection
from relay.delivery.view import View
from relay.envelope import Envelope
from relay.outcome import Uncertain
from relay.reply import no_reply
from relay.spool.spool import Mail, SpoolFailing, State
from tests.providers import REFUSED, always, takes
from tests.unit.test_delivery import LATER, House

ALL = Selection(everything=True)


class Desk(House):
    """The same house, and an operator."""

    def __init__(self, names: Sequence[str] = ("first", "second"), at_once: bool = True, **settings: Any) -> None:
        super().__init__(names, at_once, None, **settings)
        self.operator = Operator(
            self.spool,
            self.schedule,
            self.delivery,
            self.pools,
            self.account,
            self.events,
            self.clock,
            self.clock.seconds,
        )

    def order(self, order: Order, selection: Selection) -> list[Tally]:
        """What comes of an order, once something does."""
        done: list[Tally] = []

        async def pulse() -> None:
            pass

        Deferred.fromCoroutine(self.operator.change(order, selection, pulse)).addCallback(done.append)
        self.clock.advance(0)
        return done

    def ordered(self, order: Order, selection: Selection) -> Tally:
        """What comes of an order at once."""
        [tally] = self.order(order, selection)
        return tally

    def seen(self, selection: Selection = ALL) -> list[View]:
        """What a command sees."""
        found: list[View] = []

        async def act(_: Mail, seen: View) -> None:
            found.append(seen)

        Deferred.fromCoroutine(self.operator.visit(selection, act))
        return found

    def states(self, mail: Envelope) -> list[State]:
        """What is written down of a mail's recipients."""
        return [standing.state for standing in self.spool.mails[mail.key].standings]

    def deferred(self, *to: str) -> Envelope:
        """A mail that both providers have put off."""
        for provider in self.providers.values():
            provider.says = always(LATER)
        mail = self.mail(*to)
        for provider in self.providers.values():
            provider.says = takes
        assert set(self.states(mail)) == {State.DEFERRED}
        return mail

    def stranded(self, *to: str) -> Envelope:
        """A mail that waits since no provider is up."""
        for provider in self.providers.values():
            provider.up = REFUSED
        return self.mail(*to)

    def pause(self, name: str, error: str) -> None:
        """A provider is paused, and refused this sender's mail just now."""
        self.pools[name].pause(error)
        brakes = self.delivery.brakes._brakes
        refused = tuple((number, "a@example.com") for number in range(1000, 1020))
        brakes[name] = replace(brakes[name], refused=refused, tried_at=self.clock.seconds())

    def up(self) -> None:
        """All providers are up again, which is found out in time."""
        for provider in self.providers.values():
            provider.up = None
        self.tick(20.0)


def only(mail: Envelope) -> Selection:
    """This one."""
    return Selection(ids=(mail.uuid,))


def test_hold_and_release_what_is_deferred() -> None:
    """It is not tried when it would be due, and at once when it is released."""
    desk = Desk()
    mail = desk.deferred()

    assert desk.ordered(Order.HOLD, only(mail)) == Tally(mails=1, recipients=1)
    assert desk.states(mail) == [State.HELD]
    assert desk.schedule.counts == {"ready": 0, "active": 0, "deferred": 0, "held": 1}
    assert str(desk.log.of("held")[0]["reply"]).startswith(BY_COMMAND)
    desk.tick(120.0)
    assert desk.states(mail) == [State.HELD]

    assert desk.ordered(Order.RELEASE, only(mail)) == Tally(mails=1, recipients=1)

    assert desk.spool.mails == {}
    assert desk.schedule.waiting == 0
    assert desk.log.of("released")[0]["to"] == ["b@example.net"]


def test_hold_and_release_what_waits_in_a_line() -> None:
    """It is taken out of the line, and goes back."""
    desk = Desk()
    mail, other = desk.stranded(), desk.stranded("c@example.net")

    assert desk.ordered(Order.HOLD, only(mail)) == Tally(mails=1, recipients=1)
    assert desk.schedule.counts == {"ready": 1, "active": 0, "deferred": 0, "held": 1}
    desk.up()
    assert list(desk.spool.mails) == [mail.key]
    assert other.key not in desk.spool.mails

    desk.ordered(Order.RELEASE, only(mail))

    assert desk.spool.mails == {}
    assert desk.schedule.counts == {"ready": 0, "active": 0, "deferred": 0, "held": 0}


def test_one_recipient_of_several() -> None:
    """The others go on as if nothing was."""
    desk = Desk()
    mail = desk.stranded("b@example.net", "c@example.net")

    tally = desk.ordered(Order.DELETE, Selection(recipient="B@EXAMPLE.net"))

    assert tally == Tally(mails=1, recipients=1)
    assert desk.states(mail) == [State.DELETED, State.READY]
    assert desk.log.of("finished") == []
    desk.up()
    assert desk.went_to("first") == [["c@example.net"]]
    assert [line["result"] for line in desk.log.of("finished")] == ["deleted"]


def test_delete() -> None:
    """It is gone, nobody is told, and it counts as failed."""
    desk = Desk()
    mail = desk.deferred("b@example.net", "c@example.net")

    assert desk.ordered(Order.DELETE, only(mail)) == Tally(mails=1, recipients=2)

    assert desk.spool.mails == {}
    assert desk.schedule.waiting == 0
    assert desk.log.of("deleted")[0]["to"] == ["b@example.net", "c@example.net"]
    assert desk.log.of("finished")[0]["result"] == "deleted"
    assert desk.account.totals.failed == 1
    desk.tick(120.0)
    assert desk.went_to("first") == [["b@example.net", "c@example.net"]]


def test_retry_what_is_deferred() -> None:
    """It is tried at once; what is held is left alone."""
    desk = Desk()
    mail, held = desk.deferred(), desk.deferred("c@example.net")
    desk.ordered(Order.HOLD, only(held))

    assert desk.ordered(Order.RETRY, ALL) == Tally(mails=1, recipients=1)

    assert list(desk.spool.mails) == [held.key]
    assert mail.uuid in {line["id"] for line in desk.log.of("finished")}
    assert desk.schedule.counts == {"ready": 0, "active": 0, "deferred": 0, "held": 1}


def test_retry_probes_providers() -> None:
    """Those that are down are tried at once, whatever mail there is."""
    desk = Desk()
    desk.stranded()
    for provider in desk.providers.values():
        provider.up = None

    assert desk.ordered(Order.RETRY, ALL) == Tally()

    assert desk.spool.mails == {}


def test_retry_a_paused_provider() -> None:
    """Named, it is tried with the next mail."""
    desk = Desk(names=("first",))
    desk.pause("first", "it refuses everything")
    mail = desk.mail()
    desk.tick(1.0)
    assert desk.states(mail) == [State.READY]

    desk.ordered(Order.RETRY, Selection(provider="first"))
    desk.tick(1.0)

    assert desk.spool.mails == {}
    assert desk.pools["first"].breaker.state == "up"


def test_a_transaction_is_under_way() -> None:
    """First it ends; what is left then is changed."""
    desk = Desk()
    desk.providers["first"].prompt = False
    desk.providers["first"].says = desk.providers["second"].says = always(LATER)
    mail = desk.mail()

    done = desk.order(Order.HOLD, ALL)
    assert done == []
    assert desk.states(mail) == [State.READY]
    desk.providers["first"].answer()

    assert done == [Tally(mails=1, recipients=1)]
    assert desk.states(mail) == [State.HELD]
    assert desk.schedule.counts == {"ready": 0, "active": 0, "deferred": 0, "held": 1}


def test_a_transaction_that_delivers() -> None:
    """There is nothing left to be changed."""
    desk = Desk()
    desk.providers["first"].prompt = False
    desk.mail()

    done = desk.order(Order.DELETE, ALL)
    desk.providers["first"].answer()

    assert done == [Tally()]
    assert [line["result"] for line in desk.log.of("finished")] == ["delivered"]


def test_a_transaction_that_does_not_end() -> None:
    """After a while it is told that the mail was left alone, and it goes on."""
    desk = Desk()
    desk.providers["first"].prompt = False
    mail = desk.mail()

    done = desk.order(Order.DELETE, ALL)
    desk.clock.advance(WAIT)

    assert done == [Tally(busy=1)]
    assert desk.states(mail) == [State.READY]
    desk.providers["first"].answer()
    assert desk.spool.mails == {}
    assert desk.schedule.waiting == 0


def test_batches_of_one_mail() -> None:
    """What waits behind the batch that is under way is taken out, too."""
    desk = Desk(batch_size=1)
    desk.providers["first"].prompt = False
    mail = desk.mail("b@example.net", "c@example.net", "d@example.net")

    done = desk.order(Order.DELETE, only(mail))
    desk.providers["first"].answer()
    desk.tick(5.0)

    assert done == [Tally(mails=1, recipients=2)]
    assert desk.went_to("first") == [["b@example.net"]]
    assert desk.spool.mails == {}


def test_a_change_that_cannot_be_written() -> None:
    """It is told, and all is as before."""
    desk = Desk()
    mail, other = desk.stranded(), desk.stranded("c@example.net")
    desk.spool.refuse = SpoolFailing("no disk")

    tally = desk.ordered(Order.DELETE, ALL)
    desk.spool.refuse = None

    assert (tally.mails, tally.failed) == (0, ["no disk"])
    assert desk.states(mail) == desk.states(other) == [State.READY]
    assert desk.schedule.counts == {"ready": 2, "active": 0, "deferred": 0, "held": 0}
    desk.up()
    assert desk.spool.mails == {}


def test_nothing_is_said_before_it_is_durable() -> None:
    """Neither counted nor logged; and meanwhile the mail is not tried."""
    desk = Desk(at_once=False)
    for provider in desk.providers.values():
        provider.up = REFUSED
    mail = desk.mail()

    done = desk.order(Order.HOLD, ALL)
    desk.up()
    assert (done, desk.log.of("held"), desk.went_to("first")) == ([], [], [])
    desk.spool.commit()

    assert done == [Tally(mails=1, recipients=1)]
    assert desk.states(mail) == [State.HELD]
    assert len(desk.log.of("held")) == 1
    assert desk.went_to("first") == []


def test_two_commands_for_one_mail() -> None:
    """The second finds it busy."""
    desk = Desk(at_once=False)
    for provider in desk.providers.values():
        provider.up = REFUSED
    desk.mail()

    first, second = desk.order(Order.HOLD, ALL), desk.order(Order.DELETE, ALL)
    desk.spool.commit()

    assert first == [Tally(mails=1, recipients=1)]
    assert second == [Tally(busy=1)]


def test_more_is_released_than_fits_into_memory() -> None:
    """The rest is taken up as there is room."""
    desk = Desk()
    desk.schedule.memory.limit = 3
    mails = [desk.deferred(f"r{number}@example.net") for number in range(10)]
    desk.ordered(Order.HOLD, ALL)
    for provider in desk.providers.values():
        provider.prompt = False

    assert desk.ordered(Order.RELEASE, ALL).mails == 10
    while desk.providers["first"].under_way:
        desk.providers["first"].answer()

    assert desk.spool.mails == {}
    assert desk.schedule.waiting == 0
    assert {line["id"] for line in desk.log.of("finished")} == {mail.uuid for mail in mails}


def test_a_mail_that_is_damaged() -> None:
    """Only its id deletes it."""
    desk = Desk()
    mail = desk.deferred()
    durable = desk.spool.mails[mail.key]
    held = replace(durable.standings[0], state=State.HELD, reply="quarantine: its body is gone")
    desk.spool.mails[mail.key] = replace(durable, standings=(held,))
    desk.schedule.quarantined(State.DEFERRED)

    assert desk.ordered(Order.DELETE, ALL) == Tally(spared=1)
    assert desk.ordered(Order.DELETE, only(mail)) == Tally(mails=1, recipients=1)
    assert desk.spool.mails == {}


def test_an_uncertain_mail_is_released() -> None:
    """It goes to the same provider again, and has three tries again."""
    desk = Desk(hold_uncertain=frozenset({"first"}))
    desk.providers["first"].says = always(Uncertain(no_reply("lost")))
    mail = desk.mail()
    assert desk.states(mail) == [State.HELD]
    desk.providers["first"].says = takes

    desk.ordered(Order.RELEASE, only(mail))

    assert desk.went_to("first") == [["b@example.net"]] * 2
    assert desk.went_to("second") == []


def test_ids_that_do_not_wait() -> None:
    """They are named."""
    desk = Desk()
    mail = desk.deferred()
    gone = "01a21260-000e-7000-8014-5d67acdde3c1"

    assert desk.ordered(Order.HOLD, Selection(ids=(gone, mail.uuid))) == Tally(mails=1, recipients=1, missing=[gone])


def test_a_mail_that_changes_while_it_is_looked_for() -> None:
    """What was read of it is old: it is looked at again."""
    desk = Desk()
    mail = desk.deferred()
    old = desk.spool.mails[mail.key]
    answers: list[Deferred[list[Mail]]] = []

    def page(after: int, limit: int) -> Deferred[list[Mail]]:
        answers.append(Deferred())
        return answers[-1]

    desk.spool.page = page  # type: ignore[method-assign]
    seen: list[View] = []

    async def act(_: Mail, found: View) -> None:
        seen.append(found)

    Deferred.fromCoroutine(desk.operator.visit(ALL, act))
    desk.tick(61.0)  # it is due, is delivered and leaves
    assert desk.spool.mails == {}
    answers[0].callback([old])
    desk.clock.advance(0)
    answers[1].callback([])

    assert seen == []


def test_what_is_seen() -> None:
    """States in the words of commands, of what is in memory and what is not."""
    desk = Desk()
    deferred = desk.deferred("b@example.net", "c@example.net")
    desk.providers["first"].prompt = False
    active = desk.mail("d@example.net")
    desk.pools["first"].pause("no")
    desk.providers["second"].up = REFUSED
    ready = desk.mail("e@example.net")

    seen = desk.seen()

    assert [(view.envelope.key, view.state, view.states) for view in seen] == [
        (deferred.key, "deferred", ("deferred", "deferred")),
        (active.key, "active", ("active",)),
        (ready.key, "ready", ("ready",)),
    ]
    assert desk.seen(Selection(state="active")) == [seen[1]]
    assert desk.seen(Selection(recipient="*@EXAMPLE.NET", provider="second")) == [seen[0]]
    assert desk.seen(Selection(ids=(ready.uuid,), sender="nobody@example.com")) == []


def test_a_mail_as_an_object() -> None:
    """Its names are fixed; times are those of the wall's clock."""
    desk = Desk()
    mail = desk.deferred()

    [seen] = desk.seen()

    assert seen.document(lambda at: at + 1_700_000_000) == {
        "id": mail.uuid,
        "sender": "a@example.com",
        "received_at": "2023-11-14T22:13:20.000Z",
        "size": 14,
        "state": "deferred",
        "recipients": [
            {
                "address": "b@example.net",
                "state": "deferred",
                "attempts": 1,
                "next_attempt_at": "2023-11-14T22:14:20.000Z",
                "provider": "second",
                "reply": "451 4.7.1 Greylisted",
            }
        ],
    }


@pytest.mark.parametrize(
    "said",
    [
        {"ids": "x"},
        {"ids": [1]},
        {"sender": 1},
        {"sender": ""},
        {"state": "lost"},
        {"nonsense": "x"},
    ],
)
def test_a_selection_that_makes_no_sense(said: dict[str, object]) -> None:
    """It selects nothing."""
    with pytest.raises(BadSelection):
        Selection.read(said)


def test_a_selection_that_says_nothing() -> None:
    """It is no selection of everything."""
    assert not Selection.read({}).is_said
    assert Selection.read({"all": True}).is_said
    assert Selection.read({"sender": "<>"}).is_said


def test_deleted_as_soon_as_it_is_quiet() -> None:
    """A mail is deleted in the very moment in which its transaction ends, and is counted once."""
    desk = Desk(names=["first"])
    desk.providers["first"].prompt = False
    desk.mail()
    [deleted] = [desk.order(Order.DELETE, ALL)]
    desk.providers["first"].says = always(LATER)

    desk.providers["first"].answer()

    assert [tally.mails for tally in deleted] == [1]
    assert set(desk.schedule.counts.values()) == {0}
    assert desk.spool.mails == {}
