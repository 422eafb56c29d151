"""Wal: SQLite's write-ahead log, where it failed or is damaged (SQLite's file format, 4: the WAL format).

A commit whose sync failed is none, but its frames stand in the log, whole, and after a kill SQLite would take them for
one. So they are cut off.

SQLite believes in such a log up to the first frame whose checksum is wrong, and would write over what stands behind.
Behind it may stand commits that were acknowledged. A power cut leaves at most one commit that is not whole, the last:
each is synced before the next begins. So two or more of them behind a wrong frame are damage.
"""

from __future__ import annotations

import os
import shutil
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_HEADER = 32
_FRAME = 24
_MOST = 1 << 26  # pages of a database whose size nobody knows any more
_LAST_FRAME = 16  # where the log's index (-shm) has the number of the last committed one: WalIndexHdr.mxFrame
_COPIED = 96  # and of the last one that was copied into the database: WalCkptInfo.nBackfill


class Frame(NamedTuple):
    """One frame: its number from 1, the page it holds, the pages of the database if it ends a commit (else 0)."""

    number: int
    page: int
    commit: int
    offset: int


def wal_of(path: Path) -> Path:
    """The log of the database at `path`."""
    return path.with_name(f"{path.name}-wal")


class Tail:
    """What stands in the log of the open database at `path` behind its last commit.

    To be closed after the last connection: that gives up every lock that SQLite has on the index (fcntl(2)).
    """

    def __init__(self, path: Path, page_size: int) -> None:
        self._wal = wal_of(path)
        self._page_size = page_size
        self._index = os.open(path.with_name(f"{path.name}-shm"), os.O_RDONLY | os.O_CLOEXEC)

    def cut(self) -> None:
        """Take it away, as far as the disk lets us. Only for the thread that writes, while no transaction is open."""
        with suppress(OSError):
            last = int.from_bytes(os.pread(self._index, 4, _LAST_FRAME), sys.byteorder)
            end = _HEADER + last * (_FRAME + self._page_size)
            if self._wal.stat().st_size > end:
                os.truncate(self._wal, end)

    def close(self) -> None:
        """Give the index back."""
        os.close(self._index)


def damage_of(path: Path, page_size: int) -> str:
    """What is wrong with the log of the database at `path`, which SQLite has just read; "" if nothing is."""
    wal, index = wal_of(path), path.with_name(f"{path.name}-shm")
    if not wal.is_file() or wal.stat().st_size <= _HEADER:
        return ""
    with wal.open("rb") as log:
        header = log.read(_HEADER)
    if any(header) and not _is_header(header):
        return "its log does not begin as one"
    if not index.is_file():
        return ""
    seen, _ = _index(index)
    unseen = [frame for frame in _frames(path, page_size) if frame.commit and frame.number > seen]
    return "commits stand in its log behind a damaged frame" if len(unseen) > 1 else ""


def is_short(path: Path, page_size: int) -> bool:
    """Whether frames are gone that the index knows and the database does not have. Before SQLite reads any of it."""
    wal, index = wal_of(path), path.with_name(f"{path.name}-shm")
    if not index.is_file():
        return False
    last, copied = _index(index)
    there = wal.stat().st_size if wal.is_file() else 0
    return copied < last and there < _HEADER + last * (_FRAME + page_size)


def _index(index: Path) -> tuple[int, int]:
    """The number of the last committed frame, and of the last one that was copied into the database."""
    with index.open("rb") as octets:
        head = octets.read(_COPIED + 4)
    last, copied = (int.from_bytes(head[at : at + 4], sys.byteorder) for at in (_LAST_FRAME, _COPIED))
    return last, copied


def apply(path: Path, copy: Path, page_size: int) -> None:
    """Make `copy` of the database at `path`, with every commit of its log, whatever the checksums say.

    Where the database is gone, of what stands in the log alone.
    """
    copy.write_bytes(b"")
    if path.is_file():
        shutil.copyfile(path, copy)
    frames = list(_frames(path, page_size))
    while frames and not frames[-1].commit:
        frames.pop()
    if not frames:
        return
    with wal_of(path).open("rb") as log, copy.open("r+b") as file:
        for frame in frames:
            log.seek(frame.offset)
            file.seek((frame.page - 1) * page_size)
            file.write(log.read(page_size))
        file.truncate(frames[-1].commit * page_size)


def _frames(path: Path, page_size: int) -> Iterator[Frame]:
    """The frames since the log was begun anew; those of an older round bear other salts."""
    wal = wal_of(path)
    if not wal.is_file():
        return
    there = path.stat().st_size if path.is_file() else 0
    most = (there + wal.stat().st_size) // page_size + 1 if there else _MOST
    with wal.open("rb") as log:
        header = log.read(_HEADER)
        salts = header[16:24] if _is_header(header) else log.read(_FRAME)[8:16]
        number, offset = 1, _HEADER
        while True:
            log.seek(offset)
            frame = log.read(_FRAME)
            if len(frame) < _FRAME:
                return
            page, commit = int.from_bytes(frame[:4], "big"), int.from_bytes(frame[4:8], "big")
            if frame[8:16] == salts and 0 < page <= most and commit <= most:
                yield Frame(number, page, commit, offset + _FRAME)
            number, offset = number + 1, offset + _FRAME + page_size


def _is_header(octets: bytes) -> bool:
    magic = octets[:4]
    if len(octets) < _HEADER or magic not in (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"):
        return False
    words = struct.unpack(">6I" if magic[3] & 1 else "<6I", octets[:24])
    one = two = 0
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return octets[24:] == struct.pack(">2I", one, two)
