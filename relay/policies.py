"""Policies: what of a configuration each part of the daemon goes by, at the start and after a reload."""

from __future__ import annotations

from relay.addresses import Rules
from relay.alerts.figures import Bounds
from relay.bounce.report import Letterhead
from relay.config import Config
from relay.delivery.reasons import Limits
from relay.delivery.reports import Terms
from relay.delivery.settings import Settings
from relay.intake import Policy as IntakePolicy
from relay.retry import Retry
from relay.upstream.breaker import Probes


def delivery(config: Config) -> Settings:
    """How mail is handed to providers."""
    section, retry = config.delivery, config.retry
    return Settings(
        section.workers,
        section.batch_size,
        section.batch_delay,
        Retry(retry.schedule, retry.interval, retry.jitter, retry.max_age),
        frozenset(provider.name for provider in config.providers if provider.on_uncertain == "hold"),
    )


def probes(config: Config) -> Probes:
    """When a provider that is down is tried again."""
    return Probes(config.delivery.probe, config.delivery.probe_max)


def intake(config: Config) -> IntakePolicy:
    """How mail is taken."""
    addresses = config.addresses
    rules = Rules(addresses.domain, addresses.aliases, addresses.senders)
    return IntakePolicy(config.hostname, rules, _min_free(config), config.smtp.rate_limit.by)


def reports(config: Config) -> Terms:
    """Who is told of what, and in whose name."""
    return Terms(
        Letterhead(config.hostname, config.addresses.domain, config.bounce.from_),
        config.bounce.to,
        config.bounce.delay_warning,
        config.retry.max_age,
        config.bounce.per_hour,
        {provider.name: provider.host for provider in config.providers},
    )


def bounds(config: Config) -> Bounds:
    """When people are told that something is wrong."""
    alerts = config.alerts
    return Bounds(alerts.check_interval, alerts.backlog, alerts.oldest, _min_free(config))


def limits(config: Config) -> Limits:
    """What is spoken of where somebody asks why a mail waits."""
    return Limits(config.retry.max_age, config.delivery.queue_size)


def _min_free(config: Config) -> int:
    """Where mail waits on a server, this host's volume says nothing of the room for it."""
    return 0 if config.spool.backend == "postgresql" else config.spool.min_free
