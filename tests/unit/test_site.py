"""The site: HTTP as it is spoken, whole and in pieces, and what every answer says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure as TwistedFailure

from relay.http.answers import wants_openmetrics
from relay.http.figures import Connections, Failure, Health, Provider, ProviderState, Queue, Spool, Totals, gauges
from relay.http.history import Counted, History
from relay.http.site import BODY, CONNECTIONS, HEADER, IDLE, Site, make_site
from relay.metrics import Metrics

NOW = 1700000000.0
UP = Provider("primary", ProviderState.UP, Connections(2, 1, 10))
HEALTH = Health("1.2", "app1", 1, True, Totals(), Queue(), [UP], Spool("sqlite", True, 1000))
FILES = ["/page.css", "/page.js", "/plots.js", "/uplot.css", "/uplot.js", "/icon.svg"]
PATHS = ["/", *FILES, "/status.json", "/history.json", "/health", "/livez", "/readyz", "/metrics"]


@dataclass
class Daemon:
    """A source whose figures a test sets, and the site that shows them."""

    now: Health = HEALTH
    is_ready: bool = True
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        metrics = Metrics("1.2", lambda: gauges(self.now, 0))
        metrics.provider("primary")
        self.history = History(NOW, NOW)
        self.site: Site = make_site(self, metrics, clock=self.clock, now=lambda: NOW)

    def health(self) -> Health:
        """What the test has set."""
        return self.now

    def ready(self) -> bool:
        """What the test has set."""
        return self.is_ready

    def failures(self) -> Sequence[Failure]:
        """None."""
        return []

    def connect(self, peer: IAddress | None = None) -> tuple[IProtocol, StringTransport]:
        """A connection from `peer`, else from loopback."""
        peer = peer or IPv4Address("TCP", "127.0.0.1", 40000)
        protocol = self.site.buildProtocol(peer)
        assert protocol is not None
        transport = StringTransport(peerAddress=peer)
        protocol.makeConnection(transport)
        return protocol, transport

    def ask(self, octets: bytes, peer: IAddress | None = None) -> bytes:
        """All that is answered to `octets`, which come at once."""
        protocol, transport = self.connect(peer)
        protocol.dataReceived(octets)
        return bytes(transport.value())

    def get(self, path: str, method: str = "GET", **fields: str) -> Reply:
        """The answer to a request for `path`, with these fields besides Host."""
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in {"Host": "localhost", **fields}.items()]
        [reply] = parsed(self.ask(f"{method} {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()), method == "HEAD")
        return reply


@dataclass(frozen=True)
class Reply:
    """One answer, taken apart."""

    code: int
    fields: dict[str, str]
    body: bytes


def parsed(octets: bytes, head: bool = False) -> list[Reply]:
    """The answers in `octets`, each as long as its Content-Length says (or without a body, to HEAD)."""
    replies = []
    while octets:
        header, _, octets = octets.partition(b"\r\n\r\n")
        status, *lines = header.decode().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines)
        length = 0 if head else int(fields.get("Content-Length", 0))
        replies.append(Reply(int(status.split()[1]), fields, octets[:length]))
        octets = octets[length:]
    return replies


@pytest.mark.parametrize("path", PATHS)
def test_every_page(path: str) -> None:
    """Nothing is kept, guessed, embedded or run from elsewhere; nobody is told what serves it."""
    reply = Daemon().get(path)

    assert reply.code == 200
    assert reply.body
    assert reply.fields["Cache-Control"] == "no-store"
    assert reply.fields["X-Content-Type-Options"] == "nosniff"
    assert reply.fields["Cross-Origin-Resource-Policy"] == "same-origin"
    assert reply.fields["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in reply.fields["Content-Security-Policy"]
    assert reply.fields["Date"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert not any(name.startswith("Access-Control-") for name in reply.fields)
    assert "Server" not in reply.fields


@pytest.mark.parametrize("path", [*PATHS, "/none"])
def test_head_of_every_page(path: str) -> None:
    """The fields of a GET, and no body."""
    daemon = Daemon()
    got, head = daemon.get(path), daemon.get(path, "HEAD")

    assert (head.code, head.fields) == (got.code, got.fields)
    assert head.body == b""


@pytest.mark.parametrize(
    "path", ["/none", "/health/", "//health", "/page.py", "/../health", "/%68ealth", "health", "*"]
)
def test_no_such_page(path: str) -> None:
    """404, in one line, which does not repeat what was asked for."""
    reply = Daemon().get(path)

    assert reply.code == 404
    assert reply.body.count(b"\n") == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "get", "QUERY"])
def test_other_methods(method: str) -> None:
    """405, with what may be done instead."""
    reply = Daemon().get("/metrics", method)

    assert reply.code == 405
    assert reply.fields["Allow"] == "GET, HEAD"
    assert b"mailrelay_" not in reply.body


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8025", "127.1"])
@pytest.mark.parametrize("path", PATHS)
def test_a_host_that_is_another(host: str, path: str) -> None:
    """403 with one line that says why, and nothing of the page."""
    reply = Daemon().get(path, Host=host)

    assert reply.code == 403
    assert b"Host" in reply.body
    assert reply.body.count(b"\n") == 1


def test_a_request_of_a_foreign_page() -> None:
    """It is answered, and no browser hands the answer on."""
    assert Daemon().get("/health", Origin="https://evil.example").code == 200


def test_a_peer_from_elsewhere() -> None:
    """403, whatever it asks for."""
    peer = IPv4Address("TCP", "192.0.2.1", 40000)
    [reply] = parsed(Daemon().ask(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", peer))

    assert reply.code == 403


@pytest.mark.parametrize(
    ("request_octets", "code"),
    [
        (b"GET /livez HTTP/1.0\r\n\r\n", 200),
        (b"HEAD /readyz HTTP/1.0\r\n\r\n", 200),
        (b"OPTIONS / HTTP/1.0\r\n\r\n", 405),
        (b"GET /livez HTTP/1.1\r\n\r\n", 403),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 403),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\nHOST: evil.example\r\n\r\n", 403),
        (b"GET http://127.0.0.1:8025/livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"GET http://evil.example/livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 403),
        (b"GET http://localhost/livez HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"EHLO localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ],
)
def test_forms_of_a_request(request_octets: bytes, code: int) -> None:
    """HTTP/1.0 needs no Host; what is no HTTP at all ends the connection."""
    for pieces in ([request_octets], [request_octets[at : at + 1] for at in range(len(request_octets))]):
        protocol, transport = Daemon().connect()
        for piece in pieces:
            if not transport.disconnecting:
                protocol.dataReceived(piece)
        assert [reply.code for reply in parsed(transport.value(), request_octets.startswith(b"HEAD"))] == [code]


def test_a_connection_that_stays() -> None:
    """HTTP/1.1: the next request, also where it is there already; "close" and HTTP/1.0 end it."""
    protocol, transport = Daemon().connect()
    one = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    protocol.dataReceived(one)
    protocol.dataReceived(one + one[:20])
    protocol.dataReceived(one[20:] + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

    replies = parsed(transport.value())
    assert [reply.body for reply in replies] == [b"alive\n"] * 4
    assert [reply.fields.get("Connection") for reply in replies] == [None, None, None, "close"]
    assert transport.disconnecting


def test_a_client_that_does_not_read() -> None:
    """Requests that it has sent ahead are answered when it reads on, so that answers never pile up."""
    protocol, transport = Daemon().connect()
    producer, write = transport.producer, transport.write
    assert producer is not None

    def full(octets: bytes) -> None:
        write(octets)
        producer.pauseProducing()

    transport.write = full  # type: ignore[method-assign]
    protocol.dataReceived(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)

    for answered in (1, 2, 3, 3):
        assert len(parsed(transport.value())) == answered
        producer.resumeProducing()


def test_a_body_that_nobody_wants() -> None:
    """A short one is read and thrown away, and the connection stays."""
    post = b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12345"
    chunks = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
    replies = parsed(Daemon().ask(post + chunks + b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"))

    assert [reply.code for reply in replies] == [405, 200, 200]


@pytest.mark.parametrize("length", [f"Content-Length: {BODY + 1}", "Transfer-Encoding: chunked"])
def test_a_body_that_may_be_endless(length: str) -> None:
    """It is not waited for: the answer comes at once, and is the last."""
    protocol, transport = Daemon().connect()
    protocol.dataReceived(f"POST /health HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n".encode())

    [reply] = parsed(transport.value())
    assert (reply.code, reply.fields["Connection"]) == (405, "close")
    assert transport.disconnecting


def test_a_header_that_dribbles() -> None:
    """It has HEADER seconds from its first octet on, however steadily more of it comes."""
    daemon = Daemon()
    protocol, transport = daemon.connect()
    for octet in b"GET / HTTP/1.1\r\nX: ":
        protocol.dataReceived(bytes([octet]))
        daemon.clock.advance(1)
        assert not transport.disconnecting
    daemon.clock.advance(HEADER - 18)

    assert transport.disconnecting
    assert transport.value() == b""


def test_a_connection_that_says_nothing() -> None:
    """It is closed after HEADER seconds, at first; behind an answer it may wait longer, for the next scrape."""
    daemon = Daemon()
    _, silent = daemon.connect()
    protocol, used = daemon.connect()
    protocol.dataReceived(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    daemon.clock.advance(HEADER)
    assert silent.disconnecting
    assert not used.disconnecting
    daemon.clock.advance(IDLE - HEADER)
    assert used.disconnecting


def test_the_second_header_dribbles() -> None:
    """The wait between two requests is no gift to a slow one."""
    daemon = Daemon()
    protocol, transport = daemon.connect()
    protocol.dataReceived(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    daemon.clock.advance(10)
    protocol.dataReceived(b"G")
    daemon.clock.advance(HEADER - 1)
    protocol.dataReceived(b"E")
    assert not transport.disconnecting
    daemon.clock.advance(1)
    assert transport.disconnecting


@pytest.mark.parametrize("filler", [b"X: " + b"x" * 17000, b"X: x\r\n" * 5000, b"x" * 17000])
def test_a_header_that_is_too_large(filler: bytes) -> None:
    """Above 16 KiB the connection ends, whether the end of the header is there or not."""
    protocol, transport = Daemon().connect()
    protocol.dataReceived(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + filler)

    assert transport.disconnecting
    assert b"status" not in transport.value()


def test_a_header_of_nearly_16_kib() -> None:
    """Cookies of other programs on this host may make it long."""
    assert Daemon().get("/health", Cookie="x" * 16000).code == 200


def test_too_many_connections() -> None:
    """A further one is answered; that is closed which was quiet longest, be it that it says nothing."""
    daemon = Daemon()
    connections = [daemon.connect() for _ in range(CONNECTIONS)]
    used, silent = connections[0], connections[1][1]
    used[0].dataReceived(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert daemon.get("/livez").code == 200
    assert silent.disconnecting
    assert [transport for _, transport in connections if transport.disconnecting] == [silent]
    connections[1][0].connectionLost(TwistedFailure(ConnectionDone()))
    connections[2][0].connectionLost(TwistedFailure(ConnectionDone()))

    assert daemon.get("/livez").code == 200
    assert [transport for _, transport in connections if transport.disconnecting] == [silent]
    assert len(daemon.site.connections) == CONNECTIONS


def broken() -> Health:
    raise RuntimeError("no figures")


def test_an_error_of_ours() -> None:
    """It is logged and answered in a line without any detail; the connection goes on."""
    daemon, events = Daemon(), list[LogEvent]()
    daemon.health = broken  # type: ignore[method-assign]
    observe = cast(ILogObserver, events.append)
    globalLogPublisher.addObserver(observe)
    try:
        reply = daemon.get("/health")
    finally:
        globalLogPublisher.removeObserver(observe)

    assert reply.code == 500
    assert b"no figures" not in reply.body
    assert [event["log_failure"].getErrorMessage() for event in events if "log_failure" in event] == ["no figures"]


@pytest.mark.parametrize(
    ("change", "code", "status"),
    [
        (lambda health: health, 200, "ok"),
        (
            lambda health: replace(health, providers=[*health.providers, replace(UP, state=ProviderState.DOWN)]),
            200,
            "degraded",
        ),
        (lambda health: replace(health, taking=False), 503, "failing"),
    ],
)
def test_health(change: Callable[[Health], Health], code: int, status: str) -> None:
    """503 where it is failing; the object is there all the same."""
    reply = Daemon(now=change(HEALTH)).get("/health")

    assert reply.code == code
    assert reply.fields["Content-Type"] == "application/json"
    assert json.loads(reply.body)["status"] == status


def test_ready_and_alive() -> None:
    """One word each; a daemon that is not ready is alive."""
    daemon = Daemon(is_ready=False)

    assert (daemon.get("/livez").code, daemon.get("/livez").body) == (200, b"alive\n")
    assert (daemon.get("/readyz").code, daemon.get("/readyz").body) == (503, b"unready\n")
    daemon.is_ready = True
    assert (daemon.get("/readyz").code, daemon.get("/readyz").body) == (200, b"ready\n")


def test_the_figures_for_the_script() -> None:
    """Texts by element and rows by table."""
    shown = json.loads(Daemon().get("/status.json").body)

    assert shown["texts"]["status"] == "ok"
    assert shown["rows"]["providers"][0][:3] == ["up", "primary", "up"]


TEXT, OPENMETRICS = (
    "text/plain; version=0.0.4; charset=utf-8",
    "application/openmetrics-text; version=1.0.0; charset=utf-8",
)


PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("text/plain;version=1.0.0", TEXT),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0", OPENMETRICS),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;version=2.0.0", TEXT),
        ("application/openmetrics-text;q=0.3, text/plain;q=0.9", TEXT),
        ("application/openmetrics-text;q=nonsense, ;;,", OPENMETRICS),
    ],
)
def test_the_format_of_metrics(accept: str, kind: str) -> None:
    """Content-Type and body are one format, the one asked for; without a wish the older text."""
    reply = Daemon().get("/metrics", Accept=accept, Accept_Encoding="gzip")
    parse = parse_openmetrics if kind == OPENMETRICS else parse_text

    assert wants_openmetrics(accept) is (kind == OPENMETRICS)
    assert reply.fields["Content-Type"] == kind
    assert "Content-Encoding" not in reply.fields
    assert reply.body.endswith(b"# EOF\n") is (kind == OPENMETRICS)
    assert "mailrelay_provider_up" in {family.name for family in parse(reply.body.decode())}


def test_history() -> None:
    """The slots behind the one that is named, a gap being null."""
    daemon = Daemon()
    for second in (1, 2, 3):
        daemon.history.sample(NOW + second, NOW + second, Counted(5 * second, 0, 0), Queue(ready=second))
    whole, rest = (
        json.loads(daemon.get(f"/history.json{query}").body) for query in ("", f"?step=1&after={NOW + 2:.0f}")
    )

    assert {name: whole[name] for name in ("step", "first", "offset", "more")} == {
        "step": 1, "first": NOW + 1, "offset": 0.0, "more": False,
    }  # fmt: skip
    assert whole["columns"]["accepted"] == [5, 5, 5]
    assert whole["columns"]["p99"] == [None, None, None]
    assert rest["columns"]["ready"] == [3]
    assert json.loads(daemon.get("/history.json?step=60").body)["columns"]["ready"] == []


@pytest.mark.parametrize("query", ["step=5", "step=x", "after=x", "after=1e3", f"after={'9' * 5000}", "step=%00"])
def test_history_that_is_not_kept(query: str) -> None:
    """What is asked for makes no sense, and is told so."""
    reply = Daemon().get(f"/history.json?{query}")

    assert (reply.code, reply.body) == (400, b"step is 1 or 60 (seconds), and after the number of a slot.\n")
