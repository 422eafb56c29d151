"""Writer: the one thread of a process that changes the queue, in groups, each one round to the server.

It takes all that waits, up to a bound, makes it one transaction, and tells the reactor's thread of the whole group in
one call. While a commit is under way the next group gathers.

When the connection is lost before a commit was answered, everybody is told that it failed. The next connection says by
the commit's number what became of it: see `docs/design/spool-postgresql.md`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import psycopg
from twisted.internet.defer import Deferred

from relay.spool.background import FromThreads
from relay.spool.postgresql import process, reading, statements
from relay.spool.postgresql.batch import Batch
from relay.spool.postgresql.lease import Lease
from relay.spool.postgresql.process import Member
from relay.spool.postgresql.server import Connection, Server, asserted, blameless, certain, passing, trouble
from relay.spool.postgresql.statements import array
from relay.spool.postgresql.write import Write, repeats
from relay.spool.spool import LostTurn, Settlement, SpoolError, SpoolFailing

GROUP = 256
"""Writes in one commit, at most."""

OCTETS = 8 * 1024 * 1024
"""Octets of bodies in one commit, after which no further mail joins it."""

PAUSE = (0.2, 1.0)
"""Seconds between two tries to reach the server, at least and at most: by chance, so that not all come at once."""

_RETRIES = 3


class Writer:
    """The thread, its connection, and what this process has of the queue.

    member    what it is registered as
    writable  whether the last commit worked; `looked_at`: when that was
    oldest    key and received_at of the oldest mail that is READY or DEFERRED, as of its last commit
    tally     by how much this process has changed how many mails are READY, DEFERRED and HELD
    on_group  called in the reactor's thread after each group: how many writes, seconds
    on_lost   called in the reactor's thread with the reason, once everything that it had is another's
    """

    def __init__(
        self,
        server: Server,
        connection: Connection,
        member: Member,
        name: str,
        reactor: FromThreads,
        now: Callable[[], float],
        random_bits: Callable[[int], int],
        on_group: Callable[[int, float], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self.member = member
        self.writable = True
        self.looked_at = now()
        self.oldest: tuple[int, float] | None = connection.execute(statements.OLDEST, (0,)).fetchone()
        self._server = server
        self._connection: Connection | None = connection
        self._name = name
        self._reactor = reactor
        self._now = now
        self._random_bits = random_bits
        self._on_group = on_group
        self._on_lost = on_lost
        self.tally = (0, 0, 0)
        self._oldest_at = time.monotonic()
        self._leases: dict[int, Lease] = {}
        self._commits = 0
        self._doubt: tuple[Batch, Sequence[Write]] | None = None
        self._confirmed: dict[int, Settlement] = {}
        self._queue: SimpleQueue[Write | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="spool-writer", daemon=True)
        self._closed = False
        self._why = ""
        self._try_at = 0.0

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, write: Write) -> Deferred[Any]:
        """Fires once `write` is durable."""
        if self._closed:
            write.error = SpoolFailing("the spool is closed")
            write.done.errback(write.error)
        else:
            self._queue.put(write)
        return write.done

    def close(self) -> None:
        """No more writes: the thread ends when all before are done."""
        self._closed = True
        self._queue.put(None)

    def join(self) -> Connection | None:
        """Wait for the end of the thread; its connection. Not for the reactor's thread."""
        self._thread.join()
        return self._connection

    def _run(self) -> None:
        more = True
        while more:
            group, more = self._gather()
            if self._connection is None and time.monotonic() >= self._try_at:
                self._connect()
            if not group:
                continue
            began = time.monotonic()
            try:
                self._write(group)
            except Exception as error:  # whatever it is, the thread goes on and nothing is acknowledged
                self._fail(group, SpoolFailing(f"the spool could not be written: {error!r}"))
                self._drop()
            self.looked_at = self._now()
            self._reactor.callFromThread(self._tell, group, time.monotonic() - began)

    def _gather(self) -> tuple[list[Write], bool]:
        """What waits; and whether more may come. Nothing: it is time to try whether the server is there."""
        group: list[Write] = []
        octets = 0
        try:
            patience = None if self._connection is not None else max(self._try_at - time.monotonic(), 0.0)
            write = self._queue.get(timeout=patience)
            while write is not None:
                group.append(write)
                octets += write.octets
                if len(group) >= GROUP or octets >= OCTETS:
                    return group, True
                write = self._queue.get_nowait()
        except Empty:
            return group, True
        return group, False

    def _tell(self, group: Sequence[Write], seconds: float) -> None:
        for write in group:
            if write.error is None:
                write.done.callback(write.answer)
            else:
                write.done.errback(write.error)
        self._on_group(sum([write.counts for write in group]), seconds)

    def _write(self, group: Sequence[Write]) -> None:
        """Commit the group. What failed has its `error`."""
        if self._connection is None:
            self._fail(group, SpoolFailing(self._why))
            return
        waiting, error = group, None
        for _ in range(_RETRIES):
            waiting = [write for write in group if write.error is None and write.answer is None]
            error = self._try(waiting)
            if error is None:
                return
            if not passing(error):
                break
        assert error is not None
        self._failed(waiting, error)

    def _try(self, group: Sequence[Write]) -> psycopg.Error | None:
        """Commit it, or say what the error was, with nothing of it there."""
        connection = self._connection
        assert connection is not None
        batch = Batch(self._leases)
        try:
            some = self._adopt(connection, batch, group)
            for write in some:
                batch.add(write)
            batch.send(connection, self.member.id, self._commits + 1, self._look_from(batch))
        except psycopg.Error as error:
            if connection.closed or connection.broken or not certain(error):
                self._doubt = batch, group
                self._drop()
                return error
            try:
                connection.rollback()
            except psycopg.Error:
                self._drop()
            return error
        self._commits += 1
        self.writable = True
        self._apply(batch)
        return None

    def seen(self, at: float, oldest: tuple[int, float] | None) -> None:
        """Another thread has looked for the oldest mail; `at`: when it began, by time.monotonic."""
        if at > self._oldest_at:
            self.oldest = oldest

    def _adopt(self, connection: Connection, batch: Batch, group: Sequence[Write]) -> list[Write]:
        """Look for the mails that are written about without a lease; the writes that may go on."""
        asked = [write for write in group if write.settlement is not None and not self._is_settled(write)]
        strange = [
            write.settlement.key
            for write in asked
            if write.settlement is not None and write.settlement.key and write.settlement.key not in self._leases
        ]
        others: set[int] = set()
        if strange:
            connection.execute("BEGIN")
            for row in connection.execute(statements.ADOPT, (array([*strange]),), binary=True):
                if row[15] in (None, self.member.id):
                    batch.adopt(row[0], reading.lease(row, self.member.id))
                else:
                    others.add(row[0])
        for write in asked:
            assert write.settlement is not None
            if write.settlement.key in others:
                write.error = LostTurn("another process has this mail")
        return [write for write in group if write.error is None and write.answer is None]

    def _is_settled(self, write: Write) -> bool:
        """Whether it was written already, or cannot be: what was claimed is another's by now."""
        settlement = write.settlement
        assert settlement is not None
        before = self._confirmed.pop(settlement.key, None)
        if before is not None and repeats(before, settlement):
            write.answer = True
            return True
        if settlement.turn:
            lease = self._leases.get(settlement.key)
            if lease is None or lease.generation != settlement.turn:
                write.error = LostTurn("its lease ran out, and the mail is another process's")
                return True
        return False

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
                self._leases.pop(key, None)
            else:
                self._leases[key] = lease
        for write, cursor in batch.claims:
            write.answer = []
            for row in cursor.fetchall():
                self._leases[row[0]] = reading.lease(row, self.member.id)
                write.answer.append(reading.found(row, self.member.id))
        if batch.oldest is not None:
            self.oldest = batch.oldest.fetchone()

    def _failed(self, group: Sequence[Write], error: psycopg.Error) -> None:
        """Nothing of it is there: find out why."""
        if self._connection is not None and asserted(error) and not self._is_registered():
            for write in group:
                if write.settlement is not None and write.settlement.turn:
                    write.error = LostTurn("its lease ran out, and the mail is another process's")
            if self._begin_anew("it has said nothing for too long"):
                self._write([write for write in group if write.error is None])
        elif self._connection is not None and (asserted(error) or blameless(error)):
            if len(group) > 1:
                for write in group:
                    self._write([write])
            elif asserted(error):
                group[0].error = LostTurn("its lease ran out, and the mail is another process's")
            else:
                group[0].error = trouble(error, "this cannot be written")
        else:
            self._fail(group, trouble(error, "the spool could not be written"))

    def _fail(self, group: Sequence[Write], error: SpoolError) -> None:
        self.writable = False
        self._why = str(error)
        for write in group:
            write.error = write.error or error

    def _drop(self) -> None:
        """This connection does nothing more."""
        self.writable = False
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _connect(self) -> None:
        """A new connection, if the server is there; and what became of the last commit."""
        try:
            self._connection = self._server.connect()
            self._resolve(self._connection)
            self.writable = True
        except (psycopg.Error, SpoolError) as error:
            self._why = str(error)
            self._drop()
        self._try_at = time.monotonic() + random.uniform(*PAUSE)  # noqa: S311
        self.looked_at = self._now()

    def _is_registered(self) -> bool:
        assert self._connection is not None
        try:
            return self._number(self._connection) is not None
        except psycopg.Error:
            self._drop()
            return True

    def _number(self, connection: Connection) -> int | None:
        """That of the last commit of ours that the server knows."""
        row = connection.execute("SELECT commits FROM tally WHERE process = %s", (self.member.id,)).fetchone()
        return None if row is None else int(row[0])

    def _resolve(self, connection: Connection) -> None:
        """Find out what became of the commit that was not answered. Raises psycopg.Error, SpoolError."""
        number, doubt = self._number(connection), self._doubt
        if number == self._commits + 1 and doubt is not None:
            batch, group = doubt
            self._commits = number
            batch.claims, batch.oldest = [], None
            self._apply(batch)
            self._confirmed.update({each.key: each for each in batch.settlements})
            self._withdraw(connection, [mail.row[0] for write in group if not write.settlement for mail in write.mails])
        elif number != self._commits:
            lost = "it has said nothing for too long" if number is None else "the server has lost commits"
            self._doubt = None
            if not self._begin_anew(lost):
                raise SpoolFailing(self._why)
            return
        self._doubt = None
        connection.execute(
            "UPDATE mail SET owner = NULL WHERE owner = %s AND key <> ALL (%s::bigint[])",
            (self.member.id, array([*self._leases])),
        )
        self.oldest = connection.execute(statements.OLDEST, (0,)).fetchone()

    def _withdraw(self, connection: Connection, keys: Sequence[int]) -> None:
        """Their clients were told that these mails were not taken, and will send them again."""
        if not keys:
            return
        batch = Batch({})
        connection.execute("BEGIN")
        for row in connection.execute(statements.ADOPT, (array([*keys]),), binary=True):
            if row[15] in (None, self.member.id):
                batch.adopt(row[0], reading.lease(row, self.member.id))
                write = Write()
                write.settlement = Settlement(row[0], row[1], (), finished=True)
                batch.add(write)
            self._leases.pop(row[0], None)
        batch.send(connection, self.member.id, self._commits + 1, None)
        self._commits += 1
        batch.changed.clear()
        self._apply(batch)

    def _begin_anew(self, why: str) -> bool:
        """As another process: what was ours is others'. Whether that worked."""
        assert self._connection is not None
        self._leases.clear()
        self._confirmed.clear()
        self._commits = 0
        self.tally = (0, 0, 0)
        try:
            process.bury(self._connection, self.member.id, crashed=False)
            self.member = process.register(self._connection, self._random_bits(62), self._name)
        except (psycopg.Error, SpoolError) as error:
            self._why = str(error)
            self._drop()
            return False
        self._reactor.callFromThread(self._on_lost, why)
        return True
