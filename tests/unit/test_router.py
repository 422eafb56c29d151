"""Who is asked next, and what a round comes to."""

from __future__ import annotations

from relay.outcome import CannotTake, Deferred, Outcome, Rejected
from relay.reply import Reply
from relay.upstream.router import WAIT, Ask, Later, Refuse, next_step

LATER = Reply(451, "4.7.1", ("Greylisted",))
NO = Reply(550, "5.7.1", ("Not from you",))
NOBODY = Reply(550, "5.1.1", ("No such user",))
TOO_LARGE = Reply(552, "5.3.4", ("too large",))


def test_first_choice_is_asked_first() -> None:
    """The preferred provider gets the mail while it is up."""
    assert next_step({}, ["a", "b"], ["a", "b"]) == Ask("a")


def test_second_is_asked_while_the_first_is_down() -> None:
    """A provider that is down is passed over."""
    assert next_step({}, ["a", "b"], ["b"]) == Ask("b")


def test_all_down() -> None:
    """Nobody is up: wait, which counts for nothing."""
    assert next_step({}, ["a", "b"], []) == WAIT


def test_no_such_mailbox_ends_the_round() -> None:
    """A refusal that says that the mailbox does not exist is final."""
    assert next_step({"a": Rejected(NOBODY, final=True)}, ["a", "b"], ["a", "b"]) == Refuse("a", NOBODY)


def test_other_refusals_go_round() -> None:
    """A refusal or a deferral by one provider is no reason not to ask the next."""
    answers: tuple[Outcome, ...] = (Rejected(NO), Deferred(LATER), CannotTake(TOO_LARGE))
    for outcome in answers:
        assert next_step({"a": outcome}, ["a", "b"], ["a", "b"]) == Ask("b")


def test_refused_by_one_and_deferred_by_the_other() -> None:
    """While a provider may still take it, it is not bounced; the reply shown is the deferral."""
    assert next_step({"a": Deferred(LATER), "b": Rejected(NO)}, ["a", "b"], ["a", "b"]) == Later("a", LATER)


def test_refused_by_one_while_the_other_is_down() -> None:
    """One that is down may still take it."""
    assert next_step({"a": Rejected(NO)}, ["a", "b"], ["a"]) == Later("a", NO)


def test_refused_by_all() -> None:
    """The last one's refusal is the one that counts."""
    assert next_step({"a": Rejected(NO), "b": CannotTake(TOO_LARGE)}, ["a", "b"], ["a", "b"]) == Refuse("b", TOO_LARGE)
