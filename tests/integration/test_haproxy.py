"""Behind HAProxy: for whom it speaks, whether a daemon is ready, and daemons that come and go under load."""

from __future__ import annotations

import smtplib
from pathlib import Path

import pytest

from tests.daemon import PATIENCE, free_port
from tests.haproxy import HAProxy
from tests.running import Running, configure, given, letter
from tests.sink import Sink

pytestmark = pytest.mark.needs("haproxy")

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
