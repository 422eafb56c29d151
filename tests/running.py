"""Running: mailrelay as a process of its own, started by twistd from a configuration file, and what a test asks of it.

Listeners are on ports that the kernel chooses; the `started` line of the log says which.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import smtplib
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.daemon import PATIENCE, Daemon, free_port

TWISTD = Path(sys.executable).with_name("twistd")

Settings = Mapping[str, Mapping[str, object]]
"""Sections of the configuration, and in each keys and values; "" is the top level."""

LISTEN = ["tcp:0:interface=127.0.0.1"]
COMMAND = [str(TWISTD), "-n", "--pidfile=", "mailrelay", "--config", "relay.toml"]


def toml(settings: Settings, providers: Sequence[Mapping[str, object]]) -> str:
    """The text of a configuration file."""
    lines = [_line(*each) for each in settings.get("", {}).items()]
    for name, section in settings.items():
        if name:
            lines += [f"[{name}]", *[_line(*each) for each in section.items()]]
    for provider in providers:
        lines += ["[[provider]]", *[_line(*each) for each in provider.items()]]
    return "\n".join(lines) + "\n"


def _line(key: str, value: object) -> str:
    return f"{key} = {_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{json.dumps(key)} = {_value(each)}' for key, each in value.items())} }}"
    return json.dumps(value)  # JSON's strings, numbers and lists are TOML's, too


def configure(folder: Path, providers: Sequence[Mapping[str, object]], settings: Settings | None = None) -> Path:
    """A relay.toml in `folder`. `settings` add to what tests need anyway."""
    whole: dict[str, Mapping[str, object]] = {
        "": {"hostname": "relay.example"},
        "smtp": {"listen": LISTEN},
        "http": {"listen": LISTEN},
        "retry": {"schedule": ["1s"], "jitter": 0},
    }
    for name, section in (settings or {}).items():
        whole[name] = {**whole.get(name, {}), **section}
    file = folder / "relay.toml"
    file.write_text(toml(whole, providers))
    return file


class Reachable:
    """A daemon that is up.

    process     its process
    smtp, http  the ports where it listens
    """

    process: subprocess.Popen[bytes]
    smtp: int
    http: int

    def client(self) -> smtplib.SMTP:
        """An application that has said EHLO."""
        client = smtplib.SMTP("127.0.0.1", self.smtp, "app.example", timeout=PATIENCE)
        client.ehlo_or_helo_if_needed()
        return client

    def submit(self, *contents: bytes, to: str = "b@example.net") -> list[str]:
        """Hand mails in, each from a@example.com, over one connection; their ids."""
        with self.client() as client:
            return [given(client, content, to) for content in contents]

    def health(self) -> dict[str, Any]:
        """What /health says, whatever its status."""
        opener = urllib.request.build_opener(_AnyStatus)
        with opener.open(f"http://127.0.0.1:{self.http}/health", timeout=PATIENCE) as answer:
            document: dict[str, Any] = json.load(answer)
            return document

    def memory(self, name: str = "VmHWM") -> int:
        """Octets of its memory, as /proc/PID/status names them."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {name}")


class Running(Daemon, Reachable):
    """mailrelay with the relay.toml in `folder`; once this is made it is up, and `started` is its line that says so."""

    def __init__(self, folder: Path, *, under: Sequence[str | Path] = ()) -> None:
        super().__init__([*under, *COMMAND], folder, os.environ)
        self.folder = folder
        try:
            self.started = self.event("started")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.smtp = _port(self.started["smtp"])
        self.http = _port(self.started["http"])


class Unread(Reachable):
    """mailrelay, configured anew in `folder`, its file descriptor 2 a pipe of 4 KiB: `log`, for a test that reads it.

    Since nobody reads where it listens, the ports are chosen beforehand.
    """

    def __init__(
        self,
        folder: Path,
        providers: Sequence[Mapping[str, object]],
        settings: Settings | None = None,
        *,
        under: Sequence[str | Path] = (),
    ) -> None:
        self.smtp, self.http = free_port(), free_port()
        ports = (("smtp", self.smtp), ("http", self.http))
        listen = {name: {"listen": [f"tcp:{port}:interface=127.0.0.1"]} for name, port in ports}
        configure(folder, providers, {**(settings or {}), **listen})
        out, into = os.pipe()
        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, 4096)
        self.log: IO[bytes] = os.fdopen(out, "rb")
        self.process = subprocess.Popen([*under, *COMMAND], cwd=folder, stdout=subprocess.DEVNULL, stderr=into)
        os.close(into)

    def stop(self) -> int:
        """Its status after SIGTERM."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        try:
            soon(self._is_up, "it is up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self.log.close()

    def _is_up(self) -> bool:
        try:
            return bool(self.health()["status"] == "ok")
        except OSError:
            return False


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    def http_response(self, request: Any, response: Any) -> Any:
        return response


def _port(places: list[str]) -> int:
    return int(places[0].rpartition(":")[2])


def given(client: smtplib.SMTP, content: bytes, to: str = "b@example.net") -> str:
    """The id of a mail that was taken. The content goes as it is, without another thought. Raises smtplib's errors."""
    code, said = client.mail("a@example.com")
    if code != 250:
        raise smtplib.SMTPResponseException(code, said)
    code, said = client.rcpt(to)
    if code != 250:
        raise smtplib.SMTPResponseException(code, said)
    code, said = client.docmd("DATA")
    if code != 354:
        raise smtplib.SMTPResponseException(code, said)
    client.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    code, said = client.getreply()
    if code != 250:
        raise smtplib.SMTPResponseException(code, said)
    return said.decode().rpartition(" ")[2]


def letter(name: str, octets: int = 0) -> bytes:
    """A mail of at least so many octets, that has all the fields it should have, and a digest of its text."""
    text = (f"This is {name}.\r\n" * (octets // (len(name) + 11) + 1)).encode()
    return (
        b"Date: Thu, 01 Jan 2026 10:00:00 +0000\r\n"
        b"Message-ID: <%b@app.example>\r\n"
        b"Subject: %b\r\n"
        b"X-Digest: %b\r\n\r\n%b"
    ) % (name.encode(), name.encode(), hashlib.sha256(text).hexdigest().encode(), text)


def soon(condition: Callable[[], object], what: str, within: float = PATIENCE) -> None:
    """Look again and again until `condition` holds."""
    deadline = time.monotonic() + within
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        pause.wait(0.02)
