"""SqliteSpool: the spool of one daemon, in one directory.

Threads: one writes, one reads, a few work on large bodies, one looks at the disk. The reactor's thread waits for none
of them but at the start.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Concatenate, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, succeed

from relay.envelope import Ids, key_of, time_of
from relay.spool.arriving import WritingBody
from relay.spool.background import Background, FromThreads
from relay.spool.bodies import Bodies
from relay.spool.health import IDLE, Pulse, look
from relay.spool.rows import ORIGIN, Found, mail_row, recipient_rows, standing_row
from relay.spool.spool import QUARANTINE, Body, Held, Mail, Settlement, SpoolError, SpoolFailing, State, Submission
from relay.spool.sqlite import reading
from relay.spool.sqlite.database import check_version, is_damage, trouble
from relay.spool.sqlite.folder import BODIES, DATABASE, Names, Reserve, prepare, take
from relay.spool.sqlite.opening import SUSPECT, Opened, opened
from relay.spool.sqlite.wal import Tail, wal_of
from relay.spool.sqlite.write import Write
from relay.spool.sqlite.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")

_RESERVE = 32 * 1024 * 1024
_ROW = 1024  # what a recipient counts among the octets of a group: many take time, too
_FURTHEST = 1 << 63


def _nobody(*_: object) -> None:
    """Who is told where nobody listens."""


def open_spool(
    directory: Path,
    *,
    reactor: FromThreads,
    now: Callable[[], float],
    random_bits: Callable[[int], int],
    min_free: int,
    committed: Callable[[int, float], None] = _nobody,
) -> SqliteSpool:
    """The spool in `directory`, made if it is not there, and free of what a crash left. Waits for the disk.

    now        seconds on the caller's scale; called in any thread
    min_free   octets that are to stay free on the volume: half of them, at most 32 MiB, are set aside for outcomes
    committed  told of each commit: how many writes, and how many seconds it took

    Raises SpoolError: another daemon has it, it is a newer schema's, the directory cannot be used.
    """
    check_version()
    prepare(directory)
    lock = take(directory)
    try:
        found = opened(directory)
    except sqlite3.Error as error:
        os.close(lock)
        raise SpoolError(str(trouble(error, f"{directory / DATABASE} cannot be opened"))) from error
    except OSError as error:
        os.close(lock)
        raise SpoolError(f"the spool directory {directory} cannot be used: {error}") from error
    except BaseException:
        os.close(lock)
        raise
    spool = SqliteSpool(directory, reactor, now, random_bits, min_free, lock, found)
    spool.committed = committed
    return spool


class SqliteSpool:
    """See Spool."""

    backend = "sqlite"
    in_force = True

    def __init__(
        self,
        directory: Path,
        reactor: FromThreads,
        now: Callable[[], float],
        random_bits: Callable[[int], int],
        min_free: int,
        lock: int,
        found: Opened,
    ) -> None:
        self.found_damage = found.damage
        self.tally = found.tally
        self.notes: Mapping[str, str] = reading.notes(found.reading)
        self.left_under_way: Sequence[Mail] = found.left_under_way
        self.quarantined: Callable[[Mail, State | None], None] = _nobody
        self.committed: Callable[[int, float], None] = _nobody
        self._directory = directory
        self._reactor = reactor
        self._now = now
        self._min_free = min_free
        self._lock = lock
        self._connections = found.writing, found.reading
        self.newest = time_of(found.last_key)
        self._ids = Ids(found.last_key, now, random_bits)
        self._reader = Background(reactor, 1, "spool-reader")
        self._files = Background(reactor, 4, "spool-bodies")
        self._bodies = Bodies(directory / BODIES, self._files, random_bits)
        self._reserve = Reserve(directory / "reserve", min(min_free // 2, _RESERVE))
        self.health = look(directory, True, now())
        if self.health.free_bytes > min_free // 2 + self._reserve.octets:
            self._reserve.keep()
        (page_size,) = found.writing.execute("PRAGMA page_size").fetchone()
        self._tail = Tail(directory / DATABASE, page_size)
        names = Names(directory / DATABASE, wal_of(directory / DATABASE))
        self._writer = Writer(
            found.writing, reactor, now, self._reserve, self._tail, names, self._group_written, self._suspect
        )
        self._writer.large = found.large > 0
        self._idle = 0
        self._pulse = Pulse(self._look)
        self._writer.start()
        self._pulse.start()

    @property
    def oldest(self) -> float | None:
        """See Spool."""
        oldest = self._writer.oldest
        return None if oldest is None else oldest[1]

    def next_id(self) -> tuple[int, str]:
        """See Spool."""
        return self._ids.next()

    def new_body(self) -> WritingBody:
        """See Spool."""
        self._writer.large = True
        return self._bodies.new()

    def submit(self, submission: Submission) -> Deferred[None]:
        """See Spool."""
        write = Write()
        try:
            _add(write, submission)
        except (ValueError, TypeError) as error:
            write.done.errback(SpoolFailing(f"this mail cannot be written: {error}"))
            return write.done
        return self._writer.put(write)

    def settle(self, settlement: Settlement) -> Deferred[None]:
        """See Spool."""
        write = Write()
        write.outcome = True
        try:
            for report in settlement.reports:
                _add(write, report)
        except (ValueError, TypeError) as error:
            write.done.errback(SpoolFailing(f"this report cannot be written: {error}"))
            return write.done
        if settlement.finished:
            write.gone = settlement.key
        else:
            write.standings += [standing_row(settlement.key, standing) for standing in settlement.standings]
        write.notes += settlement.notes
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
        return Deferred.fromCoroutine(self._sound(reading.ready_keys, key, limit))

    def due(self, now: float, limit: int) -> Deferred[list[Mail]]:
        """See Spool."""
        return Deferred.fromCoroutine(self._sound(reading.due_keys, now, limit))

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
        key = key_of(uuid)
        if key is None or key >= _FURTHEST:
            return succeed(None)
        return Deferred.fromCoroutine(self._find(key, uuid.lower()))

    def page(self, after: int, limit: int) -> Deferred[list[Mail]]:
        """See Spool."""
        return Deferred.fromCoroutine(self._page(after, limit))

    def close(self) -> Deferred[None]:
        """See Spool."""
        closed: Deferred[None] = Deferred()
        self._writer.close()
        Thread(target=self._end, args=(closed,), name="spool-close", daemon=True).start()
        return closed

    async def _sound(self, keys: Callable[..., list[int]], position: float, limit: int) -> list[Mail]:
        """Mails that can be delivered. What is damaged is HELD first, and then others are in its place."""
        held: set[int] = set()  # where the table itself is damaged, some may be found again all the same
        while True:
            found = await self._ask(_with_bodies, keys, position, limit)
            damaged = [each for each in found if each.hold and each.mail.envelope.key not in held]
            if not damaged:
                return [each.mail for each in found if not each.damage]
            for each in damaged:
                held.add(each.mail.envelope.key)
                await self._hold(each)

    async def _page(self, after: int, limit: int) -> list[Mail]:
        found = await self._ask(_without_bodies, after, limit)
        return await self._shown(found)

    async def _find(self, key: int, uuid: str) -> Mail | None:
        found = await self._ask(reading.one, key)
        if found is None or (not found.damage and found.mail.envelope.uuid != uuid):
            return None
        return (await self._shown([found]))[0]

    async def _shown(self, found: list[Found]) -> list[Mail]:
        """All of them; the damaged ones HELD, as far as the disk takes that."""
        for each in found:
            if each.hold:
                with suppress(SpoolFailing):
                    await self._hold(each)
        return [each.mail for each in found]

    async def _hold(self, found: Found) -> None:
        write = Write((found.mail.envelope.key, f"{QUARANTINE}{found.damage}"))
        await self._writer.put(write)
        if write.changed:
            self.quarantined(found.mail, found.was)

    async def _body(self, mail: Mail) -> Body:
        if mail.body is not None:
            return mail.body
        found = await self._ask(reading.body, mail.envelope.key)
        if isinstance(found, bytes):
            return found
        return await self._bodies.open(mail.envelope.uuid, *found)

    def _ask(
        self, question: Callable[Concatenate[sqlite3.Connection, P], T], *arguments: P.args, **named: P.kwargs
    ) -> Deferred[T]:
        """What the database says to `question`, in one snapshot, asked in the reading thread."""
        _, connection = self._connections

        def asked() -> T:
            try:
                connection.execute("BEGIN")
                try:
                    return question(connection, *arguments, **named)
                finally:
                    connection.execute("COMMIT")
            except sqlite3.Error as error:
                if is_damage(error):
                    self._suspect()
                raise trouble(error, "the spool cannot be read") from error

        return self._reader.call(asked)

    def _group_written(self, writes: int, seconds: float, bodies: list[str]) -> None:
        self._idle = 0
        if bodies:
            self._bodies.remove(bodies)
        if writes:
            self.committed(writes, seconds)

    def _suspect(self) -> None:
        """Have the next start look closer. In any thread."""
        with suppress(OSError):
            (self._directory / SUSPECT).touch(0o600)

    def _look(self) -> None:
        """In the thread that looks at the disk: how it is, and where nothing was written lately, whether it can be."""
        now = self._now()
        try:
            health = look(self._directory, self._writer.writable, min(now, self._writer.looked_at))
        except OSError:
            self.health = replace(self.health, writable=False, checked_at=now)
            return
        self.health = health
        if health.free_bytes > self._min_free + self._reserve.octets:
            self._reserve.keep()
        self._idle += 1
        if self._idle >= IDLE or not health.writable:
            self._idle = 0
            self._writer.put(Write()).addErrback(lambda _: None)

    def _end(self, closed: Deferred[None]) -> None:
        self._pulse.close()
        self._writer.join()
        self._files.close()
        self._reader.close()
        for connection in self._connections:
            connection.close()
        self._tail.close()
        os.close(self._lock)
        self._reactor.callFromThread(closed.callback, None)


def _add(write: Write, submission: Submission) -> None:
    write.mails.append(mail_row(submission))
    write.recipients.extend(recipient_rows(submission.envelope))
    if submission.origin:
        write.notes.append((f"{ORIGIN}{submission.origin}", ""))
    if submission.due:
        write.standings.extend([standing_row(submission.envelope.key, each) for each in submission.standings()])
    write.octets += _ROW * len(submission.envelope.recipients)
    if isinstance(submission.body, bytes):
        write.octets += len(submission.body)


def _with_bodies(
    connection: sqlite3.Connection, keys: Callable[..., list[int]], position: float, limit: int
) -> list[Found]:
    return reading.mails(connection, keys(connection, position, limit), reading.OCTETS)


def _without_bodies(connection: sqlite3.Connection, after: int, limit: int) -> list[Found]:
    return reading.mails(connection, reading.page_keys(connection, after, limit), 0)
