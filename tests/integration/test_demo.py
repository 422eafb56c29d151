"""`mailrelay demo` as a user meets it."""

from __future__ import annotations

import json
import mailbox
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.daemon import Daemon, free_port

MAILRELAY = Path(sys.executable).with_name("mailrelay")


def fetched(url: str) -> str:
    """The body of a page."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        body: bytes = answer.read()
        return body.decode()


def demo(folder: Path, smtp: int, http: int) -> Daemon:
    """The demo on those ports, its files below `folder`, started in an empty folder beside it."""
    empty = folder / "empty"
    empty.mkdir()
    environ = os.environ | {"XDG_STATE_HOME": str(folder / "state"), "PYTHONUNBUFFERED": "1"}
    return Daemon([MAILRELAY, "demo", f"--smtp-port={smtp}", f"--http-port={http}"], empty, environ)


def test_a_mail_through_the_demo(tmp_path: Path) -> None:
    """The line that it prints sends a mail, which lands where it says and is counted; Ctrl-C ends it well."""
    smtp, http = free_port(), free_port()

    with demo(tmp_path, smtp, http) as daemon:
        line = daemon.line("import smtplib").strip()
        new = Path(daemon.line("/new").split()[0])
        page = re.search(r"http://\S+", daemon.line("http://"))
        daemon.line("Ctrl-C")
        daemon.line("started")
        subprocess.run(line.replace("python3", sys.executable, 1), shell=True, check=True)
        daemon.line("finished")
        assert page is not None
        html = fetched(page[0])
        health = json.loads(fetched(f"{page[0]}health"))
        status = daemon.stop(signal.SIGINT)

    [mail] = mailbox.Maildir(new.parent)
    assert mail["Subject"] == "hello"
    assert mail["Return-Path"] == "<me@example.com>"
    assert new.parent.parent == tmp_path / "state" / "mailrelay-demo"
    assert health["totals"]["successfulEmails"] == 1
    assert [provider["name"] for provider in health["providers"]] == ["sandbox"]
    assert "<html" in html
    assert status == 0
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.needs("swaks")
def test_the_line_for_swaks(tmp_path: Path) -> None:
    """The other line that it prints works as it stands, too."""
    with demo(tmp_path, free_port(), free_port()) as daemon:
        line = daemon.line("swaks").strip()
        daemon.line("started")
        subprocess.run(line, shell=True, check=True, stdout=subprocess.DEVNULL)
        daemon.line("finished")


@pytest.mark.parametrize("which", ["smtp", "http"])
def test_a_port_that_is_taken(tmp_path: Path, which: str) -> None:
    """One line says which port, and how to name another."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        smtp, http = (taken, free_port()) if which == "smtp" else (free_port(), taken)
        with demo(tmp_path, smtp, http) as daemon:
            line = daemon.line("Error")
            status = daemon.process.wait(30)

    assert f"port {taken} on 127.0.0.1" in line
    assert f"--{which}-port" in line
    assert status == 1
