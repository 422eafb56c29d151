"""The webhook against real HTTP servers: those that answer, those that hang, those that lead astray."""

from __future__ import annotations

import json
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # it has no types
import trustme
from OpenSSL import SSL
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from relay.alerts.decision import Change
from relay.alerts.outbox import Outbox
from relay.alerts.webhook import PAUSES, TIMEOUT, Webhook
from relay.config.secret import Secret
from tests.daemon import free_port

reactor: Any = _reactor
Function = TypeVar("Function", bound=Callable[..., Any])

CHANGE = Change("disk", "raised", "Das Volumen fasst nichts mehr: 0 Oktette.", 1_700_000_000.0)
SESAME = "sesame"
HANGS = 0


def with_reactor(test: Function) -> Function:
    """Let the test be a coroutine."""
    return cast(Function, pytest_twisted.ensureDeferred(test))


async def until(condition: Callable[[], object]) -> None:
    """Let the reactor turn until `condition` holds, for 20 s at most."""
    deadline = reactor.seconds() + 20
    while not condition():
        assert reactor.seconds() < deadline
        await deferLater(reactor, 0.005)


class Hook(Resource):
    """Answers as its script says: with codes, or HANGS for no answer at all; then with 204.

    posts  the path, the header and the body of each request
    left   how many were closed by the client before they were answered
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.script: deque[int] = deque()
        self.location = ""
        self.posts: list[tuple[str, Any, dict[str, str]]] = []
        self.left = 0
        self.port: Any = None

    def render_POST(self, request: Request) -> bytes | int:
        """Part of Resource."""
        self.posts.append((request.uri.decode(), request.requestHeaders, json.loads(cast(Any, request.content).read())))
        code = self.script.popleft() if self.script else 204
        if code == HANGS:
            request.notifyFinish().addErrback(self._gone)
            return NOT_DONE_YET
        if self.location:
            request.setHeader("Location", self.location)
        request.setResponseCode(code)
        return b""

    def _gone(self, _: object) -> None:
        self.left += 1


@implementer(ILogObserver)
class House:
    """A server and what tells it; `said` is all that was logged anywhere."""

    def __init__(self) -> None:
        self.hook = Hook()
        self.clock = Clock()
        self.said: list[str] = []
        self.warnings: list[str] = []
        self.done: list[object] = []
        globalLogPublisher.addObserver(self)

    def __call__(self, event: LogEvent) -> None:
        """Part of ILogObserver."""
        failure = event.get("log_failure")
        self.said.append(formatEvent(event) + (failure.getTraceback() if failure is not None else ""))

    def listen(self, tls: ServerTls | None = None) -> None:
        """Open the server."""
        site = Site(self.hook)
        site.noisy = False
        site.log = lambda request: None  # type: ignore[method-assign]  # of the server, who knows the URL
        where: dict[str, Any] = {"interface": "127.0.0.1"}
        self.hook.port = (
            reactor.listenTCP(0, site, **where) if tls is None else reactor.listenSSL(0, site, tls, **where)
        )

    @property
    def number(self) -> int:
        """Of the server's port."""
        number: int = self.hook.port.getHost().port
        return number

    def url(self, scheme: str = "http", host: str = "127.0.0.1") -> str:
        """Where the server is."""
        return f"{scheme}://{host}:{self.number}/hooks/{SESAME}?key={SESAME}"

    def tell(self, url: str) -> Outbox:
        """Tell one alert, and note when that is over."""
        webhook = Webhook(Secret(url), "app1", reactor, self.clock, self.warnings.append)
        outbox = Outbox(webhook.carry, self.warnings.append)
        outbox.put(CHANGE)
        return outbox

    def waits_for(self, seconds: float) -> bool:
        """Whether that pause is all that is waited for."""
        return [call.getTime() - self.clock.seconds() for call in self.clock.getDelayedCalls()] == [seconds]

    async def pause(self, seconds: float) -> None:
        """Wait until only that pause is left to wait for, and let it pass."""
        await until(lambda: self.waits_for(seconds))
        self.clock.advance(seconds)

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        await until(lambda: not self.clock.getDelayedCalls())

    async def close(self) -> None:
        """Close all; no secret was said anywhere."""
        globalLogPublisher.removeObserver(self)
        if self.hook.port is not None:
            assert not any(str(self.number) in line for line in self.warnings)
            await self.hook.port.stopListening()
        assert not any(SESAME in line for line in [*self.said, *self.warnings])


