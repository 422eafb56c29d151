"""Pace: mail handed in at a steady rate, as applications do it, and when each was acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SIZE = 4096
CONNECTIONS = 100
"""At most: Postfix has 200 processes for them, and greets nobody else while these stay open."""


@dataclass(frozen=True)
class Sent:
    """One mail: when its final dot left, and when its 250 came, on the monotonic clock."""

    number: int
    dot: float
    taken: float


def content(number: int) -> bytes:
    """A mail of SIZE octets that carries its number."""
    head = (
        f"From: <a@example.com>\r\nTo: <b@example.net>\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n"
        f"Message-ID: <{number:08}@pace.example>\r\nX-Number: {number}\r\n\r\n"
    ).encode()
    line = b"X" * 78 + b"\r\n"
    return head + line * ((SIZE - len(head)) // len(line))


def paced(port: int, numbers: Sequence[int], rate: float, going: Callable[[], bool] = lambda: True) -> list[Sent]:
    """Hand in mails, so many a second, for as long as `going` says, over as many as CONNECTIONS."""
    return asyncio.run(_Pace(port).run(numbers, rate, going))


def in_turn(port: int, numbers: Sequence[int], sessions: int) -> list[Sent]:
    """Hand in mails, each of so many sessions its next one when it has heard of the last."""
    return asyncio.run(_Pace(port).in_turn(numbers, sessions))


def single(port: int, number: int, recipients: int = 1) -> Sent:
    """Hand in one mail, to so many recipients."""
    return asyncio.run(_Pace(port).one(number, recipients))


class _Pace:
    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._sent: list[Sent] = []
        self._free = asyncio.Semaphore(CONNECTIONS)

    async def run(self, numbers: Sequence[int], rate: float, going: Callable[[], bool]) -> list[Sent]:
        began, tasks = time.monotonic(), []
        for place, number in enumerate(numbers):
            await asyncio.sleep(max(began + place / rate - time.monotonic(), 0))
            if not going():
                break
            tasks.append(asyncio.create_task(self.one(number, 1)))
        await asyncio.gather(*tasks)
        return self._sent

    async def in_turn(self, numbers: Sequence[int], sessions: int) -> list[Sent]:
        async def session(own: Sequence[int]) -> None:
            for number in own:
                await self.one(number, 1)

        await asyncio.gather(*(session(numbers[first::sessions]) for first in range(sessions)))
        return self._sent

    async def one(self, number: int, recipients: int) -> Sent:
        async with self._free:
            reader, writer = self._idle.pop() if self._idle else await self._connect()
            to = [b"RCPT TO:<b%d@example.net>\r\n" % each for each in range(recipients)]
            await self._say(reader, writer, b"MAIL FROM:<a@example.com>\r\n", *to, b"DATA\r\n")
            dot = time.monotonic()
            await self._say(reader, writer, content(number) + b".\r\n")
            sent = Sent(number, dot, time.monotonic())
            self._sent.append(sent)
            self._idle.append((reader, writer))
            return sent

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        await reader.readline()
        await self._say(reader, writer, b"EHLO pace.example\r\n")
        return reader, writer

    @staticmethod
    async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *commands: bytes) -> None:
        """All of them at once; each is answered, with one line or several."""
        writer.write(b"".join(commands))
        for command in commands:
            reply = await reader.readline()
            while reply[3:4] == b"-":
                reply = await reader.readline()
            if reply[:1] not in (b"2", b"3"):
                raise RuntimeError(f"{command[:40]!r} was answered {reply!r}")
