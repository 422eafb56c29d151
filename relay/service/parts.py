"""Parts: what a configuration's daemon is made of, put together in the order in which each needs the others."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred

import relay
from relay import descriptors, policies
from relay.alerts.alerts import Alerts
from relay.alerts.lookout import Lookout
from relay.alerts.outbox import Outbox
from relay.alerts.ways import ways
from relay.clock import SpoolClock
from relay.config import Config
from relay.config.values import Provider
from relay.control.commands import Commands
from relay.control.trial import Trial
from relay.delivery.account import Account
from relay.delivery.brakes import Brakes
from relay.delivery.delivery import Delivery
from relay.delivery.operator import Operator
from relay.delivery.reasons import Reasons
from relay.delivery.reports import Reports
from relay.events import Events
from relay.http import figures
from relay.http.history import History
from relay.intake import Intake
from relay.limits import Window
from relay.log import Log
from relay.metrics import Metrics
from relay.observer import Observer
from relay.service.store import open_store
from relay.smtp.server.factory import LocalSMTPFactory
from relay.smtp.server.policy import Policy as ServerPolicy
from relay.spool.spool import Mail, State
from relay.upstream.breaker import Breaker
from relay.upstream.pool import Pool
from relay.upstream.sender import Connection, Trust, connect, endpoint, trust


class Parts:
    """See the module's docstring. `is_open` says whether the listeners are. Raises SpoolError, CannotStart.

    limit  how many file descriptors are allowed
    pools  by name, in order of preference; the same mapping over a reload
    left   those of providers that a reload has left out, while they are busy
    """

    def __init__(
        self,
        config: Config,
        reactor: Any,
        log: Log,
        events: Events,
        is_open: Callable[[], bool],
        limit: int,
    ) -> None:
        self.config = config
        self._limit = limit
        self.events = events
        self._reactor = reactor
        self.metrics = Metrics(relay.__version__)
        self.metrics.gauges = lambda: figures.gauges(self.observer.health(), log.dropped)
        self.clock = SpoolClock(time.time, time.monotonic)
        self.store = open_store(config, reactor, self.clock, events, self._committed)
        self.spool = self.store.spool
        self.spool.quarantined = self._quarantined
        self.left: list[Pool] = []
        self.pools = {provider.name: self.pool(config, provider, trust(provider)) for provider in config.providers}
        self._wire(config, is_open)

    def _wire(self, config: Config, is_open: Callable[[], bool]) -> None:
        reactor, clock, spool, events = self._reactor, self.clock, self.spool, self.events
        history = History(clock(), time.time())
        self.account = Account(events, self.metrics, time.time, history.took)
        self.reports = Reports(policies.reports(config), spool, clock, time.time, self.store.shared)
        self.delivery = Delivery(
            policies.delivery(config),
            spool,
            self.pools,
            reactor,
            clock,
            random.uniform,
            self.reports,
            Brakes(self.pools, spool.notes, clock, events, lambda: self.store.speaks),
            self.store.flights,
            self.account,
            events,
        )
        self.schedule = self.store.schedule(self.delivery, config)
        self.delivery.start(self.schedule)
        limit = config.smtp.rate_limit
        window = Window(limit.messages, limit.per)
        self.intake = Intake(
            policies.intake(config), spool, window, self.schedule.add, clock, time.time, events, self.metrics
        )
        self.smtp = LocalSMTPFactory(self.server_policy(config), self.intake, reactor, self._unexpected)
        self.alerts = self._watch(config)
        self.observer = Observer(
            config.instance,
            spool,
            self.schedule,
            self.pools,
            self.intake,
            self.account,
            self.alerts,
            history,
            is_open,
            clock,
            reactor.seconds,
            time.time,
        )
        operator = Operator(spool, self.schedule, self.delivery, self.pools, self.account, events, reactor, clock)
        self.reasons = Reasons(
            self.schedule, self.delivery, self.pools, policies.limits(config), clock, reactor.seconds
        )
        self.trial = Trial(config.alerts.mail_from, self.intake, spool, operator, self.reasons, events, reactor)
        self.commands = Commands(
            spool, operator, self.reasons, self.trial, self.observer.health, lambda at: time.time() + at - clock()
        )

    def server_policy(self, config: Config) -> ServerPolicy:
        """What the server goes by; no more connections than there are file descriptors for."""
        policy = ServerPolicy.of(config)
        return replace(policy, max_connections=min(policy.max_connections, descriptors.sessions(config, self._limit)))

    def shortage(self, config: Config) -> str | None:
        """What to tell the operator of the file descriptors that there are."""
        return descriptors.shortage(config, self._limit)

    def pool(self, config: Config, provider: Provider, tls: Trust | None) -> Pool:
        """A new one."""
        self.metrics.provider(provider.name)
        return Pool(
            provider,
            self.dial(config, provider, tls),
            Breaker(policies.probes(config), self._reactor.seconds()),
            self._reactor,
            self.events,
            lambda: self.delivery.changed(),
        )

    def dial(self, config: Config, provider: Provider, tls: Trust | None) -> Callable[[bool], Deferred[Connection]]:
        """How a connection to a provider is made."""
        reactor, where = self._reactor, endpoint(self._reactor, provider)
        return lambda pipelining: connect(reactor, provider, config.hostname, where, tls, pipelining=pipelining)

    def ways(self, config: Config) -> list[Outbox]:
        """How alerts are told."""
        return ways(
            config, lambda: list(self.pools.values()), self._reactor, time.time, random.getrandbits, self.events.warning
        )

    def probe(self) -> None:
        """Try at once every provider that gets no mail."""
        for name, pool in self.pools.items():
            pool.probe()
            self.delivery.brakes.release(name)

    def _watch(self, config: Config) -> Alerts:
        lookout = Lookout(
            self.spool,
            self.schedule,
            lambda: list(self.pools.values()),
            self.account.newest,
            self._reactor,
            self.clock,
            time.time,
            self.store.others_idle,
        )
        return Alerts(
            policies.bounds(config),
            config.alerts.repeat,
            self.ways(config),
            lookout,
            self.spool,
            self._reactor,
            time.time,
            self.events,
            lambda: self.store.speaks,
        )

    def _committed(self, writes: int, seconds: float) -> None:
        self.metrics.commit_seconds.observe(seconds)
        self.metrics.commit_messages.observe(writes)

    def _quarantined(self, mail: Mail, was: State | None) -> None:
        self.schedule.quarantined(was)
        envelope = mail.envelope
        self.events.held(envelope.uuid, [each.address for each in envelope.recipients], mail.standings[0].reply)

    def _unexpected(self, failure: Any, session: object) -> None:
        self.events.error("unexpected, the client was told to try again", failure)