@pytest.fixture
def house() -> Any:
    """Made before the test, closed after it."""
    made = House()
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


@with_reactor
async def test_it_is_told(house: House) -> None:
    """One POST with the five fields as JSON, to the very path."""
    house.listen()
    house.tell(house.url())
    await until(lambda: house.hook.posts)
    await house.idle()

    [(path, header, body)] = house.hook.posts
    assert path == f"/hooks/{SESAME}?key={SESAME}"
    assert header.getRawHeaders("Content-Type")[0].startswith("application/json")
    assert header.getRawHeaders("Host") == [f"127.0.0.1:{house.number}"]
    assert body == {
        "alert": "disk",
        "state": "raised",
        "message": CHANGE.message,
        "since": "2023-11-14T22:13:20.000Z",
        "instance": "app1",
    }
    assert house.warnings == []


@with_reactor
async def test_it_fails_twice(house: House) -> None:
    """The third try arrives, and nothing is said of the first two."""
    house.listen()
    house.hook.script.extend([500, 429])
    house.tell(house.url())
    await house.pause(PAUSES[1])
    await house.pause(PAUSES[2])
    await until(lambda: len(house.hook.posts) == 3)
    await house.idle()

    assert house.warnings == []


@with_reactor
async def test_it_fails_for_good(house: House) -> None:
    """Three tries, then a line in the log that says what was answered."""
    house.listen()
    house.hook.script.extend([500, 500, 404])
    house.tell(house.url())
    await house.pause(PAUSES[1])
    await house.pause(PAUSES[2])
    await until(lambda: house.warnings)

    assert house.warnings == ["the webhook could not be told of the alert disk, at 3 tries: it answered 404"]
    assert len(house.hook.posts) == 3
    assert house.clock.getDelayedCalls() == []


@with_reactor
async def test_it_hangs(house: House) -> None:
    """Each try is given up after ten seconds, and its connection closed."""
    house.listen()
    house.hook.script.extend([HANGS] * 3)
    house.tell(house.url())
    for number, pause in enumerate(PAUSES, 1):
        if pause:
            await house.pause(pause)
        await until(lambda: len(house.hook.posts) == number)  # noqa: B023
        house.clock.advance(TIMEOUT - 0.1)
        assert house.hook.left == number - 1
        house.clock.advance(0.1)
        await until(lambda: house.hook.left == number)  # noqa: B023

    await until(lambda: house.warnings)
    assert house.warnings == [
        "the webhook could not be told of the alert disk, at 3 tries: it did not answer within 10 s"
    ]


@with_reactor
async def test_the_newest_state_wins(house: House) -> None:
    """What is over meanwhile is told in place of another try with the old state."""
    house.listen()
    house.hook.script.append(500)
    outbox = house.tell(house.url())
    await until(lambda: house.waits_for(PAUSES[1]))
    outbox.put(Change("disk", "cleared", "There is room.", 0.0))
    house.clock.advance(PAUSES[1])
    await until(lambda: len(house.hook.posts) == 2)
    await house.idle()

    assert [body["state"] for _, _, body in house.hook.posts] == ["raised", "cleared"]
    assert house.warnings == []


@with_reactor
async def test_it_leads_elsewhere(house: House) -> None:
    """A redirect is no success and is not followed, whatever its kind."""
    house.listen()
    house.hook.location = f"http://127.0.0.1:{house.number}/other/{SESAME}"
    house.hook.script.extend([301, 303, 307])
    house.tell(house.url())
    await house.pause(PAUSES[1])
    await house.pause(PAUSES[2])
    await until(lambda: house.warnings)

    assert {path for path, _, _ in house.hook.posts} == {f"/hooks/{SESAME}?key={SESAME}"}
    assert house.warnings == ["the webhook could not be told of the alert disk, at 3 tries: it answered 307"]


