"""Crashes: the mails in memory that other processes had when they ended, in a queue that is shared.

The queue itself counts these ends, when it takes mail from who is gone; so nothing is to be kept here. The count is
forgotten there once the mail is HELD: a person has seen to it. One end says nothing of a mail, since all that a process
had has met it; who was there at two goes alone, and is in the memory of no process before that is its turn.
"""

from __future__ import annotations

from relay.delivery.flights import SUSPECTED

DOUBTED = 2
"""Ends during which a mail was in memory, and from then on it goes alone."""


class Crashes:
    """What `relay.delivery.suspects` asks of Flights."""

    come_alone = True

    def __init__(self) -> None:
        self.suspects: dict[int, int] = {}

    def add(self, key: int, times: int) -> None:
        """A mail was claimed that so many processes had when they ended."""
        if times >= DOUBTED:
            self.suspects[key] = times

    def suspected(self, key: int) -> bool:
        """Whether this mail is to be held instead of being tried."""
        return self.suspects.get(key, 0) >= SUSPECTED

    def begin(self, key: int) -> None:
        """A transaction begins: its lease says so."""

    def end(self, key: int) -> None:
        """A transaction is over: its outcome says so."""

    def forget(self, key: int) -> None:
        """This mail is no more, not ours any more, or a person has seen to it."""
        self.suspects.pop(key, None)

    def beat(self) -> None:
        """The process is alive: the spool says so."""

    def close(self) -> None:
        """The end that was meant."""
