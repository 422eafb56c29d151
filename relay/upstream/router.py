"""Router: which provider is asked next for a recipient, and what a whole round over all of them comes to.

Pure. A round begins when a recipient is due and asks each provider at most once, in order of preference. A provider
that is down is passed over and counts as one that may still take the mail; its own faults are never in `tried`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from relay.outcome import Deferred, Outcome, Rejected
from relay.reply import Reply


@dataclass(frozen=True, slots=True)
class Ask:
    """Hand it to this provider."""

    provider: str


@dataclass(frozen=True, slots=True)
class Wait:
    """No provider is up that was not asked, and none has said anything that counts: wait for one to come back."""


@dataclass(frozen=True, slots=True)
class Later:
    """The round is over and counts as an attempt; some provider may still take it."""

    provider: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refused for good by the one that knows, or by every provider there is."""

    provider: str
    reply: Reply


Step = Ask | Wait | Later | Refuse

WAIT = Wait()


def next_step(tried: Mapping[str, Outcome], order: Sequence[str], up: Container[str]) -> Step:
    """What to do for a recipient whose round so far is `tried` (provider to outcome, in the order of asking).

    order  the names of the providers that may be asked, the preferred one first
    up     those of them that take mail at this moment
    """
    if not tried:
        return next((Ask(name) for name in order if name in up), WAIT)
    asked = list(tried.items())
    last, outcome = asked[-1]
    if isinstance(outcome, Rejected) and outcome.final:
        return Refuse(last, outcome.reply)
    untried = [name for name in order if name not in tried]
    for name in untried:
        if name in up:
            return Ask(name)
    for name, earlier in reversed(asked):
        if isinstance(earlier, Deferred):
            return Later(name, earlier.reply)
    return Later(last, outcome.reply) if untried else Refuse(last, outcome.reply)
