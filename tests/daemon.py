"""A program of ours as a real process, its output read as it comes, and peers for it."""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import socket
import subprocess
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

CHECKOUT = Path(__file__).resolve().parent.parent

_LISTENERS = range(10_000, 32_768)  # below those that Linux gives to connections (ip_local_port_range)
_CHANCE = random.SystemRandom()

PATIENCE = 60.0
"""Seconds after which a line or an end that is due is not coming any more."""


def free_port(family: socket.AddressFamily = socket.AF_INET) -> int:
    """A port of the loopback address on which nobody listens just now, and which no connection is given meanwhile."""
    while True:
        port = _CHANCE.choice(_LISTENERS)
        with socket.socket(family) as probe, suppress(OSError):
            probe.bind(("::1" if family is socket.AF_INET6 else "127.0.0.1", port))
            return port


class Daemon:
    """A process in `folder`; what it writes on either of its outputs is read line by line.

    errors  every line that came on file descriptor 2 so far
    output  every line that came on file descriptor 1
    """

    def __init__(
        self, command: Sequence[str | Path], folder: Path, environ: Mapping[str, str], inherits: Collection[int] = ()
    ) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=inherits,
            start_new_session=True,  # so that it ends with all that it has started
        )
        self.errors: list[str] = []
        self.output: list[str] = []
        self._unclaimed: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(stream, kept), daemon=True)
            for stream, kept in ((self.process.stdout, self.output), (self.process.stderr, self.errors))
        ]
        self._open = len(self._readers)
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[bytes], kept: list[str]) -> None:
        with stream:
            for octets in stream:
                line = octets.decode().rstrip("\n")
                kept.append(line)
                self._lines.put(line)
        self._lines.put(None)

    def line(self, part: str) -> str:
        """The first line that holds `part` and was not asked for before, waited for if need be.

        AssertionError, with all the other lines, if the process ends without it or says nothing more.
        """
        for number, line in enumerate(self._unclaimed):
            if part in line:
                return self._unclaimed.pop(number)
        while self._open:
            try:
                new = self._lines.get(timeout=PATIENCE)
            except queue.Empty:
                break
            if new is None:
                self._open -= 1
            elif part in new:
                return new
            else:
                self._unclaimed.append(new)
        raise AssertionError("\n".join((f"no line with {part!r} came, but:", *self._unclaimed)))

    def event(self, name: str) -> dict[str, Any]:
        """The next line of the JSON log that tells of the event `name`."""
        entry: dict[str, Any] = json.loads(self.line(f'"event":"{name}"'))
        return entry

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit status after that signal, negative where the signal itself was the end."""
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
