"""What figures mean for each alert, and in which words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relay.alerts.figures import Bounds, Figures, Standing
from relay.alerts.readings import held_readings, readings, urgent
from relay.metrics import ALERTS, PROVIDER_ALERTS
from tests.alerting import BOUNDS, WELL, reading

MIB = 2**20


def test_every_alert_has_its_reading() -> None:
    """The names are those of the metrics, and no others."""
    figures = replace(WELL, providers=(Standing("a"),))
    found = [*readings(figures, BOUNDS), *held_readings(0, 0)]

    assert {each.name for each in found} == {*ALERTS, *[f"{name}:a" for name in PROVIDER_ALERTS]}
    assert not any(each.beyond for each in found)


@pytest.mark.parametrize(
    ("name", "figures", "beyond", "within"),
    [
        ("backlog", {"backlog": 100}, False, False),
        ("backlog", {"backlog": 101}, True, False),
        ("backlog", {"backlog": 81}, False, False),
        ("backlog", {"backlog": 80}, False, True),
        ("oldest", {"oldest": 1800.0}, False, False),
        ("oldest", {"oldest": 1801.0}, True, False),
        ("oldest", {"oldest": 1440.0}, False, True),
        ("stalled", {"undelivered": 1801.0}, True, False),
        ("stalled", {"undelivered": 1440.0}, False, True),
        ("disk", {"free_bytes": 512 * MIB}, False, False),
        ("disk", {"free_bytes": 512 * MIB - 1}, True, False),
        ("disk", {"free_bytes": 640 * MIB}, False, False),
        ("disk", {"free_bytes": 640 * MIB + 1}, False, True),
        ("disk", {"free_bytes": 0}, True, False),
        ("disk", {"free_inodes": 5000, "all_inodes": 100_000}, False, False),
        ("disk", {"free_inodes": 4999, "all_inodes": 100_000}, True, False),
        ("disk", {"free_inodes": 6251, "all_inodes": 100_000}, False, True),
        ("disk", {"free_inodes": 0, "all_inodes": 0}, False, True),
    ],
)
def test_the_bound_of_each(name: str, figures: dict[str, Any], beyond: bool, within: bool) -> None:
    """Raised above it, over at or below 80 % of it; for room below it, and above 125 % of it."""
    found = reading(name, replace(WELL, **figures))

    assert (found.beyond, found.within) == (beyond, within)


def test_bounds_of_nothing() -> None:
    """A bound of 0 is passed by anything and met by nothing; a `min_free` of 0 cannot be passed."""
    bounds = Bounds(60.0, 0, 0.0, 0)

    assert reading("backlog", replace(WELL, backlog=1), bounds).beyond
    assert reading("backlog", WELL, bounds).within
    assert reading("oldest", replace(WELL, oldest=0.1), bounds).beyond
    assert reading("oldest", WELL, bounds).within
    assert reading("disk", replace(WELL, free_bytes=0), bounds).within


@pytest.mark.parametrize(
    ("provider", "beyond", "within"),
    [
        (Standing("a", up=False, down_for=60.0), False, False),
        (Standing("a", up=False, down_for=60.1), True, False),
        (Standing("a", up=False, down_for=48.0), False, True),
        (Standing("a", up=False, down_for=0.0, login_refused=True), True, False),
        (Standing("a", up=True, down_for=500.0), False, False),
        (Standing("a", up=False, paused=True), False, True),
        (Standing("a"), False, True),
    ],
)
def test_a_provider_that_is_down(provider: Standing, beyond: bool, within: bool) -> None:
    """For longer than a check, or for a login; a moment of being up neither raises an alert nor ends it."""
    found = reading("provider_down:a", replace(WELL, providers=(provider,)))

    assert (found.beyond, found.within) == (beyond, within)


@pytest.mark.parametrize(
    ("days", "beyond", "within"),
    [(None, False, False), (14.01, False, True), (13.99, True, False), (-1.0, True, False)],
)
def test_a_certificate(days: float | None, beyond: bool, within: bool) -> None:
    """It is an alert from 14 days before its end on, until another one was seen; unseen it says nothing."""
    left = None if days is None else days * 86400
    found = reading("certificate:a", replace(WELL, providers=(Standing("a", certificate_left=left),)))

    assert (found.beyond, found.within) == (beyond, within)


def test_what_does_not_wait() -> None:
    """A pause and a refused login."""
    providers = (
        Standing("up"),
        Standing("down", up=False, down_for=500.0),
        Standing("paused", up=False, paused=True),
        Standing("login", up=False, login_refused=True),
    )

    found = list(urgent(replace(WELL, providers=providers), BOUNDS))

    assert [each.name for each in found if each.beyond] == ["provider_paused:paused", "provider_down:login"]
    assert len(found) == 2


def test_whose_words() -> None:
    """A provider's words are quoted as such, ours are not; they are cut where they are endless, and never control."""
    down = Standing("a", up=False, down_for=300.0, last_error="450 4.3.2 Not now.")
    assert (
        'down for 5 minutes; it said "450 4.3.2 Not now".'
        in reading("provider_down:a", replace(WELL, providers=(down,))).message
    )

    ours = replace(down, last_error="no connection to smtp.example port 25: \x1b[31mrefused")
    assert (
        ": no connection to smtp.example port 25: \\x1b[31mrefused."
        in reading("provider_down:a", replace(WELL, providers=(ours,))).message
    )

    endless = replace(down, last_error="450 " + "x" * 5000)
    assert len(reading("provider_down:a", replace(WELL, providers=(endless,))).message) < 700


def test_where_mail_goes_meanwhile() -> None:
    """The other providers that are up are named; without any, how much waits."""
    down, other = Standing("a", up=False, down_for=300.0), Standing("b")

    assert "Mail goes to b meanwhile." in reading("provider_down:a", replace(WELL, providers=(down, other))).message
    assert (
        "No other provider takes mail; 1 mail waits."
        in reading("provider_down:a", replace(WELL, waiting=1, providers=(down,))).message
    )


def test_why_mail_waits() -> None:
    """Each provider that takes none is named with its words."""
    figures = replace(
        WELL,
        backlog=153,
        oldest=720.0,
        providers=(Standing("a", up=False, down_for=300.0, last_error="refused"), Standing("b", up=False, paused=True)),
    )

    assert reading("backlog", figures).message.startswith(
        "153 mails wait to be delivered, where 100 are the limit; the oldest has waited for 12 minutes. "
        "a has been down for 5 minutes: refused. b is paused."
    )


def test_a_volume_that_is_too_small_for_its_bound() -> None:
    """Then it is said how large it is."""
    small = Figures(0, 0, 0.0, 0.0, free_bytes=90 * MIB, total_bytes=100 * MIB, free_inodes=0, all_inodes=0)

    assert "The whole volume has 100.0 MiB." in reading("disk", small).message
