"""What is seen of mailrelay while it works: pages without secrets, and at every address of loopback."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families

from tests.daemon import PATIENCE
from tests.running import Running, configure, letter, soon
from tests.sink import Sink

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


def counted(relay: Running) -> tuple[float, float, int]:
    """Mails received and finished in this life, by /metrics, and those that wait, by /health."""
    families = {
        family.name: family for family in text_string_to_metric_families(ask(relay.http, "/metrics")[2].decode())
    }
    received, finished = (
        sum(sample.value for sample in families[f"mailrelay_messages_{name}"].samples)
        for name in ("received", "finished")
    )
    return received, finished, relay.health()["queue"]["total"]


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
