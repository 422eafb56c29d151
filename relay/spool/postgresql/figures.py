"""Figures: how the whole queue is, asked by each process twice a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from relay.envelope import key_at
from relay.spool.postgresql.server import Connection
from relay.spool.postgresql.statements import OLDEST

MANY = 1000
"""As many READY mails are counted one by one; beyond that all of them count as old."""

LOOK = (
    "SELECT EXISTS (SELECT 1 FROM mail WHERE owner IS NULL AND due = 0), "
    "(SELECT min(due) FROM mail WHERE owner IS NULL AND due > 0), "
    "(SELECT count(*) FROM (SELECT 1 FROM mail WHERE owner IS NULL AND due >= 0 AND (due, key) < (0, %s) LIMIT %s) "
    "AS old), "
    "t.*, p.* "
    "FROM (SELECT sum(ready)::bigint, sum(deferred)::bigint, sum(held)::bigint, "
    "coalesce(sum(ready) FILTER (WHERE process = %s), 0)::bigint, "
    "coalesce(sum(deferred) FILTER (WHERE process = %s), 0)::bigint, "
    "coalesce(sum(held) FILTER (WHERE process = %s), 0)::bigint FROM tally) AS t, "
    "(SELECT coalesce(sum(ready), 0)::bigint, coalesce(sum(active), 0)::bigint, coalesce(sum(deferred), 0)::bigint, "
    "coalesce(sum(held), 0)::bigint, extract(epoch FROM clock_timestamp() - max(delivered_at))::double precision "
    "FROM process WHERE id <> %s) AS p"
)
"""What is old is asked of `due` and `key` together: by its key alone a planner might walk all mails."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found.

    ready   whether READY mail waits that nobody has
    due     when the next DEFERRED mail that nobody has is due
    old     READY mails that nobody has and that were taken before a certain moment, up to MANY
    others  mails READY, DEFERRED and HELD, but for what the tally of this process says
    shown   by how much more the others show as ready, active, deferred and held
    idle    seconds since another process delivered a mail, if one ever did
    oldest  key and received_at of the oldest mail that is to be tried
    """

    ready: bool
    due: float | None
    old: int
    others: tuple[int, int, int]
    shown: tuple[int, int, int, int]
    idle: float | None
    oldest: tuple[int, float] | None


def look(connection: Connection, me: int, before: float) -> Seen:
    """How it is now. `before`: since when mail is not old. Raises psycopg.Error."""
    row = connection.execute(LOOK, (key_at(before), MANY, me, me, me, me)).fetchone()
    assert row is not None
    ready, deferred, held, my_ready, my_deferred, my_held = (int(each or 0) for each in row[3:9])
    oldest = connection.execute(OLDEST, (0,)).fetchone()
    return Seen(
        ready=row[0],
        due=row[1],
        old=row[2],
        others=(ready - my_ready, deferred - my_deferred, held - my_held),
        shown=(row[9], row[10], row[11], row[12]),
        idle=row[13],
        oldest=None if oldest is None else (int(oldest[0]), float(oldest[1])),
    )


OnSeen = Callable[[float, Seen], None]
