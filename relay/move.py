"""Move: the mail that waits in one spool goes over into another, and none is lost or doubled on the way.

A mail is durable in the new spool before it is removed from the old one. The commit that takes it in also notes its id
there (see Spool.origins), so that whatever interrupts this, the next time goes on: what was taken in is not taken
again, not even if it was delivered meanwhile. Until its recipients stand as they did, it is DEFERRED for longer than
anybody waits. The ids are forgotten once all has gone over.

Failure: SpoolError of either spool; what had not gone over then stands in the old one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from relay.clock import DRIFT
from relay.spool.spool import QUARANTINE, Damaged, Mail, Settlement, Spool, Standing, State, Submission

NEVER = 4_102_444_800.0
"""When a mail is due that has not gone over as a whole: in 2100."""

TOGETHER = 50
"""Mails that are on their way at once, so that they share commits."""

_PIECE = 256 * 1024


@dataclass
class Moved:
    """What came of it, as ids: those in the old spool that are damaged, or that another process has, stay there."""

    mails: int
    damaged: list[str]
    busy: list[str]


class Move:
    """See the module's docstring. `name` is the old spool's, whatever others go over into the same one."""

    def __init__(self, old: Spool, new: Spool, name: str) -> None:
        self._origin = f"moved {name} "
        self._old = old
        self._new = new
        self._later = _drift(old) - _drift(new)  # by how much the new spool's scale of time is ahead
        self._known: set[str] = set()
        self._moved = Moved(0, [], [])

    async def run(self) -> Moved:
        """All of it."""
        self._known = set(await self._new.origins(self._origin))
        notes = [note for note in self._old.notes.items() if note[0] not in (DRIFT, *self._new.notes)]
        if notes:
            await self._new.settle(Settlement(0, "", (), notes=notes))
        after, over = 0, list[str]()
        while mails := await self._old.page(after, TOGETHER):
            after = mails[-1].envelope.key
            going = [Deferred.fromCoroutine(self._go(mail)) for mail in mails]
            results: list[tuple[bool, Any]] = await DeferredList(going, consumeErrors=True)
            for good, what in results:
                if not good:
                    what.raiseException()
                over += [what] if what else []
        await self._new.forget([*self._known.union(over)])
        self._moved.mails = len(over)
        return self._moved

    async def _go(self, mail: Mail) -> str:
        """Its origin, once it is in the new spool alone; "" where it stays."""
        envelope = mail.envelope
        origin = f"{self._origin}{envelope.uuid}"
        if mail.elsewhere:
            self._moved.busy.append(envelope.uuid)
            return ""
        try:
            if any(each.reply.startswith(QUARANTINE) for each in mail.standings):
                raise Damaged(envelope.uuid)
            await self._take_over(mail, origin)
        except Damaged:
            self._moved.damaged.append(envelope.uuid)
            return ""
        await self._old.settle(Settlement(envelope.key, envelope.uuid, (), finished=True))
        return origin

    async def _take_over(self, mail: Mail, origin: str) -> None:
        envelope = mail.envelope
        standings = [replace(each, due=each.due + self._later) if each.due else each for each in mail.standings]
        plain = all(each == Standing(each.number, each.recipient) for each in standings)
        if origin not in self._known:
            await self._submit(mail, origin, 0.0 if plain else NEVER)
        elif not plain:
            found = await self._new.find(envelope.uuid)
            plain = found is None or not all(
                each.state is State.DEFERRED and each.due >= NEVER for each in found.standings
            )
        if not plain:
            await self._new.settle(Settlement(envelope.key, envelope.uuid, standings))

    async def _submit(self, mail: Mail, origin: str, due: float) -> None:
        """Have it durable in the new spool."""
        envelope = replace(mail.envelope, received_at=mail.envelope.received_at + self._later)
        body = await self._old.body(mail)
        if isinstance(body, bytes):
            await self._new.submit(Submission(envelope, mail.head, body, due, origin))
            return
        writer = self._new.new_body()
        try:
            while octets := await body.read(_PIECE):
                room = writer.write(octets)
                if room is not None:
                    await room
            await writer.finish(envelope.uuid)
        except BaseException:
            writer.abandon()
            raise
        finally:
            body.close()
        await self._new.submit(Submission(envelope, mail.head, writer, due, origin))


def _drift(spool: Spool) -> float:
    """By how much the system's clock is ahead of the spool's scale of time."""
    return float(spool.notes.get(DRIFT, "0"))
