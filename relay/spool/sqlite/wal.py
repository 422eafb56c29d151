"""Wal: what is left of a write-ahead log of which a part is damaged (SQLite's file format, 4: the WAL format).

SQLite believes in such a log up to the first frame whose checksum is wrong, and would write over what stands behind.
Behind it may stand commits that were acknowledged. A power cut leaves at most one commit that is not whole, the last:
each is synced before the next begins. So two or more of them behind a wrong frame are damage.
"""

from __future__ import annotations

import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_HEADER = 32
_FRAME = 24


class Frame(NamedTuple):
    """One frame: its number from 1, the page it holds, the pages of the database if it ends a commit (else 0)."""

    number: int
    page: int
    commit: int
    offset: int


def wal_of(path: Path) -> Path:
    """The log of the database at `path`."""
    return path.with_name(f"{path.name}-wal")


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
    with index.open("rb") as octets:
        octets.seek(16)
        seen = int.from_bytes(octets.read(4), sys.byteorder)  # WalIndexHdr.mxFrame
    unseen = [frame for frame in _frames(path, page_size) if frame.commit and frame.number > seen]
    return "commits stand in its log behind a damaged frame" if len(unseen) > 1 else ""


def apply(path: Path, copy: Path, page_size: int) -> None:
    """Make `copy` of the database at `path`, with every commit of its log, whatever the checksums say."""
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
    most = (path.stat().st_size + wal.stat().st_size) // page_size + 1
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
