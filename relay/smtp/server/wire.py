"""Wire: one connection as octets: lines in, replies out, in order, with bounds on time and memory.

What a subclass is given depends on the order of the octets alone, not on how they were cut into segments. Nothing
more is read while a reply is pending, while content finds no room, or while the client does not read.

Failure: what cannot be a line ends the connection with a reply that says why.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.mail.smtp import ESMTP
from twisted.python.failure import Failure
from zope.interface import Attribute, implementer

from relay.reply import Reply
from relay.smtp.grammar.answers import octets
from relay.smtp.grammar.commands import LINE_LIMIT, is_foreign
from relay.smtp.server import peer, said

LESS, MORE = 64 * 1024, 256 * 1024
"""Octets that are read from the socket at once, at most: more where content fills what was read before."""

CLOSED_WITHIN = 1.0
"""Seconds that a connection may take to end once its last reply was given."""

_CR = 13


class IStream(ITCPTransport, IConsumer, IPushProducer):
    """What a connection is read from and written to."""

    bufferSize: int = Attribute("Octets that are read at once, at most.")


@implementer(IHalfCloseableProtocol, IPushProducer)
class Wire(ESMTP):
    """Replaces how Twisted's ESMTP reads, writes and waits.

    reader      takes content and returns what follows its end, while content is what comes; else None
    closed      whether the last reply was given: nothing more is read
    stopping    whether the connection is to end as soon as it is not `busy`
    """

    transport: IStream
    clock: IReactorTime
    idle_timeout = 300.0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.reader: Callable[[bytes], bytes] | None = None
        self.closed = False
        self.stopping = False
        self._unread = b""
        self._at = 0  # where in it the next line begins
        self._answers: list[bytes] = []
        self._socket: socket.socket | None = None
        self._direct = False  # whether replies go to the socket, not to the transport
        self._timer: IDelayedCall | None = None
        self._since = 0.0  # when the wait for the client began
        self._serving = False
        self._pending = False  # a reply
        self._no_room = False  # for content, where it is put down
        self._unheard = False  # the client does not read what we say
        self._paused = False
        self._half_closed = False

    def line_received(self, line: bytes) -> None:
        """A line came, without its CRLF. It may hold NULs and lone CRs."""
        raise NotImplementedError

    @property
    def busy(self) -> bool:
        """Whether content is on its way in."""
        return self.reader is not None or self._pending

    def hung_up(self) -> None:
        """The connection ends, and with it a mail that is not whole."""
        raise NotImplementedError

    def opened(self) -> None:
        """Begin to keep the time."""
        transport = self.transport
        self._socket = peer.socket_of(transport)
        if self._socket is not None:
            self._direct = True
            if self._socket.family != socket.AF_UNIX:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.registerProducer(self, True)
        self._since = self.clock.seconds()
        self._timer = self.clock.callLater(self.idle_timeout, self._look_at_the_time)

    @property
    def has_spoken(self) -> bool:
        """Whether anything has come behind the line that is being answered."""
        return self._at < len(self._unread) or peer.has_spoken(self._socket)

    def say(self, answer: bytes) -> None:
        """One more reply; those to one segment leave together."""
        self._answers.append(answer)
        if not self._serving:
            self._flush()

    def say_later(self) -> None:
        """A reply is pending: what comes after it waits for `say_now`."""
        self._pending = True

    def say_now(self, answer: bytes) -> None:
        """The reply that was pending."""
        self._pending = False
        if self.closed:
            return
        self._answers.append(answer)
        if not self._serving:
            self._serve(moved=True)

    def wait_for_room(self, room: Deferred[None]) -> None:
        """Read nothing more until `room` fires."""
        self._no_room = True
        self._pause()
        room.addBoth(self._room)

    def close(self, reply: Reply | None = None) -> None:
        """End the connection, behind a last reply."""
        if self.closed:
            return
        if reply is not None:
            self._answers.append(octets(reply))
        self._flush()
        self.closed = True
        self.hung_up()
        peer.discard(self._socket)
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.clock.callLater(CLOSED_WITHIN, self.transport.abortConnection)

    def stop(self) -> None:
        """The server stops: end the connection, but not in the middle of a mail's content."""
        self.stopping = True
        if not (self.busy or self.closed):
            self.close(said.STOPPING)

    def turn_away(self, reply: Reply) -> None:
        """Close, since what came is not what any mail begins with."""
        self.close(reply)

    # What Twisted calls

    def dataReceived(self, data: bytes) -> None:
        """Octets came."""
        if self.closed:
            return
        if self.reader is not None:
            self.transport.bufferSize = MORE if len(data) >= LESS else LESS
        begins = not self._unread
        self._unread = data if begins else self._unread + data
        if self._pending or self._unheard:
            self._pause()
        else:
            self._serve(moved=begins)

    def pauseProducing(self) -> None:
        """The client does not read what we say."""
        self._unheard = True
        self._pause()

    def resumeProducing(self) -> None:
        """The client has read it."""
        self._unheard = False
        if not self._pending:
            self._serve(moved=True)

    def stopProducing(self) -> None:
        """The connection is lost; `connectionLost` says so, too."""

    def readConnectionLost(self) -> None:
        """The client will say no more, but may listen still."""
        self._half_closed = True
        if not self._pending:
            self.close()

    def writeConnectionLost(self) -> None:
        """Never asked for."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._socket = None
        if not self.closed:
            self.closed = True
            self.hung_up()

    # How it is done

    def _serve(self, *, moved: bool) -> None:
        """Go through what was not read. `moved`: the wait for the client begins anew."""
        self._serving = True
        while self._at < len(self._unread) and not (self._pending or self.closed):
            if self.reader is not None:
                octets = self._unread[self._at :] if self._at else self._unread
                self._unread = b""
                self._at = 0
                self._unread = self.reader(octets)
            elif self.stopping and not self.busy:
                break
            else:
                line = self._line()
                if line is None:
                    break
                self.line_received(line)
            moved = True
        self._serving = False
        if not self.closed:
            self._rest(moved)

    def _rest(self, moved: bool) -> None:
        """All that may be looked at was: say what there is to say, and wait."""
        if self._at:
            self._unread = self._unread[self._at :]
            self._at = 0
        self._flush()
        if moved:
            self._since = self.clock.seconds()
        if self.stopping and not self.busy:
            self.close(said.STOPPING)
        elif self._half_closed and not self._pending:
            self.close()
        elif self._paused:
            self._resume()

    def _line(self) -> bytes | None:
        """The next line, if it is whole; ends the connection where what came can be none."""
        octets, start = self._unread, self._at
        end = octets.find(b"\n", start, start + LINE_LIMIT)
        if end > start and octets[end - 1] == _CR:
            self._at = end + 1
            return octets[start : end - 1]
        if is_foreign(octets, start, start + LINE_LIMIT):
            self.turn_away(said.FOREIGN)
        elif end >= 0:
            self.turn_away(said.LINE_FEED)
        elif len(octets) - start >= LINE_LIMIT:
            self.turn_away(said.LONG_LINE)
        return None

    def _flush(self) -> None:
        """Send the replies: at once, as far as the kernel takes them, which saves two turns through the reactor."""
        if not self._answers:
            return
        answers = self._answers[0] if len(self._answers) == 1 else b"".join(self._answers)
        self._answers.clear()
        if self._direct and self._socket is not None:
            try:
                sent = self._socket.send(answers)
            except OSError:
                sent = 0  # if the connection is lost, the transport will find out
            if sent == len(answers):
                return
            self._direct = False  # what is left stands in the transport, and nothing may overtake it
            answers = answers[sent:]
        self.transport.write(answers)

    def _pause(self) -> None:
        if not (self._paused or self.closed):
            self._paused = True
            self.transport.pauseProducing()

    def _resume(self) -> None:
        if not (self._pending or self._no_room or self._unheard or self._half_closed):
            self._paused = False
            self.transport.resumeProducing()

    def _room(self, _: object) -> None:
        self._no_room = False
        if not self.closed:
            self._since = self.clock.seconds()
            self._resume()

    def _look_at_the_time(self) -> None:
        """The timer is set once and looks then how long the wait has been, since waits begin far more often."""
        now = self.clock.seconds()
        if self._pending or self._no_room:
            self._since = now
        left = self._since + self.idle_timeout - now
        if left > 0:
            self._timer = self.clock.callLater(left, self._look_at_the_time)
            return
        self._timer = None
        if self._unheard:
            self.transport.abortConnection()
        else:
            self.close(said.TOO_LATE)
