"""Opening: the control socket comes into being, where a crash may have left the one before it."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from twisted.internet.interfaces import IListeningPort, IReactorUNIX

from relay.control.channel import ControlFactory

MODE = 0o600


def open_socket(reactor: IReactorUNIX, path: Path, factory: ControlFactory) -> IListeningPort:
    """Listen at `path`, in place of a socket there at which nobody listens. Raises OSError and CannotListenError."""
    if _is_in_use(path):
        raise OSError("another daemon answers there: give this one another spool.directory")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        path.unlink()
    return reactor.listenUNIX(os.fspath(path), factory, mode=MODE)


def _is_in_use(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return False
    return True
