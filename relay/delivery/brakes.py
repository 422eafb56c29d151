"""Brakes: one for each provider, kept where outcomes are written down, and what follows from them.

A provider that refuses mail after mail is not believed after the fifth: its refusals are deferrals from then on, and
at the twentieth it is paused. In pause a mail of a sender that was not refused goes there at once, any other one every
ten minutes; one that is taken frees it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from relay.envelope import Envelope
from relay.outcome import Deferred, Outcome, Rejected
from relay.upstream.brake import FREE, TRIAL_INTERVAL, Brake
from relay.upstream.pool import Pool

_AT_ONCE = float("-inf")


class News(Protocol):
    """What is said of a pause."""

    def provider_paused(self, provider: str, error: str) -> None:
        """It refused everything; refusals are deferred until one mail is taken."""


class Brakes:
    """See the module's docstring. `notes` are those of the spool, as they were read at the start.

    Where a queue is shared so are its brakes: each process hears (`heard`) what the others have written. Of those that
    share it the one that `leads` makes the trials that come by the clock.
    """

    def __init__(
        self,
        pools: Mapping[str, Pool],
        notes: Mapping[str, str],
        now: Callable[[], float],
        news: News,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._leads = leads
        self._pools = pools
        self._now = now
        self._news = news
        self._brakes = {name: Brake.load(notes.get(_note(name), "")) for name in pools}

    def start(self) -> None:
        """A pause outlives a restart."""
        for name, brake in self._brakes.items():
            if brake.paused:
                self._pools[name].pause("it refused everything before the restart")

    def follow(self) -> None:
        """There may be new providers; those that are gone are remembered, since transactions there may be under way."""
        for name in self._pools:
            self._brakes.setdefault(name, FREE)

    def judge(
        self, name: str, envelope: Envelope, outcomes: tuple[Outcome, ...]
    ) -> tuple[tuple[Outcome, ...], tuple[tuple[str, str], ...]]:
        """The outcomes as they are to be taken, and the note to be written in the commit that settles them."""
        brake = self._brakes[name]
        if brake.braked:
            judged = tuple([Deferred(o.reply) if isinstance(o, Rejected) and not o.final else o for o in outcomes])
        else:
            judged = outcomes
        after = self._brakes[name] = brake.after(envelope, outcomes, self._now())
        if after.paused:
            error = next((str(o.reply) for o in outcomes if isinstance(o, Rejected)), "")
            if error and self._pools[name].pause(error):
                self._news.provider_paused(name, error)
        return judged, (() if after == brake else ((_note(name), after.dump()),))

    def suits(self, name: str, envelope: Envelope) -> bool:
        """Whether a paused provider is to be tried with this mail, which has just come."""
        return envelope.key not in self._brakes[name].tried and self.choose(name, [envelope]) is envelope

    def choose(self, name: str, waiting: list[Envelope]) -> Envelope | None:
        """Which of the mails that wait is the next trial of a paused provider, if it is time for one."""
        brake = self._brakes[name]
        by_the_clock = self._leads() or brake.tried_at == _AT_ONCE
        return brake.choose(waiting, self._now() if by_the_clock else _AT_ONCE)

    def heard(self, notes: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Another process has written something down: a mail that was taken frees, a refusal counts for all.

        The notes that are to be written again, since two have written at once and one of them without the other.
        """
        again: list[tuple[str, str]] = []
        for name, pool in self._pools.items():
            text = notes.get(_note(name))
            if text is None:
                continue
            other = Brake.load(text)
            if not other.refused:
                self._brakes[name] = FREE
                pool.relieve()
                continue
            merged = self._brakes[name] = self._brakes.get(name, FREE).merged(other)
            if len(merged.refused) > len(other.refused):
                again.append((_note(name), merged.dump()))
            if merged.paused:
                pool.pause("it refused everything, as other instances have seen")
        return tuple(again)

    def trial_at(self, name: str) -> float:
        """When a paused provider is tried with a mail of whichever sender; of a new one that is at once."""
        return self._brakes[name].tried_at + TRIAL_INTERVAL

    def release(self, name: str) -> None:
        """A person asks for a trial now, with whatever mail comes first."""
        self._brakes[name] = replace(self._brakes[name], tried_at=_AT_ONCE)

    def begin(self, name: str, envelope: Envelope) -> None:
        """A trial with this mail begins."""
        self._brakes[name] = self._brakes[name].trying(envelope, self._now())
        self._pools[name].begin_trial()


def _note(name: str) -> str:
    return f"brake:{name}"
