"""The daemon's start and stop: what keeps it from starting, and what a stop under load leaves."""

from __future__ import annotations

import json
import random
import smtplib
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from tests.daemon import PATIENCE, free_port
from tests.running import COMMAND, Running, Settings, configure, given, letter, soon
from tests.sink import Sink

ENDS = (0, -15)
"""What systemd takes for success: status 0, and the end by the signal itself."""


def ended(folder: Path) -> subprocess.CompletedProcess[str]:
    """What a daemon says that does not start."""
    return subprocess.run(COMMAND, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)


def nobody_listens(port: int) -> bool:
    """Whether a port is free."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_configuration_with_many_faults(tmp_path: Path) -> None:
    """All of them are told, each with its file and key, and nothing was begun."""
    port = free_port()
    sections: Settings = {
        "": {"hostnam": "x"},
        "smtp": {"listen": [f"tcp:{port}:interface=127.0.0.1"], "max_recipients": 0},
        "retry": {"schedule": ["1 minute"]},
    }
    configure(tmp_path, [{"name": "one", "port": 70000}, {"name": "one", "host": "a.example"}], sections)

    said = ended(tmp_path)

    lines = said.stderr.splitlines()
    assert said.returncode == 1
    for key in ("hostnam", "smtp.max_recipients", "retry.schedule", "provider[1].port", "provider[1].host", '"one"'):
        assert any(key in line and "relay.toml" in line for line in lines), key
    assert "Traceback" not in said.stderr
    assert "Usage" not in said.stdout + said.stderr
    assert not (tmp_path / "spool").exists()
    assert nobody_listens(port)


@pytest.mark.parametrize("section", ["smtp", "http"])
def test_a_port_that_is_taken(tmp_path: Path, section: str) -> None:
    """Exit status 1, and one line that names the endpoint and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        endpoint = f"tcp:{holder.getsockname()[1]}:interface=127.0.0.1"
        configure(tmp_path, [{"host": "127.0.0.1", "tls": "none"}], {section: {"listen": [endpoint]}})
        said = ended(tmp_path)

    [line] = said.stderr.splitlines()
    assert said.returncode == 1
    assert endpoint in line
    assert "in use" in line


def test_a_socket_below_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """The same for a unix socket."""
    endpoint = f"unix:{tmp_path}/nowhere/smtp.sock"
    configure(tmp_path, [{"host": "127.0.0.1", "tls": "none"}], {"smtp": {"listen": [endpoint]}})

    said = ended(tmp_path)

    [line] = said.stderr.splitlines()
    assert said.returncode == 1
    assert endpoint in line
    assert "No such file" in line


def test_a_second_daemon_on_one_spool(tmp_path: Path) -> None:
    """It says whose the spool is, with the pid, and the first one does not notice."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()])
        with Running(tmp_path) as relay:
            said = ended(tmp_path)
            relay.submit(letter("one"))
            sink.wait_for(1)

    [line] = said.stderr.splitlines()
    assert said.returncode == 1
    assert f"pid {relay.process.pid}" in line


def stopped(relay: Running) -> float:
    """Seconds that the end after SIGTERM took."""
    began = time.monotonic()
    assert relay.stop() in ENDS
    return time.monotonic() - began


def hand_in(relay: Running, name: str, taken: set[str], enough: Callable[[], None]) -> None:
    """One application, until the daemon turns it away; `taken` gets the ids."""
    sizes = random.Random(name)
    try:
        with relay.client() as client:
            for number in range(100_000):
                taken.add(given(client, letter(f"{name}-{number}", 300_000 if sizes.random() < 0.1 else 2000)))
                enough()
    except (OSError, smtplib.SMTPException):
        return


def test_stopped_under_load(tmp_path: Path) -> None:
    """It ends in time; over two lives every mail that was acknowledged arrives, and arrives once."""
    taken: set[str] = set()
    many = threading.Event()
    with Sink() as sink:
        configure(tmp_path, [sink.table()])
        with Running(tmp_path) as relay:
            applications = [
                threading.Thread(
                    target=hand_in,
                    args=(relay, f"app{number}", taken, lambda: many.set() if len(taken) > 200 else None),
                )
                for number in range(4)
            ]
            for each in applications:
                each.start()
            assert many.wait(PATIENCE)
            seconds = stopped(relay)
            for each in applications:
                each.join()
        with Running(tmp_path) as relay:
            soon(lambda: relay.health()["queue"]["total"] == 0, "what was left is delivered")
        copies = Counter(mail.id for mail in sink.mails)

    assert seconds < 30
    assert set(copies) == taken
    assert set(copies.values()) == {1}


def test_stopped_while_a_mail_is_on_its_way_out(tmp_path: Path) -> None:
    """The reply to its end is waited for, written down, and said in the log before the last line of it."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()])
        with Running(tmp_path) as relay:
            with sink.gate(".") as gate:
                [uuid] = relay.submit(letter("one"))
                sink.wait_until_reached(".")
                relay.process.terminate()
                relay.event("stopping")
                gate.opened.set()
            assert relay.event("finished")["id"] == uuid
            relay.event("stopped")
            assert relay.process.wait(PATIENCE) in ENDS
        with Running(tmp_path) as relay:
            assert relay.health()["queue"]["total"] == 0

    assert len(sink.mails) == 1


