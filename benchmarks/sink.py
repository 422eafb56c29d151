"""Sink: a provider that takes everything and counts it, in a process of its own.

It offers PIPELINING, SIZE, 8BITMIME and, if asked to, CHUNKING, and uses as little of the processor as it can, since
that is not what is measured. A mail is known by its Message-ID: so it can be told which came twice, and, since all of
one run are of one size, which were cut. What was counted stands in shared memory, so that nobody has to ask for it
over the network.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import re
import select
import socket
import time
from collections import Counter
from multiprocessing.synchronize import Event
from typing import Any

PIECE = 256 * 1024
_END = b"\r\n.\r\n"
_NAME = re.compile(rb"Message-I[dD]: *<([^>]*)>")
_NUMBER = re.compile(rb"X-Number: *([0-9]+)")
_LOOKED_AT = 2048


class Tally:
    """What came, in memory that two processes share.

    count  recipients, each as often as it came
    twice  recipients that had come before, with the same mail
    cut    mails of another size than most
    times  by the number in a mail's X-Number: field, when it was acknowledged, on the monotonic clock
    """

    def __init__(self, numbers: int) -> None:
        self.count: Any = multiprocessing.RawValue(ctypes.c_longlong, 0)
        self.twice: Any = multiprocessing.RawValue(ctypes.c_longlong, 0)
        self.cut: Any = multiprocessing.RawValue(ctypes.c_longlong, 0)
        self.times: Any = multiprocessing.RawArray(ctypes.c_double, numbers)
        self._seen: dict[bytes, set[bytes]] = {}
        self._sizes: Counter[int] = Counter()

    def enter(self, recipients: list[bytes], head: bytes, size: int) -> None:
        """One mail, of which so many octets came, the first of them `head`."""
        self.count.value += len(recipients)
        name = _NAME.search(head)
        if name is not None:
            seen = self._seen.setdefault(name[1], set())
            self.twice.value += len(recipients) - len(set(recipients) - seen)
            seen.update(recipients)
            self._sizes[size - name.end()] += 1  # what stands above it is not of one size
            self.cut.value = self._sizes.total() - max(self._sizes.values()) if len(self._sizes) > 1 else 0
        if len(self.times) and (number := _NUMBER.search(head)) is not None:
            self.times[int(number[1])] = time.monotonic()


class Dialogue:
    """One connection."""

    def __init__(self, connection: socket.socket, tally: Tally, chunking: bool) -> None:
        self.connection = connection
        self._tally = tally
        self._ehlo = b"250-sink\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n" + (
            b"250-CHUNKING\r\n250 8BITMIME\r\n" if chunking else b"250 8BITMIME\r\n"
        )
        self._buffer = b""  # of commands
        self._recipients: list[bytes] = []
        self._head = b""
        self._tail = b""
        self._size = 0
        self._left = -1  # of a chunk; -1: there is none
        self._last = False
        self._in_data = False

    def receive(self, octets: bytes) -> bool:
        """Answer what is whole, all of it with one write. Whether the connection goes on."""
        answers: list[bytes] = []
        while octets:
            if self._in_data:
                octets = self._data(octets, answers)
            elif self._left >= 0:
                octets = self._chunk(octets, answers)
            else:
                line, found, rest = (self._buffer + octets).partition(b"\r\n")
                self._buffer, octets = (b"", rest) if found else (line, b"")
                if found and not self._command(line, answers):
                    self.connection.send(b"".join(answers))
                    return False
        if answers:
            self.connection.send(b"".join(answers))
        return True

    def _begin(self, tail: bytes) -> None:
        self._head, self._tail, self._size = b"", tail, 0

    def _content(self, octets: bytes) -> None:
        self._size += len(octets)
        if len(self._head) < _LOOKED_AT:
            self._head += octets[:_LOOKED_AT]

    def _data(self, octets: bytes, answers: list[bytes]) -> bytes:
        """What follows the end of the content, if it is there."""
        end = _behind_end(self._tail, octets)
        if end < 0:
            self._content(octets)
            self._tail = octets[-4:] if len(octets) >= 4 else (self._tail + octets)[-4:]
            return b""
        self._content(octets[:end])
        self._size -= len(b".\r\n")
        self._in_data = False
        self._taken(answers)
        return octets[end:]

    def _chunk(self, octets: bytes, answers: list[bytes]) -> bytes:
        piece, rest = octets[: self._left], octets[self._left :]
        self._content(piece)
        self._left -= len(piece)
        if not self._left:
            self._left = -1
            if self._last:
                self._taken(answers)
            else:
                answers.append(b"250 ok\r\n")
        return rest

    def _taken(self, answers: list[bytes]) -> None:
        self._tally.enter(self._recipients, self._head, self._size)
        self._recipients = []
        self._begin(b"")
        answers.append(b"250 2.0.0 ok\r\n")

    def _command(self, line: bytes, answers: list[bytes]) -> bool:
        answer = b"250 ok\r\n"
        match line[:4].upper():
            case b"EHLO":
                answer = self._ehlo
            case b"RCPT":
                self._recipients.append(line[8:])
            case b"DATA":
                self._in_data = True
                self._begin(b"\r\n")
                answer = b"354 go on\r\n"
            case b"BDAT":
                _, size, *last = line.split()
                self._left, self._last = int(size), bool(last)
                if self._left:
                    return True
                self._left = -1
                if self._last:
                    self._taken(answers)
                    return True
            case b"RSET" | b"MAIL":
                self._recipients = []
            case b"QUIT":
                answer = b"221 bye\r\n"
        answers.append(answer)
        return line[:4].upper() != b"QUIT"


def _behind_end(tail: bytes, octets: bytes) -> int:
    """Where in `octets`, which follow `tail`, the content has ended; -1 if it goes on.

    A dot is looked for alone, which C does forty times as fast as it looks for the five octets.
    """
    across = (tail + octets[:4]).find(_END)
    if across >= 0:
        return across + len(_END) - len(tail)
    dot = octets.find(b".")
    while dot >= 0:
        if octets[dot - 2 : dot + 3] == _END:
            return dot + 3
        dot = octets.find(b".", dot + 1)
    return -1


class Sink:
    """The process, listening on a port of loopback (a free one, if none is named). See Tally.

    numbers  how many mails at most have an X-Number: field
    """

    def __init__(self, chunking: bool = False, port: int = 0, numbers: int = 0) -> None:
        self._tally = Tally(numbers)
        self._port: Any = multiprocessing.RawValue("i", port)
        ready = multiprocessing.Event()
        self._process = multiprocessing.Process(
            target=_serve, args=(self._tally, self._port, ready, chunking), daemon=True
        )
        self._process.start()
        ready.wait(10)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._port.value
        return port

    @property
    def count(self) -> int:
        """Recipients taken so far."""
        count: int = self._tally.count.value
        return count

    @property
    def twice(self) -> int:
        """Recipients that came with a mail that they had come with before."""
        twice: int = self._tally.twice.value
        return twice

    @property
    def cut(self) -> int:
        """Mails of another size than most."""
        cut: int = self._tally.cut.value
        return cut

    def wait(self, count: int, patience: float) -> None:
        """Until so many recipients have come, or none for so many seconds."""
        last, moved = -1, time.monotonic()
        while (now := self.count) < count and time.monotonic() - moved < patience:
            if now != last:
                last, moved = now, time.monotonic()
            time.sleep(0.01)

    def arrived(self, number: int) -> float:
        """When the mail of that number was acknowledged, on the monotonic clock; 0 if it was not."""
        at: float = self._tally.times[number]
        return at

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()


def _serve(tally: Tally, port: Any, ready: Event, chunking: bool) -> None:
    server = socket.create_server(("127.0.0.1", port.value), backlog=128)
    port.value = server.getsockname()[1]
    dialogues: dict[int, Dialogue] = {}
    poll = select.epoll()
    poll.register(server, select.EPOLLIN)
    piece = bytearray(PIECE)
    view = memoryview(piece)
    ready.set()
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == server.fileno():
                connection, _ = server.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                poll.register(connection, select.EPOLLIN)
                dialogues[connection.fileno()] = Dialogue(connection, tally, chunking)
                connection.send(b"220 sink\r\n")
                continue
            dialogue = dialogues[descriptor]
            try:
                length = dialogue.connection.recv_into(piece)
                goes_on = bool(length) and dialogue.receive(bytes(view[:length]))
            except OSError:
                goes_on = False
            if not goes_on:
                poll.unregister(descriptor)
                del dialogues[descriptor]
                dialogue.connection.close()
