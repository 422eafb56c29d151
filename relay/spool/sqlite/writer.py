"""Writer: the one thread that changes the database, in groups.

It takes all that waits, up to a bound, makes it one transaction, and tells the reactor's thread of the whole group in
one call. While a commit is under way the next group gathers.

When a commit fails, its frames may stand in the WAL all the same, where a crash would find them. So they are cut off at
once, which a kill leaves so, and before anything else is written the WAL is begun anew and a small commit put over
them: once that worked, what failed is gone for good, power cuts included.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from queue import Empty, SimpleQueue
from threading import Thread

from twisted.internet.defer import Deferred

from relay.spool.background import FromThreads
from relay.spool.spool import SpoolFailing, SpoolFull
from relay.spool.sqlite import reading, statements
from relay.spool.sqlite.database import code, is_damage, trouble
from relay.spool.sqlite.folder import Names, Reserve
from relay.spool.sqlite.wal import Tail
from relay.spool.sqlite.write import Write

GROUP = 256
"""Writes in one commit, at most."""

OCTETS = 8 * 1024 * 1024
"""Octets of bodies in one commit, after which no further mail joins it."""

LINGER = 0.002
"""Seconds that a mail that has ended waits for a new one to be written with."""

CROWD = 4
"""Writes in a group, while mail flows in, behind which the next group gathers for a moment longer."""

MOMENT = 0.001
"""Seconds of that moment: half as many commits then, and fewer changes of threads, make up for it."""

SHORT = 0.0003
"""Seconds of it where nothing but new mail comes: there is nothing else to do meanwhile than to wait for it."""

FLOWING = 0.010
"""Seconds after a mail, or an outcome, in which another one is expected."""

SLACK = 4096
"""Free pages in the file (16 MiB) that are left there for the next mails; more are given back to the volume."""

_STEP = 256
_BLAMELESS = (0, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE)
"""Codes of errors that are one write's own, not the disk's. 0: the module refused the value."""


class Writer:
    """The thread and its connection.

    on_group   called in the reactor's thread after each group: how many writes, seconds, bodies to be removed
    on_damage  called in the writing thread when the database turns out to be damaged
    writable   whether the last commit worked; `looked_at`: when that was
    oldest     key and received_at of the oldest mail that is READY or DEFERRED
    large      whether there are large bodies at all
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        reactor: FromThreads,
        now: Callable[[], float],
        reserve: Reserve,
        tail: Tail,
        names: Names,
        on_group: Callable[[int, float, list[str]], None],
        on_damage: Callable[[], None],
    ) -> None:
        self.writable = True
        self.looked_at = now()
        self.oldest = reading.oldest(connection, 0)
        self.large = False
        self._connection = connection
        self._reactor = reactor
        self._now = now
        self._on_group = on_group
        self._on_damage = on_damage
        self._reserve = reserve
        self._tail = tail
        self._names = names
        self._queue: SimpleQueue[Write | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="spool-writer", daemon=True)
        self._closed = False
        self._slack = False
        self._full = False
        self._last = 0  # writes in the last group
        self._mail_at = self._outcome_at = 0.0  # when the last new mail, and the last outcome, came

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, write: Write) -> Deferred[None]:
        """Fires once `write` is durable."""
        if self._closed:
            write.done.errback(SpoolFailing("the spool is closed"))
        else:
            self._queue.put(write)
        return write.done

    def close(self) -> None:
        """No more writes: the thread ends when all before are done."""
        self._closed = True
        self._queue.put(None)

    def join(self) -> None:
        """Wait for the end of the thread. Not for the reactor's thread."""
        self._thread.join()

    def _run(self) -> None:
        more = True
        while more:
            group, more = self._gather()
            if group:
                began, self._last = time.monotonic(), len(group)
                try:
                    bodies = self._write(group)
                except Exception as error:  # whatever it is, the thread goes on and nothing is acknowledged
                    bodies = self._unexpected(group, error)
                self.looked_at = self._now()
                self._reactor.callFromThread(self._tell, group, time.monotonic() - began, bodies)

    def _gather(self) -> tuple[list[Write], bool]:
        """What waits, at least one; and whether more may come."""
        group: list[Write] = []
        octets = 0
        write = self._next()
        now = time.monotonic()
        if self._last >= CROWD and now - self._mail_at < FLOWING:
            time.sleep(MOMENT if now - self._outcome_at < FLOWING else SHORT)
        while write is not None:
            group.append(write)
            octets += write.octets
            if len(group) >= GROUP or octets >= OCTETS:
                return group, True
            if write.mails:
                self._mail_at = now
            if write.outcome:
                self._outcome_at = now
            try:
                write = self._one_more(now + LINGER if len(group) == 1 and write.gone else 0.0)
            except Empty:
                return group, True
        return group, False

    def _one_more(self, until: float) -> Write | None:
        """Another one that waits; where mail flows in, one that comes by then. Or Empty.

        So one commit, and one sync, is enough for a mail that ends and the new one that comes behind it.
        """
        try:
            return self._queue.get_nowait()
        except Empty:
            now = time.monotonic()
            if until <= now or now - self._mail_at > FLOWING:
                raise
            return self._queue.get(timeout=until - now)

    def _next(self) -> Write | None:
        """The next that is asked for. While nothing is, the file is made smaller, in steps that nobody notices."""
        while self._slack:
            try:
                return self._queue.get_nowait()
            except Empty:
                self._shrink(_STEP)
        return self._queue.get()

    def _shrink(self, pages: int) -> None:
        """Give up to `pages` free pages back, and see whether there are more than need be."""
        execute = self._connection.execute
        try:
            if pages:
                # A script, since this statement is to be stepped once for each page and has no rows to fetch.
                self._connection.executescript(f"PRAGMA incremental_vacuum({pages})")
            (free,) = execute("PRAGMA freelist_count").fetchone()
            if pages and free <= SLACK:
                execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # only this makes the file shorter
            self._slack = free > SLACK
        except sqlite3.Error:
            self._slack = False

    def _tell(self, group: list[Write], seconds: float, bodies: list[str]) -> None:
        for write in group:
            if write.error is None:
                write.done.callback(None)
            else:
                write.done.errback(write.error)
        self._on_group(sum([not write.empty for write in group]), seconds, bodies)

    def _unexpected(self, group: list[Write], error: Exception) -> list[str]:
        self.writable = False
        for write in group:
            write.error = write.error or SpoolFailing(f"the spool could not be written: {error!r}")
        return []

    def _write(self, group: list[Write]) -> list[str]:
        """Commit the group; the bodies of the mails in it that have ended. What failed has its `error`."""
        if lost := self._names.trouble:
            self.writable = False
            for write in group:
                write.error = SpoolFailing(f"the spool cannot be written: {lost}")
            return []
        if not self.writable and not self._heal(group):
            return []
        try:
            return self._commit(group)
        except Exception as error:
            with suppress(sqlite3.Error):
                self._connection.rollback()
            self._tail.cut()
            if not isinstance(error, sqlite3.Error) or code(error) in _BLAMELESS:
                return self._one_by_one(group, error)
            return self._failed(group, error)

    def _one_by_one(self, group: list[Write], error: Exception) -> list[str]:
        """One of the group cannot be written: it alone fails."""
        if len(group) > 1:
            return [body for write in group for body in self._write([write])]
        group[0].error = SpoolFailing(f"this cannot be written: {error}")
        return []

    def _failed(self, group: list[Write], error: sqlite3.Error) -> list[str]:
        """The disk did not take it. Where it is full, outcomes get what was set aside for them."""
        self.writable = False
        if is_damage(error):
            self._on_damage()
        failing = trouble(error, "the spool could not be written")
        outcomes = []
        self._full = isinstance(failing, SpoolFull)
        if self._full and self._reserve.release():
            outcomes = [write for write in group if write.outcome]
        for write in group:
            if write not in outcomes:
                write.error = failing
        if outcomes:
            return self._write(outcomes)
        self._heal([])
        return []

    def _heal(self, group: list[Write]) -> bool:
        """Begin the WAL anew and commit into it; if that fails, so does the group.

        A full disk has kept no commit that failed, and may have no room for the first of the two.
        """
        try:
            with suppress(sqlite3.Error) if self._full else nullcontext():
                (busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
                if busy and not self._full:
                    raise sqlite3.OperationalError("the WAL cannot be begun anew yet")
            self._connection.execute(statements.BEAT)
        except sqlite3.Error as error:
            failing = trouble(error, "the spool cannot be written")
            for write in group:
                write.error = failing
            return False
        self.writable = True
        self._full = False
        return True

    def _commit(self, group: list[Write]) -> list[str]:
        """One transaction. The order of the kinds is that of a mail's life, so it holds for each mail."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        changes = connection.total_changes
        statements.insert_mails(connection, [row for write in group for row in write.mails])
        statements.insert_recipients(connection, [row for write in group for row in write.recipients])
        statements.update(connection, [row for write in group for row in write.standings])
        for write in group:
            if write.notes:
                statements.note(connection, write.notes)
            if write.forgotten:
                statements.forget(connection, write.forgotten)
        for write in group:
            if write.held is not None:
                write.changed = statements.hold(connection, *write.held)
        gone = [write.gone for write in group if write.gone]
        bodies = statements.large(connection, gone) if self.large else []
        statements.delete(connection, gone)
        idle = connection.total_changes == changes
        if idle:
            connection.execute(statements.BEAT)
        oldest = self.oldest
        with suppress(sqlite3.Error):  # what cannot be read is no reason not to write
            oldest = self._oldest_after(group)
        connection.execute("COMMIT")
        self.oldest = oldest
        if idle:
            self._shrink(0)
        return bodies

    def _oldest_after(self, group: list[Write]) -> tuple[int, float] | None:
        """The oldest mail, looked for again if it is not the one it was: here, where no lock need be had for that."""
        waiting = [row[0] for write in group for row in write.mails]
        waiting += [row[0] for write in group for row in write.standings]
        first = min(waiting, default=None)
        if self.oldest is not None:
            key = self.oldest[0]
            changed = any(write.gone == key or (write.held and write.held[0] == key) for write in group)
            if not changed and (first is None or first > key):
                return self.oldest
            first = key if first is None else min(first, key)
        return None if first is None else reading.oldest(self._connection, first)
