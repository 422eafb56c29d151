"""Which mails were under way when the process died."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.task import Clock

from relay.delivery.flights import SUSPECTED, Flights, places


@pytest.fixture
def clock() -> Clock:
    """The spool's clock."""
    clock = Clock()
    clock.advance(1000.0)
    return clock


def die(path: Path, clock: Clock, *keys: int, after: float = 1.0) -> Flights:
    """A life that ends `after` seconds into the transactions of those mails; the next one."""
    flights = Flights(path, clock.seconds)
    for key in keys:
        flights.begin(key)
    clock.advance(after)
    flights.beat()
    return Flights(path, clock.seconds)


def test_three_deaths(tmp_path: Path, clock: Clock) -> None:
    """A mail that was under way at three of them is suspected; one that was there once is not."""
    path = tmp_path / "flights"
    for death in range(SUSPECTED):
        flights = die(path, clock, 7, *([8] if not death else []))

    assert flights.suspected(7)
    assert not flights.suspected(8)


def test_deaths_at_once(tmp_path: Path, clock: Clock) -> None:
    """A mail that kills as soon as it is begun does so before the next sign of life."""
    path = tmp_path / "flights"
    for _ in range(SUSPECTED):
        flights = Flights(path, clock.seconds)
        clock.advance(0.1)
        flights.begin(7)

    assert Flights(path, clock.seconds).suspected(7)


def test_a_death_long_after_the_beginning(tmp_path: Path, clock: Clock) -> None:
    """A mail that was under way for more than a minute is not what killed it."""
    path = tmp_path / "flights"
    for _ in range(SUSPECTED):
        flights = die(path, clock, 7, after=61.0)

    assert not flights.suspected(7)


def test_what_ended_is_not_suspected(tmp_path: Path, clock: Clock) -> None:
    """An outcome that is durable clears its mail, and two transactions of one mail both have to end."""
    flights = Flights(tmp_path / "flights", clock.seconds)
    for key in (1, 2, 2):
        flights.begin(key)
    for key in (1, 2):
        flights.end(key)

    assert Flights(tmp_path / "flights", clock.seconds).suspects == {2: 1}


def test_suspicion_outlives_a_good_end(tmp_path: Path, clock: Clock) -> None:
    """A deferral in between does not clear a mail; its end does."""
    path = tmp_path / "flights"
    flights = die(path, clock, 7)
    flights.begin(7)
    flights.end(7)
    assert Flights(path, clock.seconds).suspects == {7: 1}

    flights = Flights(path, clock.seconds)
    flights.forget(7)

    assert Flights(path, clock.seconds).suspects == {}


def test_more_mails_than_slots(tmp_path: Path, clock: Clock) -> None:
    """What finds no slot is not guarded, and nothing breaks."""
    flights = Flights(tmp_path / "flights", clock.seconds)

    for key in range(1, 5000):
        flights.begin(key)
    for key in range(1, 5000):
        flights.end(key)

    assert Flights(tmp_path / "flights", clock.seconds).suspects == {}


@pytest.mark.parametrize("octets", [b"", b"x" * 100, b"\xff" * 100_000])
def test_a_file_that_makes_no_sense(tmp_path: Path, clock: Clock, octets: bytes) -> None:
    """Nobody is suspected."""
    path = tmp_path / "flights"
    path.write_bytes(octets)

    assert Flights(path, clock.seconds).suspects == {}
    assert Flights(path, clock.seconds).suspects == {}


def test_the_places(tmp_path: Path, clock: Clock) -> None:
    """In memory first, under a name that is this spool's alone; what is another's or a link is not taken."""
    spool, other = tmp_path / "spool", tmp_path / "other"
    spool.mkdir()
    other.mkdir()
    [best, last] = places(spool, tmp_path)
    best.symlink_to(tmp_path / "elsewhere")

    assert last == spool / "flights"
    assert best.parent == tmp_path
    assert best not in places(other, tmp_path)
    with pytest.raises(OSError, match="symbolic"):
        Flights(best, clock.seconds)


def test_the_end_that_was_meant(tmp_path: Path, clock: Clock) -> None:
    """The file goes, unless somebody in it is suspected."""
    path = tmp_path / "flights"
    flights = Flights(path, clock.seconds)
    flights.begin(7)
    flights.end(7)
    flights.close()
    assert not path.exists()
    die(path, clock, 7).close()

    assert Flights(path, clock.seconds).suspects == {7: 1}
