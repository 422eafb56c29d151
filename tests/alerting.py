"""Figures for tests of alerts, and what they are read as."""

from __future__ import annotations

from relay.alerts.decision import Reading
from relay.alerts.figures import Bounds, Figures
from relay.alerts.readings import readings

BOUNDS = Bounds(check_interval=60.0, backlog=100, oldest=1800.0, min_free=256 * 2**20)
"""The configuration's defaults."""

WELL = Figures(0, 0, 0.0, 0.0, free_bytes=2**40, total_bytes=2**41, free_inodes=0, all_inodes=0)
"""Nothing waits, and there is room."""


def reading(name: str, figures: Figures, bounds: Bounds = BOUNDS) -> Reading:
    """The one of that name."""
    return next(each for each in readings(figures, bounds) if each.name == name)
