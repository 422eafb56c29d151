"""Metrics: the closed list of what Prometheus is shown.

Counters and histograms are counted where things happen, through children that were looked up once: an increment costs
about a microsecond. What is a state (the queue, the providers, the alerts) is read when somebody asks, all of it from
one `Gauges` value, so that the figures of one answer belong together.

`docs/reference/metrics.md` lists them all; a test compares.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

REASONS = ("size", "recipients", "rate", "connections", "disk", "spool", "loop", "content", "syntax", "not_local")
"""Why a message, or the connection that would have brought it, was refused."""

RESULTS = ("delivered", "bounced", "expired", "deleted")
"""How a mail ended."""

QUEUE_STATES = ("ready", "active", "deferred", "held")

ALERTS = ("backlog", "oldest", "stalled", "disk", "quarantine", "uncertain_held")
"""The alerts that concern no single provider."""

PROVIDER_ALERTS = ("provider_down", "provider_paused", "certificate")
"""Those that do; a provider's name follows behind a colon."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_AGE = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 5 * 24 * 3600)
_COMMIT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_GROUP = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class Gauges:
    """The states of one moment.

    queue              messages that wait, by QUEUE_STATES
    oldest_age_seconds age of the oldest one, 0 when none waits
    up                 whether a provider takes mail, by name
    connections        open connections, by (provider, "active" or "idle")
    alerts             the names of those that are active
    log_lines_dropped  since the start of the process
    """

    queue: Mapping[str, int] = field(default_factory=dict)
    oldest_age_seconds: float = 0.0
    up: Mapping[str, bool] = field(default_factory=dict)
    connections: Mapping[tuple[str, str], int] = field(default_factory=dict)
    alerts: Collection[str] = ()
    log_lines_dropped: int = 0


@dataclass(frozen=True, slots=True)
class ProviderMetrics:
    """What is counted of one provider: recipients by outcome, and how long a transaction took, in seconds."""

    delivered: Counter
    deferred: Counter
    rejected: Counter
    uncertain: Counter
    fault: Counter
    attempt_seconds: Histogram


class Metrics:
    """All metrics of one process, in a registry of their own.

    received         mails taken (our own reports not counted here nor in `finished`)
    refused          by reason, see REASONS
    finished         by result, see RESULTS
    processing_seconds  from received to finished
    commit_seconds, commit_messages  of the spool: how long a commit took, and how many mails it held
    """

    def __init__(self, version: str, gauges: Callable[[], Gauges] = Gauges) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types
        self.registry = registry = CollectorRegistry()
        self.received = Counter(
            "mailrelay_messages_received_total", "Messages made durable and acknowledged.", registry=registry
        )
        refused = Counter(
            "mailrelay_messages_refused_total",
            "Messages, recipients or connections answered with 4xx or 5xx, each answer counted.",
            ["reason"],
            registry=registry,
        )
        self.refused: Mapping[str, Counter] = {reason: refused.labels(reason) for reason in REASONS}
        finished = Counter(
            "mailrelay_messages_finished_total",
            "Messages of which nothing waits any more, by the worst of their recipients' ends.",
            ["result"],
            registry=registry,
        )
        self.finished: Mapping[str, Counter] = {result: finished.labels(result) for result in RESULTS}
        self._recipients = Counter(
            "mailrelay_recipients_total",
            "Recipients by provider and outcome of a transaction.",
            ["provider", "outcome"],
            registry=registry,
        )
        self.processing_seconds = Histogram(
            "mailrelay_processing_seconds", "Time from received to finished.", buckets=_AGE, registry=registry
        )
        self._attempt_seconds = Histogram(
            "mailrelay_attempt_seconds",
            "Time that a transaction took at a provider.",
            ["provider"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "mailrelay_spool_commit_seconds",
            "Time that a commit of the spool took.",
            buckets=_COMMIT,
            registry=registry,
        )
        self.commit_messages = Histogram(
            "mailrelay_spool_commit_messages", "Messages in one commit of the spool.", buckets=_GROUP, registry=registry
        )
        Info("mailrelay_build", "The version that runs.", registry=registry).info({"version": version})
        self._providers: dict[str, ProviderMetrics] = {}
        self.gauges = gauges
        registry.register(_States(self))

    def provider(self, name: str) -> ProviderMetrics:
        """What is counted of the provider `name`; with samples from the first time that this is called."""
        found = self._providers.get(name)
        if found is None:
            recipients = self._recipients.labels
            found = self._providers[name] = ProviderMetrics(
                delivered=recipients(name, "delivered"),
                deferred=recipients(name, "deferred"),
                rejected=recipients(name, "rejected"),
                uncertain=recipients(name, "uncertain"),
                fault=recipients(name, "fault"),
                attempt_seconds=self._attempt_seconds.labels(name),
            )
        return found


class _States(Collector):
    """Makes samples of what `metrics.gauges` says at this moment."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterator[Metric]:
        """The names alone, so that registering asks nobody."""
        return _families(Gauges())

    def collect(self) -> Iterator[Metric]:
        """The samples."""
        return _families(self._metrics.gauges())


def _families(now: Gauges) -> Iterator[Metric]:
    """`now` as Prometheus knows it. Each fixed label has its sample, 0 where there is nothing to say."""
    queue = GaugeMetricFamily("mailrelay_queue_messages", "Messages that wait, by state.", labels=["state"])
    for state in QUEUE_STATES:
        queue.add_metric([state], now.queue.get(state, 0))
    yield queue
    yield GaugeMetricFamily(
        "mailrelay_queue_oldest_age_seconds", "Age of the oldest message that waits.", value=now.oldest_age_seconds
    )
    up = GaugeMetricFamily("mailrelay_provider_up", "1 while a provider takes mail.", labels=["provider"])
    for provider, is_up in now.up.items():
        up.add_metric([provider], int(is_up))
    yield up
    connections = GaugeMetricFamily(
        "mailrelay_provider_connections", "Open connections to a provider.", labels=["provider", "state"]
    )
    for (provider, state), count in now.connections.items():
        connections.add_metric([provider, state], count)
    yield connections
    alert = GaugeMetricFamily("mailrelay_alert_active", "1 while an alert is active.", labels=["alert"])
    of_providers = [f"{name}:{provider}" for provider in now.up for name in PROVIDER_ALERTS]
    for name in dict.fromkeys([*ALERTS, *of_providers, *now.alerts]):
        alert.add_metric([name], int(name in now.alerts))
    yield alert
    yield CounterMetricFamily(
        "mailrelay_log_lines_dropped", "Lines of the log that nobody read in time.", value=now.log_lines_dropped
    )
