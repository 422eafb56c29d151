"""Endpoints: what may be listened on, and that Twisted understands an endpoint as it was judged here."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor

from relay.config.listener import Endpoint, Listener, with_backlog
from relay.config.loopback import is_loopback
from relay.config.origin import Origin
from relay.config.problem import Wrong

ORIGIN = Origin("relay.toml", Path("/srv"), {})


def read(text: str) -> Listener:
    return Endpoint().read(text, ORIGIN)


@pytest.mark.parametrize(
    "text",
    [
        "tcp:2525:interface=127.0.0.1",
        "tcp:2525:127.0.0.1",
        "tcp:port=2525:interface=127.8.8.8:backlog=128",
        r"tcp6:2525:interface=\:\:1",
        r"tcp:2525:interface=\:\:1",
        r"tcp6:2525:interface=\:\:ffff\:127.0.0.1",
        "tcp:0:interface=127.0.0.1",
        "unix:/run/relay.sock",
        "unix:/run/relay.sock:mode=660",
        "haproxy:tcp:2525:interface=127.0.0.1",
        r"haproxy:tcp6:2525:interface=\:\:1",
        "haproxy:unix:/run/relay.sock",
    ],
)
def test_an_endpoint_on_this_machine(text: str) -> None:
    """It stays as it was written, and Twisted takes it."""
    assert read(text) == Listener(text)
    serverFromString(MemoryReactor(), text)


@pytest.mark.parametrize(
    ("text", "backlog"),
    [
        ("tcp:2525:interface=127.0.0.1", 4096),
        (r"tcp6:2525:interface=\:\:1", 4096),
        ("tcp:2525:127.0.0.1:7", 7),
        ("tcp:2525:backlog=7:interface=127.0.0.1", 7),
    ],
)
def test_how_many_may_wait(text: str, backlog: int) -> None:
    """As many as the endpoint says, and else many."""
    reactor = MemoryReactor()
    serverFromString(reactor, with_backlog(text, 4096)).listen(Factory())

    assert reactor.tcpServers[0][2] == backlog


@pytest.mark.parametrize(
    "text",
    ["systemd:domain=INET:name=smtp", "systemd:INET6:index=0", "systemd:domain=UNIX:index=1", "haproxy:systemd:INET:0"],
)
def test_an_inherited_socket(text: str) -> None:
    """Its form can be judged without it; whether it is loopback is seen once it is open."""
    assert read(text) == Listener(text)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("unix:relay.sock", "unix:/srv/relay.sock"),
        ("unix:address=relay.sock:mode=600", "unix:/srv/relay.sock:mode=600"),
        (r"unix:a\:b\=c", r"unix:/srv/a\:b\=c"),
        ("haproxy:unix:run/relay.sock:lockfile=0", "haproxy:unix:/srv/run/relay.sock:lockfile=0"),
    ],
)
def test_a_relative_unix_socket(text: str, endpoint: str) -> None:
    """It is relative to the file's folder; a daemon changes its own."""
    assert read(text) == Listener(endpoint)


def test_a_unix_socket_with_strange_characters_in_its_path() -> None:
    """Twisted opens the very path that was written."""
    reactor = MemoryReactor()

    serverFromString(reactor, read(r"unix:a\:b\=c").endpoint).listen(None)

    assert reactor.unixServers[0][0] == "/srv/a:b=c"


@given(
    st.lists(
        st.sampled_from(
            ["tcp", "tcp6", ":", "=", "\\", "interface", "port", "2525", "127.0.0.1", "::1", "0.0.0.0", "1"]
        ),
        max_size=9,
    )
)
def test_any_endpoint_at_all(parts: list[str]) -> None:
    """Whatever is taken here makes Twisted listen on loopback and nowhere else."""
    text = "tcp:" + "".join(parts)
    try:
        listener = read(text)
    except Wrong:
        return
    reactor = MemoryReactor()

    serverFromString(reactor, listener.endpoint).listen(None)

    [(_port, _factory, _backlog, interface)] = reactor.tcpServers
    assert is_loopback(interface)


@pytest.mark.parametrize("length", [107, 108])
def test_how_long_a_unix_sockets_path_may_be(length: int) -> None:
    """107 octets fit into its address."""
    path = "/run/" + "é" * ((length - 5) // 2) + "a" * ((length - 5) % 2)
    assert len(path.encode()) == length

    if length <= 107:
        assert read(f"unix:{path}") == Listener(f"unix:{path}")
    else:
        with pytest.raises(Wrong) as caught:
            read(f"unix:{path}")
        assert "108 octets, and 107 fit" in caught.value.what
