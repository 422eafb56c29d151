"""Under a service manager: what it is told, the sockets that it hands over, and two daemons in one folder."""

from __future__ import annotations

import os
import shutil
import signal
import smtplib
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import handing_over
from tests.daemon import CHECKOUT, PATIENCE, Daemon, free_port
from tests.running import COMMAND, TWISTD, Running, Settings, configure, given, letter
from tests.sink import Sink

ENDS = (0, -15)
"""What systemd takes for success: status 0, and the end by the signal itself."""

CLOSED = {"host": "127.0.0.1", "port": 1, "tls": "none"}
"""A provider that is down."""


def test_what_the_service_manager_is_told(tmp_path: Path) -> None:
    """READY once it listens; RELOADING and READY around a SIGHUP; STOPPING; a sign of life all the time."""
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{short}/notify")
        manager.settimeout(PATIENCE)

        def heard(word: str) -> str:
            while True:
                said = manager.recv(4096).decode()
                if word in said:
                    return said

        configure(tmp_path, [CLOSED])
        with Running(tmp_path, under=["env", f"NOTIFY_SOCKET={short}/notify", "WATCHDOG_USEC=200000"]) as relay:
            assert heard("READY=1") == f"READY=1\nSTATUS=mail is taken at 127.0.0.1:{relay.smtp}"
            heard("WATCHDOG=1")
            relay.process.send_signal(signal.SIGHUP)
            heard("RELOADING=1\nMONOTONIC_USEC=")
            heard("READY=1")
            relay.event("reloaded")
            (tmp_path / "relay.toml").write_text("nonsense")
            relay.process.send_signal(signal.SIGHUP)
            heard("RELOADING=1")
            heard("READY=1")
            relay.process.terminate()
            heard("STOPPING=1")
            relay.event("stopped")


def test_no_service_manager_after_all(tmp_path: Path) -> None:
    """A socket that is not there keeps no daemon from anything."""
    configure(tmp_path, [CLOSED])

    with Running(tmp_path, under=["env", f"NOTIFY_SOCKET={tmp_path}/nowhere", "WATCHDOG_USEC=200000"]) as relay:
        relay.submit(letter("one"))


Start = Callable[[Path], list[str]]


def by_plugin(folder: Path) -> list[str]:
    """As twistd -n mailrelay."""
    return [str(TWISTD), "-n", "mailrelay", "--config", "relay.toml"]


def by_tac(folder: Path) -> list[str]:
    """As twistd -ny relay.tac."""
    shutil.copy(CHECKOUT / "relay.tac", folder)
    return [str(TWISTD), "-ny", "relay.tac"]


