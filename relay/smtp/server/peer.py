"""Peer: who speaks at the other end of a connection, and what it said before it was asked."""

from __future__ import annotations

import socket
import struct
from functools import lru_cache

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress, ITransport

from relay.config.loopback import is_loopback
from relay.smtp.server.proxied import Proxied

_loopback = lru_cache(maxsize=64)(is_loopback)
_CREDENTIALS = struct.Struct("3i")
_LOOK = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)  # to join the two costs as much as to look
_PIECE = 64 * 1024
_DISCARD = 256 * 1024


def local_client(transport: ITransport) -> str | None:
    """The client's address, "uid:1000" on a unix socket, or None where it, or the proxy before it, is not local."""
    address = transport.getPeer()
    if isinstance(transport, Proxied):
        through = local_client(transport.transport)
        names_nobody = transport.header is None or not transport.header.source
        return through if through is None or names_nobody else _local(address)
    if isinstance(address, UNIXAddress):
        return f"uid:{_uid(transport)}"
    return _local(address)


def host_of(address: IAddress) -> str:
    """What can be said of a peer that is not local."""
    return str(getattr(address, "host", address))


def socket_of(transport: ITransport) -> socket.socket | None:
    """The socket below a transport, where there is one."""
    handle = getattr(transport, "getHandle", None)
    return handle() if handle is not None else None


def has_spoken(below: socket.socket | None) -> bool:
    """Whether octets have come that were not read yet. One look, without waiting."""
    try:
        return below is not None and bool(below.recv(1, _LOOK))
    except OSError:
        return False


def discard(below: socket.socket | None) -> None:
    """Read what has come and forget it: a socket that is closed with some of it unread resets the connection."""
    try:
        for _ in range(_DISCARD // _PIECE):
            if below is None or len(below.recv(_PIECE, socket.MSG_DONTWAIT)) < _PIECE:
                return
    except OSError:
        return


def _local(address: IAddress) -> str | None:
    host = host_of(address)
    return host.removeprefix("::ffff:") if _loopback(host) else None


def _uid(transport: ITransport) -> int:
    """The user at the other end of a unix socket, as the kernel knows it."""
    below = socket_of(transport)
    if below is None:
        return -1
    _, uid, _ = _CREDENTIALS.unpack(below.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)