def test_stopped_while_a_dot_stays_unanswered(tmp_path: Path) -> None:
    """Before 30 s are over it is written down as uncertain, and no other provider gets it."""
    with Sink("first") as first, Sink("second") as second:
        configure(tmp_path, [first.table(), second.table()])
        with Running(tmp_path) as relay, first.gate("."):
            relay.submit(letter("one"))
            first.wait_until_reached(".")
            seconds = stopped(relay)
        [uncertain] = [line for line in map(json.loads, relay.errors) if line["event"] == "uncertain"]
        with Running(tmp_path) as relay:
            relay.event("finished")

    assert 28 < seconds < 31
    assert uncertain["provider"] == "first"
    assert len(first.mails) == 2
    assert second.mails == []


def test_stopped_while_a_provider_says_nothing(tmp_path: Path) -> None:
    """A connection that is not ready for mail is not waited for; its mail is there at the next start."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        configure(tmp_path, [{"host": "127.0.0.1", "port": silent.getsockname()[1], "tls": "none"}])
        with Running(tmp_path) as relay:
            relay.submit(*[letter(f"mail-{number}") for number in range(20)])
            silent.accept()[0].close()
            seconds = stopped(relay)
    with Sink() as sink:
        configure(tmp_path, [sink.table()])
        with Running(tmp_path):
            sink.wait_for(20)

    assert seconds < 5


def test_stopped_while_applications_speak(tmp_path: Path) -> None:
    """Who says nothing is told so; who is in the middle of a mail may end it; nobody is taken on any more."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()])
        with Running(tmp_path) as relay, relay.client() as idle, relay.client() as busy:
            busy.mail("a@example.com")
            busy.rcpt("b@example.net")
            busy.docmd("DATA")
            relay.process.terminate()
            relay.event("stopping")
            goodbye = idle.getreply()
            refused = nobody_listens(relay.smtp)
            busy.send(letter("one") + b".\r\n")
            code, said = busy.getreply()
            relay.event("stopped")
            assert relay.process.wait(PATIENCE) in ENDS
            idle.close()
            busy.close()
        with Running(tmp_path):
            [mail] = sink.wait_for(1)

    assert goodbye[0] == 421
    assert goodbye[1].startswith(b"4.3.2")
    assert refused
    assert code == 250
    assert mail.id == said.decode().split()[-1]


def test_every_line_of_the_log(tmp_path: Path) -> None:
    """From the start on, each line on file descriptor 2 is one JSON object with a time, a level and an event."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()], {"delivery": {"probe": "1s"}})
        with Running(tmp_path) as relay:
            sink.says("MAIL", "451 4.3.0 Not \x07now")
            relay.submit(letter("deferred"))
            relay.event("finished")
            sink.says(".", "", closes=True)
            relay.submit(letter("uncertain"))
            relay.event("uncertain")
            sink.says("RCPT", "550 5.1.1 Nobody ü")
            relay.submit(letter("bounced"))
            relay.event("bounced")
            with socket.create_connection(("127.0.0.1", relay.smtp)) as browser:
                browser.sendall(b"GET / HTTP/1.1\r\n\r\n")
                browser.recv(1000)
            relay.event("refused")
            sink.stop()
            relay.submit(letter("down"))
            relay.event("provider_down")
            relay.stop()

    entries = [json.loads(line) for line in relay.errors]
    assert all({"time", "level", "event"} <= set(entry) for entry in entries)
    assert entries[0]["event"] == "started"
    assert entries[-1]["event"] == "stopped"
    assert not [entry for entry in entries if entry["event"] in ("warning", "error")]


def test_what_waited_goes_on_after_the_stop(tmp_path: Path) -> None:
    """Mail that was ready and mail that was deferred: both are delivered by the next start, in its turn."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()], {"retry": {"schedule": ["2s"]}, "delivery": {"probe": "1s"}})
        with Running(tmp_path) as relay:
            sink.says("RCPT", "450 4.2.1 Later")
            [deferred] = relay.submit(letter("deferred"))
            relay.event("deferred")
            sink.stop()
            [ready] = relay.submit(letter("ready"))
            relay.event("provider_down")
            assert relay.stop() in ENDS
        with Running(tmp_path) as relay:
            assert relay.health()["queue"]["total"] == 2
            sink.start()
            order = [relay.event("finished")["id"] for _ in range(2)]

    assert sorted(order) == sorted([deferred, ready])
    assert len(sink.mails) == 2


def test_a_deferred_mail_is_tried_again(tmp_path: Path) -> None:
    """By `retry.schedule`, then every `interval`, and at most half a second after it is due."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()], {"retry": {"schedule": ["1s"], "interval": "2s"}})
        with Running(tmp_path) as relay:
            sink.says("DATA", "451 4.7.1 Greylisted", times=2)
            relay.submit(letter("one"))
            times = [relay.event("deferred") for _ in range(2)] + [relay.event("delivered")]

    assert len(sink.mails) == 1
    seconds = [datetime.fromisoformat(entry["time"]).timestamp() for entry in times]
    assert 1.0 <= seconds[1] - seconds[0] + 0.01 < 1.7
    assert 2.0 <= seconds[2] - seconds[1] + 0.01 < 2.7
