"""The server on real sockets: what only a kernel does to a conversation."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # it has no types
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.threads import deferToThread

from relay.config.values import Listener
from relay.door import Door
from relay.listening import open_listener
from relay.smtp.server.factory import LocalSMTPFactory
from relay.smtp.server.proxied import ProxiedFactory
from tests.taking import Taker, policy

ENVELOPE = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n"
POST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 300\r\n\r\nEHLO x\r\n" + ENVELOPE + b"DATA\r\n.\r\n"

P = ParamSpec("P")


def with_reactor(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, object]:
    """Run a test while the reactor runs."""
    run: Callable[P, object] = pytest_twisted.ensureDeferred(test)
    return run


class Listening:
    """A server that listens; its talk is led by blocking sockets in another thread."""

    def __init__(self, max_connections: int = 2) -> None:
        self.taker = Taker()
        self.faults: list[object] = []
        self.factory = LocalSMTPFactory(
            policy(max_size=50_000_000, max_connections=max_connections),
            self.taker,
            reactor,
            lambda failure, _: self.faults.append(failure),
        )
        self.ports: list[IListeningPort] = []

    async def listen(self, endpoint: str, *, proxied: bool = False) -> Any:
        """Open one more; where it is."""
        factory = ProxiedFactory(self.factory, reactor, 10) if proxied else self.factory
        port = await serverFromString(reactor, endpoint).listen(factory)
        self.ports.append(port)
        return port.getHost()

    async def close(self) -> None:
        """Close all, and wait for it."""
        for port in self.ports:
            await maybeDeferred(port.stopListening)
        ended = self.factory.stop()
        self.factory.abort()
        await ended


def heard(client: socket.socket, until: bytes = b"\r\n") -> bytes:
    """What the server says, up to there, or to the end of the connection."""
    octets = b""
    while not octets.endswith(until):
        piece = client.recv(65536)
        if not piece:
            break
        octets += piece
    return octets


def connect(address: Any) -> socket.socket:
    """A client that waits at most ten seconds for anything, and has been greeted."""
    client = socket.create_connection(("127.0.0.1", address.port), timeout=10)
    assert heard(client).startswith(b"220 ")
    return client


def hello(client: socket.socket) -> None:
    """EHLO."""
    client.sendall(b"EHLO app.example\r\n")
    heard(client, b"250 CHUNKING\r\n")


@with_reactor
async def test_many_connect_at_once() -> None:
    """As many as are served by default may connect before the first of them is accepted, and each is greeted."""
    listening = Listening(max_connections=200)
    opened = open_listener(reactor, Listener("tcp:0:interface=127.0.0.1"), listening.factory)
    assert opened is not None
    listening.ports.append(opened[0])
    here: Any = opened[0].getHost()
    poll, clients = select.poll(), [socket.socket() for _ in range(200)]
    try:
        for client in clients:  # the reactor accepts none of them meanwhile
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", here.port))
            poll.register(client, select.POLLOUT)
        assert [events for _, events in poll.poll()] == [select.POLLOUT] * 200

        for client in clients:
            client.settimeout(10)
            assert (await deferToThread(heard, client)).startswith(b"220 ")
    finally:
        for client in clients:
            client.close()
        await listening.close()


@with_reactor
async def test_a_large_mail_and_a_half_close() -> None:
    """A client that shuts down its side behind the dot still hears what became of its mail."""
    listening = Listening()
    address = await listening.listen("tcp:0:interface=127.0.0.1")
    body = b"".join(b"%d " % number + b"x" * 900 + b"\r\n.\r\n" for number in range(5000))

    def talk() -> bytes:
        with connect(address) as client:
            hello(client)
            client.sendall(ENVELOPE + b"DATA\r\n")
            heard(client, b"<CR><LF>.<CR><LF>\r\n")
            client.sendall(body.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            client.shutdown(socket.SHUT_WR)
            return heard(client, b"never")

    try:
        assert await deferToThread(talk) == b"250 2.0.0 queued as uuid-1\r\n"
        assert listening.taker.mails[0].content == body
        assert listening.faults == []
    finally:
        await listening.close()


@with_reactor
async def test_a_web_page() -> None:
    """What a browser sends is read and answered once; the reply can be read, and then the connection has ended."""
    listening = Listening()
    address = await listening.listen("tcp:0:interface=127.0.0.1")

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", address.port), timeout=10) as client:
            client.sendall(POST)
            return heard(client, b"never")

    try:
        said = await deferToThread(talk)
        lines = said.split(b"\r\n")[:-1]
        assert lines[-1].startswith(b"554 5.5.0 ")
        assert [line[:3] for line in lines[:-1]] in ([], [b"220"])
        assert listening.taker.begun == []
    finally:
        await listening.close()


@with_reactor
async def test_a_line_that_does_not_end() -> None:
    """One reply, the end, and no more than a little of it is read."""
    listening = Listening()
    address = await listening.listen("tcp:0:interface=127.0.0.1")

    def talk() -> int:
        with connect(address) as client:
            sent = 0
            try:
                while sent < 64 * 2**20:
                    sent += client.send(b"x" * 65536)
            except (BrokenPipeError, ConnectionResetError):
                return sent
            return sent

    try:
        assert await deferToThread(talk) < 64 * 2**20
        assert listening.taker.refusals == [("127.0.0.1", 500, "syntax")]
    finally:
        await listening.close()


@with_reactor
async def test_a_client_that_only_writes() -> None:
    """The server reads no more than it can answer."""
    listening = Listening()
    address = await listening.listen("tcp:0:interface=127.0.0.1")
    client = socket.socket()
    # Small buffers of the kernel, so that what is not read soon stands at the server.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listening.ports[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # type: ignore[attr-defined]
    client.settimeout(1)

    def talk() -> int:
        client.connect(("127.0.0.1", address.port))
        heard(client)
        hello(client)
        client.sendall(ENVELOPE)
        sent = 0
        try:
            while sent < 64 * 2**20:
                sent += client.send(b"RCPT TO:<nobody@example.net>\r\n" * 2000)
        except TimeoutError:
            pass
        return sent

    try:
        assert await deferToThread(talk) < 64 * 2**20
        [connection] = listening.factory.connections
        assert len(connection._unread) < 2 * 65536
    finally:
        client.close()
        await listening.close()


@with_reactor
async def test_a_unix_socket(tmp_path: Path) -> None:
    """The client is its user, and what it sends too early is found there, too."""
    listening = Listening()
    path = tmp_path / "smtp"
    await listening.listen(f"unix:{path}")

    def talk() -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            heard(client)
            hello(client)
            client.sendall(ENVELOPE + b"BDAT 3 LAST\r\nx\r\nQUIT\r\n")
            return heard(client, b"never")

    try:
        assert (await deferToThread(talk)).endswith(b"queued as uuid-1\r\n221 2.0.0 Bye\r\n")
        assert listening.taker.mails[0].session.client == f"uid:{os.getuid()}"
    finally:
        await listening.close()


@with_reactor
async def test_a_proxy() -> None:
    """Its header comes in pieces; the one it names is who has sent the mail."""
    listening = Listening()
    address = await listening.listen("tcp:0:interface=127.0.0.1", proxied=True)

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", address.port), timeout=10) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for octet in b"PROXY TCP4 127.0.0.9 127.0.0.1 40000 25\r\n":
                client.sendall(bytes((octet,)))
            assert heard(client).startswith(b"220 ")
            hello(client)
            client.sendall(ENVELOPE + b"BDAT 3 LAST\r\nx\r\n")
            client.shutdown(socket.SHUT_WR)
            return heard(client, b"never")

    try:
        assert (await deferToThread(talk)).endswith(b"queued as uuid-1\r\n")
        assert listening.taker.mails[0].session.client == "127.0.0.9"
    finally:
        await listening.close()


@with_reactor
async def test_a_door_that_rests() -> None:
    """Who comes meanwhile waits, and is served then."""
    listening = Listening(max_connections=5)
    address = await listening.listen("tcp:0:interface=127.0.0.1")
    door = Door(listening.ports[-1])

    def greeted(within: float) -> bool:
        with socket.create_connection((address.host, address.port), within) as client:
            try:
                return heard(client).startswith(b"220 ")
            except TimeoutError:
                return False

    try:
        for resting in (True, True, False, False):
            door.rest(resting)
            assert await deferToThread(greeted, 0.2 if resting else 10.0) is not resting
    finally:
        await listening.close()


@pytest.mark.parametrize("kind", ["tcp:0:interface=127.0.0.1", "tcp6:0:interface=\\:\\:1", "unix"])
@with_reactor
async def test_a_door(kind: str, tmp_path: Path) -> None:
    """Whom the kernel has let in is served, who comes later finds nobody; nobody is let in and cut off."""
    listening = Listening()
    address = await listening.listen(f"unix:{tmp_path / 'smtp'}" if kind == "unix" else kind)
    door = Door(listening.ports.pop())
    door.rest(True)  # so that nobody is accepted yet
    where = address.name if kind == "unix" else (address.host, address.port)
    family = {"unix": socket.AF_UNIX, "tcp": socket.AF_INET, "tcp6": socket.AF_INET6}[kind.partition(":")[0]]
    clients = [socket.socket(family) for _ in range(2)]
    for client in clients:
        client.settimeout(10)
        client.connect(where)
    try:
        await door.stopListening()
        said = await deferToThread(lambda: [heard(client) for client in clients])

        assert {each[:4] for each in said} == {b"220 "}
        with socket.socket(family) as late, pytest.raises(OSError, match=r"refused|No such file"):
            late.connect(where)
    finally:
        for client in clients:
            client.close()
        await listening.close()
