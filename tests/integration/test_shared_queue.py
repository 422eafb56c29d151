"""Several daemons, one queue: what each shows and does is the whole queue's, whoever has the mail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import PATIENCE, free_port
from tests.fleet import Fleet, postgresql
from tests.postgres import Servers
from tests.running import Settings, letter, soon
from tests.sink import Sink

MAILRELAY = Path(sys.executable).with_name("mailrelay")


@pytest.fixture
def dsn(postgresql_servers: Servers) -> str:
    """A database in which nothing is."""
    return postgresql_servers["pip"].new()


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A provider."""
    with Sink() as sink:
        yield sink


def queue(fleet: Fleet, name: str, *arguments: str) -> Any:
    """What a command of that instance prints, which must end well."""
    done = subprocess.run(
        [MAILRELAY, "queue", *arguments, "--json"],
        cwd=fleet.folder / name,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return json.loads(done.stdout)


def states(fleet: Fleet, name: str) -> dict[str, str]:
    """Of each mail that waits, as that instance sees it."""
    return {mail["id"]: mail["state"] for mail in queue(fleet, name, "list")}


def fleet_of(folder: Path, sink: Sink, dsn: str, settings: Settings | None = None) -> Fleet:
    """Two instances."""
    return Fleet(folder, ["a", "b"], [sink.table()], postgresql(dsn), settings)


def test_commands_act_on_the_whole_queue(tmp_path: Path, sink: Sink, dsn: str) -> None:
    """Also on mail that another instance has under way: it is changed as soon as that is over, and sent once."""
    sink.always(".", "451 4.7.1 Later")
    with fleet_of(tmp_path, sink, dsn, {"retry": {"schedule": ["1h"]}}) as fleet, sink.gate(".") as gate:
        fleet.start()
        (uuid,) = fleet.running["a"].submit(letter("first"))
        sink.wait_until_reached(".")
        soon(lambda: states(fleet, "b") == {uuid: "active"}, "the other one sees that it is under way")
        assert "another instance" in json.dumps(queue(fleet, "b", "why", uuid))
        timer = time.monotonic()
        gate_opens = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"])
        gate_opens.wait()
        gate.opened.set()
        done = queue(fleet, "b", "hold", uuid)
        assert done["mails"] == 1, done
        assert time.monotonic() - timer < 10

        assert states(fleet, "a") == states(fleet, "b") == {uuid: "held"}
        soon(lambda: fleet.running["a"].health()["queue"]["held"] == 1, "it counts as held")
        sink.usual(".")
        assert queue(fleet, "b", "release", uuid)["mails"] == 1
        soon(lambda: len(sink.mails) == 2, "it is sent")
        soon(fleet.is_settled, "nothing waits")
        assert fleet.finished() == {uuid: 1}
        assert fleet.errors() == []


def test_an_idle_instance_takes_what_waits(tmp_path: Path, sink: Sink, dsn: str) -> None:
    """No instance claims more than its workers can begin, so the other one has enough to do, within a second."""
    with fleet_of(tmp_path, sink, dsn, {"delivery": {"workers": 2}}) as fleet, sink.gate("."):
        fleet.start()
        fleet.running["a"].submit(*[letter(f"mail-{number}") for number in range(5)])
        began = time.monotonic()
        sink.wait_until_reached(".", 4)
        assert time.monotonic() - began < 1.5
        soon(
            lambda: (
                fleet.running["a"].health()["queue"]["active"] == fleet.running["b"].health()["queue"]["active"] == 4
            ),
            "both show all that is under way",
        )
        assert sorted(states(fleet, "b").values()) == ["active"] * 4 + ["ready"]
        assert fleet.running["b"].health()["queue"]["total"] == 5


def test_one_that_reaches_no_provider_hands_its_mail_on(tmp_path: Path, sink: Sink, dsn: str) -> None:
    """A provider is down for one instance: what that had begun with the other one sends, which reaches it."""
    with fleet_of(tmp_path, sink, dsn) as fleet:
        file = tmp_path / "a" / "relay.toml"
        file.write_text(file.read_text().replace(f"port = {sink.port}", f"port = {free_port()}"))
        fleet.start("a")
        uuids = fleet.running["a"].submit(*[letter(f"mail-{number}") for number in range(3)])
        fleet.await_event("a", "provider_down")
        fleet.start("b")
        assert {mail.id for mail in sink.wait_for(3, within=3.0)} == set(uuids)


def test_a_dot_that_is_marked_is_one_active_mail(tmp_path: Path, sink: Sink, dsn: str) -> None:
    """Where its crash would hold it, it is written down as held meanwhile; all show what it is."""
    providers = [sink.table(on_uncertain="hold")]
    with Fleet(tmp_path, ["a", "b"], providers, postgresql(dsn)) as fleet, sink.gate("."):
        fleet.start()
        fleet.running["a"].submit(letter("first"))
        sink.wait_until_reached(".")
        for name in "ab":
            soon(lambda name=name: fleet.running[name].health()["queue"]["active"] == 1, name)  # type: ignore[misc]
            queue_ = fleet.running[name].health()["queue"]
            assert (queue_["total"], queue_["held"]) == (1, 0)


def test_a_brake_is_everybody_s(tmp_path: Path, sink: Sink, dsn: str) -> None:
    """Refusals count together, the pause is everybody's, and so is its end."""
    sink.always(".", "550 5.7.1 Suspended")
    settings: Settings = {"retry": {"schedule": ["1h"]}, "bounce": {"to": "none"}}
    with fleet_of(tmp_path, sink, dsn, settings) as fleet:
        fleet.start()
        for number in range(24):
            fleet.running["ab"[number % 2]].submit(letter(f"mail-{number}"))
            soon(
                lambda number=number: len(fleet.events("rejected", "deferred")) >= min(number + 1, 19),  # type: ignore[misc]
                f"mail {number} is refused",
            )
        for name in "ab":
            soon(
                lambda name=name: fleet.running[name].health()["providers"][0]["state"] == "paused",  # type: ignore[misc]
                f"{name} has paused it",
            )
        bounced = sum(len(entry["to"]) for _, entry in fleet.events("bounced"))
        assert 5 <= bounced < 10  # by two that did not hear each other it would be ten
        sink.usual(".")
        queue(fleet, "a", "retry", "--provider", "sink")
        for name in "ab":
            soon(
                lambda name=name: fleet.running[name].health()["providers"][0]["state"] == "up",  # type: ignore[misc]
                f"{name} uses it again",
            )


def test_reports_are_counted_together(tmp_path: Path, sink: Sink, dsn: str) -> None:
    """`bounce.per_hour` is that of the queue, not of each instance."""
    sink.judge = lambda step, argument: "550 5.1.1 Nobody" if step == "RCPT" and b"b@example.net" in argument else ""
    with fleet_of(tmp_path, sink, dsn, {"bounce": {"per_hour": 3}}) as fleet:
        fleet.start()
        for number in range(8):
            fleet.running["ab"[number % 2]].submit(letter(f"mail-{number}"))
        soon(lambda: len(fleet.events("bounced")) == 8, "all have bounced")
        sink.wait_for(3)
        soon(lambda: fleet.running["a"].health()["queue"]["deferred"] == 5, "the rest waits for the digest")
        assert len(sink.mails) == 3


def test_one_of_them_raises_the_alert(tmp_path: Path, sink: Sink, dsn: str) -> None:
    """A backlog is told once; when the one that told it is gone, another one does."""
    sink.always(".", "451 4.7.1 Later")
    settings: Settings = {"retry": {"schedule": ["1h"]}, "alerts": {"check_interval": 1, "backlog": 3}}
    with fleet_of(tmp_path, sink, dsn, settings) as fleet:
        fleet.start()
        fleet.running["a"].submit(*[letter(f"mail-{number}") for number in range(6)])
        soon(lambda: fleet.events("alert"), "somebody tells of it")
        for name in "ab":
            soon(
                lambda name=name: [each["name"] for each in fleet.running[name].health()["alerts"]] == ["backlog"],  # type: ignore[misc]
                f"{name} shows it",
            )
        ((teller, _),) = fleet.events("alert")
        fleet.kill(teller)
        soon(lambda: len(fleet.events("alert")) == 2, "the other one tells of it")
        assert {name for name, _ in fleet.events("alert")} == {"a", "b"}


def test_one_that_stops_gives_back_at_once(tmp_path: Path, sink: Sink, dsn: str) -> None:
    """What it has not begun goes on elsewhere while what it has begun ends."""
    with fleet_of(tmp_path, sink, dsn, {"delivery": {"workers": 1}}) as fleet, sink.gate(".") as gate:
        fleet.start("a")
        first, second = fleet.running["a"].submit(letter("first"), letter("second"))
        sink.wait_until_reached(".")
        fleet.start("b")
        sink.wait_until_reached(".", 2)
        fleet.running["a"].process.send_signal(signal.SIGTERM)
        gate.opened.set()
        fleet.running["a"].process.wait(PATIENCE)
        soon(lambda: fleet.running["b"].health()["queue"]["total"] == 0, "nothing waits")
        assert fleet.finished() == {first: 1, second: 1}
        assert len(sink.mails) == 2
