"""HAProxy: Debian's, as a process in front of daemons, with a configuration of a test's own."""

from __future__ import annotations

import csv
import os
import socket
from pathlib import Path

from tests.daemon import PATIENCE, Daemon
from tests.running import soon


class HAProxy(Daemon):
    """See the module's docstring. `configuration` needs no `global` section: that is written here."""

    def __init__(self, folder: Path, configuration: str) -> None:
        self._admin = folder / "admin"
        file = folder / "haproxy.cfg"
        file.write_text(f"global\n    stats socket {self._admin} level admin\n{configuration}")
        super().__init__(["haproxy", "-db", "-f", file], folder, os.environ)
        try:
            soon(self._answers, "HAProxy answers")
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def states(self) -> dict[str, str]:
        """UP or DOWN (or on the way there) of each server, by name."""
        rows = csv.DictReader(self._ask("show stat").removeprefix("# ").splitlines())
        return {row["svname"]: row["status"] for row in rows if row["svname"] not in ("FRONTEND", "BACKEND")}

    def await_state(self, server: str, state: str) -> None:
        """Wait until it says so of that server."""
        soon(lambda: self.states()[server] == state, f"{server} is {state}")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.errors
        try:
            return bool(self.states())
        except OSError:
            return False

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(PATIENCE)
            asking.connect(str(self._admin))
            asking.sendall(f"{command}\n".encode())
            answer = b""
            while piece := asking.recv(65536):
                answer += piece
        return answer.decode()
