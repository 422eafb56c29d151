"""Content: a mail's head and body as they leave piece by piece, where they do not in one."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

from relay.smtp.data.send import DotStuffer
from relay.spool.spool import BodyReader
from relay.upstream.batch import Batch
from relay.upstream.sender.outflow import Outflow
from relay.upstream.sender.passage import Passage

PIECE = 256 * 1024
"""Octets that are read, and leave, at once."""


class Content:
    """Raw as BDAT wants it (`raw`), else stuffed, the end of DATA being a piece of its own.

    complete  whether everything was handed out
    """

    def __init__(self, batch: Batch, *, raw: bool) -> None:
        self.complete = False
        self._reader: BodyReader = _InMemory(batch.body) if isinstance(batch.body, bytes) else batch.body
        self._head = batch.head
        self._due = batch.octets
        self._stuffer = None if raw else DotStuffer()

    async def next(self) -> bytes:
        """The next piece to write. Fails as the reader does, and with ValueError if the body has not its size."""
        piece = self._head + await self._reader.read(PIECE)
        self._head = b""
        self._due -= len(piece)
        if self._due < 0 or (self._due and not piece):
            raise ValueError(f"the body does not have the {self._reader.size} octets that it should have")
        if self._stuffer is None:
            self.complete = not self._due
            return piece
        if piece:
            return self._stuffer.stuff(piece)
        self.complete = True
        return self._stuffer.end()

    def close(self) -> None:
        """Give the body back."""
        self._reader.close()


async def pour(
    content: Content, job: Passage, write: Callable[[bytes], int], outflow: Outflow, watch: Callable[[], None]
) -> None:
    """Write all of it, each piece when the one before has left; `watch` is called whenever the next wait begins."""
    try:
        while not (content.complete or job.over):
            job.ours = True
            octets = await content.next()
            job.ours = False
            if job.over:
                return
            written = write(octets)
            if content.complete:
                job.end = written
            watch()
            emptied = outflow.emptied()
            if emptied is not None and not content.complete:
                await emptied
    finally:
        content.close()


class _InMemory:
    """A BodyReader of octets that are there."""

    def __init__(self, octets: bytes) -> None:
        self.size = len(octets)
        self._octets = octets
        self._at = 0

    def read(self, octets: int) -> Deferred[bytes]:
        piece = self._octets[self._at : self._at + octets]
        self._at += len(piece)
        return succeed(piece)

    def close(self) -> None:
        self._octets = b""
