"""Backlog: mail that waits for a provider where nobody listens.

`drained`: so many are taken meanwhile; then the provider is there, and all of it goes. `Waiting`: a daemon is killed
and started on a spool in which so many wait already, and takes new ones.
"""

from __future__ import annotations

import queue
import random
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks.figures import Figures, load
from benchmarks.peers import Mailrelay, Peer, free_port
from benchmarks.sink import Sink
from relay.envelope import Envelope, Recipient
from relay.spool.spool import Submission
from relay.spool.sqlite import SqliteSpool, open_spool

SIZE = 4096
SESSIONS = 20
GROUP = 1000
PATIENCE = 60.0
"""Seconds without an arrival after which what is missing is not coming any more."""


def drained(mails: int, folder: Path, start: Callable[[Path, int], Peer]) -> Figures:
    """Taken per second while nobody listens, arrived per second from the moment that somebody does."""
    port = free_port()
    with closing(start(folder / "peer", port)) as peer:
        before, began = peer.cpu(), time.monotonic()
        load(peer.port, mails, size=SIZE, sessions=SESSIONS).wait()
        taken, memory = time.monotonic() - began, peer.memory()
        sink = Sink(port=port)
        try:
            peer.retry()
            began = moved = time.monotonic()
            last = 0
            while sink.count < mails and time.monotonic() - moved < PATIENCE:
                if sink.count != last:
                    last, moved = sink.count, time.monotonic()
                memory = max(memory, peer.memory())
                time.sleep(0.05)
            arrived = moved - began
            missing = mails - sink.count
        finally:
            sink.close()
        return Figures(mails / taken, mails / arrived, (peer.cpu() - before) / mails * 1000, memory, missing)


class Waiting:
    """A spool in which `count` mails wait; `ready` is in seconds after a kill, `taken` per second, `memory` in MiB."""

    def __init__(self, folder: Path, count: int) -> None:
        self.count = count
        self.taken: list[float] = []
        self.ready: list[float] = []
        self.memory = 0.0
        self._folder = folder
        self._port = free_port()
        folder.mkdir(mode=0o700, parents=True)
        if count:
            _fill(folder / "spool", count)

    def run(self, mails: int) -> None:
        """Start it, kill it, start it again, and hand in more. What was empty is emptied first."""
        if not self.count:
            shutil.rmtree(self._folder / "spool", ignore_errors=True)
        with closing(Mailrelay(self._folder, self._port, connections=10)) as relay:
            relay.kill()
        with closing(Mailrelay(self._folder, self._port, connections=10)) as relay:
            self.ready.append(relay.ready)
            began = time.monotonic()
            load(relay.port, mails, size=SIZE, sessions=SESSIONS).wait()
            self.taken.append(mails / (time.monotonic() - began))
            self.memory = max(self.memory, relay.highest())


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
