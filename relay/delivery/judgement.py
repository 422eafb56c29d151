"""Judgement: what the outcomes of one transaction mean for the recipients in it. Pure.

The rules are those of `docs/explanation/delivery.md`: trouble of a provider counts for nothing, what the mail met goes
round the providers, and only a whole round that came to nothing is an attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace

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
from relay.reply import Reply
from relay.retry import Retry
from relay.spool.spool import Standing, State
from relay.upstream.router import Ask, Later, Refuse, Wait, next_step

GOES_ROUND = (CannotTake, Deferred, Rejected)
"""What a provider says of the mail, so that the next one is asked."""

HELD_AFTER = 3
"""Uncertain so many times in a row: a person has to look whether the mail arrived."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What follows: standings to be written down, and recipients (by number) to be tried on at once."""

    standings: tuple[Standing, ...]
    again: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a judgement depends on besides the outcomes.

    provider        the one that was asked
    order           the names of all providers, the preferred one first
    up              those that take mail at this moment
    hold_uncertain  whether that provider's unanswered dot holds the mail instead of trying it again
    age             seconds since the mail was taken
    now             on the spool's scale
    """

    provider: str
    order: Sequence[str]
    up: Container[str]
    hold_uncertain: bool
    retry: Retry
    age: float
    now: float
    uniform: Callable[[float, float], float]


def judge(
    standings: Sequence[Standing],
    outcomes: Sequence[Outcome],
    rounds: Mapping[int, Mapping[str, Outcome]],
    case: Circumstances,
) -> Judged:
    """Judge each recipient by its outcome; `rounds` holds what was said in this round, this outcome included."""
    settled: list[Standing] = []
    again: list[int] = []
    for standing, outcome in zip(standings, outcomes, strict=True):
        if isinstance(outcome, Delivered):
            settled.extend(delivered([standing], outcome.reply, case.provider))
        elif isinstance(outcome, Uncertain):
            settled.append(_uncertain(standing, outcome.reply, case))
        elif isinstance(outcome, GOES_ROUND) and (after := end_of_round(standing, rounds, case)) is not None:
            settled.append(after)
        else:
            again.append(standing.number)
    return Judged(tuple(settled), tuple(again))


def end_of_round(
    standing: Standing, rounds: Mapping[int, Mapping[str, Outcome]], case: Circumstances
) -> Standing | None:
    """How a recipient stands now that nobody is left to be asked in its round; None while somebody is."""
    said = rounds.get(standing.number, {})
    pinned = is_pinned(standing, said, case.order)
    step = next_step(said, (standing.provider,) if pinned else case.order, case.up)
    return None if isinstance(step, Ask | Wait) else _refused(standing, step, case, pinned)


def got_through(outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """The outcomes, where a limit that nobody got through counts as a deferral: trying on would never end."""
    kinds = {type(outcome) for outcome in outcomes}
    if OverLimit not in kinds or kinds & {Delivered, ProviderFault, Retired}:
        return outcomes
    return tuple([Deferred(outcome.reply) if isinstance(outcome, OverLimit) else outcome for outcome in outcomes])


def is_pinned(standing: Standing, said: Mapping[str, Outcome], order: Sequence[str]) -> bool:
    """Whether only one provider may be asked, since the outcome there was uncertain.

    Once it has refused the mail it surely does not have it, and any other one may be asked.
    """
    name = standing.provider
    return standing.pinned and name in order and not isinstance(said.get(name), Rejected | CannotTake)


def delivered(standings: Sequence[Standing], reply: Reply, provider: str) -> tuple[Standing, ...]:
    """How recipients stand whose mail that provider has taken."""
    said = str(reply)
    return tuple(
        [
            Standing(
                standing.number,
                standing.recipient,
                State.DELIVERED,
                standing.attempts + 1,
                provider=provider,
                reply=said,
                warned=standing.warned,
            )
            for standing in standings
        ]
    )


def _uncertain(standing: Standing, reply: Reply, case: Circumstances) -> Standing:
    times = standing.uncertain + 1
    attempts = standing.attempts + 1
    hold = case.hold_uncertain or times >= HELD_AFTER
    return replace(
        standing,
        state=State.HELD if hold else State.DEFERRED,
        attempts=attempts,
        due=0.0 if hold else case.now + case.retry.delay(1, case.uniform),
        provider=case.provider,
        pinned=True,
        uncertain=times,
        reply=f"uncertain: {reply}",
    )


def _refused(standing: Standing, step: Later | Refuse, case: Circumstances, pinned: bool) -> Standing:
    attempts = standing.attempts + 1
    refused = replace(
        standing,
        attempts=attempts,
        due=0.0,
        provider=step.provider,
        pinned=pinned,
        uncertain=0,
        reply=str(step.reply),
    )
    if isinstance(step, Refuse):
        return replace(refused, state=State.BOUNCED)
    if case.retry.expired(case.age, counted=True):
        return replace(refused, state=State.EXPIRED)
    return replace(refused, state=State.DEFERRED, due=case.now + case.retry.delay(attempts, case.uniform))
