"""Daemon: how a command asks the daemon, over the control socket in the spool's directory."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from relay.cli.configuration import located, read
from relay.cli.terminal import complain
from relay.config import ConfigErrors
from relay.config.check import CONTROL_SOCKET
from relay.sendmail.settings import of_file

FAILED, USAGE, NO_DAEMON = 1, 2, 3
"""Exit statuses."""

_CONNECT = 10.0


class Asking:
    """One request and its answer, which comes in pieces: iterate over them. `done` is what came last."""

    def __init__(self, config: Path | None, command: str, **said: object) -> None:
        self.done: dict[str, Any] = {}
        self._request = {"command": command, **{key: value for key, value in said.items() if value is not None}}
        self._socket = _connected(_socket_path(config))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self._socket, self._socket.makefile("rb") as stream:
            try:
                self._socket.sendall(json.dumps(self._request).encode() + b"\n")
                for line in stream:
                    piece = json.loads(line)
                    if "failed" in piece:
                        complain(f"Error: {piece['failed']}")
                        sys.exit(FAILED)
                    if "done" in piece:
                        self.done = piece["done"]
                        return
                    yield piece
            except OSError as error:
                complain(f"Error: the daemon was lost: {error.strerror or error}")
                sys.exit(NO_DAEMON)
        complain("Error: the daemon ended before its answer was complete")
        sys.exit(NO_DAEMON)

    def all(self) -> Mapping[str, Any]:
        """What comes last, where nothing comes before it."""
        for _ in self:
            pass
        return self.done


def _socket_path(config: Path | None) -> Path:
    """Where the daemon answers. A configuration of which this user may not read every secret will do."""
    try:
        return read(config).spool.directory / CONTROL_SOCKET
    except ConfigErrors as errors:
        with suppress(OSError, ValueError, RecursionError):
            return Path(of_file(str(located(config))).control)
        complain(str(errors))
        sys.exit(FAILED)


def _connected(path: Path) -> socket.socket:
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(_CONNECT)
    try:
        link.connect(str(path))
    except PermissionError:
        complain(f"Error: only the daemon's user and root may ask it ({path})")
        sys.exit(FAILED)
    except OSError as error:
        complain(f"Error: no daemon answers at {path}: {error.strerror or error}")
        sys.exit(NO_DAEMON)
    link.settimeout(None)
    return link
