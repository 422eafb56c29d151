"""What is seen of mailrelay while it works: pages without secrets, at every address of loopback, in a browser."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted  # type: ignore[import-untyped]
import trustme
from twisted.internet import reactor, utils
from twisted.internet.defer import Deferred

from relay.http.figures import Connections, Failure, Health, Provider, ProviderState, Queue, Spool, Totals, gauges
from relay.http.site import make_site
from relay.metrics import Metrics
from tests.daemon import PATIENCE
from tests.running import Running, configure, letter
from tests.sink import Sink

PATHS = ["/", "/status.json", "/health", "/livez", "/readyz", "/metrics"]


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


class Counting:
    """A source whose figures grow each time that somebody asks."""

    asked = 0

    def health(self) -> Health:
        """One more mail finished."""
        self.asked += 1
        provider = Provider(
            "primary", ProviderState.UP, Connections(0, 0, 10), "<script>document.title='owned'</script>"
        )
        return Health("1", "app1", 1, True, Totals(1000 + self.asked), Queue(), [provider], Spool("sqlite", True, 1))

    def ready(self) -> bool:
        """Yes."""
        return True

    def failures(self) -> Sequence[Failure]:
        """One more each time, all of them markup."""
        return [Failure(0, "uuid", "primary", "deferred", "<b>no</b>")] * self.asked


@pytest.mark.needs("chromium")
@pytest_twisted.inlineCallbacks  # type: ignore[untyped-decorator]  # it has no types
def test_the_page_in_a_browser(tmp_path: Path) -> Generator[Deferred[Any], Any, None]:
    """It renews itself by its own script under its own policy, and a provider's markup stays text."""
    source, clock = Counting(), cast(Any, reactor)
    site = make_site(source, Metrics("1", lambda: gauges(source.health(), 0)), clock=clock, now=time.time)
    port = clock.listenTCP(0, site, interface="127.0.0.1")
    command = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--enable-logging=stderr",
        "--virtual-time-budget=7000",
        "--dump-dom",
        f"http://127.0.0.1:{port.getHost().port}/",
    ]
    try:
        dom, errors, status = yield utils.getProcessOutputAndValue("chromium", command, env=os.environ)
    finally:
        yield port.stopListening()

    text = dom.decode()
    assert status == 0
    assert "CONSOLE" not in errors.decode()
    assert source.asked >= 3
    assert f'<dd id="emails">{1000 + source.asked:,}</dd>' in text
    assert "<title>mailrelay</title>" in text
    assert text.count("&lt;b&gt;no&lt;/b&gt;") == source.asked
    assert not re.search("data-silent|<b>no", text)
