"""Turns: work on very many things gives way to all else in the reactor's thread, again and again."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

SLICE = 0.005
"""Seconds of work after which others get their turn."""


class Turns:
    """One piece of long work, whose turn begins when this is made."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._since = clock.seconds()

    async def give_way(self) -> None:
        """To be called between two things that are each a whole: returns at once, or in a later turn of the reactor."""
        if self._clock.seconds() - self._since < SLICE:
            return
        turn: Deferred[None] = Deferred()
        self._clock.callLater(0, turn.callback, None)
        await turn
        self._since = self._clock.seconds()
