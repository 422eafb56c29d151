"""PostgresqlSpool: one process's part of a queue that any number of processes share.

Threads: one writes, one reads, a few work on large bodies, one says that the process lives. Each has a session of its
own; the reactor's thread waits for none of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread

import psycopg
from twisted.internet.defer import Deferred

from relay.envelope import Ids, time_of
from relay.spool.arriving import WritingBody
from relay.spool.background import FromThreads
from relay.spool.health import look
from relay.spool.postgresql import process, reading
from relay.spool.postgresql.figures import MANY, Seen
from relay.spool.postgresql.figures import look as look_at_queue
from relay.spool.postgresql.membership import Membership
from relay.spool.postgresql.process import LEASE, SLOTS, Member
from relay.spool.postgresql.pulse import MAIL, NOTES, Pulse
from relay.spool.postgresql.reader import Reader
from relay.spool.postgresql.server import Connection, Server
from relay.spool.postgresql.write import Write, new_mail, quarantine
from relay.spool.postgresql.writer import Writer
from relay.spool.rows import ORIGIN, Found
from relay.spool.shared import Shares
from relay.spool.spool import (
    Health,
    LostTurn,
    Mail,
    Settlement,
    SpoolError,
    SpoolFailing,
    State,
    Submission,
    Tally,
)

IN_FORCE = LEASE - 5
"""Seconds after the last sign of life that was heard until which what is ours surely is."""

ANSWERS = 5.0
"""Seconds after the last commit until which the server is believed to take another one: one is tried every second."""

SPOKEN_FOR = 1.0
"""Seconds for which a mail that somebody has asked for is not claimed by others."""

WANT = "want "
"""How what is said begins when a mail is asked for; its key follows."""

_ROW = 1024  # what a recipient counts among the octets of a group: many take time, too


def _nobody(*_: object) -> None:
    """Who is told where nobody listens."""


class PostgresqlSpool:
    """See SharedSpool.

    doubts     what an operator should know of the server
    left_held  id and recipient of each final dot that was under way when those ended that had it before
    ahead      by how many seconds the server's clock, the scale of all processes, is ahead of this host's
    """

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
        self.ahead = process.clock(connection) - time.time()
        self.notes: Mapping[str, str] = reading.notes(connection)
        self.left_under_way: Sequence[Mail] = ()
        self.left_held: Sequence[tuple[str, str]] = ()
        self.quarantined: Callable[[Mail, State | None], None] = _nobody
        self.promised = 0
        self.shown = (0, 0, 0, 0)
        self.idle: Callable[[], float | None] = lambda: None
        self.old_before = 0.0
        self.room: Callable[[], int] = lambda: 0
        self.waits: Callable[[bool, float | None], None] = _nobody
        self.lost: Callable[[str], None] = _nobody
        self.gone: Callable[[str, int, Sequence[tuple[str, str]]], None] = _nobody
        self.wanted: Callable[[int], None] = _nobody
        self.noted: Callable[[Mapping[str, str]], None] = _nobody
        self._directory, self._reactor = directory, reactor
        self._now, self._random_bits = now, random_bits
        self._member = member
        self._mine: set[int] = set()
        self._spoken_for: dict[int, float] = {}
        self._seen = look_at_queue(connection, member.id, 0.0)
        self._heard_at = time.monotonic()
        self._volume = look(directory, True, now())
        self.newest = time_of(last := reading.last_key(connection))
        self._ids = Ids(last, now, random_bits, member.slot, SLOTS)
        self._membership = Membership(connection, member, name, random_bits)
        self._writer = Writer(server, connection, self._membership, reactor, now, committed, self._lost)
        self.tally = Tally(*self.figures.written)
        self._reader = reader = Reader(server, reactor, lambda: self._membership.member.id, self._hold)
        self.origins, self.held, self.admit = reader.origins, reader.held, reader.admit
        self.ready_after, self.due, self.next_due = reader.ready_after, reader.due, reader.next_due
        self.body, self.find, self.page = reader.body, reader.find, reader.page
        self._odd = 0
        self._pulse = Pulse(
            server,
            pulsing,
            lambda: self._membership.member,
            lambda: self.idle(),
            lambda: self.shown,
            lambda: self.old_before,
            self._beat,
            self._look,
            lambda word: reactor.callFromThread(self._heard, word),
            lambda other, freed: reactor.callFromThread(lambda: self.gone(other, freed.mails, freed.held)),
        )
        self._writer.start()
        self._pulse.start()

    @property
    def health(self) -> Health:
        """See Spool. The volume is that of the control socket, where nothing of any mail is."""
        at = self._writer.looked_at
        writable = self._writer.writable and self._now() - at < ANSWERS
        return replace(self._volume, writable=writable, checked_at=at)

    @property
    def oldest(self) -> float | None:
        """See Spool."""
        oldest = self._membership.oldest
        return None if oldest is None else oldest[1]

    @property
    def figures(self) -> Shares:
        """See SharedSpool."""
        seen, mine = self._seen, self._membership.tally
        (ready, deferred, held), others = seen.others, seen.shown
        old = seen.old if seen.old < MANY else ready + mine[0]
        return Shares((ready + mine[0], deferred + mine[1], held + mine[2]), others, old, seen.idle)

    @property
    def speaks(self) -> bool:
        """See SharedSpool."""
        return self._pulse.leads

    @property
    def in_force(self) -> bool:
        """See SharedSpool."""
        return time.monotonic() - self._heard_at < IN_FORCE

    def next_id(self) -> tuple[int, str]:
        """See Spool."""
        member = self._membership.member
        if member is not self._member:
            self._member = member
            self._ids = Ids(self._ids.next()[0], self._now, self._random_bits, member.slot, SLOTS)
        return self._ids.next()

    def new_body(self) -> WritingBody:
        """See Spool."""
        return self._reader.new_body(self.next_id()[0])

    def submit(self, submission: Submission) -> Deferred[None]:
        """See Spool."""
        write = Write()
        try:
            self._add(write, submission)
        except (ValueError, TypeError) as error:
            write.done.errback(SpoolFailing(f"this mail cannot be written: {error}"))
            return write.done
        return self._put(write)

    def settle(self, settlement: Settlement) -> Deferred[None]:
        """See Spool."""
        write = Write()
        try:
            for report in settlement.reports:
                self._add(write, report)
        except (ValueError, TypeError) as error:
            self.promised -= sum(mail.lease.owned for mail in write.mails)
            write.done.errback(SpoolFailing(f"this report cannot be written: {error}"))
            return write.done
        write.settlement = settlement
        return self._put(write)

    def forget(self, origins: Sequence[str]) -> Deferred[None]:
        """See Spool."""
        write = Write()
        write.forgotten = origins
        return self._writer.put(write)

    def has(self, key: int) -> bool:
        """See SharedSpool."""
        return key in self._mine

    def written(self, key: int) -> State | None:
        """See SharedSpool."""
        lease = self._membership.leases.get(key)
        return None if lease is None else State(lease.state)

    def claim(self, now: float, limit: int, *, suspects: bool) -> Deferred[list[Mail]]:
        """See SharedSpool."""
        write = Write()
        write.claims, write.now, write.suspects = limit, now, suspects
        write.reports = self.speaks
        write.odd = self._odd = 1 - self._odd
        moment = time.monotonic()
        self._spoken_for = {key: until for key, until in self._spoken_for.items() if until > moment}
        write.besides = list(self._spoken_for)
        return Deferred.fromCoroutine(self._claimed(write))

    def obtain(self, key: int) -> Deferred[Mail | None]:
        """See SharedSpool."""
        return Deferred.fromCoroutine(self._obtained(key))

    def ask_for(self, key: int) -> None:
        """See SharedSpool."""
        self._spoken_for[key] = time.monotonic() + SPOKEN_FOR
        self._pulse.say(f"{WANT}{key}")

    def release(self, key: int) -> None:
        """See SharedSpool."""
        if key in self._mine:
            self._mine.discard(key)
            write = Write()
            write.released = (key,)
            self._writer.put(write).addCallbacks(lambda _: self._pulse.say(MAIL), _nobody)

    def close(self) -> Deferred[None]:
        """See Spool."""
        closed: Deferred[None] = Deferred()
        self._writer.close()
        Thread(target=self._end, args=(closed,), name="spool-close", daemon=True).start()
        return closed

    def _add(self, write: Write, submission: Submission) -> None:
        owned = not submission.due and self.room() > 0
        write.mails.append(new_mail(submission, owned))
        self.promised += owned
        if submission.origin:
            write.notes.append((f"{ORIGIN}{submission.origin}", ""))
        write.octets += _ROW * len(submission.envelope.recipients)
        if isinstance(submission.body, bytes):
            write.octets += len(submission.body)

    def _put(self, write: Write) -> Deferred[None]:
        """Have it written; what is ours by that, and what is not any more, is known before anybody else is told."""
        return self._writer.put(write).addBoth(self._told, write)

    def _told(self, result: object, write: Write) -> object:
        for mail in write.mails:
            self.promised -= mail.lease.owned
            if write.error is None and mail.lease.owned and write.answer is None:
                self._mine.add(mail.row[0])
            elif write.error is None:
                self._pulse.say(MAIL)
        settlement = write.settlement
        if settlement is not None and write.error is None and (settlement.finished or settlement.released):
            self._mine.discard(settlement.key)
        if settlement is not None and write.error is None and settlement.notes:
            self._pulse.say(NOTES)
        return None if write.error is None else result

    async def _claimed(self, write: Write) -> list[Mail]:
        """Those of a claim that can be delivered; the damaged ones are HELD."""
        found: list[Found] = await self._writer.put(write)
        self._mine.update([each.mail.envelope.key for each in found])
        for each in found:
            if each.damage:
                with suppress(SpoolError):
                    await self._hold(each)
                self.release(each.mail.envelope.key)
        return [each.mail for each in found if not each.damage]

    async def _obtained(self, key: int) -> Mail | None:
        write = Write()
        write.obtain = key
        found: list[Found] = await self._writer.put(write)
        if found:
            self._mine.add(key)
            return found[0].mail
        there = await self._reader.one(key)
        if there is not None:
            raise LostTurn("another process has this mail")
        return None

    async def _hold(self, found: Found) -> None:
        await self.settle(quarantine(found))
        self.quarantined(found.mail, found.was)

    def _lost(self, why: str) -> None:
        """In the reactor's thread: nothing is ours any more."""
        self._mine.clear()
        self.lost(why)

    def _heard(self, word: str) -> None:
        """In the reactor's thread: another process has said something."""
        if word == MAIL:
            self.waits(True, None)
        elif word == NOTES:
            self._reader.notes().addCallbacks(self.noted, _nobody)
        elif word.startswith(WANT) and word.removeprefix(WANT).isdecimal():
            key = int(word.removeprefix(WANT))
            self._spoken_for[key] = time.monotonic() + SPOKEN_FOR
            self.wanted(key)

    def _beat(self, heard: bool) -> None:
        """In the thread that says that we live."""
        if heard:
            self._heard_at = time.monotonic()
        with suppress(OSError):
            self._volume = look(self._directory, True, 0.0)
        self._writer.put(Write()).addErrback(_nobody)

    def _look(self, at: float, seen: Seen) -> None:
        """In that thread, too."""
        self._membership.seen(at, seen.oldest)
        self._seen = seen
        self._reactor.callFromThread(lambda: self.waits(seen.ready, seen.due))

    def _end(self, closed: Deferred[None]) -> None:
        connection = self._writer.join()
        if connection is not None:
            with suppress(psycopg.Error):
                process.bury(connection, self._membership.member.id, crashed=False)
                connection.close()
        self._pulse.say(MAIL)
        self._pulse.close()
        self._reader.close()
        self._reactor.callFromThread(closed.callback, None)
