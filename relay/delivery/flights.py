"""Flights: which mails are under way, in a file that survives the process, so that a poisonous one is found out.

A small file mapped into memory and never synced: a kill leaves the page cache. It is written in the reactor's thread,
and a page of a file on a disk that hangs cannot be written; so it lies in a file system that has no disk, where there
is one. Whoever was under way when the process
died without a word is suspected once more at the next start; three times, and it is held instead of being tried.
Written down beside each is when it was begun, and in the file's head when the process was last alive: a mail counts
only if the end came soon after its beginning.

Failure: where the file cannot be had, nobody is suspected.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator
from mmap import mmap
from pathlib import Path

SUSPECTED = 3
"""Ends in a row during which a mail was under way, and then it is held."""

SOON = 60.0
"""Seconds from a mail's beginning within which such an end speaks against it."""

MEMORY = Path("/dev/shm")  # noqa: S108  # what is another's there, or a link, is not opened

_MAGIC = b"mrfly001"
_HEAD = struct.Struct("<8sd")
_SLOT = struct.Struct("<qdq")  # key, begun (0: not under way), how often suspected
_SLOTS = 4096


def places(spool: Path, memory: Path = MEMORY) -> Iterator[Path]:
    """Where the file of the spool in that folder may be, the best place first. Raises OSError."""
    found = spool.stat()
    yield memory / f"mailrelay-{found.st_dev:x}-{found.st_ino:x}"
    yield spool / "flights"


class Flights:
    """See the module's docstring. `now` is on the spool's scale.

    Raises OSError where the file cannot be made or mapped.

    come_alone  whether suspects come into memory one by one
    """

    come_alone = False

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._now = now
        size = _HEAD.size + _SLOTS * _SLOT.size
        self._path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(descriptor).st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "it is somebody else's")
            os.posix_fallocate(descriptor, 0, size)  # a hole that cannot be filled would kill us when it is written
            self._map = mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self.suspects: dict[int, int] = {}
        self._slots: dict[int, int] = {}
        self._flying: dict[int, int] = {}
        self._free: list[int] = []
        self._read()
        self.beat()

    def suspected(self, key: int) -> bool:
        """Whether this mail is to be held instead of being tried."""
        return self.suspects.get(key, 0) >= SUSPECTED

    def begin(self, key: int) -> None:
        """A transaction of this mail begins."""
        flying = self._flying.get(key, 0)
        self._flying[key] = flying + 1
        if flying:
            return
        slot = self._slots.get(key)
        if slot is None:
            if not self._free:
                return
            slot = self._slots[key] = self._free.pop()
        _SLOT.pack_into(self._map, slot, key, self._now(), self.suspects.get(key, 0))

    def end(self, key: int) -> None:
        """A transaction of this mail is over, whatever came of it, and its outcome is durable."""
        flying = self._flying.get(key, 0) - 1
        if flying > 0:
            self._flying[key] = flying
            return
        self._flying.pop(key, None)
        slot = self._slots.get(key)
        if slot is None:
            return
        suspected = self.suspects.get(key, 0)
        if suspected:
            _SLOT.pack_into(self._map, slot, key, 0.0, suspected)
        else:
            self._clear(key, slot)

    def forget(self, key: int) -> None:
        """This mail is no more, or a person has seen to it."""
        if self.suspects and self.suspects.pop(key, 0) and (slot := self._slots.get(key)) is not None:
            self._clear(key, slot)

    def beat(self) -> None:
        """The process is alive; to be said about every second."""
        _HEAD.pack_into(self._map, 0, _MAGIC, self._now())

    def close(self) -> None:
        """The end that was meant. Where nothing is to be remembered the file goes."""
        self._map.close()
        if not self._slots:
            self._path.unlink(missing_ok=True)

    def _clear(self, key: int, slot: int) -> None:
        del self._slots[key]
        _SLOT.pack_into(self._map, slot, 0, 0.0, 0)
        self._free.append(slot)

    def _read(self) -> None:
        magic, alive = _HEAD.unpack_from(self._map, 0)
        for number in range(_SLOTS):
            slot = _HEAD.size + number * _SLOT.size
            key, begun, suspected = _SLOT.unpack_from(self._map, slot)
            sound = magic == _MAGIC and key > 0 and 0 <= suspected < SUSPECTED + 1
            if sound and begun and alive - begun <= SOON:  # begun last, if it ended before it said that it lived
                suspected += 1
            if not sound or not suspected or key in self._slots:
                _SLOT.pack_into(self._map, slot, 0, 0.0, 0)
                self._free.append(slot)
                continue
            self.suspects[key] = suspected
            self._slots[key] = slot
            _SLOT.pack_into(self._map, slot, key, 0.0, suspected)
