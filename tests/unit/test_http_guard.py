"""Who is answered by the pages: this machine, under a name that is this machine's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress

from relay.http.guard import is_here, names_loopback, origin_form, stranger

HERE = IPv4Address("TCP", "127.0.0.1", 40000)


@pytest.mark.parametrize(
    "authority",
    [
        b"localhost",
        b"LOCALHOST:9000",
        b"localhost.:8025",
        b"127.0.0.1:8025",
        b"127.0.1.1:8025",
        b"127.255.255.254",
        b"[::1]:8025",
        b"[::1]",
        b"[0:0:0:0:0:0:0:1]",
        b"[::ffff:127.0.0.1]:80",
        b"localhost:",
    ],
)
def test_a_name_of_this_machine(authority: bytes) -> None:
    """Localhost in any case and the loopback addresses, whatever the port."""
    assert names_loopback(authority)


@pytest.mark.parametrize(
    "authority",
    [
        b"",
        b"evil.example",
        b"127.0.0.1.evil.example",
        b"localhost.evil.example:8025",
        b"localhost..",
        b"app1.example.com:8025",
        b"127.0.0.1:8025@evil.example",
        b"user@127.0.0.1:8025",
        b"127.1",
        b"2130706433",
        b"0x7f.0.0.1",
        b"0.0.0.0",
        b"128.0.0.1",
        b"[::]",
        b"[::2]",
        b"[::1%25lo]",
        b"::1",
        b"[127.0.0.1]x",
        b"localhost:80x",
        b"localhost, evil.example",
        b"localhost evil",
        b"localhost\n",
        "lоcalhost".encode(),  # a Cyrillic o
    ],
)
def test_a_name_that_is_another_machines(authority: bytes) -> None:
    """All else: DNS rebinding, short forms of addresses, user names, what is no authority at all."""
    assert not names_loopback(authority)


@given(st.binary(max_size=60))
def test_any_octets_as_a_host(octets: bytes) -> None:
    """Whatever it is, it is judged and raises nothing."""
    assert names_loopback(octets) in (True, False)


@pytest.mark.parametrize(
    ("peer", "here"),
    [
        (HERE, True),
        (IPv4Address("TCP", "127.9.9.9", 1), True),
        (IPv6Address("TCP", "::1", 1), True),
        (IPv6Address("TCP", "::ffff:127.0.0.1", 1), True),
        (UNIXAddress(b"/run/x"), True),
        (IPv4Address("TCP", "192.0.2.1", 1), False),
        (IPv6Address("TCP", "::ffff:192.0.2.1", 1), False),
        (HostnameAddress(b"localhost", 1), False),
        (None, False),
    ],
)
def test_where_a_peer_is(peer: object, here: bool) -> None:
    """Loopback addresses and unix sockets are here."""
    assert is_here(peer) is here


@pytest.mark.parametrize(
    ("target", "authority", "path"),
    [
        (b"/health?x=1?y", None, b"/health"),
        (b"http://localhost:8025/health?x", b"localhost:8025", b"/health"),
        (b"HTTP://evil.example", b"evil.example", b"/"),
        (b"https://user@127.0.0.1/metrics", b"user@127.0.0.1", b"/metrics"),
        (b"http://localhost?x", b"localhost", b"/"),
        (b"//localhost/health", None, b"//localhost/health"),
        (b"*", None, b"*"),
    ],
)
def test_the_forms_of_a_target(target: bytes, authority: bytes | None, path: bytes) -> None:
    """RFC 9112, 3.2: a path, or a whole address whose host counts as well."""
    assert origin_form(target) == (authority, path)


@pytest.mark.parametrize(
    ("version", "hosts", "authority", "word"),
    [
        (b"HTTP/1.1", [b"127.0.0.1"], None, None),
        (b"HTTP/1.1", [b"127.0.0.1"], b"[::1]:8025", None),
        (b"HTTP/1.0", [], None, None),
        (b"HTTP/1.1", [], None, "One Host field"),
        (b"HTTP/1.1", [b"localhost", b"localhost"], None, "One Host field"),
        (b"HTTP/1.0", [b"localhost", b"evil.example"], None, "One Host field"),
        (b"HTTP/1.0", [b"evil.example"], None, "Host names neither"),
        (b"HTTP/1.1", [b"localhost"], b"evil.example", "The target"),
        (b"HTTP/1.0", [], b"evil.example", "The target"),
    ],
)
def test_what_a_request_names(version: bytes, hosts: list[bytes], authority: bytes | None, word: str | None) -> None:
    """Every name in it must be ours, and HTTP/1.0 may have none; the reason is one line."""
    why = stranger(HERE, version, hosts, authority)

    if word is None:
        assert why is None
    else:
        assert why is not None
        assert why.startswith(word)
        assert "\n" not in why


def test_a_stranger_with_the_right_name() -> None:
    """The name does not help a peer from elsewhere."""
    assert stranger(IPv4Address("TCP", "192.0.2.1", 1), b"HTTP/1.1", [b"localhost"], None) is not None
