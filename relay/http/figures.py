"""Figures: how the daemon is at one moment, as values; `/health`, the page, the gauges and `status` all show these.

The service makes a `Health` when somebody asks. Nothing in it names an address or a subject of anybody's mail.
Times are seconds since the epoch, by the wall's clock; ages and durations are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from relay.log import timestamp
from relay.metrics import Gauges
from relay.reply import nameless

Status = Literal["ok", "degraded", "failing"]


class ProviderState(StrEnum):
    """Whether mail goes to a provider."""

    UP = "up"
    DOWN = "down"
    PROBING = "probing"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Totals:
    """Counted when a mail is finished, since the start of the process, without our own reports.

    failed is a mail of which any recipient bounced, expired or was deleted; processing_seconds is a sum over mails.
    """

    successful: int = 0
    failed: int = 0
    recipients: int = 0
    processing_seconds: float = 0.0

    @property
    def emails(self) -> int:
        """All that finished."""
        return self.successful + self.failed


@dataclass(frozen=True, slots=True)
class Queue:
    """Mails that wait, each in exactly one state: active before ready before deferred before held."""

    ready: int = 0
    active: int = 0
    deferred: int = 0
    held: int = 0
    oldest_age_seconds: float = 0.0

    @property
    def total(self) -> int:
        """All that wait."""
        return self.ready + self.active + self.deferred + self.held


@dataclass(frozen=True, slots=True)
class Connections:
    """To one provider: in use, open and unused, and how many there may be."""

    active: int
    idle: int
    limit: int


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider, in the order of preference. What is None was not yet, or is not known.

    since     when it came into its state; a probe interrupts no outage
    error_at  when what `last_error` says was last so
    """

    name: str
    state: ProviderState
    connections: Connections
    last_error: str | None = None
    last_success_at: float | None = None
    since: float | None = None
    error_at: float | None = None


@dataclass(frozen=True, slots=True)
class Spool:
    """What the spool last said of itself; never older than 5 s where the disk answers."""

    backend: str
    writable: bool
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that is active since `since`."""

    name: str
    since: float
    message: str


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that went wrong with a mail: `outcome` is the log's event, `reply` the provider's words or ours."""

    time: float
    id: str
    provider: str
    outcome: str
    reply: str


@dataclass(frozen=True, slots=True)
class Health:
    """The whole of one moment. `taking` is whether an application's mail would be taken now."""

    version: str
    instance: str
    uptime_seconds: float
    taking: bool
    totals: Totals
    queue: Queue
    providers: Sequence[Provider]
    spool: Spool
    alerts: Sequence[Alert] = ()

    @property
    def status(self) -> Status:
        """`failing`: no mail is taken, or none can go; `degraded`: a provider does not take mail, or an alert is on."""
        states = [provider.state for provider in self.providers]
        if not self.taking or ProviderState.UP not in states:
            return "failing"
        return "degraded" if self.alerts or any(state is not ProviderState.UP for state in states) else "ok"


def document(health: Health) -> dict[str, object]:
    """`health` as the JSON object that `/health` and `mailrelay status --json` show."""
    totals, queue = health.totals, health.queue
    return {
        "status": health.status,
        "version": health.version,
        "instance": health.instance,
        "uptime_seconds": round(health.uptime_seconds, 3),
        "totals": {
            "totalEmails": totals.emails,
            "successfulEmails": totals.successful,
            "failedEmails": totals.failed,
            "totalRecipients": totals.recipients,
            "processingTime": round(totals.processing_seconds, 3),
        },
        "queue": {
            "total": queue.total,
            "ready": queue.ready,
            "active": queue.active,
            "deferred": queue.deferred,
            "held": queue.held,
            "oldest_age_seconds": round(queue.oldest_age_seconds, 3),
        },
        "providers": [_provider(provider) for provider in health.providers],
        "spool": {
            "backend": health.spool.backend,
            "writable": health.spool.writable,
            "free_bytes": health.spool.free_bytes,
        },
        "alerts": [
            {"name": alert.name, "since": timestamp(alert.since), "message": nameless(alert.message)}
            for alert in health.alerts
        ],
    }


def _provider(provider: Provider) -> dict[str, object]:
    connections, success = provider.connections, provider.last_success_at
    return {
        "name": provider.name,
        "state": provider.state.value,
        "connections": {"active": connections.active, "idle": connections.idle, "limit": connections.limit},
        "last_error": None if provider.last_error is None else nameless(provider.last_error),
        "last_success_at": None if success is None else timestamp(success),
    }


def gauges(health: Health, log_lines_dropped: int) -> Gauges:
    """`health` as metrics."""
    queue = health.queue
    return Gauges(
        queue={"ready": queue.ready, "active": queue.active, "deferred": queue.deferred, "held": queue.held},
        oldest_age_seconds=queue.oldest_age_seconds,
        up={provider.name: provider.state is ProviderState.UP for provider in health.providers},
        connections={
            (provider.name, state): count
            for provider in health.providers
            for state, count in (("active", provider.connections.active), ("idle", provider.connections.idle))
        },
        alerts=[alert.name for alert in health.alerts],
        log_lines_dropped=log_lines_dropped,
    )
