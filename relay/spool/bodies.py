"""Bodies: large bodies, each in a file of its own, streamed in and out.

A body grows as `<random>.part`, is synced, renamed to its mail's uuid and the folder synced; only then may its row be
written. A file whose write or sync failed is removed and never trusted again.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from zlib import crc32

from twisted.internet.defer import Deferred

from relay.envelope import key_of
from relay.spool.arriving import Memory, WritingBody
from relay.spool.background import Background, failing
from relay.spool.spool import Damaged

_PIECE = 1024 * 1024
_PART = re.compile(r"[0-9a-f]{16}\.part")


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Bodies:
    """The files in `folder`. Errors: SpoolFull, SpoolFailing, and Damaged for what is not as it was acknowledged."""

    def __init__(self, folder: Path, background: Background, random_bits: Callable[[int], int]) -> None:
        self._folder = folder
        self._background = background
        self._random_bits = random_bits
        self._memory = Memory()

    def new(self) -> WritingBody:
        """A body on its way in."""
        return WritingBody(_File(self._folder / f"{self._random_bits(64):016x}.part"), self._background, self._memory)

    def open(self, uuid: str, size: int, crc: int) -> Deferred[ReadingBody]:
        """The body of the mail `uuid`, once it was found to have `size` octets and the CRC-32 `crc`."""
        return self._background.call(_verified, self._folder / uuid, size, crc, self._background)

    def remove(self, uuids: Iterable[str]) -> Deferred[None]:
        """Remove the bodies of mails that have ended. One that cannot be removed is left to the next start."""
        return self._background.call(_unlink, [self._folder / uuid for uuid in uuids])


def leftovers(folder: Path, known: Callable[[list[str]], set[str]]) -> tuple[list[Path], int]:
    """What a crash left in `folder`: parts, and bodies that are not among those `known`; and how many are known.

    Files that are not of our making are in neither.
    """
    parts, names = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False):
                continue
            if _PART.fullmatch(entry.name):
                parts.append(folder / entry.name)
            elif key_of(entry.name) is not None:
                names.append(entry.name)
    kept = known(names)
    return parts + [folder / name for name in names if name not in kept], len(kept)


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):  # the next start removes it
            path.unlink()


class _File:
    """The Place of one body: `part` until it is kept."""

    def __init__(self, part: Path) -> None:
        self.crc = 0
        self._path = part
        self._file = -1

    def put(self, pieces: list[bytes]) -> None:
        """See Place."""
        try:
            if self._file < 0:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                os.fchmod(self._file, 0o600)
            octets = b"".join(pieces)
            self.crc = crc32(octets, self.crc)
            rest = memoryview(octets)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            raise failing(error, "a large body could not be written") from error

    def keep(self, uuid: str) -> None:
        """See Place."""
        try:
            if self._file < 0:
                self.put([])
            os.fsync(self._file)
            file, self._file = self._file, -1
            os.close(file)
            whole = self._path.with_name(uuid)
            self._path.rename(whole)
            self._path = whole
            sync_folder(whole.parent)
        except OSError as error:
            raise failing(error, "a large body could not be made durable") from error

    def drop(self) -> None:
        """See Place."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        _unlink([self._path])


class ReadingBody:
    """A BodyReader of a file that is open and was checked."""

    def __init__(self, file: int, size: int, background: Background) -> None:
        self.size = size
        self._file = file
        self._background = background
        self._lock = Lock()

    def read(self, octets: int) -> Deferred[bytes]:
        """See BodyReader."""
        return self._background.call(self._read, octets)

    def close(self) -> None:
        """See BodyReader."""
        self._background.call(self._close).addErrback(lambda _: self._close())

    def _read(self, octets: int) -> bytes:
        with self._lock:
            try:
                return os.read(self._file, octets)
            except OSError as error:
                raise failing(error, "a large body could not be read") from error

    def _close(self) -> None:
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1


def _verified(path: Path, size: int, crc: int, background: Background) -> ReadingBody:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Damaged("the file of its body is missing") from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise Damaged("what should be its body is no file") from error
        raise failing(error, "a large body could not be opened") from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise Damaged("what should be its body is no file")
    try:
        found, found_crc = 0, 0
        while piece := os.read(file, _PIECE):
            found, found_crc = found + len(piece), crc32(piece, found_crc)
        os.lseek(file, 0, os.SEEK_SET)
    except OSError as error:
        os.close(file)
        raise failing(error, "a large body could not be read") from error
    if found != size or found_crc != crc:
        os.close(file)
        raise Damaged(f"its body is not what was acknowledged: {found} of {size} octets, or other ones")
    return ReadingBody(file, size, background)
