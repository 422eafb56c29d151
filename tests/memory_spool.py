"""MemorySpool: the spool's contract without a disk, for tests of what stands on it.

Nothing is durable until `commit` is called, unless `at_once` is set, and nothing read is told until `tell` is, unless
`tells_at_once` is. `refuse` makes the next writes fail with it, `refuse_reads` what is read. `killed` is what a process
that starts after a kill finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, succeed

from relay.envelope import Ids
from relay.spool.spool import (
    LEFT_UNDER_WAY,
    QUARANTINE,
    UNCERTAIN,
    UNDER_WAY,
    Body,
    Damaged,
    Health,
    Held,
    Mail,
    Settlement,
    SpoolError,
    Standing,
    State,
    Submission,
    Tally,
)


class MemoryWriter:
    """A large body, kept whole all the same."""

    def __init__(self) -> None:
        self.size = 0
        self.octets = b""
        self.abandoned = False
        self.finished = ""

    def write(self, octets: bytes) -> None:
        """See BodyWriter."""
        self.size += len(octets)
        self.octets += octets

    def finish(self, uuid: str) -> Deferred[None]:
        """See BodyWriter."""
        self.finished = uuid
        return succeed(None)

    def abandon(self) -> None:
        """See BodyWriter."""
        self.abandoned = True

    def whole(self) -> bytes | None:
        """See BodyWriter: it is to be read again."""
        return None


class MemorySpool:
    """See Spool. `mails` holds what is durable, by key; `settled` every settlement, in order."""

    backend = "memory"
    in_force = True

    def __init__(self, now: Callable[[], float], at_once: bool = True) -> None:
        self.tally = Tally()
        self.notes: Mapping[str, str] = {}
        self.left_under_way: Sequence[Mail] = ()
        self.newest = 0.0
        self.known_origins: set[str] = set()
        self.health = Health(True, 2**40, 2**41, 0, 0, 0.0)
        self.oldest: float | None = None
        self.at_once = at_once
        self.quarantined: Callable[[Mail, State | None], None] = lambda mail, was: None
        self.refuse: SpoolError | None = None
        self.refuse_reads: SpoolError | None = None
        self.tells_at_once = True
        self.damaged: set[int] = set()
        self.mails: dict[int, Mail] = {}
        self.settled: list[Settlement] = []
        self.reads = 0
        self._now = now
        self._ids = Ids(0, now, lambda bits: 7)
        self._waiting: list[tuple[Callable[[], None], Deferred[None]]] = []
        self._read: list[tuple[Any, Deferred[Any]]] = []

    def killed(self, now: Callable[[], float], committed: int = 0) -> MemorySpool:
        """The next life's. Of the writes that waited the first `committed` became durable, and nobody was told."""
        for write, _ in self._waiting[:committed]:
            write()
        self._waiting.clear()
        after = MemorySpool(now, self.at_once)
        last, _ = self._ids.next()
        after._ids = Ids(last, now, lambda bits: 7)
        after.notes, after.known_origins, after.damaged = self.notes, self.known_origins, self.damaged
        after.settled, after.mails = self.settled, self.mails
        after.newest = max((mail.envelope.received_at for mail in self.mails.values()), default=0.0)
        after._recover()
        return after

    def _recover(self) -> None:
        for key, mail in self.mails.items():
            if any(standing.reply == UNDER_WAY for standing in mail.standings):
                left = [replace(s, reply=LEFT_UNDER_WAY) if s.reply == UNDER_WAY else s for s in mail.standings]
                self.mails[key] = replace(mail, standings=tuple(left))
                self.left_under_way = [*self.left_under_way, self.mails[key]]
        self.tally = self.count()

    def count(self) -> Tally:
        """What stands in it now."""
        states = [min(s.state for s in mail.standings if s.state.waiting) for mail in self.mails.values()]
        return Tally(*[states.count(state) for state in (State.READY, State.DEFERRED, State.HELD)])

    @property
    def is_quiet(self) -> bool:
        """Whether nobody waits for it."""
        return not (self._waiting or self._read)

    def tell(self) -> None:
        """What was read is told, as it was when it was asked for."""
        read, self._read = self._read, []
        for found, done in read:
            if isinstance(found, SpoolError):
                done.errback(found)
            else:
                done.callback(found)

    def _look(self, found: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self._read.append((self.refuse_reads or found, done))
        if self.tells_at_once:
            self.tell()
        return done

    def next_id(self) -> tuple[int, str]:
        """See Spool."""
        return self._ids.next()

    def new_body(self) -> MemoryWriter:
        """See Spool."""
        return MemoryWriter()

    def submit(self, submission: Submission) -> Deferred[None]:
        """See Spool."""
        return self._write(lambda: self._insert(submission))

    def settle(self, settlement: Settlement) -> Deferred[None]:
        """See Spool."""
        return self._write(lambda: self._settle(settlement))

    def commit(self) -> None:
        """Make durable what waits, and say so."""
        waiting, self._waiting = self._waiting, []
        for write, done in waiting:
            if self.refuse is not None:
                done.errback(self.refuse)
            else:
                write()
                done.callback(None)

    def origins(self, beginning: str) -> Deferred[list[str]]:
        """See Spool."""
        return succeed([origin for origin in self.known_origins if origin.startswith(beginning)])

    def forget(self, origins: Sequence[str]) -> Deferred[None]:
        """See Spool."""
        return self._write(lambda: self.known_origins.difference_update(origins))

    def ready_after(self, key: int, limit: int) -> Deferred[list[Mail]]:
        """See Spool."""
        self.reads += 1
        return self._look(self._some(lambda mail: mail.envelope.key > key, lambda s: s.state is State.READY)[:limit])

    def due(self, now: float, limit: int) -> Deferred[list[Mail]]:
        """See Spool."""
        self.reads += 1
        return self._look(self._some(lambda mail: True, lambda s: s.state is State.DEFERRED and s.due <= now)[:limit])

    def next_due(self, after: float) -> Deferred[float | None]:
        """See Spool."""
        dues = [s.due for mail in self.mails.values() for s in mail.standings if s.state is State.DEFERRED]
        return self._look(min((due for due in dues if due > after), default=None))

    def body(self, mail: Mail) -> Deferred[Body]:
        """See Spool."""
        self.reads += 1
        if mail.envelope.key in self.damaged:
            return self._look(Damaged("its checksum is wrong"))
        body = self.mails[mail.envelope.key].body
        assert body is not None
        return self._look(body)

    def held(self) -> Deferred[Held]:
        """See Spool."""
        counted = [
            len(self._some(lambda mail: True, lambda s: s.state is State.HELD and s.reply.startswith(words)))  # noqa: B023
            for words in (QUARANTINE, UNCERTAIN)
        ]
        return succeed(Held(*counted))

    def find(self, uuid: str) -> Deferred[Mail | None]:
        """See Spool."""
        return succeed(next((mail for mail in self.mails.values() if mail.envelope.uuid == uuid), None))

    def page(self, after: int, limit: int) -> Deferred[list[Mail]]:
        """See Spool."""
        return succeed(self._some(lambda mail: mail.envelope.key > after, lambda s: True)[:limit])

    def close(self) -> Deferred[None]:
        """See Spool."""
        self.commit()
        return succeed(None)

    def _some(self, of: Callable[[Mail], bool], having: Callable[[Standing], bool]) -> list[Mail]:
        return [mail for _, mail in sorted(self.mails.items()) if of(mail) and any(map(having, mail.standings))]

    def _write(self, write: Callable[[], None]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._waiting.append((write, done))
        if self.at_once:
            self.commit()
        return done

    def _insert(self, submission: Submission) -> None:
        envelope, body = submission.envelope, submission.body
        octets = body.octets if isinstance(body, MemoryWriter) else body
        assert isinstance(octets, bytes)
        if submission.origin:
            self.known_origins.add(submission.origin)
        self.mails[envelope.key] = Mail(envelope, submission.head, octets, tuple(submission.standings()))

    def _settle(self, settlement: Settlement) -> None:
        self.settled.append(settlement)
        self.notes = {**self.notes, **dict(settlement.notes)}
        for report in settlement.reports:
            self._insert(report)
        mail = self.mails[settlement.key]
        new = {standing.number: standing for standing in settlement.standings}
        standings = tuple(new.get(old.number, old) for old in mail.standings)
        assert settlement.finished is not any(standing.state.waiting for standing in standings)
        self.mails[settlement.key] = replace(mail, standings=standings)
        if settlement.finished:
            del self.mails[settlement.key]
