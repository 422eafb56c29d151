"""Who is served: loopback and unix sockets alone, not too many, behind a proxy too; and how the server stops."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.testing import StringTransport

from relay.smtp.server.local import FRESH
from relay.smtp.server.proxied import LAST_HEADER, Proxied, ProxiedFactory
from tests.taking import Connected, Server, policy

BANNER = ["220 relay.example ESMTP mailrelay"]
EARLY = "554 5.5.0 something was sent before our reply: wait for it after connecting, EHLO and DATA"


class Socketed(StringTransport):
    """A transport with a socket below it; what is written to either can be read from the client's end."""

    def __init__(self, below: socket.socket, peer: IAddress) -> None:
        super().__init__(peerAddress=peer)
        self.below = below

    def getHandle(self) -> socket.socket:
        """As Twisted's transports have it."""
        return self.below


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's end of a connection, and the client's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(5)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_served(peer: str) -> None:
    """All of 127.0.0.0/8, ::1, and the former written as IPv6."""
    kind = IPv6Address if ":" in peer else IPv4Address
    server = Server()
    client = Connected(server, StringTransport(peerAddress=kind("TCP", peer, 1)))

    assert client.said() == BANNER
    assert client.protocol.client == peer.removeprefix("::ffff:")


@pytest.mark.parametrize(
    "peer", ["192.0.2.1", "128.0.0.1", "0.0.0.0", "2001:db8::1", "::ffff:192.0.2.1", "::127.0.0.1"]
)
def test_others_are_not_served(peer: str) -> None:
    """One reply in place of a greeting, the end, and a line in the log."""
    server = Server()
    client = server.connect(peer)

    assert client.said() == ["554 5.7.1 only programs on this host are served"]
    assert client.is_closed
    assert client.ask(b"EHLO x\r\n") == []
    assert server.taker.refusals == [(peer, 554, "not_local")]
    assert server.factory.connections == set()


def test_a_user_of_a_unix_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    """The kernel says who it is."""
    server = Server()
    transport = Socketed(pair[0], UNIXAddress(b"/run/x"))
    client = Connected(server, transport)

    assert client.protocol.client == f"uid:{os.getuid()}"
    assert pair[1].recv(100) == b"220 relay.example ESMTP mailrelay\r\n"


def test_more_connections_than_are_served() -> None:
    """The others are not harmed, and one that ends makes room."""
    server = Server(policy(max_connections=2))
    first, second = server.connect(), server.connect()

    third = server.connect()
    assert third.said() == ["421 4.7.0 too many connections, try again later"]
    assert third.is_closed
    third.protocol.connectionLost()
    assert server.taker.refusals == [("127.0.0.1", 421, "connections")]
    assert [client.ask(b"NOOP\r\n")[-1] for client in (first, second)] == ["250 2.0.0 Ok"] * 2
    first.protocol.connectionLost()

    assert server.connect().said() == BANNER


def test_a_client_that_speaks_before_the_banner(pair: tuple[socket.socket, socket.socket]) -> None:
    """It is a web page, or speaks another protocol; what it said is read, so that it can read the reply."""
    pair[1].send(b"GET / HTTP/1.1\r\n\r\n" * 100)
    server = Server()
    client = Connected(server, Socketed(pair[0], UNIXAddress(b"")))

    assert pair[1].recv(999) == EARLY.encode() + b"\r\n"
    assert client.is_closed
    with pytest.raises(BlockingIOError):
        pair[0].recv(1)


@pytest.mark.parametrize("octets", [1, 65536, 150_000])
def test_what_nobody_read_does_not_reset_the_connection(pair: tuple[socket.socket, socket.socket], octets: int) -> None:
    """A socket that is closed with something unread in it does, and may take the reply with it."""
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * octets)
    pair[1].sendall(b"x" * octets)
    Connected(Server(), Socketed(pair[0], UNIXAddress(b"")))
    pair[0].close()

    assert pair[1].recv(999) == EARLY.encode() + b"\r\n"
    assert pair[1].recv(1) == b""


@pytest.mark.parametrize("command", [b"EHLO x\r\n", b"DATA\r\n"])
def test_a_client_that_speaks_while_a_reply_is_due(pair: tuple[socket.socket, socket.socket], command: bytes) -> None:
    """What the kernel holds when the reply is written came before it."""
    server = Server()
    client = Connected(server, Socketed(pair[0], UNIXAddress(b"")))
    if command != b"EHLO x\r\n":
        client.send(b"EHLO x\r\n")
        client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n")
    pair[1].recv(999)
    pair[1].send(b"MAIL")
    client.send(command)

    assert pair[1].recv(999) == EARLY.encode() + b"\r\n"
    assert client.is_closed
    assert server.taker.mails == []