@pytest.mark.parametrize("first", [by_plugin, by_tac])
@pytest.mark.parametrize("second", [by_plugin, by_tac])
def test_two_daemons_in_one_folder(tmp_path: Path, first: Start, second: Start) -> None:
    """The second one says whose the spool is, and nothing of a pidfile; there is none."""
    configure(tmp_path, [CLOSED])
    with Daemon(first(tmp_path), tmp_path, os.environ) as relay:
        relay.event("started")
        said = subprocess.run(second(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=False)
        left = sorted(path.name for path in tmp_path.glob("*.pid"))

    [line] = said.stderr.splitlines()
    assert said.returncode == 1
    assert f"pid {relay.process.pid}" in line
    assert "twistd" not in line
    assert left == []


def test_a_pidfile_that_was_asked_for(tmp_path: Path) -> None:
    """It is written, and gone at the end."""
    configure(tmp_path, [CLOSED])
    command = [str(TWISTD), "-n", "--pidfile=own.pid", "mailrelay", "--config", "relay.toml"]

    with Daemon(command, tmp_path, os.environ) as relay:
        relay.event("started")
        assert (tmp_path / "own.pid").read_text() == str(relay.process.pid)
        relay.stop()

    assert not (tmp_path / "own.pid").exists()


HANDING_OVER = [sys.executable, str(Path(handing_over.__file__))]


def activated(folder: Path, *sockets: str) -> Running:
    """The daemon in `folder`, to which these sockets are handed over."""
    return Running(folder, under=[*HANDING_OVER, *sockets, "--"])


def test_sockets_by_name(tmp_path: Path) -> None:
    """Each listener takes the socket that has its name; the order does not matter."""
    with Sink() as sink:
        endpoints: Settings = {
            "smtp": {"listen": ["systemd:domain=INET:name=smtp", "systemd:domain=INET6:name=smtp6"]},
            "http": {"listen": ["systemd:domain=INET:name=http"]},
        }
        configure(tmp_path, [sink.table()], endpoints)
        with activated(tmp_path, "http=tcp:127.0.0.1", "smtp6=tcp:::1", "smtp=tcp:127.0.0.2") as relay:
            places = relay.started["smtp"]
            for place in places:
                host, _, port = place.rpartition(":")
                with smtplib.SMTP(host.strip("[]"), int(port), "app.example", timeout=PATIENCE) as client:
                    client.ehlo()
                    given(client, letter(f"by-{host}"))
            sink.wait_for(2)
            assert relay.health()["status"] == "ok"
            assert relay.stop() in ENDS

    assert [place.rpartition(":")[0] for place in places] == ["127.0.0.2", "[::1]"]


def test_sockets_by_index(tmp_path: Path) -> None:
    """As the socket unit of the package has them: two of one name."""
    listen = ["systemd:domain=INET:index=0", "systemd:domain=INET6:index=1"]
    configure(tmp_path, [CLOSED], {"smtp": {"listen": listen}})

    with activated(tmp_path, "mailrelay.socket=tcp:127.0.0.1", "mailrelay.socket=tcp:::1") as relay:
        relay.submit(letter("one"))

        assert [place.rpartition(":")[0] for place in relay.started["smtp"]] == ["127.0.0.1", "[::1]"]


def test_a_unix_socket_that_is_handed_over(tmp_path: Path) -> None:
    """Its mode stays what the service manager has made it, and it is there when the daemon is gone."""
    with tempfile.TemporaryDirectory() as short:
        path = Path(short, "smtp.sock")
        configure(
            tmp_path,
            [CLOSED],
            {"smtp": {"listen": ["systemd:domain=UNIX:name=smtp", "tcp:0:interface=127.0.0.1"]}},
        )
        with Daemon([*HANDING_OVER, f"smtp=unix:{path}", "--", *COMMAND], tmp_path, os.environ) as relay:
            assert relay.event("started")["smtp"][0] == str(path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE)
                client.connect(str(path))
                assert client.recv(1000).startswith(b"220 ")
            assert relay.stop() in ENDS

        assert stat.S_ISSOCK(path.stat().st_mode)
    assert not [line for line in relay.errors if '"level":"error"' in line]


@pytest.mark.parametrize(
    ("listen", "handed", "reason"),
    [
        (["systemd:domain=INET:name=smtp"], "smtp=tcp:0.0.0.0", "not loopback"),
        (["systemd:domain=INET6:name=smtp"], "smtp=tcp:::", "not loopback"),
        (["systemd:domain=UNIX:name=smtp"], "smtp=tcp:0.0.0.0", "of the domain INET;"),
        (["systemd:domain=INET:name=smtp"], "smtp=tcp:::1", "of the domain INET6;"),
        (["systemd:domain=INET:index=0"], "smtp=unix:{folder}/s", "of the domain UNIX;"),
        (["systemd:domain=INET:name=other"], "smtp=tcp:127.0.0.1", "has handed no such socket over"),
        (["systemd:domain=INET:index=1"], "smtp=tcp:127.0.0.1", "has handed no such socket over"),
        (["systemd:domain=INET:name=smtp"], "smtp=udp:127.0.0.1", "takes no connections"),
        (["systemd:domain=UNIX:name=smtp"], "smtp=connection:", "takes no connections"),
        (["systemd:domain=INET:name=smtp"], "smtp=file:/dev/null", "non-socket"),
        (["systemd:domain=INET:name=smtp", "systemd:INET:0"], "smtp=tcp:127.0.0.1", "is listened at already"),
    ],
)
def test_a_socket_that_will_not_do(tmp_path: Path, listen: list[str], handed: str, reason: str) -> None:
    """One line names the endpoint and what is wrong with it; exit status 1. What the socket really is decides."""
    configure(tmp_path, [CLOSED], {"smtp": {"listen": listen}})
    command = [*HANDING_OVER, handed.format(folder=tmp_path), "--", *COMMAND]

    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)

    [line] = said.stderr.splitlines()
    assert said.returncode == 1
    assert listen[-1] in line
    assert reason in line


@pytest.mark.needs("systemd-socket-activate")
def test_activated_by_systemd(tmp_path: Path) -> None:
    """The first connection starts the daemon and is served by it."""
    port = free_port()
    configure(tmp_path, [CLOSED], {"smtp": {"listen": ["systemd:domain=INET:name=smtp"]}})
    command = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", "--fdname=smtp", *COMMAND]
    with Daemon(command, tmp_path, os.environ) as relay:
        relay.line("Listening on")
        with smtplib.SMTP("127.0.0.1", port, "app.example", timeout=PATIENCE) as client:
            client.ehlo()
            uuid = given(client, letter("one"))

        assert relay.event("started")["smtp"] == [f"127.0.0.1:{port}"]
        assert relay.event("received")["id"] == uuid
