"""Backlog: mail that waits for a provider where nobody listens.

`drained`: so many are taken meanwhile; then the provider is there, and all of it goes. `Waiting`: a daemon is killed
and started on a spool in which so many wait already, and takes new ones.
"""

from __future__ import annotations

import queue
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.figures import Figures, Highest, load
from benchmarks.group import Group
from benchmarks.peers import Mailrelay, Peer, free_port
from benchmarks.sink import Sink
from benchmarks.stage import Start
from benchmarks.stage import folder as made
from relay.envelope import Envelope, Recipient
from relay.spool.spool import Submission
from relay.spool.sqlite import SqliteSpool, open_spool

HEAD = "| waiting | peer | ready after, s | accepted/s | × | drained/s | × | MiB | commit |"
WAITING = (0, 100_000, 1_000_000)
NEW = 6000
"""Mails that are handed in where others wait, and as many that are delivered."""

SIZE = 4096
GROUP = 1000
STALL = 3.0
"""Seconds without an arrival after which a peer is told again to try."""

PATIENCE = 60.0
"""Seconds without an arrival after which what is missing is not coming any more."""


def drained(mails: int, folder: Path, start: Start) -> Figures:
    """Taken per second while nobody listens, arrived per second from the moment that somebody does."""
    port = free_port()
    with ExitStack() as later, closing(start(folder / "peer", port)) as peer:
        group, highest = later.enter_context(closing(Group(peer))), Highest(peer)
        before, began = group.cpu(), time.monotonic()
        source = load(peer.port, mails)
        while source.poll() is None:
            highest.look()
            time.sleep(0.01)
        taken = time.monotonic() - began
        peer.settle()
        with closing(Sink(port=port)) as sink:
            drain = Drain(peer, sink, mails)
            while drain.going():
                highest.look()
                time.sleep(0.01)
            came = sink.count - sink.twice
            cpu = (group.cpu() - before) / mails * 1000
            return Figures(
                mails / taken,
                came / (drain.moved - drain.began),
                cpu,
                highest.memory,
                highest.idle,
                mails - came,
                sink.twice,
                sink.cut,
            )


class Drain:
    """So many mails of a peer whose provider is there again: it is told to try, and again where it has stalled.

    began, moved  when it was told first, and when the last mail has come, on the monotonic clock
    beside        mails a second that come besides, and say nothing of a stall
    """

    def __init__(self, peer: Peer, sink: Sink, mails: int, beside: float = 0.0) -> None:
        self._peer, self._sink, self._mails = peer, sink, mails
        self._least = 2 * beside * STALL + 1
        peer.retry()
        self.began = self.moved = self._looked = time.monotonic()
        self._count = self._before = 0

    def going(self) -> bool:
        """Whether there is more to wait for; to be called often."""
        now, count = time.monotonic(), self._sink.count - self._sink.twice
        if count != self._count:
            self._count, self.moved = count, now
        if now - self._looked >= STALL:
            if count - self._before < self._least:
                self._peer.retry()
            self._looked, self._before = now, count
        return count < self._mails and now - self.moved < PATIENCE


class Waiting:
    """A spool in which `count` mails wait: a daemon is killed and started on it, and takes and delivers new ones.

    ready           seconds from each start to the greeting
    taken, arrived  per second, while nobody listens at the provider, and once somebody does
    memory          MiB at most
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.count = count
        self.taken: list[float] = []
        self.arrived: list[float] = []
        self.ready: list[float] = []
        self.memory = 0.0
        self._folder = folder
        self._port = free_port()
        folder.mkdir(mode=0o700, parents=True)
        if count:
            _fill(folder / "spool", count)

    def run(self, mails: int) -> None:
        """Start it, kill it, start it again, hand in so many and have as many delivered.

        What was empty is emptied first; of a million that wait each run takes these few away.
        """
        if not self.count:
            shutil.rmtree(self._folder / "spool", ignore_errors=True)
        with closing(Mailrelay(self._folder, self._port, connections=20)) as relay:
            relay.kill()
        with closing(Mailrelay(self._folder, self._port, connections=20)) as relay:
            self.ready.append(relay.ready)
            began = time.monotonic()
            load(relay.port, mails).wait()
            self.taken.append(mails / (time.monotonic() - began))
            with closing(Sink(port=self._port)) as sink:
                relay.retry()
                began = time.monotonic()
                sink.wait(mails, PATIENCE)
                self.arrived.append(min(sink.count, mails) / (time.monotonic() - began))
                self.memory = max(self.memory, relay.highest())
                relay.kill()


def rows(rounds: int, commit: str) -> Iterator[str]:
    """What a long queue costs: each number that waits, in turn, so many times."""
    with made() as place:
        spools = [Waiting(place / str(count), count) for count in WAITING]
        for _ in range(rounds):
            for spool in spools:
                spool.run(NEW)
        for spool in spools:
            yield (
                f"| {spool.count:,} | mailrelay | {statistics.median(spool.ready):.2f} "
                f"| {_beside(spool.taken, spools[0].taken)} | {_beside(spool.arrived, spools[0].arrived)} "
                f"| {spool.memory:.0f} | {commit} |"
            )


def _beside(own: Sequence[float], base: Sequence[float]) -> str:
    median = statistics.median(own)
    return f"{median:.0f} | {median / statistics.median(base):.2f}"


class _Calls:
    """As much of a reactor as a spool needs."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def callFromThread(self, f: Callable[..., object], *args: object, **kwargs: object) -> None:
        self._calls.put(lambda: f(*args, **kwargs))

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._calls.get()()


def _fill(directory: Path, count: int) -> None:
    """Have so many mails wait there, never tried, as they do where every attempt so far met a dead provider."""
    calls = _Calls()
    spool = open_spool(directory, reactor=calls, now=time.time, random_bits=random.getrandbits, min_free=0)
    durable = 0

    def done(_: object) -> None:
        nonlocal durable
        durable += 1

    for begun in range(1, count + 1):
        spool.submit(_mail(spool)).addCallback(done)
        if begun % GROUP == 0 or begun == count:
            calls.until(lambda wanted=begun - GROUP: durable >= wanted)  # type: ignore[misc]  # a lambda with a default
    calls.until(lambda: durable == count)
    closed: list[object] = []
    spool.close().addCallback(closed.append)
    calls.until(lambda: bool(closed))


def _mail(spool: SqliteSpool) -> Submission:
    key, uuid = spool.next_id()
    head = b"Received: from bench (localhost [127.0.0.1]) by bench.example with ESMTP id %b\r\n" % uuid.encode()
    body = b"Subject: backlog\r\n\r\n" + b"x" * (SIZE - 22) + b"\r\n"
    to = (Recipient("b@example.net"),)
    return Submission(
        Envelope(key, uuid, "a@example.com", to, time.time(), len(head) + len(body), client="127.0.0.1"), head, body
    )
