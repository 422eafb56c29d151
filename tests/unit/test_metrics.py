"""The metrics: every name has a sample from the start, and both formats are what they say."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from relay.metrics import ALERTS, QUEUE_STATES, REASONS, RESULTS, Gauges, Metrics

COUNTERS = {
    "mailrelay_messages_received_total",
    "mailrelay_messages_refused_total",
    "mailrelay_messages_finished_total",
    "mailrelay_recipients_total",
    "mailrelay_log_lines_dropped_total",
}
HISTOGRAMS = {
    "mailrelay_processing_seconds",
    "mailrelay_attempt_seconds",
    "mailrelay_spool_commit_seconds",
    "mailrelay_spool_commit_messages",
}
GAUGES = {
    "mailrelay_queue_messages",
    "mailrelay_queue_oldest_age_seconds",
    "mailrelay_provider_up",
    "mailrelay_provider_connections",
    "mailrelay_alert_active",
    "mailrelay_build_info",
}
PARTS = ("_bucket", "_count", "_sum")


def fresh() -> Metrics:
    """Metrics of a daemon that has done nothing yet, with one provider."""
    metrics = Metrics("1.2", lambda: Gauges(up={"primary": True}, connections={("primary", "idle"): 0}))
    metrics.provider("primary")
    return metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples of the text format, by name and labels."""
    families = parse_text(generate_latest(metrics.registry).decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_every_name_from_the_start() -> None:
    """A dashboard shows 0 and not a gap before the first mail; nothing else is shown."""
    expected = COUNTERS | GAUGES | {name + part for name in HISTOGRAMS for part in PARTS}

    assert {name for name, _ in samples(fresh())} == expected


def test_the_same_names_in_both_formats() -> None:
    """OpenMetrics is read by its own strict parser and ends as it must."""
    metrics = fresh()
    text: str = generate_openmetrics(metrics.registry).decode()

    names = {sample.name for family in parse_openmetrics(text) for sample in family.samples}
    assert names == {name for name, _ in samples(metrics)}
    assert text.endswith("# EOF\n")


def test_every_fixed_label_from_the_start() -> None:
    """So that a rate over the first refusal is not lost."""
    found = samples(fresh())

    for reason in REASONS:
        assert found["mailrelay_messages_refused_total", (("reason", reason),)] == 0
    for result in RESULTS:
        assert found["mailrelay_messages_finished_total", (("result", result),)] == 0
    for state in QUEUE_STATES:
        assert found["mailrelay_queue_messages", (("state", state),)] == 0
    for alert in (*ALERTS, "provider_down:primary", "provider_paused:primary", "certificate:primary"):
        assert found["mailrelay_alert_active", (("alert", alert),)] == 0
    for outcome in ("delivered", "deferred", "rejected", "uncertain", "fault"):
        assert found["mailrelay_recipients_total", (("outcome", outcome), ("provider", "primary"))] == 0
    assert found["mailrelay_build_info", (("version", "1.2"),)] == 1


def test_what_is_counted() -> None:
    """Each counter moves its own sample."""
    metrics = fresh()
    metrics.received.inc()
    metrics.refused["size"].inc()
    metrics.finished["bounced"].inc()
    metrics.provider("primary").rejected.inc(3)
    metrics.provider("primary").attempt_seconds.observe(0.02)
    metrics.processing_seconds.observe(7)
    metrics.commit_seconds.observe(0.001)
    metrics.commit_messages.observe(16)
    found = samples(metrics)

    assert found["mailrelay_messages_received_total", ()] == 1
    assert found["mailrelay_messages_refused_total", (("reason", "size"),)] == 1
    assert found["mailrelay_messages_finished_total", (("result", "bounced"),)] == 1
    assert found["mailrelay_recipients_total", (("outcome", "rejected"), ("provider", "primary"))] == 3
    assert found["mailrelay_attempt_seconds_count", (("provider", "primary"),)] == 1
    assert found["mailrelay_processing_seconds_sum", ()] == 7
    assert found["mailrelay_spool_commit_seconds_count", ()] == 1
    assert found["mailrelay_spool_commit_messages_sum", ()] == 16


def test_states_are_read_when_somebody_asks() -> None:
    """Never before, and anew each time."""
    asked = []

    def now() -> Gauges:
        asked.append(True)
        return Gauges(
            queue={"ready": 5},
            oldest_age_seconds=1.5,
            up={"a": True, "b": False},
            connections={("a", "active"): 2},
            alerts=["backlog", "provider_down:b", "certificate:gone"],
            log_lines_dropped=7,
        )

    metrics = Metrics("1.2", now)
    assert not asked
    found = samples(metrics)

    assert len(asked) == 1
    assert found["mailrelay_queue_messages", (("state", "ready"),)] == 5
    assert found["mailrelay_queue_oldest_age_seconds", ()] == 1.5
    assert found["mailrelay_provider_up", (("provider", "b"),)] == 0
    assert found["mailrelay_provider_connections", (("provider", "a"), ("state", "active"))] == 2
    assert found["mailrelay_alert_active", (("alert", "backlog"),)] == 1
    assert found["mailrelay_alert_active", (("alert", "oldest"),)] == 0
    assert found["mailrelay_alert_active", (("alert", "provider_down:b"),)] == 1
    assert found["mailrelay_alert_active", (("alert", "provider_down:a"),)] == 0
    assert found["mailrelay_alert_active", (("alert", "certificate:gone"),)] == 1
    assert found["mailrelay_log_lines_dropped_total", ()] == 7


def test_a_name_that_needs_quoting() -> None:
    """A provider may be called anything."""
    metrics = Metrics("1.2", lambda: Gauges(up={'a "b"\\\nc': True}))

    assert samples(metrics)["mailrelay_provider_up", (("provider", 'a "b"\\\nc'),)] == 1


def test_the_same_provider_twice() -> None:
    """It is one, and its counts go on."""
    metrics = fresh()

    assert metrics.provider("primary") is metrics.provider("primary")
