"""Behind HAProxy: for whom it speaks, whether a daemon is ready, and daemons that come and go under load.

MAILRELAY_RESTARTS says how often; --log-cli-level=info shows what came of it.
"""

from __future__ import annotations

import logging
import os
import smtplib
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.applications import Applications
from tests.daemon import CHECKOUT, PATIENCE, free_port
from tests.fleet import Fleet, postgresql
from tests.haproxy import HAProxy
from tests.papers import blocks
from tests.postgres import Servers
from tests.reckoning import Reckoning
from tests.running import Running, configure, given, letter, soon
from tests.sink import Sink

pytestmark = pytest.mark.needs("haproxy")

RESTARTS = int(os.environ.get("MAILRELAY_RESTARTS", "3"))
LOG = logging.getLogger(__name__)

DEFAULTS = """
defaults
    mode tcp
    timeout connect 2s
    timeout client 1m
    timeout server 1m
    timeout check 5s
"""


def through(port: int, source: str = "127.0.0.1", host: str = "127.0.0.1") -> smtplib.SMTP:
    """An application that has said EHLO through HAProxy."""
    client = smtplib.SMTP(host, port, "app.example", timeout=PATIENCE, source_address=(source, 0))
    client.ehlo_or_helo_if_needed()
    return client


class Front:
    """Where HAProxy is to listen, the provider, and the daemon behind."""

    def __init__(self, folder: Path, sink: Sink, smtp: int = 0, http: int = 0) -> None:
        self.folder = folder
        self.port = free_port()
        listen = {
            "smtp": {"listen": [f"haproxy:tcp:{smtp}:interface=127.0.0.1"]},
            "http": {"listen": [f"tcp:{http}:interface=127.0.0.1"]},
        }
        configure(folder, [sink.table()], listen)
        self.relay = Running(folder)

    def proxy(self, server: str, front: str = "", back: str = "", host: str = "127.0.0.1") -> HAProxy:
        """HAProxy, with these words behind the daemon's address, and these lines in its two sections."""
        return HAProxy(
            self.folder,
            f"{DEFAULTS}\nfrontend smtp\n    bind {host}:{self.port}\n    {front}\n    default_backend relays\n"
            f"backend relays\n    {back}\n    server a 127.0.0.1:{self.relay.smtp} {server}\n",
        )


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_for_whom_it_speaks(tmp_path: Path, version: str) -> None:
    """The mail comes from the application that HAProxy names, by either version of the header."""
    with Sink() as sink:
        front = Front(tmp_path, sink)
        with front.relay as relay, front.proxy(version):
            with through(front.port, "127.0.0.7") as client:
                uuid = given(client, letter("proxied"))
            received = relay.event("received")
            sink.wait_for(1)

    assert (received["id"], received["client"]) == (uuid, "127.0.0.7")


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_an_application_by_ipv6(tmp_path: Path, version: str) -> None:
    """It is named by its own address, whatever HAProxy goes on with."""
    with Sink() as sink:
        front = Front(tmp_path, sink)
        with front.relay as relay, front.proxy(version, host="[::1]"):
            with through(front.port, "::1", "::1") as client:
                given(client, letter("proxied"))
            received = relay.event("received")

    assert received["client"] == "::1"


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("source", ["192.0.2.1", "10.0.0.1"])
def test_an_application_of_another_machine(tmp_path: Path, version: str, source: str) -> None:
    """HAProxy being of this machine does not make it welcome."""
    with Sink() as sink:
        front = Front(tmp_path, sink)
        with front.relay as relay, front.proxy(version, f"tcp-request connection set-src str({source})"):
            with pytest.raises(smtplib.SMTPConnectError) as refused:
                through(front.port)
            event = relay.event("refused")

    assert (refused.value.smtp_code, refused.value.smtp_error[:6]) == (554, b"5.7.1 ")
    assert event["client"] == source


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_a_check_that_speaks_for_nobody(tmp_path: Path, version: str) -> None:
    """HAProxy's own connections (UNKNOWN, LOCAL) come from HAProxy, which is of this machine; they are no error."""
    with Sink() as sink:
        front = Front(tmp_path, sink)
        check = f"{version} check inter 100ms rise 2 fall 2 check-send-proxy"
        with front.relay as relay, front.proxy(check, back="option smtpchk EHLO proxy.example") as proxy:
            proxy.await_state("a", "UP")
            with through(front.port) as client:
                given(client, letter("checked"))
            sink.wait_for(1)
            assert proxy.states() == {"a": "UP"}

    assert [line for line in relay.errors if '"refused"' in line or '"error"' in line] == []


def test_ready_or_not(tmp_path: Path) -> None:
    """Its check of /readyz needs no Host; a daemon that stops is out of use, and in use again once it is back."""
    http = free_port()
    check = f"send-proxy-v2 check port {http} inter 100ms rise 1 fall 1"
    with Sink() as sink:
        front = Front(tmp_path, sink, free_port(), http)
        with front.proxy(check, back="option httpchk GET /readyz") as proxy:
            with front.relay as relay:
                proxy.await_state("a", "UP")
                relay.stop()
            proxy.await_state("a", "DOWN")
            with Running(tmp_path):
                proxy.await_state("a", "UP")
                with through(front.port) as client:
                    given(client, letter("back"))
                sink.wait_for(1)


def as_documented(fleet: Fleet, port: int) -> str:
    """The configuration in docs/how-to/several-instances.md, with the ports of these instances."""
    [text] = blocks(CHECKOUT / "docs" / "how-to" / "several-instances.md", "haproxy")
    words = {"2525": port, "inter 1s": "inter 200ms"}
    for number, name in enumerate(fleet.ports, 1):
        words |= {f"253{number}": fleet.ports[name], f"803{number}": fleet.checks[name]}
    for word, other in words.items():
        text = text.replace(word, str(other))
    return text


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_restarts_under_load(tmp_path: Path, backend: str, postgresql_servers: Servers) -> None:
    """Two daemons, one of which is stopped and started again: nobody is turned away, and no mail is lost."""
    spool: Mapping[str, object] = postgresql(postgresql_servers["pip"].new()) if backend == "postgresql" else {}
    with Sink() as sink, Fleet(tmp_path, "ab", [sink.table()], spool, proxied=True) as fleet:
        sink.judge = lambda step, what: "550 5.1.1 No such user" if step == "RCPT" and b"<nobody" in what else ""
        fleet.start()
        port = free_port()
        with HAProxy(tmp_path, as_documented(fleet, port)) as proxy:
            applications = Applications([port], many=8, most=1, largest=2000)
            with applications:
                for _ in range(RESTARTS):
                    applications.handed.wait_for(50)
                    fleet.stop("a")
                    fleet.start("a")
                    proxy.await_state("1", "UP")
        soon(lambda: not any(each.health()["queue"]["total"] for each in fleet.running.values()), "all is settled")
    reckoning = Reckoning.of(applications.handed, [sink], {})
    LOG.info("%s, %d mails", reckoning, applications.handed.mails)

    assert applications.refused == {}
    assert applications.said == {}
    assert applications.lost == 0
    assert (reckoning.lost, reckoning.copies, reckoning.torn) == (frozenset(), 0, 0)
    assert set(fleet.settled().values()) == {1}
