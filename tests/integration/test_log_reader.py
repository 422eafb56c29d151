"""Whoever reads the log stops reading, or goes away: mail flows on."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.daemon import PATIENCE
from tests.running import Reachable, Unread, letter, soon
from tests.sink import Sink


@pytest.fixture
def sink() -> Iterator[Sink]:
    """The provider."""
    with Sink() as sink:
        yield sink


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
    with Unread(tmp_path, [sink.table()]) as relay:
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
    with Unread(tmp_path, [sink.table()]) as relay:
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
    with Unread(tmp_path, [sink.table()]) as relay:
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
    with Unread(tmp_path, [sink.table()]) as relay:
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
