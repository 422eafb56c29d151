"""Lease: a mail that is in this process's memory, and where each of its recipients stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relay.spool.spool import Standing, State


@dataclass(frozen=True, slots=True)
class Lease:
    """What a write about a mail names, and all that its turn is worked out from.

    owned   whether it is ours; else nobody's, and locked for the one commit that is being made
    stands  the recipients' states and due times, by number
    body    the `piece.body` of its octets
    """

    generation: int
    owned: bool
    stands: dict[int, tuple[int, float]]
    body: int

    def after(self, standings: Iterable[Standing]) -> Lease:
        """The same once these are written."""
        stands = {**self.stands, **{each.number: (int(each.state), each.due) for each in standings}}
        return Lease(self.generation, self.owned, stands, self.body)

    @property
    def state(self) -> int:
        """The first state that a recipient is in."""
        return min([state for state, _ in self.stands.values()], default=int(State.HELD))

    @property
    def due(self) -> float | None:
        """0 if one is READY; else the earliest time of one that is DEFERRED; None if there is none."""
        dues = [0.0 if state == State.READY else due for state, due in self.stands.values() if state < State.HELD]
        return min(dues, default=None)
