"""docs/reference/alerts.md says what the code does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relay.alerts import webhook
from relay.alerts.decision import Change, Reading
from relay.alerts.figures import Standing
from relay.alerts.letter import PATIENCE
from relay.alerts.readings import CERTIFICATE, INODES, ROOM, WELL_WITHIN, held_readings
from relay.metrics import ALERTS, PROVIDER_ALERTS
from tests.alerting import BOUNDS, WELL, reading

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference" / "alerts.md").read_text("utf-8")
TEXT = re.sub(r"\s+", " ", REFERENCE)

DOWN = Standing(
    "primary",
    up=False,
    down_for=300.0,
    last_error="no connection to smtp.primary.example port 587: timed out",
    certificate_left=6 * 86400.0,
    certificate_ends=1_800_000_000.0,
)
LOGIN = Standing("primary", up=False, login_refused=True, last_error="535 5.7.8 Authentication failed")
PAUSED = Standing("primary", up=False, paused=True, last_error="550 5.7.1 Account suspended")
TROUBLED = replace(
    WELL,
    waiting=153,
    backlog=150,
    oldest=2400.0,
    undelivered=2100.0,
    free_bytes=480 * 2**20,
    providers=(DOWN, Standing("secondary")),
)


def examples() -> Iterator[Reading]:
    """What the page shows, in its order."""
    for name in ("backlog", "oldest", "stalled", "disk"):
        yield reading(name, TROUBLED)
    refusal = ("secondary", "450 4.2.1 You send too much")
    yield reading("stalled", replace(TROUBLED, providers=(Standing("secondary"),), refusal=refusal))
    yield from held_readings(2, 3)
    for provider in (DOWN, LOGIN):
        yield reading("provider_down:primary", replace(TROUBLED, providers=(provider, Standing("secondary"))))
    yield reading("provider_paused:primary", replace(TROUBLED, providers=(PAUSED, Standing("secondary"))))
    yield reading("certificate:primary", TROUBLED)


def test_every_alert_is_there() -> None:
    """The table holds the names of the code and no others, and there is a section for each."""
    names = [*ALERTS, *[f"{name}:NAME" for name in PROVIDER_ALERTS]]

    assert re.findall(r"^\| `([\w:]+)` \|", REFERENCE, re.MULTILINE) == names
    assert re.findall(r"^### (\w+)$", REFERENCE, re.MULTILINE) == [*ALERTS, *PROVIDER_ALERTS]


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.name)
def test_an_example(example: Reading) -> None:
    """It is what the code says."""
    section = re.search(
        rf"^### {example.name.partition(':')[0]}\n(.*?)(?=^###|\Z)", REFERENCE, re.MULTILINE | re.DOTALL
    )
    assert section is not None
    quoted = [
        " ".join(line.removeprefix("> ") for line in paragraph.splitlines())
        for paragraph in section[1].strip().split("\n\n")
    ]

    assert example.beyond
    assert example.message in quoted


def test_the_numbers() -> None:
    """Bounds, deadlines and pauses are those of the code."""
    first, second = webhook.PAUSES[1:]
    for said in (
        f"at most {WELL_WITHIN:.0%} of that".replace("%", " %"),
        f"more than {1 / WELL_WITHIN:.0%} of both".replace("%", " %"),
        f"less than {ROOM} times `spool.min_free`",
        f"less than {INODES:.0%} of the inodes".replace("%", " %"),
        f"within {CERTIFICATE / 86400:.0f} days",
        f"after {webhook.TIMEOUT:g} s without an answer",
        f"it is tried again after {first:g} s and once more after {second:g} s",
    ):
        assert said in TEXT
    assert (PATIENCE, BOUNDS.check_interval) == (60.0, 60.0)


def test_the_document_of_the_webhook() -> None:
    """It has the keys that are sent, in their order."""
    example = re.search(r"^    (\{.*\})$", REFERENCE, re.MULTILINE)
    assert example is not None

    assert list(json.loads(example[1])) == list(webhook.document(Change("disk", "raised", "", 0.0), "app1"))
