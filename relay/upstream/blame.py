"""Blame: which of a transaction's outcomes says most about the provider, and how it is taken from it."""

from __future__ import annotations

from collections.abc import Sequence

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

_ORDER: tuple[type, ...] = (ProviderFault, Retired, Uncertain, Delivered, Deferred, Rejected, CannotTake, OverLimit)


def worst_of(outcomes: Sequence[Outcome]) -> Outcome:
    """The one that says most about the provider."""
    return min(outcomes, key=lambda outcome: _ORDER.index(type(outcome)))


def blameless(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The same, with what looked like the provider's fault as what it was: a connection that is no more."""
    return tuple([Retired(outcome.reply) if isinstance(outcome, ProviderFault) else outcome for outcome in outcomes])
