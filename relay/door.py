"""Door: a listening socket that closes behind those who are in already.

The kernel makes connections before anybody accepts them, and resets them where the socket is closed first: to a proxy
that is a server that was there and hung up. So nobody is let in any more, those who are in are served, and then the
socket is closed. Who comes in between finds nobody, and a proxy asks elsewhere.
"""

from __future__ import annotations

import ctypes
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from zope.interface import implementer

_SO_ATTACH_FILTER = 26  # Linux; the module `socket` does not name it
_RETURN_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET: of each packet, keep 0 octets
_MOST = 1000


@implementer(IListeningPort)
class Door:
    """A port of Twisted's, with that end.

    settled  asked when it is closed: fires when those who came last are served
    shared   whether others listen on the socket, too, now or later: then who is not accepted yet is left to them
    """

    def __init__(self, port: Any, settled: Callable[[], Deferred[None]] | None = None, *, shared: bool = False) -> None:
        self._port = port
        self._settled = settled
        self._shared = shared
        self._resting = False

    def getHost(self) -> Any:
        """Where it is bound."""
        return self._port.getHost()

    def startListening(self) -> None:
        """Never asked for: it listens from the beginning."""
        self._port.startListening()

    def rest(self, resting: bool) -> None:
        """Let whoever comes wait, or do so no more."""
        if resting is not self._resting:
            self._resting = resting
            (self._port.stopReading if resting else self._port.startReading)()

    def stopListening(self) -> Deferred[None]:
        """Fires when it is closed, and everybody who was in has been handed over."""
        port = self._port
        if port.connected and not self._shared:
            _let_nobody_in(port.socket)
            waiting = select.poll()
            waiting.register(port, select.POLLIN)
            for _ in range(_MOST):
                if not waiting.poll(0):
                    break
                port.doRead()
        closed: Deferred[None] = maybeDeferred(port.stopListening)
        settled = self._settled
        return closed if settled is None else closed.addCallback(lambda _: settled())


def _let_nobody_in(listening: socket.socket) -> None:
    """Have the kernel drop what would become a connection; it is tried again in a second, and there is nobody then."""
    if listening.family == socket.AF_UNIX:
        return
    program = ctypes.create_string_buffer(_RETURN_NOTHING)
    try:
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))
    except OSError:
        return  # a kernel without it: then it is as good as it can be
