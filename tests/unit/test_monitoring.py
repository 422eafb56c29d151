"""The rules and the dashboard in docs/monitoring ask for what there is."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse

from relay.metrics import Gauges, Metrics

FOLDER = Path(__file__).parents[2] / "docs" / "monitoring"
TRIED = Path(__file__).parents[1] / "prometheus-rules.test.yml"
RULES = (FOLDER / "prometheus-rules.yml").read_text("utf-8")
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text("utf-8"))
SCRAPED = {"instance", "job"}
"""Labels that Prometheus adds."""


def samples() -> dict[str, dict[str, set[str]]]:
    """Of every name that a daemon with one provider shows: its labels, with their values."""
    metrics = Metrics("1", lambda: Gauges(up={"p": True}, connections={("p", "active"): 0, ("p", "idle"): 0}))
    metrics.provider("p")
    found: dict[str, dict[str, set[str]]] = {}
    for family in parse(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


SAMPLES = samples()


def blocks() -> list[str]:
    """The rules, each with its lines."""
    return re.split(r"^      - (?=alert:)", RULES, flags=re.MULTILINE)[1:]


def expressions() -> Iterator[str]:
    """All that is asked of Prometheus."""
    for rule in blocks():
        found = re.search(r"^ +expr: (?:>-\n)?(.*?)(?=^        \w+:)", rule, re.MULTILINE | re.DOTALL)
        assert found is not None, rule
        yield " ".join(found[1].split())
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


@pytest.mark.parametrize("expression", list(expressions()))
def test_an_expression(expression: str) -> None:
    """Its names, labels and values of labels are those of the code; its brackets are in pairs."""
    names = re.findall(r"mailrelay_\w+", expression)
    assert names or 'up{job="mailrelay"}' in expression
    for name in names:
        assert name in SAMPLES
    for name, matchers in re.findall(r"(mailrelay_\w+)\{(.*?)\}", expression):
        for label, pattern in re.findall(r'(\w+)=~?"(.*?)"', matchers):
            if label not in SCRAPED:
                assert all(value in SAMPLES[name][label] for value in pattern.split("|"))
    for grouped in re.findall(r"by \((.*?)\)", expression):
        known = SCRAPED.union(*[SAMPLES[name] for name in names])
        assert {label.strip() for label in grouped.split(",")} <= known
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


@pytest.mark.parametrize("rule", blocks(), ids=lambda rule: rule.split()[1])
def test_a_rule(rule: str) -> None:
    """It has what people are told by, and the labels that it names are there."""
    for key in ("expr", "severity", "summary", "description"):
        assert f" {key}: " in rule
    labels = SCRAPED.union(*[SAMPLES[name] for name in re.findall(r"mailrelay_\w+", rule)])
    assert set(re.findall(r"\$labels\.(\w+)", rule)) <= labels


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("asked", [("check", FOLDER / "prometheus-rules.yml"), ("test", TRIED)], ids=["check", "test"])
def test_the_rules_by_prometheus(asked: tuple[str, Path]) -> None:
    """It can read them, and they speak when they should, and not when they should not."""
    verb, file = asked
    done = subprocess.run(["promtool", verb, "rules", file], capture_output=True, text=True, check=False)

    assert "SUCCESS" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.needs("promtool")
def test_the_metrics_by_prometheus() -> None:
    """It finds nothing wrong with how they are named and told."""
    metrics = Metrics("1", lambda: Gauges(up={"p": True}, connections={("p", "active"): 0, ("p", "idle"): 0}))
    metrics.provider("p")
    shown = generate_latest(metrics.registry)
    done = subprocess.run(["promtool", "check", "metrics"], input=shown, capture_output=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_each_rule_is_tried() -> None:
    """Each is named in what Prometheus tries them with."""
    tried = TRIED.read_text("utf-8")

    assert {name for name in re.findall(r"- alert: (\w+)", RULES) if tried.count(f"alertname: {name}") < 2} == set()


def test_the_dashboard_shows_everything() -> None:
    """Each metric is in some panel, a histogram by some part of it."""
    asked = " ".join(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in SAMPLES}

    assert {name for name in names if name not in asked} == set()


def test_the_panels() -> None:
    """Each has a number of its own, a title, a description and a place, and none covers another."""
    panels = DASHBOARD["panels"]
    places = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] and panel["description"] for panel in panels)
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24


def test_what_the_legends_name() -> None:
    """A label in a legend is one that the expression keeps."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            grouped = re.search(r"by \((.*?)\)", target["expr"])
            name = re.findall(r"mailrelay_\w+", target["expr"])[0]
            kept = set(grouped[1].split(", ")) if grouped else SCRAPED | set(SAMPLES[name])
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept
