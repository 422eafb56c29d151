"""PostgresqlSpool: one process's part of a queue that any number of processes share.

Threads: one writes, one reads, a few work on large bodies, one says that the process lives. Each has a session of its
own; the reactor's thread waits for none of them but at the start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Concatenate, ParamSpec, TypeVar

import psycopg
from twisted.internet.defer import Deferred, succeed

from relay.config.secret import Secret
from relay.envelope import Ids, time_of
from relay.spool.arriving import WritingBody
from relay.spool.background import Background, FromThreads
from relay.spool.health import look
from relay.spool.postgresql import process, reading, schema
from relay.spool.postgresql.bodies import Bodies
from relay.spool.postgresql.process import SLOTS, Member
from relay.spool.postgresql.pulse import MAIL, Pulse
from relay.spool.postgresql.server import Connection, Server, trouble
from relay.spool.postgresql.sessions import Sessions
from relay.spool.postgresql.write import Write, new_mail, quarantine
from relay.spool.postgresql.writer import Writer
from relay.spool.rows import ORIGIN, Found
from relay.spool.spool import (
    Body,
    Health,
    Held,
    Mail,
    Settlement,
    SpoolError,
    SpoolFailing,
    State,
    Submission,
    Tally,
)

P = ParamSpec("P")
T = TypeVar("T")

START = 10.0
"""Seconds for which a start waits for the server to be there."""

_ROW = 1024  # what a recipient counts among the octets of a group: many take time, too


def _nobody(*_: object) -> None:
    """Who is told where nobody listens."""


def open_spool(
    dsn: Secret,
    directory: Path,
    *,
    name: str,
    reactor: FromThreads,
    now: Callable[[], float],
    random_bits: Callable[[int], int],
    committed: Callable[[int, float], None] = _nobody,
) -> PostgresqlSpool:
    """The queue in the database that `dsn` names, its tables made if need be. Waits for the server, at most START.

    directory  where the control socket is; made if it is not there
    name       of this process, as the others call it
    now        seconds on the caller's scale; called in any thread
    committed  told of each commit: how many writes, and how many seconds it took

    Raises SpoolError: it cannot be reached, is not to be trusted, or has a newer schema.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise SpoolError(f"the spool directory {directory} cannot be used: {error}") from error
    server = Server(dsn, name)
    connection = _reach(server)
    try:
        schema.ensure(connection)
        pulsing = server.connect()
        id_ = random_bits(62)
        process.lock(pulsing, id_)
        member = process.register(connection, id_, name)
        process.unmark(connection)
        spool = PostgresqlSpool(
            server, connection, pulsing, member, directory, name, reactor, now, random_bits, committed
        )
    except psycopg.Error as error:
        connection.close()
        raise trouble(error, "the spool cannot be opened") from error
    except SpoolError:
        connection.close()
        raise
    return spool


def _reach(server: Server) -> Connection:
    until = time.monotonic() + START
    while True:
        try:
            return server.connect()
        except SpoolFailing:
            if time.monotonic() >= until:
                raise
            time.sleep(0.5)


