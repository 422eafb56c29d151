"""The service manager is told how the daemon is, by sd_notify(3); nothing that is wrong there does any harm."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from relay.notify import Notifier


class ServiceManager:
    """The other side of $NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.environ = {"NOTIFY_SOCKET": address.replace("\0", "@")}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        """Every datagram since the last call."""
        said: list[str] = []
        while True:
            try:
                said.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return said


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[ServiceManager]:
    """One for each kind of address that systemd uses."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/notify" if request.param == "path" else f"\0mailrelay-test-{os.getpid()}"
        manager = ServiceManager(address)
        yield manager
        manager.socket.close()


def notifier(environ: Mapping[str, str], clock: Clock | None = None) -> Notifier:
    return Notifier(environ, clock or Clock(), lambda: 5_000_001)


def test_a_life(manager: ServiceManager) -> None:
    """What systemd hears from the start to the end, in sd_notify(3)'s words."""
    daemon = notifier(manager.environ)

    daemon.ready("takes mail")
    daemon.reloading()
    daemon.ready("takes mail")
    daemon.status("the disk is full")
    daemon.stopping()

    assert manager.heard() == [
        "READY=1\nSTATUS=takes mail",
        "RELOADING=1\nMONOTONIC_USEC=5000001",
        "READY=1\nSTATUS=takes mail",
        "STATUS=the disk is full",
        "STOPPING=1\nSTATUS=transactions under way end",
    ]


def test_the_watchdog(manager: ServiceManager) -> None:
    """It is fed at once and then twice within its time, also while the daemon stops, until it is told to end."""
    clock = Clock()
    daemon = notifier({**manager.environ, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, clock)

    daemon.start()
    daemon.start()
    assert manager.heard() == ["WATCHDOG=1"]
    clock.advance(14.9)
    assert manager.heard() == []
    clock.advance(0.2)
    assert manager.heard() == ["WATCHDOG=1"]
    daemon.stopping()
    clock.advance(15)
    assert manager.heard()[1:] == ["WATCHDOG=1"]
    daemon.stop()
    clock.advance(60)

    assert manager.heard() == []
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "9" * 5000},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "me"},
    ],
)
def test_no_watchdog(manager: ServiceManager, said: Mapping[str, str]) -> None:
    """Where none is asked for, or of another process, or not in numbers, nothing is fed."""
    clock = Clock()

    notifier({**manager.environ, **said}, clock).start()

    assert manager.heard() == []
    assert clock.getDelayedCalls() == []


def test_more_lines_than_one(manager: ServiceManager) -> None:
    """A status is one line, so that nothing in it is taken for a word of its own."""
    notifier(manager.environ).status("a\nREADY=1\n")

    assert manager.heard() == ["STATUS=a READY=1"]


@pytest.mark.parametrize("address", ["", "vsock:2:9999", "relative", "@", "/nowhere/notify", "/" + "x" * 200])
def test_nobody_there(address: str) -> None:
    """A socket that is not there, or of a kind that is not known, is no error."""
    daemon = notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})

    daemon.start()
    daemon.ready("takes mail")
    daemon.stop()


def test_a_socket_that_nobody_reads(tmp_path: Path) -> None:
    """It fills up, and is not waited for."""
    manager = ServiceManager(str(tmp_path / "notify"))
    daemon = notifier(manager.environ)

    for number in range(2000):
        daemon.status(f"status {number}")

    assert 0 < len(manager.heard()) < 2000
    manager.socket.close()
