"""Distance: a TCP proxy that delivers every octet some milliseconds later, each way, in a process of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import selectors
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event


class _Leg(asyncio.Protocol):
    """One side of a connection through the proxy; `other` is where its octets go, `delay` seconds later."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.other: _Leg
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self.delay, self.other.transport.write, data)

    def connection_lost(self, exc: Exception | None) -> None:
        asyncio.get_running_loop().call_later(self.delay, self.other.transport.close)


class _Near(_Leg):
    """The client's side: the other one is opened once it is there."""

    def __init__(self, delay: float, port: int) -> None:
        super().__init__(delay)
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()
        self._task = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(2 * self.delay)
        far = _Leg(self.delay)
        far.other, self.other = self, far
        await loop.create_connection(lambda: far, "127.0.0.1", self._port)
        self.transport.resume_reading()


class Distance:
    """The process; connections to its `port` lead to `target`, `delay` seconds away each way."""

    def __init__(self, target: int, delay: float) -> None:
        self._port: Synchronized[int] = multiprocessing.Value("i", 0)
        ready = multiprocessing.Event()
        self._process = multiprocessing.Process(target=_serve, args=(target, delay, self._port, ready), daemon=True)
        self._process.start()
        ready.wait(10)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port.value

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()


def _serve(target: int, delay: float, port: Synchronized[int], ready: Event) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Near(delay, target), "127.0.0.1", 0)
        port.value = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    with asyncio.Runner(loop_factory=_exact) as runner:
        runner.run(main())


def _exact() -> asyncio.AbstractEventLoop:
    """A loop that waits by `select`, which keeps microseconds; epoll rounds each wait up to the next millisecond."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())
