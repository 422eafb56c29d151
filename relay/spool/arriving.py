"""Arriving: large bodies on their way in, written piece by piece in the background while more octets come.

Where they are written to is a `Place`: a file, or rows.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from twisted.internet.defer import Deferred

from relay.spool.background import Background
from relay.spool.spool import SpoolFailing

BACK_PRESSURE = 2 * 1024 * 1024
"""Octets of one body that may wait for the disk before its writer asks for a pause."""


GATHER = 1024 * 1024
"""Octets that are written at once, where no end comes before."""

KEPT = 2 * 1024 * 1024
"""Octets of a body that is kept in memory, too, until its mail is durable: nobody has to read it again then."""

MEMORY = 8 * 1024 * 1024
"""Octets of all such bodies at a time."""


class Memory:
    """What there is for bodies on their way in, besides the disk: so many octets are `free`."""

    def __init__(self) -> None:
        self.free = MEMORY


class Place(Protocol):
    """Where one body is put, one call after another, in threads. Raises SpoolFull or SpoolFailing.

    crc  the CRC-32 of all that was put
    """

    crc: int

    def put(self, pieces: list[bytes]) -> None:
        """Write more of it."""

    def keep(self, uuid: str) -> None:
        """That was all: it is durable from now on, as the body of the mail `uuid`."""

    def drop(self) -> None:
        """Nobody wants it, kept or not. It may fail in silence: the next start cleans up."""


class WritingBody:
    """A BodyWriter. Once `finish` has fired, `place` says where it is and what its CRC-32 is."""

    def __init__(self, place: Place, background: Background, memory: Memory) -> None:
        self.size = 0
        self._memory = memory
        self._kept: list[bytes] | None = []
        self._kept_octets = 0
        self.place = place
        self._background = background
        self._waiting: list[bytes] = []
        self._octets = 0
        self._uuid = ""
        self._working = False
        self._abandoned = False
        self._error: SpoolFailing | None = None
        self._pause: Deferred[None] | None = None
        self._finished: Deferred[None] | None = None

    def write(self, octets: bytes) -> Deferred[None] | None:
        """See BodyWriter."""
        self.size += len(octets)
        if self._error is not None or self._abandoned:
            return None
        self._waiting.append(octets)
        self._octets += len(octets)
        self._keep(octets)
        if self._octets >= GATHER:
            self._work()
        if self._octets > BACK_PRESSURE and self._pause is None:
            self._pause = Deferred()
        return self._pause

    def finish(self, uuid: str) -> Deferred[None]:
        """See BodyWriter."""
        self._uuid = uuid
        self._finished = finished = Deferred[None]()
        self._work()
        return finished

    def abandon(self) -> None:
        """See BodyWriter."""
        self._abandoned = True
        self._forget()
        self._work()

    def whole(self) -> bytes | None:
        """See BodyWriter."""
        kept = self._kept
        self._forget()
        return None if kept is None else b"".join(kept)

    def _keep(self, octets: bytes) -> None:
        if self._kept is None:
            return
        if self.size > KEPT or len(octets) > self._memory.free:
            self._forget()
            return
        self._kept.append(octets)
        self._kept_octets += len(octets)
        self._memory.free -= len(octets)

    def _forget(self) -> None:
        self._kept = None
        self._memory.free += self._kept_octets
        self._kept_octets = 0

    def _work(self) -> None:
        if not self._working:
            self._working = True
            Deferred.fromCoroutine(self._in_turn())

    async def _in_turn(self) -> None:
        """One step after another in the background, until nothing is left to do."""
        try:
            while self._waiting and not self._abandoned:
                pieces, self._waiting, self._octets = self._waiting, [], 0
                if self._finished is not None:
                    await self._background.call(self._end, pieces)
                    break
                await self._background.call(self.place.put, pieces)
                self._go_on()
            else:
                if self._finished is not None and not self._abandoned:
                    await self._background.call(self._end, [])
        except SpoolFailing as error:
            self._error = error
        if self._error is not None or self._abandoned:
            self._waiting.clear()
            self._go_on()
            with suppress(SpoolFailing):  # closed: the next start removes it
                await self._background.call(self.place.drop)
        self._working = False
        self._answer()

    def _end(self, pieces: list[bytes]) -> None:
        if pieces:
            self.place.put(pieces)
        self.place.keep(self._uuid)

    def _go_on(self) -> None:
        """The pause is over."""
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.callback(None)

    def _answer(self) -> None:
        finished, self._finished = self._finished, None
        if finished is None:
            return
        if self._abandoned:
            finished.errback(SpoolFailing("the body was given up"))
        elif self._error is not None:
            finished.errback(self._error)
        else:
            finished.callback(None)
