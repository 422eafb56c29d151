"""The PROXY protocol's headers, as HAProxy writes them and as nobody should."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.grammar.proxy import ProxyError, ProxyHeader, parse

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def version_2(command: int, family: int, body: bytes) -> bytes:
    """A header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


IPV4 = ip_address("127.0.0.5").packed + ip_address("127.0.0.1").packed + struct.pack("!HH", 40000, 25)
IPV6 = ip_address("::1").packed * 2 + struct.pack("!HH", 40000, 25)

HEADERS = [
    (b"PROXY TCP4 127.0.0.5 127.0.0.1 40000 25\r\n", "127.0.0.5", 40000),
    (b"PROXY TCP6 ::1 ::1 40000 25\r\n", "::1", 40000),
    (b"PROXY UNKNOWN\r\n", "", 0),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "", 0),
    (version_2(0x21, 0x11, IPV4), "127.0.0.5", 40000),
    (version_2(0x21, 0x21, IPV6), "::1", 40000),
    (version_2(0x21, 0x11, IPV4 + b"\x04\0\x01x"), "127.0.0.5", 40000),
    (version_2(0x20, 0x00, b""), "", 0),
    (version_2(0x20, 0x11, IPV4), "", 0),
    (version_2(0x20, 0xFF, IPV4), "", 0),
    (version_2(0x21, 0x00, b""), "", 0),
    (version_2(0x21, 0x31, b"/a".ljust(216, b"\0")), "", 0),
]


@pytest.mark.parametrize(("octets", "source", "port"), HEADERS)
def test_headers(octets: bytes, source: str, port: int) -> None:
    """What is named, however much of it has come, and whatever follows."""
    header = ProxyHeader(source, port, len(octets))

    assert parse(octets) == header
    assert parse(octets + b"EHLO x\r\n") == header
    assert all(parse(octets[:end]) is None for end in range(len(octets)))


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO x\r\n",
        b"PROXYTCP4",
        b"proxy ",
        b"PROXY TCP4 127.0.0.5 127.0.0.1 40000 25\n",
        b"PROXY TCP4 127.evil 127.0.0.1 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 127.0.0.1 127.0.0.1 1 2\r\n",
        b"PROXY TCP4 127.0.0.1 127.0.0.1 +1 2\r\n",
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1\r\n",
        b"PROXY TCP4 127.0.0.5 127.0.0.1 65536 25\r\n",
        b"PROXY TCP4 127.0.0.5 127.0.0.1 40000 65536\r\n",
        b"PROXY TCP4 \xff 127.0.0.1 1 2\r\n",
        b"PROXY UDP4 127.0.0.1 127.0.0.1 1 2\r\n",
        b"PROXY UNKNOWN" + b" " * 200,
        version_2(0x11, 0x11, IPV4),
        version_2(0x22, 0x11, IPV4),
        version_2(0x21, 0x11, IPV4[:11]),
        version_2(0x21, 0x21, IPV6[:35]),
        version_2(0x21, 0x12, IPV4),
        version_2(0x21, 0x10, IPV4),
        version_2(0x21, 0x41, IPV6),
        version_2(0x21, 0x01, b""),
        version_2(0x21, 0x11, b"x" * 4097),
        SIGNATURE[:-1] + b"!",
    ],
)
def test_no_headers(octets: bytes) -> None:
    """Nothing is guessed."""
    with pytest.raises(ProxyError):
        parse(octets)


@given(st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]), st.binary())
def test_any_octets(start: bytes, rest: bytes) -> None:
    """A header, more to come, or an error."""
    try:
        header = parse(start + rest)
    except ProxyError:
        return
    assert header is None or header.size <= len(start + rest)
