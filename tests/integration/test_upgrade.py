"""A daemon takes the place of another one while applications send: somebody else holds the socket, as systemd does."""

from __future__ import annotations

import os
import shutil
import smtplib
import socket
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests import handing_over
from tests.daemon import PATIENCE, Daemon
from tests.running import COMMAND, configure, given, letter, soon
from tests.sink import Sink

LIVES = int(os.environ.get("MAILRELAY_UPGRADES", "3"))
HANDING_OVER = [sys.executable, str(Path(handing_over.__file__))]


class Application(threading.Thread):
    """Sends each mail over a connection of its own until `over`, each again until it is taken.

    taken    the ids under which they were
    refused  connections that could not be made
    """

    def __init__(self, port: int, over: threading.Event) -> None:
        super().__init__()
        self.taken: list[str] = []
        self.refused = 0
        self._port = port
        self._over = over

    def run(self) -> None:
        """Send."""
        while not self._over.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self._port, "app.example", timeout=PATIENCE) as client:
                    client.ehlo()
                    self.taken.append(given(client, letter("mail")))
            except ConnectionRefusedError:
                self.refused += 1
            except (OSError, smtplib.SMTPException):
                continue  # 421, since it stops


@pytest.mark.needs("systemd-socket-activate")
def test_upgrades_under_load(tmp_path: Path) -> None:
    """No connection is refused; what was taken arrives, and arrives once."""
    activate = shutil.which("systemd-socket-activate")
    assert activate is not None
    over = threading.Event()
    with Sink() as sink, socket.create_server(("127.0.0.1", 0)) as held:
        configure(tmp_path, [sink.table()], {"smtp": {"listen": ["systemd:domain=INET:name=smtp"]}})
        command = [*HANDING_OVER, f"smtp=held:{held.fileno()}", "--", activate, "--fdname=smtp", *COMMAND]
        applications = [Application(held.getsockname()[1], over) for _ in range(4)]
        for each in applications:
            each.start()
        try:
            for _ in range(LIVES):
                with Daemon(command, tmp_path, os.environ, [held.fileno()]) as relay:
                    relay.event("started")
                    sink.wait_for(len(sink.mails) + 100)
                    relay.stop()
        finally:
            over.set()
        with Daemon(command, tmp_path, os.environ, [held.fileno()]):
            for each in applications:
                each.join(PATIENCE)
            taken = [uuid for each in applications for uuid in each.taken]
            soon(lambda: len(sink.mails) >= len(taken), "all are delivered")
        copies = Counter(mail.id for mail in sink.mails)

    assert [each.refused for each in applications] == [0] * len(applications)
    assert set(copies) == set(taken)
    assert set(copies.values()) == {1}
