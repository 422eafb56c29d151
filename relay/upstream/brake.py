"""Brake: keeps a provider that suddenly refuses everything from turning a queue into bounces.

A suspended account or a spent quota looks like a refusal of each mail alone. So after some refusals in a row further
ones are deferred instead of reported, and after some more the provider gets no mail but a trial now and then. A mass
bounce cannot be undone; a pause can.

Pure: each change makes a new value, small enough to be written in the commit of the outcomes that caused it. Times are
seconds on a clock that only moves forward.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from relay.envelope import Envelope
from relay.outcome import Delivered, Outcome, Rejected

BRAKED = 5
"""Mails refused in a row from which on a refusal is deferred."""

PAUSED = 20
"""Mails refused in a row that pause the provider."""

TRIAL_INTERVAL = 600.0
"""Seconds between two trials with mail of senders that were refused already."""

_REMEMBERED = 200


@dataclass(frozen=True, slots=True)
class Brake:
    """One provider's. Our own reports count neither way, and none of them is a trial.

    refused   mails (key, sender in lower case) refused since one was taken, each once
    tried     keys of the mails that were trials, the last one last
    tried_at  when the pause or the last trial began
    """

    refused: tuple[tuple[int, str], ...] = ()
    tried: tuple[int, ...] = ()
    tried_at: float = 0.0

    @property
    def braked(self) -> bool:
        """Whether the next refusal is to be deferred."""
        return len(self.refused) >= BRAKED

    @property
    def paused(self) -> bool:
        """Whether mail goes there for a trial only."""
        return len(self.refused) >= PAUSED

    def after(self, envelope: Envelope, outcomes: Iterable[Outcome], now: float) -> Brake:
        """The brake after a transaction with this mail: any recipient taken frees it, a refusal counts.

        A refusal that is `final` speaks of a mailbox and not of us: it says nothing here, as a deferral does.
        """
        if envelope.report:
            return self
        refused = False
        for outcome in outcomes:
            if isinstance(outcome, Delivered):
                return self if self == FREE else FREE
            refused = refused or (isinstance(outcome, Rejected) and not outcome.final)
        if not refused or len(self.refused) >= _REMEMBERED or any(key == envelope.key for key, _ in self.refused):
            return self
        after = replace(self, refused=(*self.refused, (envelope.key, envelope.sender.lower())))
        return replace(after, tried_at=now) if after.paused and not self.paused else after

    def choose(self, waiting: Iterable[Envelope], now: float) -> Envelope | None:
        """Which of the `waiting` mails may be a trial now, in pause.

        The first one of a sender that was not refused yet, at any time; else, if the last trial is ten minutes ago,
        one that was no trial before, or the one whose trial is the longest ago.
        """
        due = now - self.tried_at >= TRIAL_INTERVAL
        senders = {sender for _, sender in self.refused}
        keys = {key for key, _ in self.refused}
        order = {key: place for place, key in enumerate(self.tried)}
        best: Envelope | None = None
        best_rank = (0, False)
        for envelope in waiting:
            if envelope.report:
                continue
            if len(self.refused) < _REMEMBERED and envelope.sender.lower() not in senders:
                return envelope
            rank = (order.get(envelope.key, -1), envelope.key in keys)
            if due and (best is None or rank < best_rank):
                best, best_rank = envelope, rank
        return best

    def trying(self, envelope: Envelope, now: float) -> Brake:
        """The brake once a trial with this mail has begun."""
        earlier = [key for key in self.tried if key != envelope.key]
        return replace(self, tried=(*earlier[1 - _REMEMBERED :], envelope.key), tried_at=now)

    def merged(self, other: Brake) -> Brake:
        """What this process and another one know, together."""
        known = {key for key, _ in self.refused}
        refused = (*self.refused, *[each for each in other.refused if each[0] not in known])
        tried = (*[key for key in other.tried if key not in self.tried], *self.tried)
        return Brake(refused[:_REMEMBERED], tried[-_REMEMBERED:], max(self.tried_at, other.tried_at))

    def dump(self) -> str:
        """As text, for the spool."""
        return json.dumps([self.refused, self.tried, self.tried_at])

    @classmethod
    def load(cls, text: str) -> Brake:
        """What `dump` wrote. Text that makes no sense is a brake that is free: the count begins anew."""
        try:
            refused, tried, tried_at = json.loads(text)
            return cls(
                tuple((int(key), str(sender)) for key, sender in refused), tuple(map(int, tried)), float(tried_at)
            )
        except (TypeError, ValueError, OverflowError):
            return FREE


FREE = Brake()
"""Nothing was refused since a mail was taken."""