def test_a_client_that_reads_slowly(pair: tuple[socket.socket, socket.socket]) -> None:
    """What the kernel does not take stands in the transport, and nothing overtakes it."""
    server = Server()
    client = Connected(server, Socketed(pair[0], UNIXAddress(b"")))
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client.send(b"EHLO x\r\n")
    for _ in range(99):
        client.send(b"HELP\r\n" + b"MAIL FROM:<a@example.com> SIZE=999999\r\n" * 20)
    client.send(b"QUIT\r\n")

    heard = bytearray()
    pair[1].setblocking(False)
    while True:
        try:
            heard += pair[1].recv(65536)
        except BlockingIOError:
            break
    later = client.transport.value()
    assert later
    replies = (bytes(heard) + later).split(b"\r\n")
    assert [reply[:3] for reply in replies if reply[3:4] == b" "] == [
        b"220",
        b"250",
        *[b"214", *[b"552"] * 20] * 99,
        b"221",
    ]


def test_the_server_stops_while_clients_are_idle() -> None:
    """They are told, and all is over when they are gone."""
    server = Server()
    clients = [server.connect(), server.greeted()]
    clients[1].ask(b"MAIL FROM:<a@example.com>\r\n")
    clients[0].said()
    server.clock.advance(FRESH)

    stopped = server.factory.stop()
    assert [client.said() for client in clients] == [["421 4.3.2 shutting down, try again later"]] * 2
    assert not stopped.called
    late = server.connect()
    assert late.said() == ["421 4.3.2 shutting down, try again later"]
    for client in clients:
        client.protocol.connectionLost()

    assert stopped.called
    assert server.factory.stop().called


def test_the_server_stops_as_a_client_comes() -> None:
    """It may hand in its mail, and then it is told."""
    server = Server()
    client = server.connect()
    stopped = server.factory.stop()
    client.ask(b"EHLO app.example\r\n")
    client.ask(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")

    assert client.ask(b".\r\n") == ["250 2.0.0 queued as uuid-1", "421 4.3.2 shutting down, try again later"]
    client.protocol.connectionLost()
    assert stopped.called
    assert not server.clock.getDelayedCalls()


def test_the_server_stops_as_a_client_comes_that_says_nothing() -> None:
    """It is told within a second; content that is on its way by then may come to its end."""
    server = Server()
    silent, slow = server.greeted(), server.greeted()
    slow.ask(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
    server.clock.advance(FRESH / 2)
    server.factory.stop()
    server.clock.advance(FRESH / 4)
    assert silent.said() == []
    server.clock.advance(FRESH / 4)

    assert silent.said() == ["421 4.3.2 shutting down, try again later"]
    assert slow.ask(b".\r\n") == ["250 2.0.0 queued as uuid-1", "421 4.3.2 shutting down, try again later"]


@pytest.mark.parametrize("how", ["data", "bdat"])
def test_the_server_stops_while_content_arrives(how: str) -> None:
    """The mail may be finished, and is acknowledged before the connection ends."""
    server = Server()
    server.taker.at_once = False
    client = server.greeted()
    client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n")
    client.send(b"DATA\r\n" if how == "data" else b"BDAT 3\r\nx\r\n")
    client.said()

    server.factory.stop()
    assert client.said() == []
    client.send(b"y\r\n.\r\nNOOP\r\n" if how == "data" else b"BDAT 3 LAST\r\ny\r\nNOOP\r\n")
    server.taker.begun[0].commit()

    assert client.said()[-2:] == ["250 2.0.0 queued as uuid-1", "421 4.3.2 shutting down, try again later"]
    assert client.is_closed


def test_the_server_stops_while_a_commit_is_pending() -> None:
    """The reply comes; commands behind it are not answered any more."""
    server = Server()
    server.taker.at_once = False
    client = server.greeted()
    client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
    client.send(b".\r\nQUIT\r\n")
    client.said()

    server.factory.stop()
    server.taker.begun[0].commit()

    assert client.said() == ["250 2.0.0 queued as uuid-1", "421 4.3.2 shutting down, try again later"]


def test_what_is_left_when_the_grace_is_over() -> None:
    """It is cut."""
    server = Server()
    client = server.greeted()
    client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
    server.factory.stop()
    server.factory.abort()

    assert client.transport.disconnected


class Behind:
    """A server behind a proxy, and one connection that the proxy makes."""

    def __init__(self, proxy: str = "127.0.0.1", limit: int = 10, below: socket.socket | None = None) -> None:
        self.server = Server()
        self.factory = ProxiedFactory(self.server.factory, self.server.clock, limit)
        address = IPv4Address("TCP", proxy, 1)
        self.transport = StringTransport(peerAddress=address) if below is None else Socketed(below, address)
        proxied = self.factory.buildProtocol(address)
        assert proxied is not None
        self.proxied: Proxied = proxied
        self.proxied.makeConnection(self.transport)  # type: ignore[arg-type]  # near enough

    def ask(self, octets: bytes) -> str:
        """Octets come from the proxy; what is said to it."""
        self.transport.clear()
        self.proxied.dataReceived(octets)
        return str(self.transport.value(), "ascii").rstrip("\r\n")


@pytest.mark.parametrize("each", [1, 5, 100])
@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"PROXY TCP4 127.0.0.7 127.0.0.1 40000 25\r\n", "127.0.0.7"),
        (b"PROXY TCP6 ::1 ::1 40000 25\r\n", "::1"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "127.0.0.1"),
    ],
)
def test_behind_a_proxy(header: bytes, client: str, each: int) -> None:
    """Nothing is said before the header is whole, however it is cut; then the one that it names is greeted."""
    behind = Behind()
    for at in range(0, len(header), each):
        assert behind.transport.value() == b""
        behind.proxied.dataReceived(header[at : at + each])

    assert behind.transport.value().decode().rstrip() == BANNER[0]
    assert behind.ask(b"EHLO x\r\n").endswith("250 CHUNKING")
    [connection] = behind.server.factory.connections
    assert connection.client == client


