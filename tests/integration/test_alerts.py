"""A daemon with a provider in trouble: who is told, how, and what is never told."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from relay.metrics import ALERTS, PROVIDER_ALERTS
from tests.daemon import PATIENCE
from tests.running import Running, Settings, configure, letter, soon
from tests.sink import Sink

SESAME = "sesame-open"


class Hook(ThreadingHTTPServer):
    """A webhook that takes everything. `posts` are what it was told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.posts: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """Where it is, with what must not be shown."""
        return f"http://127.0.0.1:{self.server_port}/{SESAME}"

    def states(self, alert: str) -> list[str]:
        """What it was told of that alert, in order."""
        return [post["state"] for post in list(self.posts) if post["alert"] == alert]


class _Post(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        """Part of BaseHTTPRequestHandler."""
        self.server.posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    """Open before the test, closed after it."""
    with Hook() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield made
        made.shutdown()
        thread.join(PATIENCE)


def get(daemon: Running, path: str) -> str:
    """A page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.http}{path}", timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
        return text


def test_a_provider_that_goes_away_and_comes_back(tmp_path: Path, hook: Hook) -> None:
    """Log, webhook, mail, page and metrics all say so, and that it is over; the mail goes over the other provider."""
    alerts = {
        "check_interval": "500ms",
        "webhook": hook.url,
        "mail_to": ["ops@example.com"],
        "mail_from": "alarm@example.com",
    }
    with Sink("away") as away, Sink("there") as there:
        configure(
            tmp_path,
            [away.table(), there.table()],
            {"alerts": alerts, "delivery": {"probe": "500ms", "probe_max": "1s"}, "spool": {"min_free": 0}},
        )
        away.stop()
        with Running(tmp_path) as daemon:
            for name in (*ALERTS, *[f"{name}:{where}" for where in ("away", "there") for name in PROVIDER_ALERTS]):
                assert f'mailrelay_alert_active{{alert="{name}"}} 0.0' in get(daemon, "/metrics")

            daemon.submit(letter("one"))
            raised = daemon.event("alert")
            soon(lambda: hook.states("provider_down:away"), "the webhook is told")
            told = [message_from_bytes(mail.content) for mail in there.wait_for(2)]
            [mail] = [mail for mail in told if mail["Auto-Submitted"] == "auto-generated"]

            assert raised["alert"] == "provider_down:away"
            assert mail["From"] == "alarm@example.com"
            assert mail["To"] == "ops@example.com"
            assert 'mailrelay_alert_active{alert="provider_down:away"} 1.0' in get(daemon, "/metrics")
            [alert] = daemon.health()["alerts"]
            assert alert["name"] == "provider_down:away"
            assert alert["since"] == hook.posts[0]["since"]
            assert daemon.health()["status"] == "degraded"
            assert hook.posts[0]["instance"] == "relay.example"
            assert hook.posts[0]["message"] == raised["message"]

            away.start()
            assert daemon.event("alert_cleared")["alert"] == "provider_down:away"
            soon(lambda: "cleared" in hook.states("provider_down:away"), "the webhook is told that it is over")
            soon(lambda: any(b"is over" in mail.content for mail in [*away.mails, *there.mails]), "so is the mail")
            assert daemon.health()["status"] == "ok"
            shown = get(daemon, "/health") + get(daemon, "/") + get(daemon, "/metrics")
            daemon.stop()

            assert SESAME not in shown
            assert not [line for line in daemon.output + daemon.errors if SESAME in line]


def test_mail_that_nobody_wants_yet(tmp_path: Path, hook: Hook) -> None:
    """The providers are up and mail stands still: that is told in their words, with nobody's address, until it goes."""
    alerts = {
        "check_interval": "300ms",
        "backlog": 3,
        "oldest": "2s",
        "webhook": hook.url,
        "mail_to": ["ops@example.com"],
    }
    settings: Settings = {"alerts": alerts, "spool": {"min_free": 0}, "retry": {"interval": "1s"}}
    names = {"backlog", "oldest", "stalled"}
    with Sink() as sink:
        sink.judge = lambda step, to: "450 4.2.1 <b@example.net> later" if step == "RCPT" and b"b@" in to else ""
        configure(tmp_path, [sink.table()], settings)
        with Running(tmp_path) as daemon:
            daemon.submit(*[letter(f"mail{number}") for number in range(5)])
            soon(lambda: {each["name"] for each in daemon.health()["alerts"]} == names, "all are active")
            sink.judge = lambda _step, _to: ""
            soon(lambda: not daemon.health()["alerts"], "all are over")
            soon(lambda: all(hook.states(name) == ["raised", "cleared"] for name in names), "the webhook is told")
            over = [f"{name} is over".encode() for name in names]
            soon(lambda: all(any(each in mail.content for mail in list(sink.mails)) for each in over), "so are people")

    raised = [post["message"] for post in hook.posts if post["state"] == "raised"]
    assert ['it said "450 4.2.1 <[address]> later".' in message for message in raised] == [True] * 3
    assert "example.net" not in json.dumps(hook.posts)


def test_a_refused_login_is_told_at_once(tmp_path: Path, hook: Hook) -> None:
    """However long it is until the next check; neither the password nor the webhook stands anywhere."""
    with Sink("sink", login=("user", "right")) as sink:
        configure(
            tmp_path,
            [sink.table(password=SESAME)],
            {"alerts": {"check_interval": "1h", "webhook": hook.url}, "spool": {"min_free": 0}},
        )
        with Running(tmp_path) as daemon:
            daemon.submit(letter("one"))

            raised = daemon.event("alert")
            soon(lambda: hook.posts, "the webhook is told")
            daemon.stop()

            assert raised["alert"] == "provider_down:sink"
            assert '"535 5.7.8 Not you"' in raised["message"]
            assert SESAME not in json.dumps(raised)
            assert SESAME not in json.dumps(hook.posts)
            assert not [line for line in daemon.output + daemon.errors if SESAME in line]


def test_a_certificate_that_ends_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is seen with the first connection, and told with its day."""
    authority, ends = trustme.CA(), datetime.now(UTC) + timedelta(days=10)
    monkeypatch.setattr(authority, "issue_cert", partial(authority.issue_cert, not_after=ends))
    with Sink("sink", tls="starttls", authority=authority) as sink:
        table = sink.table(ca_file=sink.write_authority(tmp_path / "ca.pem"))
        configure(tmp_path, [table], {"alerts": {"check_interval": "500ms"}, "spool": {"min_free": 0}})
        with Running(tmp_path) as daemon:
            daemon.submit(letter("one"))
            raised = daemon.event("alert")

            assert raised["alert"] == "certificate:sink"
            assert f"on {ends:%Y-%m-%d}" in raised["message"]


def test_a_webhook_that_hangs(tmp_path: Path) -> None:
    """Mail goes on, and the daemon ends at once."""
    with Sink("sink") as sink, _Silent() as silent:
        configure(
            tmp_path,
            [sink.table()],
            {"alerts": {"check_interval": "200ms", "webhook": silent.url}, "spool": {"min_free": 2**50}},
        )
        with Running(tmp_path) as daemon:
            assert daemon.event("alert")["alert"] == "disk"
            silent.reached.wait(PATIENCE)

            assert daemon.health()["alerts"][0]["name"] == "disk"
            assert daemon.stop() in (0, -15)


class _Silent:
    """Takes connections and says nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self.reached = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> _Silent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(PATIENCE)
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, suppress(ConnectionResetError):
            connection.recv(65536)
            self.reached.set()
            while connection.recv(65536):
                pass
