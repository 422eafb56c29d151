"""Listening: sockets on which connections are taken, all of them on this machine alone.

What an endpoint string promises was looked at when the configuration was read; here the socket itself is asked where
it is bound, since one that was inherited may be bound anywhere.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ServerFactory

from relay.config.listener import with_backlog
from relay.config.loopback import is_loopback
from relay.config.values import Listener
from relay.door import Door
from relay.inherited import listen_inherited
from relay.smtp.server.proxied import ProxiedFactory

PROXIED = 200
"""Connections that may be waiting for the header of a proxy, on each listener."""

BACKLOG = 4096
"""Connections that may wait to be accepted, as far as the kernel's somaxconn allows: the next one gets no greeting."""

_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class CannotStart(Exception):
    """The text says what is in the way."""


def open_listener(reactor: Any, listener: Listener, factory: ServerFactory) -> tuple[Door, str] | None:
    """The port, and where it really is; None where an optional one is for an address that this host does not have.

    Raises CannotStart, also for one that is not loopback after all.
    """
    where = listener.endpoint.removeprefix("haproxy:")
    proxied = None if where == listener.endpoint else ProxiedFactory(factory, reactor, PROXIED)
    behind: Any = proxied or factory
    inherited = where.startswith("systemd:")
    try:
        if inherited:
            opened = listen_inherited(reactor, where, behind)
        else:
            opened = _now(serverFromString(reactor, with_backlog(where, BACKLOG)).listen(behind))
    except (CannotListenError, OSError, ValueError) as error:
        cause = getattr(error, "socketError", error)
        if listener.optional and getattr(cause, "errno", None) in _NO_SUCH_ADDRESS:
            return None
        raise CannotStart(f"{listener.endpoint} cannot be opened: {cause}") from None
    place = _place(opened)
    if place is None:
        raise CannotStart(f"{listener.endpoint} is not loopback: {opened.getHost()}; nothing was started")
    return Door(opened, proxied.settled if proxied else None, shared=inherited), place


def _now(listening: Deferred[IListeningPort]) -> IListeningPort:
    """The port of an endpoint that opens at once, as all of ours do; raises what went wrong."""
    results: list[IListeningPort] = []
    failures: list[Any] = []
    listening.addCallbacks(results.append, failures.append)
    for failure in failures:
        failure.raiseException()
    return results[0]


def _place(port: IListeningPort) -> str | None:
    """Where a port really is, as people write it; None if that is not this machine alone."""
    host: Any = port.getHost()
    if isinstance(host, UNIXAddress):
        return os.fsdecode(host.name or b"")
    if not is_loopback(host.host):
        return None
    return f"[{host.host}]:{host.port}" if ":" in host.host else f"{host.host}:{host.port}"