@pytest.mark.parametrize(
    ("proxy", "header"),
    [
        ("127.0.0.1", b"PROXY TCP4 192.0.2.1 127.0.0.1 40000 25\r\n"),
        ("127.0.0.1", b"PROXY TCP6 2001:db8::1 ::1 40000 25\r\n"),
        ("192.0.2.1", b"PROXY TCP4 127.0.0.1 127.0.0.1 40000 25\r\n"),
        ("192.0.2.1", b"PROXY UNKNOWN\r\n"),
    ],
)
def test_behind_a_proxy_that_is_not_local_or_speaks_for_others(proxy: str, header: bytes) -> None:
    """Both must be local."""
    behind = Behind(proxy)

    assert behind.ask(header) == "554 5.7.1 only programs on this host are served"
    assert behind.transport.disconnecting


def test_what_comes_together_with_the_header() -> None:
    """It came before the banner."""
    behind = Behind()

    assert behind.ask(b"PROXY UNKNOWN\r\nEHLO x\r\n") == EARLY
    assert behind.transport.disconnecting


def test_a_proxy_that_says_nothing() -> None:
    """After five seconds nothing has come of it; the server behind knows nothing of it."""
    behind = Behind()
    behind.proxied.dataReceived(b"PROXY ")
    behind.server.clock.advance(4.9)
    assert not behind.transport.disconnected
    behind.server.clock.advance(0.2)

    assert behind.transport.disconnected
    assert behind.transport.value() == b""
    behind.proxied.connectionLost()
    assert behind.factory.protocols == {}


@pytest.mark.parametrize("octets", [b"EHLO x\r\n", b"PROXY TCP4 x\r\n", b"\x16\x03\x01"])
def test_what_is_no_header(octets: bytes) -> None:
    """Cut, without a word."""
    behind = Behind()

    assert behind.ask(octets) == ""
    assert behind.transport.disconnected


def test_a_proxied_connection_that_ends() -> None:
    """Its server is told, also of a half-close, and no timer is left."""
    behind = Behind()
    behind.ask(b"PROXY UNKNOWN\r\n")
    behind.proxied.readConnectionLost()
    assert behind.transport.disconnecting
    behind.proxied.connectionLost()

    assert behind.server.factory.connections == set()
    assert not behind.server.clock.getDelayedCalls()


def test_a_proxied_connection_that_ends_in_its_header() -> None:
    """It is cut."""
    behind = Behind()
    behind.proxied.readConnectionLost()

    assert behind.transport.disconnected


def test_headers_that_never_come() -> None:
    """So many may be waited for, and no more."""
    behind = Behind(limit=2)
    second = behind.factory.buildProtocol(None)
    assert second is not None
    second.makeConnection(StringTransport())  # type: ignore[arg-type]  # near enough
    assert behind.factory.buildProtocol(None) is None
    behind.ask(b"PROXY UNKNOWN\r\n")

    assert behind.factory.buildProtocol(None) is not None


def test_the_last_headers() -> None:
    """A server that stops waits for them, and a second at most."""
    behind = Behind(limit=3)
    assert behind.factory.settled().called is False
    second = behind.factory.buildProtocol(None)
    assert second is not None
    second.makeConnection(StringTransport())  # type: ignore[arg-type]  # near enough
    settled = behind.factory.settled()
    behind.ask(b"PROXY UNKNOWN\r\n")
    assert not settled.called
    second.connectionLost()
    assert settled.called
    assert behind.factory.settled().called

    third = behind.factory.buildProtocol(None)
    assert third is not None
    third.makeConnection(StringTransport())
    settled = behind.factory.settled()
    behind.server.clock.advance(LAST_HEADER)
    assert settled.called


def test_a_client_behind_a_proxy_that_speaks_too_early(pair: tuple[socket.socket, socket.socket]) -> None:
    """The socket below is looked at, too."""
    behind = Behind(below=pair[0])
    pair[1].send(b"EHLO x\r\n")
    behind.proxied.dataReceived(b"PROXY UNKNOWN\r\n")

    assert pair[1].recv(999) == EARLY.encode() + b"\r\n"
