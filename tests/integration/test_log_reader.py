"""Whoever reads the log stops reading, or goes away: mail flows on."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil
import pytest

from tests.daemon import PATIENCE, free_port
from tests.running import COMMAND, Reachable, configure, letter, soon
from tests.sink import Sink

PIPE = 4096


class Unread(Reachable):
    """A daemon whose file descriptor 2 is a pipe of 4 KiB. Only a test that reads `log` reads it."""

    def __init__(self, folder: Path, smtp: int, http: int) -> None:
        self.smtp, self.http = smtp, http
        out, into = os.pipe()
        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE)
        self.log: IO[bytes] = os.fdopen(out, "rb")
        self.process = subprocess.Popen(COMMAND, cwd=folder, stdout=subprocess.DEVNULL, stderr=into)
        os.close(into)

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.health()["status"] == "ok")
        except OSError:
            return False

    def stop(self) -> int:
        """Its status after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@pytest.fixture
def sink() -> Iterator[Sink]:
    """The provider."""
    with Sink() as sink:
        yield sink


@contextmanager
def unread(folder: Path, sink: Sink) -> Iterator[Unread]:
    """A daemon that is up, and whose log nobody reads."""
    smtp, http = free_port(), free_port()
    listen = {name: {"listen": [f"tcp:{port}:interface=127.0.0.1"]} for name, port in (("smtp", smtp), ("http", http))}
    configure(folder, [sink.table()], listen)
    relay = Unread(folder, smtp, http)
    try:
        soon(relay.is_up, "it is up")
        yield relay
    finally:
        relay.process.kill()
        relay.process.wait(PATIENCE)
        relay.log.close()


def seconds_for_health(relay: Reachable) -> float:
    """How long /health takes, as a rule."""
    seconds = []
    for _ in range(11):
        began = time.monotonic()
        relay.health()
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds)


def test_nobody_reads(tmp_path: Path, sink: Sink) -> None:
    """500 mails are taken and delivered, /health answers at once; what is read later is whole lines, none torn."""
    with unread(tmp_path, sink) as relay:
        ids = relay.submit(*[letter(f"mail-{number}") for number in range(500)])
        sink.wait_for(500)
        seconds = seconds_for_health(relay)
        soon(lambda: relay.health()["queue"]["total"] == 0, "all of it is settled")
        relay.process.terminate()
        entries = [json.loads(line) for line in relay.log]
        status = relay.process.wait(PATIENCE)

    assert seconds < 0.1
    assert {entry["id"] for entry in entries if entry["event"] == "finished"} == set(ids)
    assert entries[-1]["event"] == "stopped"
    assert status in (0, -15)


def test_nobody_reads_to_the_end(tmp_path: Path, sink: Sink) -> None:
    """The stop does not wait for a reader either."""
    with unread(tmp_path, sink) as relay:
        relay.submit(*[letter(f"mail-{number}") for number in range(50)])
        began = time.monotonic()
        status = relay.stop()
        seconds = time.monotonic() - began

    assert status in (0, -15)
    assert seconds < 10
    assert len(sink.mails) == 50


def test_nobody_reads_for_very_long(tmp_path: Path, sink: Sink) -> None:
    """Past 1 MiB lines are dropped, counted, and said to be, once somebody reads."""
    to = [f"{'r' * 190}{number}@example.net" for number in range(3)]
    with unread(tmp_path, sink) as relay:
        with relay.client() as client:
            for number in range(1100):
                client.sendmail("a@example.com", to, letter(f"mail-{number}"))
        soon(lambda: relay.health()["queue"]["total"] == 0, "all of it is delivered")
        relay.process.terminate()
        entries = [json.loads(line) for line in relay.log]

    dropped = [entry["message"] for entry in entries if entry["event"] == "warning" and "dropped" in entry["message"]]
    assert len(sink.mails) == 1100
    assert dropped
    said = {entry["event"] for entry in entries}
    assert {"started", "received"} <= said


def test_the_reader_is_gone(tmp_path: Path, sink: Sink) -> None:
    """A closed pipe kills nobody and keeps nobody busy."""
    with unread(tmp_path, sink) as relay:
        relay.log.close()
        relay.submit(*[letter(f"mail-{number}") for number in range(200)])
        soon(lambda: relay.health()["queue"]["total"] == 0, "all of it is delivered")
        process = psutil.Process(relay.process.pid)
        before, began = process.cpu_times(), time.monotonic()
        soon(lambda: time.monotonic() - began > 1, "a second has passed")
        after = process.cpu_times()
        status = relay.stop()

    assert len(sink.mails) == 200
    assert after.user + after.system - before.user - before.system < 0.5
    assert status in (0, -15)
