"""Sink: a provider that takes everything and counts it, in a process of its own.

It offers PIPELINING, SIZE, 8BITMIME and, if asked to, CHUNKING; content is looked at only for its end. The count of
recipients that were taken stands in a shared integer, so that nobody has to ask for it over the network.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event

_DOT = b"\r\n.\r\n"


class Dialogue(asyncio.Protocol):
    """One connection."""

    def __init__(self, count: Synchronized[int], chunking: bool) -> None:
        self._count = count
        self._ehlo = b"250-sink\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n" + (
            b"250-CHUNKING\r\n250 8BITMIME\r\n" if chunking else b"250 8BITMIME\r\n"
        )
        self._buffer = bytearray()
        self._searched = 0
        self._in_data = False
        self._chunk = 0
        self._last = False
        self._recipients = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer what is whole, all of it with one write."""
        self._buffer += data
        answers: list[bytes] = []
        while (answer := self._step()) is not None:
            answers.append(answer)
        if answers:
            self._transport.write(b"".join(answers))

    def _step(self) -> bytes | None:
        """One answer (b"" for none), or None where more octets are needed."""
        buffer = self._buffer
        if self._chunk:
            taken = min(self._chunk, len(buffer))
            del buffer[:taken]
            self._chunk -= taken
            return None if self._chunk else self._taken() if self._last else b"250 ok\r\n"
        if self._in_data:
            end = buffer.find(_DOT, max(self._searched - 4, 0))
            if end < 0:
                self._searched = len(buffer)
                return None
            del buffer[: end + len(_DOT)]
            self._in_data = False
            return self._taken()
        end = buffer.find(b"\r\n")
        if end < 0:
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        return self._command(line)

    def _taken(self) -> bytes:
        with self._count.get_lock():
            self._count.value += self._recipients
        self._recipients = 0
        return b"250 2.0.0 ok\r\n"

    def _command(self, line: bytes) -> bytes:
        match line[:4].upper():
            case b"EHLO":
                return self._ehlo
            case b"RCPT":
                self._recipients += 1
            case b"DATA":
                self._in_data, self._searched = True, 0
                self._buffer[:0] = b"\r\n"
                return b"354 go on\r\n"
            case b"BDAT":
                _, size, *last = line.split()
                self._chunk, self._last = int(size), bool(last)
                return b"" if self._chunk else self._taken()
            case b"RSET" | b"MAIL":
                self._recipients = 0
            case b"QUIT":
                self._transport.write(b"221 bye\r\n")
                self._transport.close()
                return b""
        return b"250 ok\r\n"


class Sink:
    """The process, listening on a port of loopback (a free one, if none is named); `count`: recipients that it took."""

    def __init__(self, chunking: bool = False, port: int = 0) -> None:
        self._count: Synchronized[int] = multiprocessing.Value("q", 0)
        self._port: Synchronized[int] = multiprocessing.Value("i", port)
        ready = multiprocessing.Event()
        self._process = multiprocessing.Process(
            target=_serve, args=(self._count, self._port, ready, chunking), daemon=True
        )
        self._process.start()
        ready.wait(10)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port.value

    @property
    def count(self) -> int:
        """Recipients taken so far."""
        return self._count.value

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()


def _serve(count: Synchronized[int], port: Synchronized[int], ready: Event, chunking: bool) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(
            lambda: Dialogue(count, chunking), "127.0.0.1", port.value
        )
        port.value = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    asyncio.run(main())
