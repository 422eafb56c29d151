"""docs/reference/metrics.md and http.md say what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from relay.http.answers import Answers
from relay.http.figures import Alert, Connections, Health, Provider, ProviderState, Queue, Spool, Totals, document
from relay.http.site import CONNECTIONS, HEADER
from relay.metrics import ALERTS, PROVIDER_ALERTS, QUEUE_STATES, REASONS, RESULTS, Gauges, Metrics, ProviderMetrics

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
NOW = 1700000000.0
HEALTH = Health(
    "1.2",
    "app1",
    1,
    True,
    Totals(),
    Queue(),
    [Provider("primary", ProviderState.UP, Connections(0, 0, 10), "x", NOW)],
    Spool("sqlite", True, 1),
    [Alert("backlog", NOW, "x")],
)


def page(name: str) -> str:
    return (REFERENCE / name).read_text("utf-8")


def test_metrics() -> None:
    """Every metric has its row with its type and labels, and there is no other row."""
    metrics = Metrics("1.2", lambda: Gauges(up={"primary": True}, connections={("primary", "idle"): 0}))
    metrics.provider("primary")
    shown = {}
    for family in metrics.registry.collect():
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = {label for sample in family.samples for label in sample.labels if label != "le"}
        shown[name] = (family.type.replace("info", "gauge"), labels)
    rows = re.findall(r"^\| `(mailrelay_\w+)` \| (\w+) \| ([^|]*) \|", page("metrics.md"), re.MULTILINE)

    assert {name: (kind, set(re.findall(r"\w+", labels))) for name, kind, labels in rows} == shown


def test_labels() -> None:
    """Every fixed value of a label is in the reference, in the code's order."""
    text = page("metrics.md")
    rows = {
        label: re.findall(r"`([\w:]+)`", values)
        for label, values in re.findall(r"^\| (`\w+`[^|]*) \|([^|]*)\|$", text, re.MULTILINE)
    }

    assert rows["`reason`"] == list(REASONS)
    assert rows["`result`"] == list(RESULTS)
    assert rows["`outcome`"] == list(ProviderMetrics.__slots__[:-1])
    assert rows["`state` of the queue"] == list(QUEUE_STATES)
    assert rows["`alert`"] == [*ALERTS, *(f"{name}:NAME" for name in PROVIDER_ALERTS)]


class Nobody:
    """A source that is not asked."""


def test_paths() -> None:
    """Every path has its row, and there is no other row."""
    rows = re.findall(r"^\| (`/[^|]*) \|", page("http.md"), re.MULTILINE)
    answers = Answers(Nobody(), Metrics("1.2").registry, lambda: NOW)  # type: ignore[arg-type]

    assert {path.encode() for row in rows for path in re.findall(r"`([^`]*)`", row)} == set(answers._pages)


def shape(value: object) -> object:
    """The names of `value` and how they nest; one thing of a list stands for all."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    return [shape(value[0])] if isinstance(value, list) else type(value)


def test_the_example_of_health() -> None:
    """It has the names, the nesting and the kinds of what is answered."""
    [example] = re.findall(r"```json\n(.*?)```", page("http.md"), re.DOTALL)
    shown = json.loads(json.dumps({**document(HEALTH), "uptime_seconds": 1.5}))
    shown["totals"]["processingTime"] = shown["queue"]["oldest_age_seconds"] = 1.5

    assert shape(json.loads(example)) == shape(shown)


def test_limits() -> None:
    """The numbers are the code's."""
    text = page("http.md")

    assert f"has {HEADER} s and 16 KiB. At most {CONNECTIONS} connections" in text
