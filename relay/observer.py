"""Observer: how the daemon is at this moment, asked of its parts; /health, the page, the metrics and `status` show it.

Nothing here waits for a disk: what the spool last said of itself counts, and its silence too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import relay
from relay.alerts.alerts import Alerts
from relay.delivery.account import Account
from relay.http import figures
from relay.http.history import Counted, History
from relay.intake import Intake
from relay.schedule import Schedule
from relay.spool.spool import Spool
from relay.upstream.pool import Pool

STALE = 5.0
"""Seconds after which a spool that has not said how it is counts as one that does not answer."""


class Observer:
    """See `relay.http.answers.Source`.

    pools      by name; the same mapping over a reload
    is_open    whether the listeners are open
    now        on the spool's scale; `monotonic` on the reactor's, `wall` the system's
    """

    def __init__(
        self,
        instance: str,
        spool: Spool,
        schedule: Schedule,
        pools: Mapping[str, Pool],
        intake: Intake,
        account: Account,
        alerts: Alerts,
        history: History,
        is_open: Callable[[], bool],
        now: Callable[[], float],
        monotonic: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.history = history
        self._instance = instance
        self._spool = spool
        self._schedule = schedule
        self._pools = pools
        self._intake = intake
        self._account = account
        self._alerts = alerts
        self._is_open = is_open
        self._now = now
        self._monotonic = monotonic
        self._wall = wall
        self._started_at = monotonic()

    def ready(self) -> bool:
        """Whether mail would be taken now."""
        return self._is_open() and self._answers() and self._intake.taking

    def failures(self) -> Sequence[figures.Failure]:
        """The newest first."""
        return [
            figures.Failure(mishap.time, mishap.uuid, mishap.provider, mishap.outcome, mishap.reply)
            for mishap in self._account.mishaps
        ]

    def sample(self) -> None:
        """One more second of history."""
        totals = self._account.totals
        counted = Counted(self._intake.received, totals.delivered, totals.failed)
        self.history.sample(self._now(), self._wall(), counted, self._queue())

    def health(self) -> figures.Health:
        """How it is now."""
        totals, spool = self._account.totals, self._spool
        return figures.Health(
            version=relay.__version__,
            instance=self._instance,
            uptime_seconds=self._monotonic() - self._started_at,
            taking=self.ready(),
            totals=figures.Totals(totals.delivered, totals.failed, totals.recipients, totals.seconds),
            queue=self._queue(),
            providers=[self._provider(pool) for pool in self._pools.values()],
            spool=figures.Spool(spool.backend, spool.health.writable and self._answers(), spool.health.free_bytes),
            alerts=[figures.Alert(alert.name, alert.since, alert.message) for alert in self._alerts.active],
        )

    def _queue(self) -> figures.Queue:
        counts, oldest = self._schedule.counts, self._spool.oldest
        return figures.Queue(
            counts["ready"],
            counts["active"],
            counts["deferred"],
            counts["held"],
            0.0 if oldest is None else max(self._now() - oldest, 0.0),
        )

    def _answers(self) -> bool:
        return self._now() - self._spool.health.checked_at < STALE

    def _provider(self, pool: Pool) -> figures.Provider:
        ahead = self._wall() - self._monotonic()

        def moment(at: float | None) -> float | None:
            return None if at is None else at + ahead

        return figures.Provider(
            pool.name,
            figures.ProviderState(pool.breaker.state),
            figures.Connections(pool.busy, pool.idle, pool.limit),
            pool.breaker.last_error or None,
            moment(pool.last_success_at),
            moment(pool.breaker.since),
            moment(pool.breaker.error_at),
        )
