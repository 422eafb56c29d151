"""The scale of time by which mail ages."""

from __future__ import annotations

from relay.clock import SpoolClock


class System:
    """A machine's two clocks; only one of them can be set."""

    def __init__(self, wall: float) -> None:
        self.wall = wall
        self.monotonic = 100.0

    def clock(self) -> SpoolClock:
        """A new process on this machine."""
        return SpoolClock(lambda: self.wall, lambda: self.monotonic)

    def pass_by(self, seconds: float) -> None:
        """Time goes on."""
        self.wall += seconds
        self.monotonic += seconds


def test_it_begins_at_the_systems_time() -> None:
    """It can be read as seconds since the epoch."""
    assert System(1_700_000_000.0).clock()() == 1_700_000_000.0


def test_a_step_of_the_systems_clock() -> None:
    """It makes nothing old and freezes nothing, forward or back."""
    system = System(60.0)
    clock = system.clock()

    system.wall = 1_700_000_000.0
    system.pass_by(2.0)
    assert clock() == 62.0
    assert clock.drift == 1_700_000_002.0 - 62.0
    system.wall = 0.0
    system.pass_by(1.0)

    assert clock() == 63.0


def test_a_restart_after_a_step() -> None:
    """Mail that was taken in 1970 is as old as the time that passed, and no older."""
    system = System(60.0)
    clock = system.clock()
    system.wall = 1_700_000_000.0
    drift = clock.drift

    system.pass_by(30.0)
    again = system.clock()
    again.resume(drift, newest=60.0)

    assert again() == 90.0


def test_a_machine_that_boots_in_the_past() -> None:
    """It goes on at its newest mail, not before it."""
    clock = System(60.0).clock()

    clock.resume(0.0, newest=1_700_000_000.0)

    assert clock() == 1_700_000_000.0
