"""The figures: one status for all that is seen, and the shapes that other programs read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from relay.http.figures import (
    Alert,
    Connections,
    Health,
    Provider,
    ProviderState,
    Queue,
    Spool,
    Totals,
    document,
    gauges,
)
from relay.reply import nameless

UP = Provider("primary", ProviderState.UP, Connections(2, 1, 10), None, 1700000000.0)
DOWN = Provider("backup", ProviderState.DOWN, Connections(0, 0, 4), "550 <b@example.net> refused", None)
ALERT = Alert("backlog", 1700000000.0, "120 messages wait")
HEALTH = Health(
    version="1.2",
    instance="app1",
    uptime_seconds=12.3456,
    taking=True,
    totals=Totals(successful=7, failed=2, recipients=11, processing_seconds=3.25),
    queue=Queue(ready=1, active=2, deferred=3, held=4, oldest_age_seconds=9.5),
    providers=[UP],
    spool=Spool("sqlite", True, 1000),
)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "ok"),
        ({"alerts": [ALERT]}, "degraded"),
        ({"providers": [UP, DOWN]}, "degraded"),
        ({"providers": [replace(UP, state=ProviderState.PAUSED), UP]}, "degraded"),
        ({"providers": [replace(UP, state=ProviderState.PROBING), UP]}, "degraded"),
        ({"providers": [DOWN]}, "failing"),
        ({"providers": [replace(UP, state=ProviderState.PROBING)]}, "failing"),
        ({"taking": False}, "failing"),
        ({"taking": False, "alerts": [ALERT]}, "failing"),
    ],
)
def test_a_status(changes: dict[str, object], status: str) -> None:
    """Failing where no mail is taken or no provider is up; degraded where one is not, or an alert is active."""
    assert replace(HEALTH, **changes).status == status  # type: ignore[arg-type]


def test_the_object_of_health() -> None:
    """These names and no others: programs of other people read them."""
    shown = document(replace(HEALTH, providers=[UP, DOWN], alerts=[ALERT]))

    assert json.loads(json.dumps(shown)) == {
        "status": "degraded",
        "version": "1.2",
        "instance": "app1",
        "uptime_seconds": 12.346,
        "totals": {
            "totalEmails": 9,
            "successfulEmails": 7,
            "failedEmails": 2,
            "totalRecipients": 11,
            "processingTime": 3.25,
        },
        "queue": {"total": 10, "ready": 1, "active": 2, "deferred": 3, "held": 4, "oldest_age_seconds": 9.5},
        "providers": [
            {
                "name": "primary",
                "state": "up",
                "connections": {"active": 2, "idle": 1, "limit": 10},
                "last_error": None,
                "last_success_at": "2023-11-14T22:13:20.000Z",
            },
            {
                "name": "backup",
                "state": "down",
                "connections": {"active": 0, "idle": 0, "limit": 4},
                "last_error": "550 <[address]> refused",
                "last_success_at": None,
            },
        ],
        "spool": {"backend": "sqlite", "writable": True, "free_bytes": 1000},
        "alerts": [{"name": "backlog", "since": "2023-11-14T22:13:20.000Z", "message": "120 messages wait"}],
    }


def test_the_gauges_of_health() -> None:
    """What Prometheus is shown is the same moment."""
    shown = gauges(replace(HEALTH, providers=[UP, DOWN], alerts=[ALERT]), 3)

    assert shown.queue == {"ready": 1, "active": 2, "deferred": 3, "held": 4}
    assert shown.oldest_age_seconds == 9.5
    assert shown.up == {"primary": True, "backup": False}
    assert shown.connections[("primary", "active")] == 2
    assert shown.connections[("backup", "idle")] == 0
    assert list(shown.alerts) == ["backlog"]
    assert shown.log_lines_dropped == 3


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("550 5.1.1 <b@example.net>: no such user", "550 5.1.1 <[address]>: no such user"),
        ("b@example.net", "[address]"),
        ("Jörg@bücher.example, and 'c+tag@d'", "[address], and '[address]'"),
        ('"john doe"@[192.0.2.1] is full', "[address] is full"),
        ("rcpt=b@example.net;", "[address];"),
        ("421 4.7.0 Try again", "421 4.7.0 Try again"),
        ("at 10 @ noon", "at 10 @ noon"),
    ],
)
def test_words_that_hold_an_address(said: str, shown: str) -> None:
    """A provider quotes the address that it refuses; a page does not."""
    assert nameless(said) == shown
