"""Bodies: large bodies in pieces, each a row of its own, streamed in and out.

While one comes in, a row of `upload` says whose it is; the commit that takes its mail deletes that row, and only with
that row do pieces go that nobody wants.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from twisted.internet.defer import Deferred

from relay.spool.arriving import Memory, WritingBody
from relay.spool.background import Background
from relay.spool.postgresql.server import Connection
from relay.spool.postgresql.sessions import Sessions
from relay.spool.spool import Damaged, SpoolFailing

PIECE = 256 * 1024
"""Octets in each piece but the last."""

_BEGIN = "INSERT INTO upload (body, process) SELECT %s, id FROM process WHERE id = %s"
_PUT = "INSERT INTO piece (body, number, octets) VALUES (%s, %s, %b)"
_DROP = (
    "WITH u AS (DELETE FROM upload WHERE body = %s RETURNING body) "
    "DELETE FROM piece WHERE body = ANY (ARRAY(SELECT body FROM u))"
)
_GET = "SELECT octets FROM piece WHERE body = %s AND number = %s"


class Bodies:
    """Those of the mails in a queue. Errors: SpoolFull, SpoolFailing, and Damaged for what is not as acknowledged."""

    def __init__(self, sessions: Sessions, background: Background) -> None:
        self._sessions = sessions
        self._background = background
        self._memory = Memory()
        self._left: list[int] = []  # those that could not be dropped yet

    def new(self, number: int, process: Callable[[], int]) -> WritingBody:
        """A body on its way in, under a number that no other one has."""
        if self._left:
            self._background.call(self._drop, [self._left.pop() for _ in range(len(self._left))])
        place = Pieces(self._sessions, number, process, self._left.append)
        return WritingBody(place, self._background, self._memory)

    def open(self, number: int, size: int, crc: int) -> Deferred[ReadingBody]:
        """The body under that number, once it was found to have `size` octets and the CRC-32 `crc`."""
        return self._background.call(self._verified, number, size, crc)

    def _drop(self, numbers: list[int]) -> None:
        for number in numbers:
            try:
                self._sessions.ask("a large body cannot be dropped", _execute, _DROP, number)
            except SpoolFailing:
                self._left.append(number)

    def _verified(self, number: int, size: int, crc: int) -> ReadingBody:
        found, found_crc, place = 0, 0, 0
        while piece := self._sessions.ask("a large body cannot be read", _piece, number, place):
            found, found_crc, place = found + len(piece), crc32(piece, found_crc), place + 1
        if found != size or found_crc != crc:
            raise Damaged(f"its body is not what was acknowledged: {found} of {size} octets, or other ones")
        return ReadingBody(self._sessions, self._background, number, size)


class Pieces:
    """The Place of one body."""

    def __init__(self, sessions: Sessions, body: int, process: Callable[[], int], left: Callable[[int], None]) -> None:
        self._left = left
        self.crc = 0
        self.body = body
        self._sessions = sessions
        self._process = process
        self._number = 0
        self._begun = False
        self._waiting = bytearray()

    def put(self, pieces: list[bytes]) -> None:
        """See Place."""
        for piece in pieces:
            self.crc = crc32(piece, self.crc)
            self._waiting += piece
        while len(self._waiting) >= PIECE:
            self._put(bytes(self._waiting[:PIECE]))
            del self._waiting[:PIECE]

    def keep(self, uuid: str) -> None:
        """See Place."""
        if self._waiting or not self._begun:
            self._put(bytes(self._waiting))
            self._waiting.clear()

    def drop(self) -> None:
        """See Place."""
        if self._begun:
            try:
                self._sessions.ask("a large body cannot be dropped", _execute, _DROP, self.body)
            except SpoolFailing:  # it goes before the next one comes in, or with the end of this process
                self._left(self.body)

    def _put(self, octets: bytes) -> None:
        what = "a large body could not be written"
        if not self._begun:
            if not self._sessions.ask(what, _execute, _BEGIN, self.body, self._process()):
                raise SpoolFailing(f"{what}: this process is not registered at present")
            self._begun = True
        self._sessions.ask(what, _execute, _PUT, self.body, self._number, octets)
        self._number += 1


class ReadingBody:
    """A BodyReader of a body that was checked."""

    def __init__(self, sessions: Sessions, background: Background, body: int, size: int) -> None:
        self.size = size
        self._sessions = sessions
        self._background = background
        self._body = body
        self._number = 0
        self._rest = b""

    def read(self, octets: int) -> Deferred[bytes]:
        """See BodyReader."""
        return self._background.call(self._read, octets)

    def close(self) -> None:
        """See BodyReader."""
        self._rest = b""

    def _read(self, octets: int) -> bytes:
        if not self._rest:
            self._rest = self._sessions.ask("a large body could not be read", _piece, self._body, self._number)
            self._number += 1
        octets_, self._rest = self._rest[:octets], self._rest[octets:]
        return octets_


def _execute(connection: Connection, statement: str, *values: object) -> int:
    return connection.execute(statement.encode(), values).rowcount


def _piece(connection: Connection, body: int, number: int) -> bytes:
    row = connection.execute(_GET, (body, number), binary=True).fetchone()
    return b"" if row is None else bytes(row[0])
