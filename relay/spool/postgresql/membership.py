"""Membership: what a process has of the queue at present: its registration, its leases, its number of commits.

For the writing thread alone, but that others may read `member`, `tally` and `oldest`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from relay.spool.postgresql import process, reading, statements
from relay.spool.postgresql.batch import Batch
from relay.spool.postgresql.lease import Lease
from relay.spool.postgresql.process import Member
from relay.spool.postgresql.server import Connection
from relay.spool.postgresql.statements import array
from relay.spool.postgresql.write import Write, repeats
from relay.spool.spool import LostTurn, Settlement

SILENCE = "it has said nothing for too long"
"""Why everything is lost: others have taken it over."""

LATE = "its lease ran out, and the mail is another process's"
"""Why an outcome is refused."""


_NUMBER = "SELECT commits FROM tally WHERE process = %s FOR NO KEY UPDATE"


class Membership:
    """See the module's docstring.

    member   what the process is registered as
    commits  the number of its last commit
    tally    by how much it has changed how many mails are READY, DEFERRED and HELD
    oldest   key and received_at of the oldest mail that is READY or DEFERRED, in the whole queue
    leases   the mails that it has
    """

    def __init__(self, connection: Connection, member: Member, name: str, random_bits: Callable[[int], int]) -> None:
        self.member = member
        self.commits = 0
        self.tally = (0, 0, 0)
        self.oldest: tuple[int, float] | None = connection.execute(statements.OLDEST, (0,)).fetchone()
        self.leases: dict[int, Lease] = {}
        self._name = name
        self._random_bits = random_bits
        self._oldest_at = time.monotonic()
        self._doubt: tuple[Batch, Sequence[Write]] | None = None
        self._confirmed: dict[int, Settlement] = {}

    def batch(self, connection: Connection, group: Sequence[Write]) -> Batch:
        """What of a group can be written, which may lock mails that are written about without a lease.

        What cannot has its `error`; what was written before, its `answer`. Raises psycopg.Error.
        """
        batch, others = Batch(self.leases), set()
        asked = [write for write in group if write.settlement is not None and not self._is_settled(write)]
        keys = [write.settlement.key for write in asked if write.settlement is not None and write.settlement.key]
        if strange := [key for key in keys if key not in self.leases]:
            connection.execute("BEGIN")
            for row in connection.execute(statements.ADOPT, (array([*strange]),), binary=True):
                if row[15] in (None, self.member.id):
                    batch.adopt(row[0], reading.lease(row, self.member.id))
                else:
                    others.add(row[0])
        for write in asked:
            if write.settlement is not None and write.settlement.key in others:
                write.error = LostTurn("another process has this mail")
        for write in group:
            if write.error is None and write.answer is None:
                batch.add(write)
        return batch

    def send(self, connection: Connection, batch: Batch) -> None:
        """Commit it. Raises psycopg.Error, and then it may be `doubted`."""
        batch.send(connection, self.member.id, self.commits + 1, self._look_from(batch))
        self.commits += 1
        self._apply(batch)

    def doubted(self, batch: Batch, group: Sequence[Write]) -> None:
        """Nobody knows whether that commit was made."""
        self._doubt = batch, group

    def seen(self, at: float, oldest: tuple[int, float] | None) -> None:
        """Another thread has looked for the oldest mail; `at`: when it began, by time.monotonic."""
        if at > self._oldest_at:
            self.oldest = oldest

    def number(self, connection: Connection) -> int | None:
        """That of the last commit of ours that the server knows; None if we are not registered any more.

        Where one is still under way, by a session that was lost, it waits for that.
        """
        row = connection.execute(_NUMBER, (self.member.id,)).fetchone()
        return None if row is None else int(row[0])

    def resolve(self, connection: Connection) -> str:
        """On a new connection: find out what became of the commit in doubt. Why everything is lost, if it is.

        Raises psycopg.Error, SpoolError.
        """
        number, doubt = self.number(connection), self._doubt
        if number == self.commits + 1 and doubt is not None:
            self._confirm(connection, *doubt)
        elif number != self.commits:
            lost = SILENCE if number is None else "the server has lost commits"
            self.begin_anew(connection)
            return lost
        self._doubt = None
        orphans = "UPDATE mail SET owner = NULL WHERE owner = %s AND key <> ALL (%s::bigint[])"
        connection.execute(orphans, (self.member.id, array([*self.leases])))
        self.oldest = connection.execute(statements.OLDEST, (0,)).fetchone()
        return ""

    def begin_anew(self, connection: Connection) -> None:
        """As another process: what was ours is others'. Raises psycopg.Error, SpoolError."""
        self._doubt = None
        self.leases.clear()
        self._confirmed.clear()
        self.commits = 0
        self.tally = (0, 0, 0)
        process.bury(connection, self.member.id, crashed=False)
        self.member = process.register(connection, self._random_bits(62), self._name)

    def _is_settled(self, write: Write) -> bool:
        """Whether it was written already, or cannot be: what was claimed is another's by now."""
        settlement = write.settlement
        assert settlement is not None
        before = self._confirmed.pop(settlement.key, None)
        if before is not None and repeats(before, settlement):
            write.answer = True
        elif settlement.turn:
            lease = self.leases.get(settlement.key)
            if lease is None or lease.generation != settlement.turn:
                write.error = LostTurn(LATE)
        return write.error is not None or write.answer is not None

    def _look_from(self, batch: Batch) -> int | None:
        """From which key on the oldest mail is to be looked for again."""
        first = batch.first()
        if self.oldest is None:
            return first
        key = self.oldest[0]
        if batch.touches(key):
            return key if first is None else min(first, key)
        return first if first is not None and first < key else None

    def _apply(self, batch: Batch) -> None:
        """The commit stands."""
        ready, deferred, held = self.tally
        more = batch.changes
        self.tally = (ready + more[0], deferred + more[1], held + more[2])
        self._oldest_at = time.monotonic()
        for key, lease in batch.changed.items():
            if lease is None:
                self.leases.pop(key, None)
            else:
                self.leases[key] = lease
        for write, rows in batch.claims:
            write.answer = []
            for row in rows:
                self.leases[row[0]] = reading.lease(row, self.member.id)
                write.answer.append(reading.found(row, self.member.id))
        if batch.oldest is not False:
            self.oldest = batch.oldest

    def _confirm(self, connection: Connection, batch: Batch, group: Sequence[Write]) -> None:
        """It was made, and everybody was told that it had failed.

        What was claimed is given back, and so are reports. Outcomes are asked for again, and are written already. Mails
        are deleted, since their clients will send them again, and with them the notes that they have been taken.
        """
        self.commits += 1
        batch.claims, batch.oldest = [], False
        self._apply(batch)
        self._confirmed.update({each.key: each for each in batch.settlements if each.key})
        for mail in batch.mails:
            self.leases.pop(mail.row[0], None)
        refused = {mail.row[0]: write for write in group if write.settlement is None for mail in write.mails}
        if not refused:
            return
        gone = Batch({})
        connection.execute("BEGIN")
        for row in connection.execute(statements.ADOPT, (array([*refused]),), binary=True):
            if row[15] in (None, self.member.id):
                gone.adopt(row[0], reading.lease(row, self.member.id))
                write = Write()
                write.settlement = Settlement(row[0], row[1], (), finished=True)
                write.forgotten = refused[row[0]].origins
                gone.add(write)
        self._doubt = gone, ()
        gone.send(connection, self.member.id, self.commits + 1, None)
        self.commits += 1
        self._apply(gone)
