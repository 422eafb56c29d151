"""Lapse: what the log says of a spool that takes no mail, once when that begins and once when it is over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.events import Entry, Events
from relay.service.lapse import Lapse
from relay.spool.spool import Health

WELL = Health(True, 1, 1, 1, 1, 100.0)


class Watched:
    """A Lapse whose spool and time are set by hand; `lines` is what the log says."""

    def __init__(self) -> None:
        self.health = WELL
        self.now = 100.0
        self.lines: list[Entry] = []
        self.lapse = Lapse(lambda: self.health, lambda: self.now, Events(self, lambda: 0.0))

    def write(self, entry: Entry) -> None:
        """Part of Sink."""
        self.lines.append(entry)

    def at(self, now: float, health: Health) -> list[tuple[object, object]]:
        """What is said at that time, how the spool is then."""
        self.now, self.health, self.lines = now, health, []
        self.lapse.tick()
        return [(line["level"], line["message"]) for line in self.lines]


@pytest.mark.parametrize(
    ("bad", "at", "why"),
    [
        (replace(WELL, writable=False), 101.0, "the last write failed"),
        (WELL, 105.0, "it has not answered for 5 s"),
        (replace(WELL, writable=False), 106.0, "it has not answered for 5 s"),
    ],
)
def test_once_each(bad: Health, at: float, why: str) -> None:
    """However often it is looked at."""
    watched = Watched()

    assert watched.at(100.5, WELL) == []
    assert watched.at(at, bad) == [("error", f"the spool takes no mail: {why}")]
    assert watched.at(at + 2.0, bad) == []
    assert watched.at(at + 2.5, replace(WELL, checked_at=at + 2.5)) == [
        ("warning", "the spool takes mail again, after 2.5 s")
    ]
    assert watched.at(at + 3.0, replace(WELL, checked_at=at + 2.5)) == []
