"""Shared: what more there is to a spool that is the queue of any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred

from relay.spool.spool import Mail, Spool, State


@dataclass(frozen=True, slots=True)
class Shares:
    """How the whole of a shared queue is, never older than a second where the server answers.

    written  mails READY, DEFERRED and HELD
    others   by how much more mails the other processes show as ready, active, deferred and held
    idle     seconds since another process has delivered a mail; None if none ever did
    old      mails that are READY, are in no process's memory and were taken before `SharedSpool.old_before`
    """

    written: tuple[int, int, int] = (0, 0, 0)
    others: tuple[int, int, int, int] = (0, 0, 0, 0)
    old: int = 0
    idle: float | None = None


class SharedSpool(Spool, Protocol):
    """A queue that any number of processes share; each mail is in the memory of one of them at most.

    promised    mails on their way in that are to be ours
    shown       by how much more mails we show as ready, active, deferred and held than are written: for all to see
    old_before  see Shares

    For the caller to set:

    idle    for how many seconds we have delivered nothing; None: we never did
    room    how many more mails that are handed in may be ours now
    waits   told twice a second whether READY mail waits that nobody has, and when the next DEFERRED one is due
    lost    told, with the reason, when nothing is ours any more
    noted   told all notes when another process has changed some
    wanted  told of a mail that another process asks for, by key
    gone    told of each other process that has ended without a word, how many mails are free by that, and the id and
            recipient of each whose final dot was under way
    """

    promised: int
    shown: tuple[int, int, int, int]
    idle: Callable[[], float | None]
    old_before: float
    room: Callable[[], int]
    waits: Callable[[bool, float | None], None]
    lost: Callable[[str], None]
    gone: Callable[[str, int, Sequence[tuple[str, str]]], None]
    wanted: Callable[[int], None]
    noted: Callable[[Mapping[str, str]], None]

    @property
    def figures(self) -> Shares:
        """How the whole queue is."""

    @property
    def speaks(self) -> bool:
        """Whether of all processes it is this one that tells of the queue's alerts."""

    def has(self, key: int) -> bool:
        """Whether a mail is ours."""

    def written(self, key: int) -> State | None:
        """The first state that a recipient of a mail of ours is in, as that is written; None if it is not ours."""

    def claim(self, now: float, limit: int, *, suspects: bool) -> Deferred[list[Mail]]:
        """Mails that nobody has and that are READY or due, at most `limit`: they are ours from now on.

        First those that were taken over from a process that has ended, of those that two such ends have made suspect
        one at most, and only where `suspects` allows it. Of the other places half are for the newest READY mail, which
        so waits for no backlog, half of the rest for what is due, and what is left for the oldest READY mail.
        """

    def obtain(self, key: int) -> Deferred[Mail | None]:
        """That mail, ours from now on; None if it waits no more. Fails with LostTurn where another process keeps it."""

    def admit(self, to: str, per_hour: int, now: float) -> Deferred[float | None]:
        """Count one report to an address: None, if it goes at once; else when its hour ends. See Quota."""

    def ask_for(self, key: int) -> None:
        """Have whoever has a mail give it back, as soon as nothing is under way for it, and nobody claim it."""

    def release(self, key: int) -> None:
        """A mail is not to be ours any more, if it is."""
