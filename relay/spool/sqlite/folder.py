"""Folder: the spool's directory, who may read it, and whose it is at present."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from relay.spool.bodies import sync_folder
from relay.spool.spool import SpoolError

DATABASE = "spool.sqlite"
BODIES = "bodies"


class Names:
    """Names of open files, and whether they still lead to them: what is written into a removed file nobody finds."""

    def __init__(self, *paths: Path) -> None:
        self._known = [(path, _identity(path)) for path in paths]

    @property
    def trouble(self) -> str:
        """Which of them is not what it was; "" if all are. Looks at the disk."""
        for path, known in self._known:
            if _identity(path) != known:
                return f"{path} was removed or replaced: put it back, or start mailrelay again"
        return ""


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def prepare(directory: Path) -> None:
    """Make `directory` and what it holds ours alone: 0700, files 0600, whatever the umask. Raises SpoolError."""
    try:
        missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
        directory.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent)
        (directory / BODIES).mkdir(exist_ok=True)
        for folder in (directory, directory / BODIES):
            folder.chmod(0o700)
        for suffix in ("", "-wal", "-shm"):
            file = directory / f"{DATABASE}{suffix}"
            if file.is_file() and not file.is_symlink():
                file.chmod(0o600)
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(13, "it is not writable")
        sync_folder(directory)
    except OSError as error:
        raise SpoolError(f"the spool directory {directory} cannot be used: {error.strerror or error}") from error


def take(directory: Path) -> int:
    """Lock the spool for this process; the descriptor holds it. Raises SpoolError that names who has it."""
    path = directory / "lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SpoolError(f"{path} cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(lock).st_mode):
        os.close(lock)
        raise SpoolError(f"{path} cannot be opened: it is no file")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise SpoolError(
            f"the spool {directory} is in use by another daemon (pid {holder}): stop that one, or give this one "
            "another spool.directory"
        ) from error
    except OSError as error:
        os.close(lock)
        raise SpoolError(f"{path} cannot be locked: {error.strerror}") from error
    os.fchmod(lock, 0o600)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


class Reserve:
    """Octets set aside on the volume, given back when it is full so that outcomes can still be written."""

    def __init__(self, path: Path, octets: int) -> None:
        self.octets = octets
        self._path = path
        self._held = octets > 0 and path.is_file() and path.stat().st_size == octets
        if not self._held:
            with suppress(OSError):  # else it is no file, and there is no reserve
                path.unlink()  # of another size, as of another min_free

    def keep(self) -> None:
        """Set them aside, if they are not; without a word where there is no room."""
        if self._held or not self.octets:
            return
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.fchmod(file, 0o600)
                os.posix_fallocate(file, 0, self.octets)
                self._held = True
            finally:
                os.close(file)
        except OSError:
            with suppress(OSError):
                self._path.unlink()

    def release(self) -> bool:
        """Give them back; whether there were any."""
        held, self._held = self._held, False
        if held:
            self._path.unlink(missing_ok=True)
        return held
