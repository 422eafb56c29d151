"""Lookout: takes the figures that alerts are decided by from where they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IReactorTime

from relay.alerts.figures import Figures, Standing
from relay.schedule import Schedule
from relay.spool.spool import Spool
from relay.upstream.pool import Pool


class Lookout:
    """See the module's docstring. None of it waits for anything.

    pools    those of the moment, in order of preference
    newest   the newest failure of a mail: when it was on the wall's clock, the provider and its words
    now      the spool's scale of time
    wall     seconds since the epoch
    others   for how many seconds other processes that share the queue have delivered nothing; None: no such thing
    """

    def __init__(
        self,
        spool: Spool,
        schedule: Schedule,
        pools: Callable[[], Iterable[Pool]],
        newest: Callable[[], tuple[float, str, str]],
        clock: IReactorTime,
        now: Callable[[], float],
        wall: Callable[[], float],
        others: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._others = others
        self._spool = spool
        self._schedule = schedule
        self._pools = pools
        self._newest = newest
        self._clock = clock
        self._now = now
        self._wall = wall
        self._backlog = 0
        self._quiet_at = clock.seconds()  # when no mail waited, as far as was looked

    def look(self) -> Figures:
        """The figures. To be called at each check: what flows through between two is no backlog."""
        self._backlog = self._schedule.backlog()
        if self._spool.oldest is None:
            self._quiet_at = self._clock.seconds()
        return self.glance()

    def glance(self) -> Figures:
        """The figures between two checks, with the backlog of the last one."""
        spool, counts, now = self._spool, self._schedule.counts, self._clock.seconds()
        health = spool.health
        age = 0.0 if spool.oldest is None else max(self._now() - spool.oldest, 0.0)
        delivered_at = max((pool.last_success_at or 0.0 for pool in self._pools()), default=0.0)
        if (idle := self._others()) is not None:
            delivered_at = max(delivered_at, now - idle)
        return Figures(
            waiting=counts["ready"] + counts["active"] + counts["deferred"],
            backlog=self._backlog,
            oldest=age,
            undelivered=0.0 if spool.oldest is None else max(now - max(delivered_at, self._quiet_at), 0.0),
            free_bytes=health.free_bytes,
            total_bytes=health.total_bytes,
            free_inodes=health.free_inodes,
            all_inodes=health.all_inodes,
            providers=tuple([self._standing(pool, now) for pool in self._pools()]),
            refusal=self._refusal(age),
        )

    def troubled(self) -> bool:
        """Whether a provider is paused or refuses our login: what is not to wait for a check."""
        return any(pool.breaker.state == "paused" or pool.breaker.login_refused for pool in self._pools())

    def _refusal(self, age: float) -> tuple[str, str]:
        failed_at, provider, words = self._newest()
        return (provider, words) if self._wall() - failed_at <= age else ("", "")

    def _standing(self, pool: Pool, now: float) -> Standing:
        breaker, ends = pool.breaker, pool.certificate_ends
        down_since = breaker.down_since(now)
        return Standing(
            pool.name,
            up=breaker.state == "up",
            paused=breaker.state == "paused",
            down_for=0.0 if down_since is None else now - down_since,
            login_refused=breaker.login_refused,
            last_error=breaker.last_error,
            certificate_left=None if ends is None else ends - self._wall(),
            certificate_ends=ends or 0.0,
        )
