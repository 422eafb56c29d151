"""Batch: what one commit does, put together from a group of writes, and the leases as they are after it.

It is one round to the server: every statement and the COMMIT leave together. What the commit does to the number of
mails in each state is known before, since whoever writes about a mail knows where all its recipients stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from psycopg.pq import TransactionStatus

from relay.spool.postgresql import statements
from relay.spool.postgresql.lease import Lease
from relay.spool.postgresql.reading import COLUMNS
from relay.spool.postgresql.round import BIG, OCTETS, REAL, Round
from relay.spool.postgresql.server import Connection
from relay.spool.postgresql.statements import array
from relay.spool.postgresql.write import NewMail, Write
from relay.spool.rows import ORIGIN, Row, standing_row
from relay.spool.spool import Settlement

Rows = list[tuple[Any, ...]]


LEFT = 60.0
"""Seconds for which a report that was put off waits for the process that puts them together: then anybody takes it."""


class Batch:
    """See the module's docstring. `changed` holds the leases that are others, or none, after the commit.

    changes  by how many the mails in READY, DEFERRED and HELD become more
    claims   the write and the rows of each claim, once it was sent
    oldest   key and received_at of the oldest mail, or None; False where that was not looked for
    """

    def __init__(self, leases: Mapping[int, Lease]) -> None:
        self.changed: dict[int, Lease | None] = {}
        self.changes = [0, 0, 0]
        self.claims: list[tuple[Write, Rows]] = []
        self.settlements: list[Settlement] = []
        self.mails: list[NewMail] = []
        self.oldest: tuple[int, float] | Literal[False] | None = False
        self._leases = leases
        self._adopted: dict[int, Lease] = {}
        self._standings: dict[tuple[int, int], Row] = {}
        self._turns: dict[int, tuple[Lease, bool]] = {}
        self._ended: dict[int, Lease] = {}
        self._notes: dict[str, str] = {}
        self._forgotten: list[str] = []
        self._released: dict[int, Lease] = {}
        self._claiming: list[Write] = []

    def lease(self, key: int) -> Lease | None:
        """A mail's, as it will be."""
        return self.changed[key] if key in self.changed else self._leases.get(key, self._adopted.get(key))

    def adopt(self, key: int, lease: Lease) -> None:
        """A mail without a lease that is written about."""
        self._adopted[key] = lease

    def add(self, write: Write) -> None:
        """What it asks for, as far as it is about mail that we have."""
        for mail in write.mails:
            self._take(mail)
        self._notes.update(write.notes)
        self._forgotten += [f"{ORIGIN}{origin}" for origin in write.forgotten]
        if write.settlement is not None:
            self._settle(write.settlement)
        for key in write.released:
            if (lease := self.lease(key)) is not None:
                self._released[key] = lease
                self.changed[key] = None
        if write.claims or write.obtain:
            self._claiming.append(write)

    def _take(self, mail: NewMail) -> None:
        self.mails.append(mail)
        self._count(mail.lease.state, 1)
        if mail.lease.owned:
            self.changed[mail.row[0]] = mail.lease

    def _settle(self, settlement: Settlement) -> None:
        self.settlements.append(settlement)
        self._notes.update(settlement.notes)
        key, lease = settlement.key, self.lease(settlement.key)
        if lease is None:
            return
        self._count(lease.state, -1)
        if settlement.finished:
            self._ended[key] = lease
            self._turns.pop(key, None)
            self.changed[key] = None
            self._adopted.pop(key, None)
            return
        after = lease.after(settlement.standings)
        self._count(after.state, 1)
        for standing in settlement.standings:
            self._standings[key, standing.number] = standing_row(key, standing)
        released = settlement.released or not lease.owned
        self._turns[key] = (after, released)
        self.changed[key] = None if released else after
        if not lease.owned:
            del self.changed[key]
            self._adopted[key] = after

    def _count(self, state: int, more: int) -> None:
        if state < len(self.changes):
            self.changes[state] += more

    def first(self) -> int | None:
        """The lowest key that it may make the oldest mail that is to be tried."""
        new = [mail.row[0] for mail in self.mails if mail.lease.due is not None]
        new += [key for key, (lease, _) in self._turns.items() if lease.due is not None]
        return min(new, default=None)

    def touches(self, key: int) -> bool:
        """Whether that mail may not be the oldest any more."""
        return key in self._ended or key in self._turns

    def send(self, connection: Connection, process: int, number: int, oldest: int | None) -> None:
        """All of it, with its COMMIT, as commit `number` of the process. Raises psycopg.Error.

        oldest  the key from which on the oldest mail is to be looked for; None: it is not
        """
        round_ = Round(connection)
        if connection.info.transaction_status == TransactionStatus.IDLE:
            round_.put("BEGIN")
        round_.put(statements.FENCE, (number, *self.changes, process))
        self._put_mails(round_, process)
        self._put_outcomes(round_)
        if self._notes:
            round_.put(statements.NOTE, (array(list(self._notes)), array(list(self._notes.values()))))
        if self._forgotten:
            round_.put(statements.FORGET, (array([*self._forgotten]),))
        if self._released:
            round_.put(statements.RELEASE, (*_named(self._released), process))
        claims = [(write, _put_claim(round_, process, write)) for write in self._claiming]
        looked = None if oldest is None else round_.put(statements.OLDEST, (oldest,))
        round_.put("COMMIT")
        round_.run()
        self.claims = [(write, round_.rows(place, (*COLUMNS, OCTETS))) for write, place in claims]
        if looked is not None:
            self.oldest = next(iter(round_.rows(looked, (BIG, REAL))), None)

    def _put_mails(self, round_: Round, process: int) -> None:
        if not self.mails:
            return
        rows: Rows = [
            (*mail.row[:14], mail.lease.body, mail.lease.state, mail.lease.due, mail.lease.owned) for mail in self.mails
        ]
        round_.put(statements.INSERT_MAIL, (process, *_columns(rows, heads=10)))
        people: Rows = [(*row, *mail.lease.stands[row[1]]) for mail in self.mails for row in mail.people]
        round_.put(statements.INSERT_RECIPIENT, _columns(people))
        small = [(mail.row[0], mail.small) for mail in self.mails if mail.small is not None]
        if small:
            keys = array([key for key, _ in small])
            round_.put(statements.INSERT_PIECE, (keys, [octets for _, octets in small]))
        if len(small) < len(self.mails):
            bodies = array([mail.lease.body for mail in self.mails if mail.small is None])
            round_.put(statements.END_UPLOAD, (bodies, len(self.mails) - len(small)))

    def _put_outcomes(self, round_: Round) -> None:
        standings = [row for (key, _), row in self._standings.items() if key in self._turns]
        if standings:
            round_.put(statements.UPDATE_RECIPIENT, _columns([_plain(row) for row in standings]))
        if self._turns:
            turns: Rows = [
                (key, lease.generation, lease.state, lease.due, released)
                for key, (lease, released) in self._turns.items()
            ]
            round_.put(statements.TURN, (*_columns(turns), len(turns)))
        if self._ended:
            keys, generations = _named(self._ended)
            round_.put(statements.END_MAIL, (keys, generations, len(self._ended)))
            round_.put(statements.END_RECIPIENTS, (keys,))
            round_.put(statements.END_PIECES, (array([lease.body for lease in self._ended.values()]),))


def _put_claim(round_: Round, process: int, write: Write) -> int:
    if write.obtain:
        return round_.put(statements.OBTAIN, (process, write.obtain))
    now, besides, limit = write.now, array([*write.besides]), write.claims
    first = besides, now, int(write.suspects), besides, limit
    newest = besides, limit + write.odd
    late = besides, now, str(write.reports), now - LEFT, limit + 1
    return round_.put(statements.CLAIM, (*first, *newest, *late, besides, limit, process))


def _named(leases: Mapping[int, Lease]) -> tuple[str, str]:
    return array(list(leases)), array([lease.generation for lease in leases.values()])


def _columns(rows: Sequence[Sequence[Any]], heads: int = -1) -> list[Any]:
    """Rows as one array for each column; the column `heads` is of octets."""
    return [
        list(column) if place == heads else array(list(column)) for place, column in enumerate(zip(*rows, strict=True))
    ]


def _plain(row: Iterable[Any]) -> tuple[Any, ...]:
    """A text in PostgreSQL holds no NUL."""
    return tuple([value.replace("\0", "?") if isinstance(value, str) else value for value in row])
