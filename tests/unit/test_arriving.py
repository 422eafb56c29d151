"""Large bodies on their way in: what is written when, and what of them stays in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from relay.spool.arriving import GATHER, KEPT, MEMORY, Memory, WritingBody
from relay.spool.background import Background

PIECE = b"x" * (GATHER // 4)


class Shelf:
    """A Place in memory."""

    def __init__(self) -> None:
        self.crc = 0
        self.put_at_once: list[bytes] = []
        self.kept = ""
        self.dropped = False

    def put(self, pieces: list[bytes]) -> None:
        """See Place."""
        self.put_at_once.append(b"".join(pieces))

    def keep(self, uuid: str) -> None:
        """See Place."""
        self.kept = uuid

    def drop(self) -> None:
        """See Place."""
        self.dropped = True


class AtOnce(Background):
    """A background that is no other thread."""

    def __init__(self) -> None:
        """It needs none."""

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        """See Background."""
        done: Deferred[Any] = Deferred()
        done.callback(function(*args, **kwargs))
        return done


def body(memory: Memory | None = None) -> tuple[WritingBody, Shelf]:
    """One on its way to a shelf."""
    shelf = Shelf()
    return WritingBody(shelf, AtOnce(), memory or Memory()), shelf


def test_pieces_are_gathered() -> None:
    """Small ones are written together, and the last ones with the end."""
    arriving, shelf = body()

    for _ in range(5):
        arriving.write(PIECE)
    assert shelf.put_at_once == [PIECE * 4]

    done = arriving.finish("its name")
    assert done.called
    assert shelf.put_at_once == [PIECE * 4, PIECE]
    assert shelf.kept == "its name"


@pytest.mark.parametrize("octets", [1, GATHER + 1, KEPT])
def test_one_that_is_still_in_memory(octets: int) -> None:
    """All of it, once."""
    arriving, _ = body()
    arriving.write(b"a" * (octets - 1))
    arriving.write(b"z")
    arriving.finish("its name")

    assert arriving.whole() == b"a" * (octets - 1) + b"z"
    assert arriving.whole() is None


def test_one_that_is_too_large_for_memory() -> None:
    """It is on the disk alone, and takes nothing of what there is for others."""
    memory = Memory()
    arriving, shelf = body(memory)
    arriving.write(b"x" * KEPT)
    arriving.write(b"x")
    arriving.finish("its name")

    assert arriving.whole() is None
    assert memory.free == MEMORY
    assert sum(map(len, shelf.put_at_once)) == KEPT + 1


def test_many_at_a_time() -> None:
    """Who finds no room is on the disk alone; there is room again when another one is given up, or is done."""
    memory = Memory()
    others = [body(memory)[0] for _ in range(MEMORY // KEPT)]
    for other in others:
        other.write(b"x" * KEPT)
    assert memory.free == 0

    late, shelf = body(memory)
    late.write(b"y")
    late.finish("its name")
    assert late.whole() is None
    assert shelf.put_at_once == [b"y"]

    others[0].abandon()
    others[1].finish("another name")
    assert others[1].whole() == b"x" * KEPT
    assert memory.free == 2 * KEPT
