"""Reload: the configuration is read again, and what runs goes by it; no connection is dropped, and no mail touched.

Failure: a configuration that makes no sense is told in the log, and what runs goes on as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from relay import policies
from relay.alerts.outbox import Outbox
from relay.config import Config, ConfigErrors
from relay.config.reload import needs_restart, reloaded
from relay.drop.pickup import Pickup
from relay.log import Log
from relay.notify import Notifier
from relay.service.parts import Parts
from relay.spool.background import Background
from relay.upstream.sender import Trust, trust


class _Read(NamedTuple):
    """A configuration that was read again. `later`: the keys that take effect only after a restart."""

    config: Config
    later: Sequence[str]
    trusts: dict[str, Trust | None]
    outboxes: list[Outbox]


class Reload:
    """See the module's docstring.

    read_again  reads the configuration; called in a thread
    is_open     whether the daemon is not stopping
    taking      what the service manager is told while all is well
    """

    def __init__(
        self,
        parts: Parts,
        pickup: Pickup | None,
        log: Log,
        notifier: Notifier,
        reactor: Any,
        read_again: Callable[[], Config],
        is_open: Callable[[], bool],
        taking: str,
    ) -> None:
        self._parts = parts
        self._pickup = pickup
        self._log = log
        self._events = parts.events
        self._notifier = notifier
        self._reactor = reactor
        self._read_again = read_again
        self._is_open = is_open
        self._taking = taking
        self._reading = self._to_be_read = False

    def begin(self) -> None:
        """Read the configuration again; if that is being done already, once more."""
        self._to_be_read = True
        if not self._reading and self._is_open():
            self._reading = True
            Deferred.fromCoroutine(self._reload()).addErrback(
                lambda failure: self._events.error("the configuration could not be read again", failure)
            )

    async def _reload(self) -> None:
        threads, parts = Background(self._reactor, 1, "reload"), self._parts
        self._notifier.reloading()
        try:
            while self._to_be_read and self._is_open():
                self._to_be_read = False
                self._log.reopen(parts.config.log.file, parts.config.log.format)
                try:
                    self._follow(await threads.call(self._read))
                except ConfigErrors as errors:
                    for line in str(errors).splitlines():
                        self._events.error(f"the configuration is not taken, what runs goes on: {line}")
                    parts.probe()
                except (OSError, ValueError) as error:
                    self._events.error(f"the configuration is not taken, what runs goes on: {error}")
                    parts.probe()
        finally:
            self._reading = False
            threads.close()
            if self._is_open():
                self._notifier.ready(self._taking)

    def _read(self) -> _Read:
        """The new configuration, with all of it that waits for a disk. In a thread."""
        written = self._read_again()
        config = reloaded(self._parts.config, written)
        trusts = {provider.name: trust(provider) for provider in config.providers}
        return _Read(config, needs_restart(self._parts.config, written), trusts, self._parts.ways(config))

    def _follow(self, read: _Read) -> None:
        """Go by a new configuration from now on."""
        parts, config = self._parts, read.config
        parts.config = config
        self._log.reopen(config.log.file, config.log.format)
        self._follow_providers(config, read.trusts)
        parts.reports.follow(policies.reports(config))
        parts.schedule.follow(config.delivery.queue_size)
        parts.intake.policy = policies.intake(config)
        limit, window = config.smtp.rate_limit, parts.intake.window
        window.messages, window.per = limit.messages, limit.per
        policy = parts.server_policy(config)
        parts.smtp.follow(policy)
        if self._pickup is not None:
            self._pickup.policy = policy
        parts.reasons.limits = policies.limits(config)
        parts.trial.sender = config.alerts.mail_from
        parts.alerts.reload(policies.bounds(config), config.alerts.repeat, read.outboxes)
        parts.probe()
        for warning in filter(None, (*config.warnings, parts.shortage(config))):
            self._events.warning(warning)
        later = f", but not until a restart: {', '.join(read.later)}" if read.later else ""
        self._events.reloaded(f"the configuration was read again and is in force{later}")

    def _follow_providers(self, config: Config, trusts: dict[str, Trust | None]) -> None:
        """The same pools in their new order, with new ones among them. One that is not among them ends its work."""
        parts = self._parts
        before = dict(parts.pools)
        parts.pools.clear()
        for provider in config.providers:
            tls, pool = trusts[provider.name], before.pop(provider.name, None)
            parts.pools[provider.name] = parts.pool(config, provider, tls) if pool is None else pool
        parts.delivery.follow(policies.delivery(config))
        for provider in config.providers:
            pool = parts.pools[provider.name]
            pool.breaker.probes = policies.probes(config)
            pool.follow(provider, parts.dial(config, provider, trusts[provider.name]))
        for pool in before.values():
            pool.stop()
        parts.left = [pool for pool in (*parts.left, *before.values()) if pool.busy]