class PostgresqlSpool:
    """See Spool."""

    backend = "postgresql"

    def __init__(
        self,
        server: Server,
        connection: Connection,
        pulsing: Connection,
        member: Member,
        directory: Path,
        name: str,
        reactor: FromThreads,
        now: Callable[[], float],
        random_bits: Callable[[int], int],
        committed: Callable[[int, float], None],
    ) -> None:
        self.doubts = server.doubts(connection)
        self.tally = Tally(*process.tally(connection))
        self.notes: Mapping[str, str] = reading.notes(connection)
        self.left_under_way: Sequence[Mail] = ()
        self.quarantined: Callable[[Mail, State | None], None] = _nobody
        self._directory = directory
        self._reactor = reactor
        self._now = now
        self._random_bits = random_bits
        self._committed = committed
        last = reading.last_key(connection)
        self.newest = time_of(last)
        self._member = member
        self._ids = Ids(last, now, random_bits, member.slot, SLOTS)
        self._sessions = Sessions(server)
        self._reader = Background(reactor, 1, "spool-reader")
        self._files = Background(reactor, 2, "spool-bodies")
        self._bodies = Bodies(self._sessions, self._files)
        self._writer = Writer(
            server, connection, member, name, reactor, now, random_bits, self._group_written, self._lost
        )
        self._pulse = Pulse(
            server,
            pulsing,
            lambda: self._writer.member,
            lambda: (0, 0, 0, 0),
            self._beat,
            lambda word: reactor.callFromThread(self._heard, word),
            lambda other, freed: reactor.callFromThread(self._gone, other, freed),
        )
        self._volume = look(directory, True, now())
        self._writer.start()
        self._pulse.start()

    @property
    def health(self) -> Health:
        """See Spool. The volume is that of `directory`, where nothing of any mail is."""
        return replace(self._volume, writable=self._writer.writable, checked_at=self._writer.looked_at)

    @property
    def oldest(self) -> float | None:
        """See Spool."""
        oldest = self._writer.oldest
        return None if oldest is None else oldest[1]

    def next_id(self) -> tuple[int, str]:
        """See Spool."""
        member = self._writer.member
        if member is not self._member:
            self._member = member
            self._ids = Ids(self._ids.next()[0], self._now, self._random_bits, member.slot, SLOTS)
        return self._ids.next()

    def new_body(self) -> WritingBody:
        """See Spool."""
        return self._bodies.new(self.next_id()[0], lambda: self._writer.member.id)

    def submit(self, submission: Submission) -> Deferred[None]:
        """See Spool."""
        write = Write()
        try:
            _add(write, submission, owned=False)
        except (ValueError, TypeError) as error:
            write.done.errback(SpoolFailing(f"this mail cannot be written: {error}"))
            return write.done
        return self._writer.put(write)

    def settle(self, settlement: Settlement) -> Deferred[None]:
        """See Spool."""
        write = Write()
        try:
            for report in settlement.reports:
                _add(write, report, owned=False)
        except (ValueError, TypeError) as error:
            write.done.errback(SpoolFailing(f"this report cannot be written: {error}"))
            return write.done
        write.settlement = settlement
        return self._writer.put(write)

    def origins(self, beginning: str) -> Deferred[list[str]]:
        """See Spool."""
        return self._ask(reading.origins, beginning)

    def forget(self, origins: Sequence[str]) -> Deferred[None]:
        """See Spool."""
        write = Write()
        write.forgotten = origins
        return self._writer.put(write)

    def ready_after(self, key: int, limit: int) -> Deferred[list[Mail]]:
        """See Spool."""
        return Deferred.fromCoroutine(self._sound(lambda connection: reading.ready(connection, self._me, key, limit)))

    def due(self, now: float, limit: int) -> Deferred[list[Mail]]:
        """See Spool."""
        return Deferred.fromCoroutine(self._sound(lambda connection: reading.due(connection, self._me, now, limit)))

    def next_due(self, after: float) -> Deferred[float | None]:
        """See Spool."""
        return self._ask(reading.next_due, after)

    def body(self, mail: Mail) -> Deferred[Body]:
        """See Spool."""
        return Deferred.fromCoroutine(self._body(mail))

    def held(self) -> Deferred[Held]:
        """See Spool."""
        return self._ask(reading.held)

    def find(self, uuid: str) -> Deferred[Mail | None]:
        """See Spool."""
        key = reading.is_ours(uuid)
        return succeed(None) if key is None else Deferred.fromCoroutine(self._find(key, uuid.lower()))

    def page(self, after: int, limit: int) -> Deferred[list[Mail]]:
        """See Spool."""
        return Deferred.fromCoroutine(self._page(after, limit))

    def close(self) -> Deferred[None]:
        """See Spool."""
        closed: Deferred[None] = Deferred()
        self._writer.close()
        Thread(target=self._end, args=(closed,), name="spool-close", daemon=True).start()
        return closed

    @property
    def _me(self) -> int:
        return self._writer.member.id

    async def _sound(self, question: Callable[[Connection], list[Found]]) -> list[Mail]:
        """Mails that can be delivered. What is damaged is HELD first, and then others are in its place."""
        while True:
            found = await self._ask(question)
            damaged = [each for each in found if each.hold]
            if not damaged:
                return [each.mail for each in found if not each.damage]
            for each in damaged:
                await self._hold(each)

    async def _page(self, after: int, limit: int) -> list[Mail]:
        return await self._shown(await self._ask(reading.page, self._me, after, limit))

    async def _find(self, key: int, uuid: str) -> Mail | None:
        found = await self._ask(reading.one, self._me, key)
        if found is None or (not found.damage and found.mail.envelope.uuid != uuid):
            return None
        return (await self._shown([found]))[0]

    async def _shown(self, found: list[Found]) -> list[Mail]:
        """All of them; the damaged ones HELD, as far as the server takes that."""
        for each in found:
            if each.hold:
                with suppress(SpoolError):
                    await self._hold(each)
        return [each.mail for each in found]

    async def _hold(self, found: Found) -> None:
        await self.settle(quarantine(found))
        self.quarantined(found.mail, found.was)

    async def _body(self, mail: Mail) -> Body:
        if mail.body is not None:
            return mail.body
        found = await self._ask(reading.body, mail.envelope.key)
        return found if isinstance(found, bytes) else await self._bodies.open(*found)

    def _ask(
        self, question: Callable[Concatenate[Connection, P], T], *arguments: P.args, **named: P.kwargs
    ) -> Deferred[T]:
        """What the database says to `question`, asked in the reading thread."""
        return self._reader.call(lambda: self._sessions.ask("the spool cannot be read", question, *arguments, **named))

    def _group_written(self, writes: int, seconds: float) -> None:
        if writes:
            self._committed(writes, seconds)

    def _lost(self, why: str) -> None:
        """Everything that was ours is others'."""

    def _heard(self, word: str) -> None:
        """Another process has said something."""

    def _gone(self, other: str, freed: int) -> None:
        """Another process is gone."""

    def _beat(self) -> None:
        """In the thread that says that we live."""
        with suppress(OSError):
            self._volume = look(self._directory, True, 0.0)
        self._writer.put(Write()).addErrback(lambda _: None)

    def _end(self, closed: Deferred[None]) -> None:
        connection = self._writer.join()
        if connection is not None:
            with suppress(psycopg.Error):
                process.bury(connection, self._me, crashed=False)
                connection.close()
        self._pulse.say(MAIL)
        self._pulse.close()
        self._files.close()
        self._reader.close()
        self._sessions.close()
        self._reactor.callFromThread(closed.callback, None)


def _add(write: Write, submission: Submission, *, owned: bool) -> None:
    write.mails.append(new_mail(submission, owned))
    if submission.origin:
        write.notes.append((f"{ORIGIN}{submission.origin}", ""))
    write.octets += _ROW * len(submission.envelope.recipients)
    if isinstance(submission.body, bytes):
        write.octets += len(submission.body)
