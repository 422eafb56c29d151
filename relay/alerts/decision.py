"""Decision: which alerts begin, go on and end. Pure.

A reading says how one thing stands. An alert begins when that is beyond its bound and ends only when it is well within
it, so that what sways about the bound is told once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from relay.bounce.words import span

State = Literal["raised", "repeated", "cleared"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How it stands with what the alert `name` is about.

    beyond   beyond the bound: an alert
    within   so far within it that the alert is over; where neither is true all stays as it was
    message  in words for people; "" where nothing is known
    """

    name: str
    beyond: bool
    within: bool
    message: str


@dataclass(frozen=True, slots=True)
class Alert:
    """One that is active.

    since    when it was raised, in seconds since the epoch, by the wall's clock
    began    the same on a clock that only moves forward
    told_at  when it was last told, on that clock
    message  how it stands, by the latest reading
    """

    name: str
    since: float
    began: float
    told_at: float
    message: str


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be told of one alert; `since` is the alert's."""

    alert: str
    state: State
    message: str
    since: float


def decide(
    readings: Iterable[Reading], active: Mapping[str, Alert], now: float, wall: float, repeat: float
) -> tuple[dict[str, Alert], tuple[Change, ...]]:
    """The alerts that are active from now on, and what is to be told. Alerts without a reading stay as they are.

    now     on a clock that only moves forward
    wall    the same moment in seconds since the epoch
    repeat  seconds after which an alert that lasts is told again; 0: never
    """
    after = dict(active)
    changes: list[Change] = []
    for reading in readings:
        alert = after.get(reading.name)
        if alert is None:
            if reading.beyond:
                after[reading.name] = Alert(reading.name, wall, now, now, reading.message)
                changes.append(Change(reading.name, "raised", reading.message, wall))
        elif reading.within:
            del after[reading.name]
            message = f"{reading.message} The alert lasted {span(now - alert.began)}."
            changes.append(Change(reading.name, "cleared", message, alert.since))
        else:
            again = 0 < repeat <= now - alert.told_at
            message = reading.message or alert.message
            after[reading.name] = replace(alert, message=message, told_at=now if again else alert.told_at)
            if again:
                changes.append(Change(reading.name, "repeated", message, alert.since))
    return after, tuple(changes)
