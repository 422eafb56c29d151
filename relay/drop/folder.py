"""Folder: what lies in the drop folder, looked at with suspicion, since every user of the host may write there.

Opened is only what is a regular file with one name, and never by way of a link. What is no whole mail is left alone for
an hour, since somebody may still be writing it, and then set aside where only the daemon's user looks. All calls wait
for the disk: none is for the reactor's thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from relay.drop.form import LONGEST_HEAD, Head, Malformed, checksum, load

MODE = 0o3733
"""Anybody may leave a mail, nobody may list them or touch another user's, and each gets the folder's group."""

PATIENCE = 3600.0
"""Seconds after which what is no whole mail will not become one."""

BELIEVED = 30 * 86400.0
"""Seconds that a mail may have lain there before the time of its file is taken for somebody's whim."""

PART = ".part"
"""How the name of a file ends that is still being written."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PIECE = 64 * 1024


class Leaf:
    """One whole mail: its first line, and its content, to be read from the beginning.

    owner  the user whose file it is
    at     when it was written, in seconds since the epoch, as far as that can be believed; else None
    """

    def __init__(
        self, name: str, head: Head, found: os.stat_result, descriptor: int, beginning: bytes, wall: float
    ) -> None:
        self.name = name
        self.head = head
        self.owner = found.st_uid
        self.at = found.st_mtime if 0 <= wall - found.st_mtime <= BELIEVED else None
        self.inode = found.st_ino
        self._descriptor = descriptor
        self._beginning = beginning
        self._crc = 0

    def read(self, octets: int) -> bytes:
        """The next piece, of about that many octets; b"" at the end. Raises Malformed if not all of it was right."""
        piece = self._beginning or os.read(self._descriptor, octets)
        self._beginning = b""
        self._crc = checksum(piece, self._crc)
        if not piece and self._crc != self.head.crc32:
            raise Malformed("its content is not what its first line says")
        return piece

    def close(self) -> None:
        """Give the file back."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something that is not taken: its name, why, and whether it was set aside."""

    name: str
    why: str
    aside: bool


class Folder:
    """The drop folder at `path`; what is set aside goes to `damaged`. `wall` gives seconds since the epoch.

    Raises OSError where it cannot be made, or is no folder for everybody to write to.
    """

    def __init__(self, path: Path, damaged: Path, wall: Callable[[], float]) -> None:
        self.path = path
        self._damaged = damaged
        self._wall = wall
        self._told: set[tuple[str, int]] = set()
        if path in damaged.parents:
            raise OSError(errno.EINVAL, "the spool is in it")
        path.mkdir(parents=True, exist_ok=True)
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        found = os.fstat(self._folder)
        if found.st_uid == os.geteuid():
            if found.st_gid != os.getegid():
                os.fchown(self._folder, -1, os.getegid())
            os.fchmod(self._folder, MODE)

    def mine(self) -> bool:
        """Whether this process empties the folder: of several daemons only one does, and another one when that ends."""
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let another daemon empty it."""
        os.close(self._folder)

    def names(self) -> list[str]:
        """What lies there, the oldest mail first, as far as names tell."""
        found = sorted(os.listdir(self._folder))  # noqa: PTH208  # pathlib knows no descriptors
        present = set(found)
        self._told = {(name, inode) for name, inode in self._told if name in present}
        return found

    def open(self, names: Iterable[str]) -> tuple[list[Leaf], list[Oddity]]:
        """The whole mails among `names`, and what is to be told of the others."""
        leaves: list[Leaf] = []
        oddities: list[Oddity] = []
        for name in names:
            try:
                leaves.append(self._leaf(name))
            except FileNotFoundError:
                continue
            except (OSError, Malformed) as error:
                oddities += self.doubt(name, str(error))
        return leaves, oddities

    def doubt(self, name: str, why: str) -> list[Oddity]:
        """A file that is no whole mail: set aside if it is old enough. What is to be told of it, each thing once."""
        try:
            found = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
        except OSError:
            return []
        if abs(self._wall() - found.st_mtime) > PATIENCE and self.set_aside(name):
            return [Oddity(name, why, aside=True)]
        if name.endswith(PART) or (name, found.st_ino) in self._told:
            return []
        self._told.add((name, found.st_ino))
        return [Oddity(name, why, aside=False)]

    def set_aside(self, name: str) -> bool:
        """Move it to where the operator finds it."""
        try:
            found = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
            self._damaged.mkdir(mode=0o700, exist_ok=True)
            to = self._damaged / f"drop-{found.st_uid}-{found.st_mtime_ns}-{os.urandom(4).hex()}"
            os.rename(name, to, src_dir_fd=self._folder)
        except OSError:
            return False
        return True

    def remove(self, files: Sequence[tuple[str, int]]) -> None:
        """Remove what was taken, each by name and inode; durable when this returns. Raises OSError."""
        for name, inode in files:
            with suppress(FileNotFoundError):
                if os.stat(name, dir_fd=self._folder, follow_symlinks=False).st_ino == inode:
                    os.unlink(name, dir_fd=self._folder)
        os.fsync(self._folder)

    def _leaf(self, name: str) -> Leaf:
        """The mail in a file. Raises Malformed, or OSError."""
        found = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
        _check(found)
        if name.endswith(PART):
            raise Malformed("it was not finished")
        descriptor = os.open(name, _READ, dir_fd=self._folder)
        try:
            opened = os.fstat(descriptor)
            _check(opened)
            if (opened.st_dev, opened.st_ino) != (found.st_dev, found.st_ino):
                raise Malformed("it was exchanged while it was looked at")
            line, beginning = _first_line(descriptor)
            head = load(line)
            if opened.st_size != len(line) + head.size:
                raise Malformed("it is shorter or longer than its first line says")
            return Leaf(name, head, opened, descriptor, beginning, self._wall())
        except BaseException:
            os.close(descriptor)
            raise


def _check(found: os.stat_result) -> None:
    """Raise Malformed unless it is a regular file with one name."""
    if not stat.S_ISREG(found.st_mode):
        raise Malformed("it is no regular file")
    if found.st_nlink != 1:
        raise Malformed("it has several names")


def _first_line(descriptor: int) -> tuple[bytes, bytes]:
    """The first line, and what was read behind it. Raises Malformed."""
    octets = b""
    while b"\n" not in octets:
        piece = os.read(descriptor, _PIECE)
        if not piece or len(octets) > LONGEST_HEAD:
            raise Malformed("it has no first line")
        octets += piece
    line, end, beginning = octets.partition(b"\n")
    return line + end, beginning
