"""What a mail waits for, in words."""

from __future__ import annotations

import pytest

from relay.delivery.operator import Order
from relay.delivery.reasons import Limits, Reasons
from relay.delivery.selection import Selection
from relay.outcome import Uncertain
from relay.phrases import span
from relay.reply import no_reply
from relay.spool.spool import SpoolFailing
from tests.providers import REFUSED, always
from tests.unit.test_operator import ALL, Desk


def sentences(desk: Desk) -> list[str]:
    """Of the one mail there is."""
    reasons = Reasons(
        desk.schedule, desk.delivery, desk.pools, Limits(86400.0, 100), desk.clock.seconds, desk.clock.seconds
    )
    [seen] = desk.seen()
    return reasons.sentences(seen)


def test_deferred() -> None:
    """How often, what was said last, when next, and when it is given up."""
    desk = Desk()
    mail = desk.deferred("b@example.net", "c@example.net")
    desk.tick(10.0)

    about, why = sentences(desk)

    assert about == (f"Mail {mail.uuid} from a@example.com to 2 recipients was taken 10 s ago; it is deferred.")
    assert why == (
        "b@example.net, c@example.net: was tried once; second said last: 451 4.7.1 Greylisted. "
        "It is tried again in 50 s. It is given up in 23 h 59 min, if it has not been taken."
    )


def test_no_provider_is_up() -> None:
    """How each of them stands, and when it is tried again."""
    desk = Desk()
    desk.stranded()
    desk.tick(5.0)

    why = sentences(desk)[1]

    assert why.startswith("b@example.net: waits for a provider: first has been down for 5 s (connection refused), ")
    assert "tried again in 10 s; second has been down for 5 s" in why


def test_a_provider_is_paused() -> None:
    """Why, since when, and when it is tried."""
    desk = Desk(names=("first",))
    desk.pause("first", "550 5.7.1 account suspended")
    desk.mail()

    why = sentences(desk)[1]

    assert "first has been paused for 0 s, since it refused everything (550 5.7.1 account suspended); " in why
    assert "one mail tries it in 10 min, or at `mailrelay queue retry --provider first`" in why


def test_all_workers_are_busy() -> None:
    """So it is with a queue."""
    desk = Desk(names=("first",), workers=1)
    desk.providers["first"].prompt = False
    desk.mail("a@example.net")
    desk.mail("b@example.net")
    reasons = Reasons(
        desk.schedule, desk.delivery, desk.pools, Limits(86400.0, 100), desk.clock.seconds, desk.clock.seconds
    )
    desk.clock.advance(3.0)

    first, second = desk.seen()

    assert reasons.sentences(first)[1] == "a@example.net: a transaction with first has been under way for 3 s."
    assert "is in the line of first, and all 1 workers are busy" in reasons.sentences(second)[1]


def test_an_uncertain_mail() -> None:
    """Where to look, and what may be done then."""
    desk = Desk(hold_uncertain=frozenset({"first"}))
    desk.providers["first"].says = always(Uncertain(no_reply("lost")))
    mail = desk.mail()

    why = sentences(desk)[1]

    assert "first may have taken it or not (lost)" in why
    assert f"`mailrelay queue release {mail.uuid}`" in why


def test_a_mail_that_is_pinned() -> None:
    """Only its provider may have it."""
    desk = Desk()
    desk.providers["first"].says = always(Uncertain(no_reply("lost")))
    desk.mail()
    assert "at first only, since the outcome there was uncertain" in sentences(desk)[1]

    desk.providers["first"].up = REFUSED
    desk.pools["first"]._fault(REFUSED)
    desk.ordered(Order.RETRY, ALL)

    assert "only first may be tried" in sentences(desk)[1]
    assert "second" not in sentences(desk)[1]


def test_held_by_command() -> None:
    """With what was said before."""
    desk = Desk()
    desk.deferred()
    desk.ordered(Order.HOLD, ALL)

    assert "held by command; before that: 451 4.7.1 Greylisted." in sentences(desk)[1]


def test_some_are_done() -> None:
    """Each group of recipients has its own sentence."""
    desk = Desk()
    desk.deferred("b@example.net", "c@example.net", "d@example.net", "e@example.net", "f@example.net")
    desk.ordered(Order.DELETE, Selection(recipient="b@example.net"))

    said = sentences(desk)

    assert said[1] == "b@example.net: deleted by command."
    assert said[2].startswith("c@example.net, d@example.net, e@example.net and 1 other: was tried once;")


def test_an_outcome_that_cannot_be_written() -> None:
    """Nothing goes before that has."""
    desk = Desk(names=("first",), workers=1)
    desk.providers["first"].prompt = False
    desk.mail("a@example.net")
    desk.spool.refuse = SpoolFailing("no disk")
    desk.providers["first"].answer()
    desk.spool.refuse = None
    desk.mail("b@example.net")

    seen = desk.seen()[-1]
    reasons = Reasons(
        desk.schedule, desk.delivery, desk.pools, Limits(86400.0, 100), desk.clock.seconds, desk.clock.seconds
    )

    assert "until an outcome can be written down" in reasons.sentences(seen)[1]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (0.4, "0 s"), (59.6, "1 min"), (3599, "59 min 59 s"), (86400 * 5, "5 d"), (90061, "1 d 1 h")],
)
def test_spans(seconds: float, words: str) -> None:
    """In two units at most."""
    assert span(seconds) == words