@with_reactor
async def test_nobody_is_there(house: House) -> None:
    """It is said without naming where."""
    house.tell(f"http://127.0.0.1:{free_port()}/{SESAME}")
    await house.pause(PAUSES[1])
    await house.pause(PAUSES[2])
    await until(lambda: house.warnings)

    assert house.warnings == ["the webhook could not be told of the alert disk, at 3 tries: the connection was refused"]


class Greeting(Protocol):
    """A server of another kind."""

    def connectionMade(self) -> None:
        """Part of Protocol."""
        assert self.transport is not None
        self.transport.write(b"220 mail.example.com ESMTP\r\n")


@with_reactor
async def test_no_web_server(house: House) -> None:
    """A port where something else listens."""
    house.hook.port = reactor.listenTCP(0, Factory.forProtocol(Greeting), interface="127.0.0.1")
    house.tell(house.url())
    await house.pause(PAUSES[1])
    await house.pause(PAUSES[2])
    await until(lambda: house.warnings)

    assert house.warnings == [
        "the webhook could not be told of the alert disk, at 3 tries: what it answered is no HTTP"
    ]


@with_reactor
async def test_a_host_without_an_address(house: House) -> None:
    """A name that nobody knows is not shown."""
    house.tell(f"http://{SESAME}.invalid/")
    await house.pause(PAUSES[1])
    await house.pause(PAUSES[2])
    await until(lambda: house.warnings)

    assert house.warnings == [
        "the webhook could not be told of the alert disk, at 3 tries: its host's name could not be looked up"
    ]


@pytest.mark.parametrize("host", [f"{SESAME}_x.example", f"{SESAME}..example", f"{SESAME * 11}.example"])
def test_a_host_that_no_certificate_can_be_for(house: House, host: str) -> None:
    """It is said when the daemon starts, and without showing it."""
    with pytest.raises(ValueError, match="names a host that no certificate can be for") as raised:
        house.tell(f"https://{host}/")

    assert SESAME not in "".join(traceback.format_exception(raised.value))


@with_reactor
async def test_a_user_and_a_password(house: House) -> None:
    """They go into the header, decoded, and out of the URL."""
    house.listen()
    house.tell(house.url(host="us%65r:p%40ss@127.0.0.1"))
    await until(lambda: house.hook.posts)
    await house.idle()

    [(_, header, _)] = house.hook.posts
    assert header.getRawHeaders("Authorization") == ["Basic dXNlcjpwQHNz"]
    assert header.getRawHeaders("Host") == [f"127.0.0.1:{house.number}"]


@with_reactor
async def test_the_end(house: House) -> None:
    """What is under way is closed at once, without a word."""
    house.listen()
    house.hook.script.append(HANGS)
    outbox = house.tell(house.url())
    await until(lambda: house.hook.posts)

    outbox.stop()

    await until(lambda: house.hook.left)
    assert house.warnings == []
    assert house.clock.getDelayedCalls() == []


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """A server's side of TLS, with a certificate for `name`."""

    def __init__(self, authority: trustme.CA, name: str) -> None:
        self._context = SSL.Context(SSL.TLS_METHOD)
        authority.issue_cert(name).configure_cert(self._context)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Part of IOpenSSLServerConnectionCreator."""
        return SSL.Connection(self._context, None)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """One that this machine trusts for the time of a test."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return made


@with_reactor
async def test_in_tls(house: House, authority: trustme.CA) -> None:
    """It is told in TLS to whom the certificate names."""
    house.listen(ServerTls(authority, "localhost"))
    house.tell(house.url("https", "localhost"))
    await until(lambda: house.hook.posts)
    await house.idle()

    assert house.warnings == []


@pytest.mark.parametrize("trusted", [True, False])
@with_reactor
async def test_tls_that_is_not_as_it_should_be(house: House, authority: trustme.CA, trusted: bool) -> None:
    """Nothing is told to a server with another name, or one whom nobody vouches for."""
    house.listen(ServerTls(authority, "other.example") if trusted else ServerTls(trustme.CA(), "localhost"))
    house.tell(house.url("https", "localhost"))
    await house.pause(PAUSES[1])
    await house.pause(PAUSES[2])
    await until(lambda: house.warnings)

    assert house.hook.posts == []
    assert house.warnings == ["the webhook could not be told of the alert disk, at 3 tries: TLS with it failed"]
