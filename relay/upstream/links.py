"""Links: the open connections of a pool, and what is to be opened, closed and used next. It does none of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from relay.outcome import Outcome
from relay.upstream.sender import Batch, Connection, Result

PATIENCE = 30.0
"""Seconds after which a transaction that waits for a reply gives its worker back."""


@dataclass(slots=True)
class Job:
    """A transaction that waits for a connection, or has one.

    mail   its mail's key
    done   called once, with the Result and `argument`
    began  called with `argument` before, if and when there is a connection for it
    """

    batch: Batch
    mail: int
    done: Callable[[Result, Any], None]
    argument: Any
    began: Callable[[Any], None] | None = None

    def end(self, outcome: Outcome) -> None:
        """It comes to this, without a connection."""
        self.done(Result((outcome,) * len(self.batch.recipients), usable=False), self.argument)


@dataclass(slots=True, eq=False)
class Link:
    """A connection, how many transactions are under way on it, and whether it is `spent`: to be closed after them."""

    connection: Connection
    load: int = 0
    spent: bool = False

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self.load

    def waits_since(self, before: float) -> bool:
        """Whether it has waited for a reply since that time or longer."""
        since = self.connection.waiting_since
        return since is not None and since <= before


class Links:
    """Those that are open, in the order in which they were opened."""

    def __init__(self) -> None:
        self._links: list[Link] = []

    def __iter__(self) -> Iterator[Link]:
        """All of them."""
        return iter(self._links)

    def __len__(self) -> int:
        """How many."""
        return len(self._links)

    def add(self, link: Link) -> None:
        """One more is open."""
        self._links.append(link)

    def discard(self, link: Link) -> None:
        """One is not open any more, or soon will not be."""
        if link in self._links:
            self._links.remove(link)

    @property
    def busy(self) -> int:
        """How many have a transaction."""
        return sum(not link.idle for link in self._links)

    def at_hand(self, since: float) -> Link | None:
        """One that idles, not longer than that, and may be used: what `assign` would find, without its work."""
        for link in self._links:
            if not link.load and not link.spent and link.connection.idle_since > since:
                return link
        return None

    def silent(self, now: float) -> list[Link]:
        """Those that have waited for a reply for PATIENCE or longer."""
        before = now - PATIENCE
        return [link for link in self._links if link.load and link.waits_since(before)]

    def spend(self) -> list[Link]:
        """Have all of them end after what they carry; those that carry nothing are the caller's to close."""
        for link in self._links:
            link.spent = True
        return [link for link in self._links if link.idle]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now: links to close, those to give a waiting transaction each, and how many connections to open."""

    close: tuple[Link, ...]
    send: tuple[Link, ...]
    open: int


def assign(
    links: Links | Sequence[Link], *, opening: int, waiting: int, limit: int, now: float, idle_timeout: float, most: int
) -> Plan:
    """Decide for one provider: what idles is used first, then a new connection, then one that is under way.

    waiting  transactions that wait for a connection
    limit    connections that there may be
    most     transactions that one connection may carry in all
    """
    idle = [link for link in links if not link.load]
    stale = tuple([link for link in idle if link.spent or now - link.connection.idle_since >= idle_timeout])
    fresh = [link for link in idle if link not in stale]
    send = sorted(fresh, key=lambda link: -link.connection.idle_since)[:waiting]
    waiting -= len(send)
    new = max(min(waiting - opening, limit - (len(links) - len(stale)) - opening), 0)
    waiting -= opening + new
    loaded = sorted((link for link in links if link.load and not link.spent), key=lambda link: link.load)
    for link in loaded:
        room = min(link.connection.depth, most - link.connection.carried) - link.load
        send += [link] * max(min(room, waiting), 0)
        waiting -= max(min(room, waiting), 0)
    return Plan(stale, tuple(send), new)
