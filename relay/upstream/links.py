"""Links: the open connections of a pool, and what is to be opened, closed and used next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.upstream.sender import Connection


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


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now: links to close, those to give a waiting transaction each, and how many connections to open."""

    close: tuple[Link, ...]
    send: tuple[Link, ...]
    open: int


def assign(
    links: Sequence[Link], *, opening: int, waiting: int, limit: int, now: float, idle_timeout: float, most: int
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
