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
from relay.spool.postgresql.batch import Batch
from relay.spool.postgresql.membership import LATE, SILENCE, Membership
from relay.spool.postgresql.server import Connection, Server, asserted, blameless, certain, passing, trouble
from relay.spool.postgresql.write import Write
from relay.spool.spool import LostTurn, SpoolError, SpoolFailing

GROUP = 256
"""Writes in one commit, at most."""

OCTETS = 8 * 1024 * 1024
"""Octets of bodies in one commit, after which no further mail joins it."""

CROWD = 2
"""New mails in a group behind which the next one gathers for a moment longer."""

MOMENT = 0.002
"""Seconds of that moment: a third as many commits then, and changes of threads, make up for it."""

FULL = 24
"""Writes that wait for no others."""

PAUSE = (0.2, 1.0)
"""Seconds between two tries to reach the server, at least and at most: by chance, so that not all come at once."""

_RETRIES = 3


class Writer:
    """The thread and its connection.

    writable  whether the last commit worked; `looked_at`: when that was
    on_group  called in the reactor's thread after each group: how many writes, seconds
    on_lost   called in the reactor's thread with the reason, once everything that it had is another's
    """

    def __init__(
        self,
        server: Server,
        connection: Connection,
        membership: Membership,
        reactor: FromThreads,
        now: Callable[[], float],
        on_group: Callable[[int, float], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self.writable = True
        self.looked_at = now()
        self._server = server
        self._connection: Connection | None = connection
        self._membership = membership
        self._reactor = reactor
        self._now = now
        self._on_group = on_group
        self._on_lost = on_lost
        self._queue: SimpleQueue[Write | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="spool-writer", daemon=True)
        self._closed = False
        self._why = ""
        self._try_at = 0.0
        self._crowded = False

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
            self._crowded = sum([bool(write.mails) for write in group]) >= CROWD
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
            if self._crowded and self._queue.qsize() < FULL:
                time.sleep(MOMENT)
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
        if writes := sum([write.counts for write in group]):
            self._on_group(writes, seconds)

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
        """Commit it, or say what the error was, with nothing of it there as far as is known."""
        connection, membership = self._connection, self._membership
        assert connection is not None
        batch: Batch | None = None
        try:
            batch = membership.batch(connection, group)
            membership.send(connection, batch)
        except psycopg.Error as error:
            if connection.closed or connection.broken or not certain(error):
                if batch is not None:
                    membership.doubted(batch, group)
                self._drop()
                return error
            try:
                connection.rollback()
            except psycopg.Error:
                self._drop()
            return error
        self.writable = True
        return None

    def _failed(self, group: Sequence[Write], error: psycopg.Error) -> None:
        """Nothing of it is there: find out why."""
        if self._connection is None or not (asserted(error) or blameless(error)):
            self._fail(group, trouble(error, "the spool could not be written"))
        elif asserted(error) and not self._is_registered(self._connection):
            for write in group:
                if write.settlement is not None and write.settlement.turn:
                    write.error = LostTurn(LATE)
            self._begin_anew(self._connection)
            self._write([write for write in group if write.error is None])
        elif len(group) > 1:
            for write in group:
                self._write([write])
        else:
            group[0].error = LostTurn(LATE) if asserted(error) else trouble(error, "this cannot be written")

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
            lost = self._membership.resolve(self._connection)
            self.writable = True
        except (psycopg.Error, SpoolError) as error:
            self._why = str(error)
            self._drop()
        else:
            if lost:
                self._reactor.callFromThread(self._on_lost, lost)
        self._try_at = time.monotonic() + random.uniform(*PAUSE)  # noqa: S311
        self.looked_at = self._now()

    def _is_registered(self, connection: Connection) -> bool:
        try:
            return self._membership.number(connection) is not None
        except psycopg.Error:
            self._drop()
            return True

    def _begin_anew(self, connection: Connection) -> None:
        """Others have taken everything over."""
        try:
            self._membership.begin_anew(connection)
        except (psycopg.Error, SpoolError) as error:
            self._why = str(error)
            self._drop()
        else:
            self._reactor.callFromThread(self._on_lost, SILENCE)
