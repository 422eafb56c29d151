"""Item: one mail in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from relay.envelope import Envelope
from relay.outcome import Outcome
from relay.spool.spool import Mail, Standing, State

Shown = Literal["ready", "active", "deferred", "held"]
SHOWN: dict[State, Shown] = {State.READY: "ready", State.DEFERRED: "deferred", State.HELD: "held"}

"""How the figures count a mail of which that is the first state that a recipient waits in."""

LOST = -1


class Item:
    """One mail in memory: its recipients' standings, and what is under way for them.

    queued  recipients (by number) that are to be tried or are being tried now
    active  transactions under way
    rounds  what providers have said of a recipient in the round that is not over yet
    fresh   whether it came straight from an application: it does not wait behind what has waited before
    turn    names the lease in a queue that is shared (see Mail); LOST: another process has the mail by now
    """

    __slots__ = ("active", "body", "envelope", "fresh", "head", "queued", "rounds", "shown", "standings", "turn")

    def __init__(
        self,
        envelope: Envelope,
        head: bytes,
        body: bytes | None,
        standings: Sequence[Standing],
        turn: int = 0,
        *,
        fresh: bool = False,
    ) -> None:
        self.envelope = envelope
        self.head = head
        self.body = body
        self.standings = list(standings)
        self.turn = turn
        self.fresh = fresh
        self.active = 0
        self.queued: set[int] = set()
        self.rounds: dict[int, dict[str, Outcome]] = {}
        self.shown: Shown = "ready"

    def look(self) -> Shown | None:
        """The state in which the queue's figures count it; None once nothing of it waits."""
        if self.active:
            return "active"
        if self.queued:
            return "ready"
        waiting = [standing.state for standing in self.standings if standing.state.waiting]
        return SHOWN[min(waiting)] if waiting else None

    def mail(self) -> Mail:
        """The same as a value of the spool."""
        return Mail(self.envelope, self.head, self.body, tuple(self.standings), self.turn)


def ready_again(standing: Standing) -> Standing:
    """The standing of a recipient that is to be tried at once, whatever it waited for."""
    return replace(standing, state=State.READY, due=0.0)
