"""Inherited: a listening socket that the service manager has opened and hands over, as sd_listen_fds(3) has it.

Which one is meant says a Twisted endpoint string, "systemd:domain=INET:name=smtp" or "systemd:domain=INET:index=0".
What it is bound to is asked of the socket itself: the string is only what somebody hopes.

Failure: ValueError or OSError, whose text says what is there instead.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import unix
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

_DOMAINS = {socket.AF_INET: "INET", socket.AF_INET6: "INET6", socket.AF_UNIX: "UNIX"}


def listen_inherited(reactor: Any, endpoint: str, factory: IProtocolFactory) -> IListeningPort:
    """Have `factory` serve the socket that `endpoint` names. Raises ValueError and OSError."""
    try:
        named = serverFromString(reactor, endpoint)
    except (IndexError, KeyError):
        raise ValueError("the service manager has handed no such socket over") from None
    assert isinstance(named, AdoptedStreamServerEndpoint)
    _check(named.fileno, named.addressFamily)
    os.set_blocking(named.fileno, False)
    if named.addressFamily == socket.AF_UNIX:
        port = _unix_port(reactor, named.fileno, factory)
    else:
        port = reactor.adoptStreamPort(named.fileno, named.addressFamily, factory)
    os.set_inheritable(named.fileno, False)
    return port


def _check(fileno: int, family: int) -> None:
    """Raise ValueError or OSError unless this is a socket of `family` that listens."""
    with socket.socket(fileno=os.dup(fileno)) as it:
        if it.family != family:
            is_one = _DOMAINS.get(it.family, it.family.name)
            raise ValueError(f"the socket that was handed over is of the domain {is_one}; name each by its index")
        if it.type != socket.SOCK_STREAM or not it.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ValueError("the socket that was handed over takes no connections; write ListenStream= and Accept=no")
    if not os.get_inheritable(fileno):  # it was, or it would not have come here
        raise ValueError("the socket that was handed over is listened at already; name each in one place")


def _unix_port(reactor: Any, fileno: int, factory: IProtocolFactory) -> IListeningPort:
    """A port that leaves the socket's file alone: its mode is SocketMode=, and it is there when we are gone."""
    port: Any = unix.Port._fromListeningDescriptor(reactor, fileno, factory)
    port._bindPath = b"\0" + os.fsencode(port._bindPath)  # what looks abstract Twisted neither changes nor removes
    port.startListening()
    listening: IListeningPort = port
    return listening
