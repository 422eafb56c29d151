"""Leave: a mail goes into the drop folder, for the daemon to take when it runs.

It is durable before this command ends: octets and name. The folder lets its users write and not read, so the name is
made durable by way of the file's own descriptor.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress

from relay.drop.form import Head, checksum, dump
from relay.sendmail.smtp import Mail
from relay.smtp.grammar.paths import PathError, parse

MODE = 0o640
"""The group reads: the folder gives each file its own, which is the daemon's."""


def fault(mail: Mail) -> str:
    """Why the daemon would not take this mail; "" if it will."""
    if b"\0" in mail.content:
        return "the message holds a NUL octet"
    return fault_of_address(mail.sender) if mail.sender else ""


def fault_of_address(address: str) -> str:
    """Why the daemon would not take this address; "" if it will."""
    try:
        parse(address.encode("utf-8", "surrogateescape"))
    except PathError as error:
        return f"{address.encode('ascii', 'backslashreplace').decode()}: {error}"
    return "" if address else "an address is empty"


def leave(folder: str, mail: Mail, recipients: Sequence[str]) -> None:
    """Write the mail into `folder`. Raises OSError, and then it is not there."""
    content = mail.content
    head = Head(mail.sender, tuple(recipients), mail.notify, mail.ret, mail.envid, len(content), checksum(content))
    name = f"{time.time_ns()}.{os.getpid()}.{os.urandom(8).hex()}"
    part, whole = f"{folder}/{name}.part", f"{folder}/{name}.mail"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
    try:
        os.fchmod(descriptor, MODE)  # whatever the umask
        _write(descriptor, dump(head))
        _write(descriptor, content)
        os.fsync(descriptor)
        os.rename(part, whole)  # noqa: PTH104  pathlib takes as long to import as all else here
        part = whole
        _sync_file_system(descriptor)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)  # noqa: PTH108  the same
        raise
    finally:
        os.close(descriptor)


def _write(descriptor: int, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_file_system(descriptor: int) -> None:
    """syncfs(2), which Python does not have; where it cannot be called everything is synced."""
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        syncfs = libc.syncfs
    except (ImportError, AttributeError):
        os.sync()
        return
    if syncfs(descriptor):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
