"""Peers: mailrelay and Postfix as processes, each with a folder of its own, handing everything to one provider.

Postfix is a null client with the settings that were found to be fastest here; SETTINGS is printed with the figures.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

SETTINGS = {
    "compatibility_level": "3.6",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "mynetworks": "127.0.0.0/8",
    "mydestination": "",
    "local_transport": "error:none",
    "in_flow_delay": "0",
    "default_process_limit": "200",
    "smtp_connection_cache_on_demand": "yes",
    "smtp_connection_cache_destinations": "127.0.0.1",
    "smtp_tls_security_level": "none",
    "smtpd_tls_security_level": "none",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_client_connection_rate_limit": "0",
    "smtpd_client_message_rate_limit": "0",
    "message_size_limit": "104857600",
    "mailbox_size_limit": "0",
    "qmgr_message_active_limit": "40000",
}


class Peer(Protocol):
    """A relay that runs: applications hand in at its ports."""

    name: str

    @property
    def ports(self) -> Sequence[int]:
        """Where it takes mail."""

    @property
    def port(self) -> int:
        """The first of them."""

    def processes(self) -> list[int]:
        """All of its processes."""

    def memory(self) -> float:
        """MiB resident now (shared pages counted once), by all of its processes."""

    def settle(self) -> None:
        """Wait until it has tried all that it took, while nobody listens at the provider."""

    def retry(self) -> None:
        """Have it try again now what waits for a provider that was down."""

    def close(self) -> None:
        """End it."""


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(port: int, seconds: float = 20.0) -> None:
    """Wait until somebody greets there."""
    end = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as there:
                if there.recv(3) == b"220":
                    return
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(0.05)


class Mailrelay:
    """`twistd -n mailrelay` with the checkout's Python, as many `workers` as connections where no other number is said.

    ready  how many seconds passed until it greeted
    """

    name = "mailrelay"

    def __init__(
        self, folder: Path, provider: int, *, connections: int, workers: int = 0, depth: int = 1, dsn: str = ""
    ) -> None:
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        configuration = folder / "relay.toml"
        configuration.write_text(
            f"""hostname = "bench.example"
[smtp]
listen = ["tcp:{self.port}:interface=127.0.0.1"]
[spool]
min_free = 0
backend = "{"postgresql" if dsn else "sqlite"}"
dsn = "{dsn}"
[delivery]
workers = {workers or connections}
[http]
listen = []
[log]
file = "log"
[[provider]]
host = "127.0.0.1"
port = {provider}
tls = "none"
connections = {connections}
messages_per_connection = 1000000
pipeline_depth = {depth}
"""
        )
        twistd = Path(sys.executable).with_name("twistd")
        began = time.monotonic()
        self._process = subprocess.Popen(
            [twistd, "-n", "--pidfile=", "mailrelay", "--config", configuration],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        await_port(self.port)
        self.ready = time.monotonic() - began

    @property
    def ports(self) -> Sequence[int]:
        """See Peer."""
        return (self.port,)

    def processes(self) -> list[int]:
        """See Peer."""
        return [self._process.pid]

    def memory(self) -> float:
        """See Peer."""
        return resident(self._process.pid)

    def highest(self) -> float:
        """MiB that were resident at most so far."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

    def settle(self) -> None:
        """See Peer: one look at the provider is enough for all that it took."""

    def retry(self) -> None:
        """See Peer."""
        self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """See Peer."""
        self._process.terminate()
        self._process.wait(40)


class Postfix:
    """Debian's Postfix with a queue of its own."""

    name = "Postfix"

    def __init__(self, folder: Path, provider: int, *, connections: int) -> None:
        self.port = free_port()
        self._folder = folder
        for name in ("etc", "spool", "data"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)
        shutil.chown(folder / "data", "postfix")
        shutil.copy("/etc/postfix/master.cf", folder / "etc" / "master.cf")
        master = (folder / "etc" / "master.cf").read_text().splitlines()
        lines = [line for line in master if not line.lstrip().startswith("#") and " smtpd" not in line]
        lines.append(f"127.0.0.1:{self.port} inet n - n - - smtpd")
        (folder / "etc" / "master.cf").write_text("\n".join(lines) + "\n")
        settings = SETTINGS | {
            "queue_directory": str(folder / "spool"),
            "data_directory": str(folder / "data"),
            "maillog_file": str(folder / "log"),
            "relayhost": f"[127.0.0.1]:{provider}",
            "smtp_destination_concurrency_limit": str(connections),
            "initial_destination_concurrency": str(connections),
        }
        (folder / "etc" / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        self._postfix("start")
        await_port(self.port)
        self._master = int((folder / "spool" / "pid" / "master.pid").read_text())

    def _postfix(self, command: str) -> None:
        subprocess.run(
            ["postfix", "-c", self._folder / "etc", command],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"MAIL_CONFIG": str(self._folder / "etc")},
        )

    @property
    def ports(self) -> Sequence[int]:
        """See Peer."""
        return (self.port,)

    def processes(self) -> list[int]:
        """See Peer."""
        return [self._master, *children(self._master)]

    def memory(self) -> float:
        """See Peer."""
        return sum(map(resident, self.processes()))

    def settle(self) -> None:
        """See Peer: what is still in these two queues would miss a flush, and wait for five minutes."""
        end = time.monotonic() + 120
        while time.monotonic() < end and any(self._waits("incoming") + self._waits("active")):
            time.sleep(0.1)

    def _waits(self, queue: str) -> list[str]:
        return [name for _, _, names in os.walk(self._folder / "spool" / queue) for name in names]

    def retry(self) -> None:
        """See Peer."""
        subprocess.run(["postqueue", "-c", self._folder / "etc", "-f"], check=True)

    def close(self) -> None:
        """See Peer."""
        self._postfix("stop")
        for pid in children(self._master):
            os.kill(pid, signal.SIGKILL)


def resident(pid: int) -> float:
    """MiB of a process, a page that several share being divided among them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def children(parent: int) -> list[int]:
    """The processes that one has started and that run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(entry.name))
    return found
