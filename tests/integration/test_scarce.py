"""No inodes, or no file descriptors: mail that cannot be kept is refused for now, and nothing else suffers."""

from __future__ import annotations

import json
import smtplib
import socket
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from tests.integration.test_full_disk import in_a_namespace, may_mount
from tests.running import Running, configure, given, letter, soon
from tests.sink import Sink

LARGE = 300 * 1024
DESCRIPTORS = 60


def codes_of(client: smtplib.SMTP, taken: list[str], *contents: bytes) -> list[int]:
    """What each mail is answered; the ids of those that are taken are noted."""
    codes = []
    for content in contents:
        try:
            taken.append(given(client, content))
            codes.append(250)
        except smtplib.SMTPResponseException as refused:
            codes.append(refused.smtp_code)
            assert client.rset()[0] == 250
    return codes


def use_up_inodes(disk: Path) -> list[Path]:
    """Files, until there can be no more."""
    files: list[Path] = []
    with suppress(OSError):
        while True:
            path = disk / f"filler-{len(files)}"
            path.touch(exist_ok=False)
            files.append(path)
    return files


def tracebacks(relay: Running) -> list[str]:
    """What went wrong in ways that nobody had thought of."""
    return [line for line in relay.errors if "traceback" in json.loads(line)]


@pytest.mark.needs("unshare", "mount")
@pytest.mark.skipif(not may_mount(), reason="mounting a file system is not permitted here")
def test_no_inodes(tmp_path: Path) -> None:
    """Large mail, which needs a file, gets 452; small mail goes on; so does the next start."""
    mounted = in_a_namespace("mount -t tmpfs -o size=64M,nr_inodes=60 none spool")
    (tmp_path / "spool").mkdir()
    taken: list[str] = []
    with Sink() as sink:
        configure(tmp_path, [sink.table()], {"spool": {"min_free": "8MiB"}, "alerts": {"check_interval": "200ms"}})
        with Running(tmp_path, under=mounted) as relay:
            disk = Path(f"/proc/{relay.process.pid}/root{tmp_path}/spool")
            with relay.client() as client:
                files = use_up_inodes(disk)
                codes = codes_of(client, taken, letter("large", LARGE), letter("small"), letter("large-2", LARGE))
                raised = relay.event("alert")
                for file in files:
                    file.unlink()
                after = codes_of(client, taken, letter("large-3", LARGE))
            soon(lambda: relay.health()["queue"]["total"] == 0, "all of it is delivered")
            left = list((disk / "bodies").iterdir())
            wrong = tracebacks(relay)

    assert codes == [452, 250, 452]
    assert after == [250]
    assert (raised["alert"], "inodes" in raised["message"]) == ("disk", True)
    assert sorted(mail.id for mail in sink.mails) == sorted(taken)
    assert (left, wrong) == ([], [])


@pytest.mark.needs("prlimit")
def test_no_descriptors(tmp_path: Path) -> None:
    """There are fewer sessions, one too many is told so, who is there goes on, and nobody is lost or sent twice."""
    taken: list[str] = []
    with Sink() as sink:
        configure(tmp_path, [sink.table()], {"smtp": {"max_connections": 1000}, "delivery": {"probe": "1s"}})
        with Running(tmp_path, under=["prlimit", f"--nofile={DESCRIPTORS}"]) as relay:
            with relay.client() as client, ExitStack() as others:
                greeted = Counter(
                    others.enter_context(socket.create_connection(("127.0.0.1", relay.smtp), 10)).recv(3)
                    for _ in range(3 * DESCRIPTORS)
                )  # b"" to who comes while those before are still being told 421
                contents = [letter(f"{name}-{number}", LARGE * number) for name in "abc" for number in (0, 1)]
                codes = codes_of(client, taken, *contents)
            soon(lambda: relay.health()["status"] == "ok", "all is well")
            assert greeted.keys() - {b""} == {b"220", b"421"}
            taken += relay.submit(letter("after"), letter("after-large", LARGE))
            soon(lambda: relay.health()["queue"]["total"] == 0, "all of it is delivered")
            wrong = tracebacks(relay)
            warned = relay.event("warning")

    assert codes == [250] * 6
    assert sorted(mail.id for mail in sink.mails) == sorted(taken)
    assert wrong == []
    assert str(warned["message"]).startswith(f"only {DESCRIPTORS} file descriptors are allowed, so 12 SMTP connections")
    assert list((tmp_path / "spool" / "bodies").iterdir()) == []


@pytest.mark.needs("prlimit")
def test_all_descriptors_taken(tmp_path: Path) -> None:
    """By connections to the page: whoever has a session goes on, nobody spins, and all is well once they are gone."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()], {"delivery": {"probe": "1s"}})
        with Running(tmp_path, under=["prlimit", f"--nofile={DESCRIPTORS}"]) as relay:
            process = psutil.Process(relay.process.pid)
            with relay.client() as client, ExitStack() as others:
                for _ in range(2 * DESCRIPTORS):
                    with suppress(OSError):
                        others.enter_context(socket.create_connection(("127.0.0.1", relay.http), 10))
                taken: list[str] = []
                codes = [code for _ in range(20) for code in codes_of(client, taken, letter("a"), letter("b", LARGE))]
                used, began = sum(process.cpu_times()[:2]), time.monotonic()
                soon(lambda: time.monotonic() - began > 2.0, "two seconds are over")
                used = sum(process.cpu_times()[:2]) - used
            soon(lambda: relay.health()["status"] == "ok", "all is well")
            soon(lambda: relay.health()["queue"]["total"] == 0, "all of it is delivered")
            wrong = tracebacks(relay)

    assert codes[::2] == [250] * 20
    assert set(codes[1::2]) <= {250, 451}
    assert used < 1.0
    assert sorted(mail.id for mail in sink.mails) == sorted(taken)
    assert wrong == []
