"""What the outcomes of a transaction mean for its recipients."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.delivery.judgement import Circumstances, judge
from relay.envelope import Recipient
from relay.outcome import (
    CannotTake,
    Deferred,
    Delivered,
    Outcome,
    OverLimit,
    ProviderFault,
    Rejected,
    Retired,
    Uncertain,
)
from relay.reply import Reply, no_reply
from relay.retry import Retry
from relay.spool.spool import Standing, State

TAKEN = Reply(250, "2.0.0", ("Ok",))
LATER = Reply(451, "4.7.1", ("Greylisted",))
NO = Reply(550, "5.7.1", ("Not from you",))
NOBODY = Reply(550, "5.1.1", ("No such user",))
LOST = no_reply("the connection was lost")

CASE = Circumstances(
    provider="a",
    order=("a", "b"),
    up=("a", "b"),
    hold_uncertain=False,
    retry=Retry((60.0, 300.0), 3600.0, 0.0, 1000.0),
    age=10.0,
    now=5000.0,
    uniform=lambda low, high: low,
)


def standing(**fields: object) -> Standing:
    """A recipient that was not tried yet, but for `fields`."""
    return replace(Standing(0, Recipient("b@example.net")), **fields)  # type: ignore[arg-type]


def one(
    outcome: Outcome, case: Circumstances = CASE, before: dict[str, Outcome] | None = None, **fields: object
) -> Standing | None:
    """What becomes of one recipient; None: it is tried on at once."""
    said: dict[str, Outcome] = {**(before or {}), case.provider: outcome}
    judged = judge([standing(**fields)], [outcome], {0: said}, case)
    assert len(judged.standings) + len(judged.again) == 1
    return judged.standings[0] if judged.standings else None


def test_taken() -> None:
    """A recipient whose mail was taken is done, in the provider's words."""
    after = one(Delivered(TAKEN))

    assert after is not None
    assert (after.state, after.provider, after.reply) == (State.DELIVERED, "a", "250 2.0.0 Ok")


@pytest.mark.parametrize("outcome", [ProviderFault(LOST), Retired(LOST), OverLimit(LATER)])
def test_not_the_mails_fault(outcome: Outcome) -> None:
    """What says nothing of the mail costs it nothing: it is tried on at once."""
    assert one(outcome) is None


@pytest.mark.parametrize("outcome", [Deferred(LATER), Rejected(NO), CannotTake(NO)])
def test_the_next_provider_is_asked(outcome: Outcome) -> None:
    """What the first one does not take goes to the second."""
    assert one(outcome) is None


def test_deferred_by_all() -> None:
    """One attempt is counted, and the wait runs from its end."""
    after = one(Deferred(LATER), replace(CASE, provider="b"), {"a": Deferred(LATER)}, attempts=1)

    assert after is not None
    assert (after.state, after.attempts, after.due) == (State.DEFERRED, 2, 5300.0)


def test_refused_by_all() -> None:
    """The last one's refusal bounces."""
    after = one(Rejected(NO), replace(CASE, provider="b"), {"a": Rejected(NOBODY)})

    assert after is not None
    assert (after.state, after.provider, after.reply) == (State.BOUNCED, "b", str(NO))


def test_no_such_mailbox() -> None:
    """Who does not exist is not asked for elsewhere."""
    after = one(Rejected(NOBODY, final=True))

    assert after is not None
    assert after.state is State.BOUNCED


def test_too_old_after_an_attempt_that_counts() -> None:
    """A mail expires after an attempt beyond its age."""
    after = one(Deferred(LATER), replace(CASE, order=("a",), age=1000.0))

    assert after is not None
    assert after.state is State.EXPIRED


def test_unanswered_dot() -> None:
    """It counts, pins the provider, and is tried there again after the first step."""
    after = one(Uncertain(LOST), attempts=1)

    assert after is not None
    assert (after.state, after.attempts, after.pinned, after.provider, after.due) == (
        State.DEFERRED,
        2,
        True,
        "a",
        5060.0,
    )


def test_unanswered_dot_for_the_third_time() -> None:
    """A person has to look."""
    after = one(Uncertain(LOST), uncertain=2, pinned=True, provider="a")

    assert after is not None
    assert after.state is State.HELD


def test_unanswered_dot_where_it_holds() -> None:
    """With on_uncertain = "hold" the first one holds."""
    after = one(Uncertain(LOST), replace(CASE, hold_uncertain=True))

    assert after is not None
    assert after.state is State.HELD


def test_pinned_and_deferred() -> None:
    """A pinned recipient waits for its provider, and no other is asked: that might make a second copy."""
    after = one(Deferred(LATER), pinned=True, provider="a", uncertain=1)

    assert after is not None
    assert (after.state, after.pinned, after.uncertain) == (State.DEFERRED, True, 0)


def test_pinned_and_refused() -> None:
    """A refusal says that it was not taken before either: the next provider is asked."""
    assert one(Rejected(NO), pinned=True, provider="a", uncertain=1) is None


def test_each_recipient_for_itself() -> None:
    """Outcomes of one transaction differ by recipient."""
    standings = [Standing(number, Recipient(f"r{number}@example.net")) for number in range(3)]
    outcomes: list[Outcome] = [Delivered(TAKEN), Rejected(NOBODY, final=True), Deferred(LATER)]

    judged = judge(standings, outcomes, {1: {"a": outcomes[1]}, 2: {"a": outcomes[2]}}, CASE)

    assert [(after.number, after.state) for after in judged.standings] == [(0, State.DELIVERED), (1, State.BOUNCED)]
    assert judged.again == (2,)
