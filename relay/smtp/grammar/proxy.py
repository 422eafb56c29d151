"""Proxy: the header by which HAProxy says for whom it speaks (the PROXY protocol, versions 1 and 2)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

_V1_LIMIT = 107
_V1 = re.compile(rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|TCP([46]) ([^ ]+) ([^ ]+) ([0-9]{1,5}) ([0-9]{1,5}))\r\n")
_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V2_LIMIT = 4096
_V2_SIZES = {0x11: 12, 0x21: 36}  # addresses and ports, of TCP over IPv4 and IPv6
_V2_NAMELESS = frozenset({0x00, 0x31})  # of an unknown kind, and of unix sockets
_LAST_PORT = 65535


class ProxyError(ValueError):
    """What came is no PROXY header."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """For whom a proxy speaks: an IP address and a port, or "" where it names none. `size` is the header's own."""

    source: str
    port: int
    size: int


def parse(octets: bytes) -> ProxyHeader | None:
    r"""The header at the beginning of `octets`; None where more of it must come. Raises ProxyError.

    >>> parse(b"PROXY TCP4 127.0.0.1 127.0.0.1 40000 25\r\nEHLO")
    ProxyHeader(source='127.0.0.1', port=40000, size=41)
    """
    if octets[: len(_V2_SIGNATURE)] == _V2_SIGNATURE[: len(octets)]:
        return _version_2(octets)
    if octets[:6] == b"PROXY "[: len(octets)]:
        return _version_1(octets)
    raise ProxyError("no PROXY header")


def _version_1(octets: bytes) -> ProxyHeader | None:
    end = octets.find(b"\n", 0, _V1_LIMIT) + 1
    if not end:
        if len(octets) >= _V1_LIMIT:
            raise ProxyError("a PROXY line that does not end")
        return None
    match = _V1.fullmatch(octets, 0, end)
    if match is None:
        raise ProxyError("a PROXY line that says nothing")
    if match[1] is None:
        return ProxyHeader("", 0, end)
    if int(match[4]) > _LAST_PORT or int(match[5]) > _LAST_PORT:
        raise ProxyError("a PROXY line with a bad port")
    kind = IPv4Address if match[1] == b"4" else IPv6Address
    try:
        source, _ = kind(match[2].decode("ascii")), kind(match[3].decode("ascii"))
    except (AddressValueError, UnicodeDecodeError):
        raise ProxyError("a PROXY line with a bad address") from None
    return ProxyHeader(str(source), int(match[4]), end)


def _version_2(octets: bytes) -> ProxyHeader | None:
    if len(octets) < 16:
        return None
    version_and_command, family, length = struct.unpack_from("!BBH", octets, 12)
    if version_and_command not in (0x20, 0x21) or length > _V2_LIMIT:
        raise ProxyError("a PROXY header of an unknown kind")
    size = 16 + length
    if len(octets) < size:
        return None
    if version_and_command == 0x20 or family in _V2_NAMELESS:  # 0x20 is LOCAL
        return ProxyHeader("", 0, size)
    if family not in _V2_SIZES or length < _V2_SIZES[family]:
        raise ProxyError("a PROXY header without the addresses of a TCP connection")
    width = 4 if family == 0x11 else 16
    source = (IPv4Address if family == 0x11 else IPv6Address)(octets[16 : 16 + width])
    (port,) = struct.unpack_from("!H", octets, 16 + 2 * width)
    return ProxyHeader(str(source), port, size)
