"""Stage: a peer and the provider that it hands everything to, for as long as one run lasts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from benchmarks.distance import Distance
from benchmarks.peers import Mailrelay, Peer, Postfix
from benchmarks.sink import Sink

Start = Callable[[Path, int], Peer]
"""Starts a peer in a folder of its own, towards a provider at that port of loopback."""

BOTH: Mapping[str, Start] = {
    "Postfix": partial(Postfix, connections=20),
    "mailrelay": partial(Mailrelay, connections=20),
}


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on the disk, since a sync has to cost what it costs; Postfix's users may look into it."""
    made = Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def stage(start: Start, *, delay: float = 0.0, chunking: bool = False, numbers: int = 0) -> Iterator[tuple[Peer, Sink]]:
    """Both, up; `delay` is in seconds, each way, and for the rest see Sink."""
    with (
        folder() as place,
        closing(Sink(chunking=chunking, numbers=numbers)) as sink,
        closing(Distance(sink.port, delay)) if delay else nullcontext(sink) as near,
        closing(start(place / "peer", near.port)) as peer,
    ):
        yield peer, sink
