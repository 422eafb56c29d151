"""Pulse: the thread that says every second that this process lives, hears the others, and finds out who is gone."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread

import psycopg

from relay.spool.postgresql import process
from relay.spool.postgresql.figures import OnSeen, look
from relay.spool.postgresql.process import SILENT, Member
from relay.spool.postgresql.server import Connection, Server
from relay.spool.spool import SpoolError

PERIOD = 1.0
"""Seconds between two signs of life."""

GLANCE = 0.5
"""Seconds between two looks at the queue and at who is silent, and between two tries to reach the server."""

BREATH = 0.1
"""Seconds between two moments at which something is said: each time all who listen are awake."""

LONG = 10.0
"""Seconds for which this process has to be connected before it believes that a lease has run out.

A server that was away for longer than a lease finds all of them run out: those who live shall be there first.
"""

CHANNEL = "mailrelay"

NOTES = "notes"
"""What is said where notes have changed that others go by."""

MAIL = "mail"
"""What is said where mail waits that nobody has."""


def enter(connection: Connection, id_: int) -> None:
    """Hold the lock of that name by this session, and hear the others from now on. Raises psycopg.Error."""
    process.lock(connection, id_)
    connection.execute(f'LISTEN "{CHANNEL}"')


class Pulse:
    """The thread and its session, which holds the lock of the process's name.

    connection  a session that has entered
    member      what the process is registered as at present
    idle        for how many seconds the process has delivered nothing
    shown       by how much the figures that it shows differ from what is written of its mail
    before      since when mail is not old
    on_beat     called in this thread at every beat: whether the server has heard it, and knows the process
    on_seen     called in this thread with what was found at each look, and when that began (time.monotonic)
    on_heard    called in this thread with what another process has said, or MAIL where one is gone
    on_gone     called in this thread: the name of a process that is gone, and what is free by that
    """

    def __init__(
        self,
        server: Server,
        connection: Connection,
        member: Callable[[], Member],
        idle: Callable[[], float | None],
        shown: Callable[[], tuple[int, int, int, int]],
        before: Callable[[], float],
        on_beat: Callable[[bool], None],
        on_seen: OnSeen,
        on_heard: Callable[[str], None],
        on_gone: Callable[[str, process.Freed], None],
    ) -> None:
        self._server = server
        self._connection: Connection | None = connection
        self._connected_at = time.monotonic()
        self._member = member
        self._idle = idle
        self._shown = shown
        self._before = before
        self._on_beat = on_beat
        self._on_seen = on_seen
        self._on_heard = on_heard
        self._on_gone = on_gone
        self._locked = member().id
        self.leads = False
        self._known = True  # whether the last beat found its row
        self._beat_at = self._look_at = self._talk_at = 0.0
        self._said: SimpleQueue[str] = SimpleQueue()
        self._end = False
        self._wakened, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = Thread(target=self._run, name="spool-pulse", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def say(self, word: str) -> None:
        """Tell all other processes, soon."""
        if not self._end:
            self._said.put(word)
            self._ring()

    def close(self) -> None:
        """Wait until the thread has ended, and all was said. Not for the reactor's thread."""
        if self._end:
            return
        self._end = True
        self._ring()
        self._thread.join()
        os.close(self._wakened)
        os.close(self._wake)
        self._drop()

    def _ring(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake, b".")

    def _run(self) -> None:
        while not self._end:
            now = time.monotonic()
            if self._connection is None:
                self._reach()
            if now >= self._beat_at:
                self._beat_at = now + PERIOD
                self._on_beat(self._safely(self._beat) and self._known)
            if now >= self._look_at:
                self._look_at = now + GLANCE
                self._safely(self._look)
            if now >= self._talk_at:
                self._talk_at = now + BREATH
                self._safely(self._talk)
            self._safely(self._listen)
            self._wait(self._pause())
        self._safely(self._talk)

    def _pause(self) -> float:
        """Seconds until there is something to do."""
        at = min(self._beat_at, self._look_at)
        return max((at if self._said.empty() else min(at, self._talk_at)) - time.monotonic(), 0.0)

    def _wait(self, seconds: float) -> None:
        poll = select.poll()  # whatever the number of a descriptor, which select() bounds
        poll.register(self._wakened, select.POLLIN)
        self._safely(lambda connection: poll.register(connection.fileno(), select.POLLIN))
        poll.poll(seconds * 1000)
        with suppress(BlockingIOError):
            os.read(self._wakened, 4096)

    def _safely(self, step: Callable[[Connection], None]) -> bool:
        """Do it where there is a session; whether that worked."""
        if self._connection is None:
            return False
        try:
            step(self._connection)
        except (psycopg.Error, SpoolError):
            self._drop()
            return False
        return True

    def _reach(self) -> None:
        with suppress(SpoolError):
            self._connection = self._server.connect()
            self._connected_at = time.monotonic()
            self._locked = 0
            self._beat_at = self._connected_at

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self.leads = False
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _beat(self, connection: Connection) -> None:
        me = self._member().id
        if self._locked != me:
            if self._locked:
                process.unlock(connection, self._locked)
            enter(connection, me)
            self._locked = me
            self._on_heard(NOTES)  # it may have been said while nobody listened
        self.leads = self.leads or process.lead(connection)
        self._known = process.beat(connection, me, self._idle(), self._shown())

    def _look(self, connection: Connection) -> None:
        began, me = time.monotonic(), self._member().id
        self._on_seen(began, look(connection, me, self._before()))
        for other in process.silent(connection, me):
            self._end_of(connection, other)

    def _end_of(self, connection: Connection, other: process.Silent) -> None:
        """End a process that is gone: the lease ran out, or nobody holds its lock."""
        connected = time.monotonic() - self._connected_at
        if not (other.expired and connected >= LONG):
            if connected < SILENT or not process.lock(connection, other.id):
                return
            process.unlock(connection, other.id)
        try:
            freed = process.bury(connection, other.id, crashed=True)
        except psycopg.errors.LockNotAvailable:
            return  # its last commit is still under way
        if freed is not None:
            process.cut_off(connection, other.id)
            self._on_gone(other.name, freed)
            self._on_heard(MAIL)
            self.say(MAIL)

    def _talk(self, connection: Connection) -> None:
        """Say what is to be said, each word once."""
        words: set[str] = set()
        with suppress(Empty):
            while True:
                words.add(self._said.get_nowait())
        for word in words:
            connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, word))

    def _listen(self, connection: Connection) -> None:
        for notice in connection.notifies(timeout=0):
            if notice.pid != connection.info.backend_pid:
                self._on_heard(notice.payload)
