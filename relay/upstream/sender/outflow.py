"""Outflow: what we write to a TCP transport, and how much of it has left our buffers for the kernel's.

A connection that is lost behind the end of a mail leaves its fate uncertain only if that end had left (RFC 1047). So
the octets are counted, and handed to the socket at once where nothing waits before them: that also spares the reactor
a turn. A transport without a socket (in memory) is taken to pass everything on.
"""

from __future__ import annotations

from socket import MSG_PEEK, socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IPullProducer
from zope.interface import implementer


@implementer(IPullProducer)
class Outflow:
    """Stands between a transport and whoever writes to it, which may be a TLS layer.

    written      octets written so far
    looks_first  whether what the peer has said or done meanwhile is to be read before anything leaves
    """

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.written = 0
        self.looks_first = False
        self._dropped = 0
        self._is_lost = False
        self._empty: Deferred[None] | None = None
        self._socket: socket | None = getattr(transport, "socket", None)

    @property
    def waiting(self) -> int:
        """Octets that stand in our buffers."""
        transport = self.transport
        if self._socket is None:
            return 0
        waiting: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return waiting

    @property
    def left(self) -> int:
        """Octets, counted from the first one, that the kernel has taken."""
        return self.written - self._dropped - self.waiting

    def write(self, octets: bytes) -> None:
        """Send them now, or as soon as the peer reads on."""
        self.written += len(octets)
        transport = self.transport
        if self._socket is not None:
            if not transport.connected:
                self._dropped += len(octets)
                return
            if not (self.waiting or (self.looks_first and self._peer_did_something(self._socket))):
                try:
                    sent = self._socket.send(octets)
                except OSError:
                    sent = 0  # if the connection is lost, the reactor will find out and report it in its own way
                if sent == len(octets):
                    return
                octets = octets[sent:]
        transport.write(octets)

    @staticmethod
    def _peer_did_something(below: socket) -> bool:
        """Whether the reactor has something to read: octets, or the end of the connection."""
        try:
            below.recv(1, MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True  # it was reset
        return True

    def emptied(self) -> Deferred[None] | None:
        """Fires when nothing waits any more, or the connection is lost; None if nothing waits now."""
        if not self.waiting or self._is_lost:
            return None
        if self._empty is None:
            self._empty = Deferred()
            self.transport.registerProducer(self, False)
        return self._empty

    def resumeProducing(self) -> None:
        """Part of IPullProducer: the transport has nothing left to send, or has just heard of us."""
        if not self.waiting:
            self.transport.unregisterProducer()
            self._tell()

    def stopProducing(self) -> None:
        """Part of IPullProducer: the connection is lost."""
        self._is_lost = True
        self._tell()

    def _tell(self) -> None:
        empty, self._empty = self._empty, None
        if empty is not None:
            empty.callback(None)

    def loseConnection(self) -> None:
        """Close it once everything has left."""
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Close it now."""
        self.transport.abortConnection()

    def getPeer(self) -> IAddress:
        """Who is at the other end."""
        peer: IAddress = self.transport.getPeer()
        return peer

    def getHost(self) -> IAddress:
        """Who is at this one."""
        host: IAddress = self.transport.getHost()
        return host
