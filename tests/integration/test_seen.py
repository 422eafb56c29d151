"""What is seen of mailrelay while it works: pages without secrets, at every address of loopback, and sums that agree.

MAILRELAY_LIVES says how many lives between kills the sums are looked at in; --log-cli-level=info shows them.
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import os
import random
import shutil
import smtplib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families

from tests.daemon import PATIENCE
from tests.running import Running, Settings, configure, given, letter, soon
from tests.sink import Sink

LIVES = int(os.environ.get("MAILRELAY_LIVES", "2"))
LOG = logging.getLogger(__name__)
PATHS = ["/", "/status.json", "/history.json", "/health", "/livez", "/readyz", "/metrics"]


def ask(port: int, path: str, method: str = "GET", host: str = "127.0.0.1", **fields: str) -> tuple[int, str, bytes]:
    """Status, content type and body of one answer."""
    with closing(http.client.HTTPConnection(host, port, timeout=PATIENCE)) as connection:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in fields.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A provider that takes every mail."""
    with Sink() as sink:
        yield sink


def test_pages_that_tell_no_secrets(tmp_path: Path) -> None:
    """Not the password in any form, not the login, not whom a delivered mail was for nor what it was about."""
    authority, login = trustme.CA(), ("relay@example.com", "correct horse battery staple")
    with Sink("primary", tls="implicit", authority=authority, login=login) as sink:
        table = sink.table(ca_file=sink.write_authority(tmp_path / "ca.pem"), password=login[1])
        configure(tmp_path, [table])
        with Running(tmp_path) as relay:
            relay.submit(letter("a private matter"))
            relay.event("finished")
            shown = {path: ask(relay.http, path) for path in PATHS}

    encoded = base64.b64encode("\0".join(("", *login)).encode())
    for path, (status, _, body) in shown.items():
        assert status == 200, path
        for secret in (login[1].encode(), encoded, base64.b64encode(login[1].encode()), b"@example", b"private"):
            assert secret not in body, path
    assert json.loads(shown["/health"][2])["totals"]["successfulEmails"] == 1


def test_two_addresses_of_loopback(tmp_path: Path, sink: Sink) -> None:
    """All of 127.0.0.0/8 is this machine, as a listener and as a Host."""
    configure(
        tmp_path,
        [sink.table()],
        {"http": {"listen": [f"tcp:0:interface={host}" for host in ("127.0.0.1", "127.0.1.1")]}},
    )
    with Running(tmp_path) as relay:
        port = int(relay.started["http"][1].rpartition(":")[2])
        status, kind, body = ask(port, "/metrics", host="127.0.1.1", Accept_Encoding="gzip")
        foreign = ask(relay.http, "/metrics", Host="app1.example.com:8025")

    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"mailrelay_provider_up" in body
    assert foreign[0] == 403
    assert b"mailrelay_" not in foreign[2]


class Sums(NamedTuple):
    """Mails received and finished in one life, and those that wait, of one moment."""

    received: int
    finished: int
    waiting: int


def counted(relay: Running) -> Sums:
    """By one answer of /metrics."""
    text = ask(relay.http, "/metrics")[2].decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    names = ("messages_received", "messages_finished", "queue_messages")
    return Sums(*[int(sum(each.value for each in families[f"mailrelay_{name}"].samples)) for name in names])


def test_counters_of_two_lives(tmp_path: Path, sink: Sink) -> None:
    """Waiting at its start + received = finished + waiting now, in each; the log counts the same."""
    configure(tmp_path, [sink.table()], {"retry": {"schedule": ["5s"]}, "bounce": {"to": "none"}})
    sink.says("RCPT", "550 5.1.1 unknown")
    sink.says("RCPT", "451 4.7.1 later", times=3)
    with Running(tmp_path) as relay:
        relay.submit(*[letter(f"mail{number}") for number in range(6)])
        soon(lambda: counted(relay)[1:] == (3, 3), "three have come to their end, three wait")
        first, health = counted(relay), relay.health()
        relay.stop()
        lines = "\n".join(relay.errors)
    with Running(tmp_path) as relay:
        at_start = relay.health()["queue"]["total"]
        relay.submit(letter("new"))
        soon(lambda: counted(relay)[2] == 0, "nothing waits")
        second = counted(relay)

    assert first == (6, 3, 3)
    assert (health["totals"]["successfulEmails"], health["totals"]["failedEmails"]) == (2, 1)
    assert [lines.count(f'"event":"{event}"') for event in ("received", "finished")] == [6, 3]
    assert (at_start, second) == (3, (1, 4, 0))


def in_the_spool(folder: Path, copy: Path) -> int:
    """How many mails wait in the spool of a daemon that is not there, by a copy of it."""
    if not (folder / "spool").exists():
        return 0
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in (folder / "spool").glob("spool.sqlite*"):
        shutil.copy(file, copy)
    with closing(sqlite3.connect(copy / "spool.sqlite")) as connection:
        waiting: int = connection.execute("SELECT count(*) FROM mail").fetchone()[0]
    return waiting


def fate(step: str, argument: bytes) -> str:
    """As Sink.judge is called: a recipient's name says what is said to it."""
    if step == "RCPT" and b"<nobody" in argument:
        return "550 5.1.1 No such user"
    return "450 4.2.1 Later" if step == "RCPT" and b"<later" in argument else ""


def one_life(folder: Path, copy: Path, number: int, choose: random.Random) -> tuple[int, Sums, int]:
    """What waited at its start by the spool, the last sums before it was killed, and how often they were looked at.

    In every second life the load ends first, until the log has told of all that was counted.
    """
    before, looked, pause = in_the_spool(folder, copy), 0, threading.Event()
    with Running(folder) as relay:

        def apply(name: str, seed: float) -> None:
            fates = random.Random(seed)
            try:
                with relay.client() as client:
                    while not pause.is_set():
                        to = fates.choices(("taken", "later", "nobody"), (6, 2, 1))[0]
                        given(client, letter(f"{name}-{number}"), f"{to}@example.net")
            except (OSError, smtplib.SMTPException):
                return

        applications = [threading.Thread(target=apply, args=(f"{each}", choose.random())) for each in range(3)]
        for each in applications:
            each.start()
        enough = choose.randrange(20, 120)
        sums = counted(relay)
        while sums.received < enough:
            sums, looked = counted(relay), looked + 1
            assert before + sums.received == sums.finished + sums.waiting
        if number % 2:
            pause.set()
            for each in applications:
                each.join()

            def in_the_log() -> bool:
                nonlocal sums
                lines, sums = "\n".join(relay.errors), counted(relay)
                return sums[:2] == tuple(lines.count(f'"event":"{name}"') for name in ("received", "finished"))

            soon(in_the_log, "the log counts the same")
            assert before + sums.received == sums.finished + sums.waiting
        relay.process.kill()
        for each in applications:
            each.join()
    return before, sums, looked


def test_sums_in_every_life(tmp_path: Path, sink: Sink) -> None:
    """Waiting at its start by the spool + received = finished + waiting now, at every look, till it is killed."""
    folder, copy = tmp_path / "relay", tmp_path / "copy"
    folder.mkdir()
    sink.judge = fate
    settings: Settings = {"retry": {"schedule": ["1s"], "interval": "1s"}, "bounce": {"to": "none"}}
    configure(folder, [sink.table()], settings)
    choose = random.Random(LIVES)
    for number in range(LIVES):
        before, sums, looked = one_life(folder, copy, number, choose)
        LOG.info("life %2d: %4d + %4d = %4d + %4d, looked %3d times", number + 1, before, *sums, looked)
