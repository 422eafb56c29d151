"""Pool: the connections to one provider, and which transaction goes over which of them.

What to open, close and use is decided by `links.assign`; the Pool does it. It also tells the provider's breaker what
happened, and learns how many connections the provider lets in.

Failure: a connection that cannot be had, or a fault within a transaction, ends every transaction that waits for one
with that ProviderFault, unless other connections to the provider work: then its limit of connections is what failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from relay.config.values import Provider
from relay.outcome import Delivered, Outcome, ProviderFault, Retired, Uncertain
from relay.reply import no_reply
from relay.upstream.blame import blameless, worst_of
from relay.upstream.breaker import Breaker
from relay.upstream.ceiling import Ceiling
from relay.upstream.links import Job, Link, Links, assign
from relay.upstream.news import News
from relay.upstream.openings import Openings
from relay.upstream.poison import Poison
from relay.upstream.sender import Connection, Result

OUT_OF_STEP = 86400.0
"""Seconds without PIPELINING and CHUNKING after a provider got out of step while they were used."""


class Pool:
    """See the module's docstring.

    reserved          places of transactions that are not sent yet, and of those that are over but not yet durable
    last_success_at   when a mail was last taken there; None if none was
    certificate_ends  when the provider's certificate ends, in seconds since the epoch, as the last connection saw it
    dial              opens a connection, which is not the pool's own where somebody else calls it
    """

    def __init__(
        self,
        provider: Provider,
        connect: Callable[[bool], Deferred[Connection]],
        breaker: Breaker,
        clock: IReactorTime,
        news: News,
        changed: Callable[[], None],
    ) -> None:
        self.name = provider.name
        self.provider = provider
        self.breaker = breaker
        self.reserved = 0
        self.last_success_at: float | None = None
        self.certificate_ends: float | None = None
        self.dial = connect
        self._clock = clock
        self._news = news
        self._changed = changed
        self._ceiling = Ceiling(provider.connections)
        self._in_step_again = 0.0
        self._links = Links()
        self._opening = Openings(self._opened, self._failed)
        self._waiting: deque[Job] = deque()
        self._poison = Poison()
        self._under_way = 0  # transactions on all links
        self._depth = 1  # how many a connection there carries at once
        self._was_silent = False
        self._stopping = False

    def __repr__(self) -> str:
        return (
            f"<Pool {self.name} {self.breaker.state}: {self.busy} busy, {self.idle} idle, "
            f"{len(self._opening)} opening, {len(self._waiting)} waiting, limit {self.limit}>"
        )

    @property
    def takes_mail(self) -> bool:
        """Whether mail may be put into this provider's line."""
        return self.breaker.state == "up" and not self._was_silent

    @property
    def may_be_tried(self) -> bool:
        """Whether it is paused, and a trial may begin."""
        breaker = self.breaker
        if breaker.state != "paused" or breaker.allowance:
            return False
        return breaker.probe_at is None or self._clock.seconds() >= breaker.probe_at

    def pause(self, error: str) -> bool:
        """It refuses everything: no mail goes there but for trials. Whether it was not paused before."""
        paused = self.breaker.pause(self._clock.seconds(), error)
        if paused:
            self._close_idle()
            self._changed()
        return paused

    def relieve(self) -> None:
        """Another process has had a mail taken there: no pause any more."""
        if self.breaker.state == "paused" and self.breaker.succeeded(self._clock.seconds()):
            self._up()

    @property
    def on_trial(self) -> bool:
        """Whether it is paused, and there is room for the one transaction that decides about that."""
        return self.breaker.state == "paused" and self.breaker.allowance > 0

    def begin_trial(self) -> None:
        """There is room for one transaction, and what comes of it decides about the pause."""
        self.breaker.probe_due(self._clock.seconds())

    def end_trial(self) -> None:
        """The mail of the trial is gone; another one may be tried, once nothing is under way."""
        if not (self.reserved or self._waiting or self._under_way):
            self.breaker.answered(self._clock.seconds())

    @property
    def busy(self) -> int:
        """Connections with a transaction."""
        return self._links.busy

    @property
    def idle(self) -> int:
        """Connections that wait for one."""
        return len(self._links) - self._links.busy

    def stalled(self) -> int:
        """Transactions on connections that have waited for a reply for so long that they are no worker's any more."""
        return sum(link.load for link in self._links.silent(self._clock.seconds()))

    @property
    def limit(self) -> int:
        """How many connections there may be: the configuration's number, or what the provider lets in."""
        return self._ceiling.now

    def room(self) -> int:
        """How many more transactions may begin now."""
        allowance = self.breaker.allowance
        if not allowance or self._was_silent:
            return 0
        depth = self._depth if allowance > 1 else 1
        return min(self._ceiling.now, allowance) * depth - self._under_way - len(self._waiting) - self.reserved

    def send(self, job: Job) -> None:
        """Carry a transaction over a connection, in exchange for reserved room."""
        self.reserved -= 1
        if self._stopping or not self.breaker.allowance:
            job.end(Retired(no_reply(f"{self.name} takes no mail at present")))
            return
        link = None if self._waiting else self._links.at_hand(self._clock.seconds() - self.provider.idle_timeout)
        if link is not None:
            self._deliver(link, job)
        else:
            self._waiting.append(job)
            self._act()

    def tidy(self) -> None:
        """To be called about once a second: closes what idled too long, probes what is due, lets the limit grow."""
        now = self._clock.seconds()
        self._ceiling.grow(now)
        probe_at = self.breaker.probe_at
        if self.breaker.state == "down" and probe_at is not None and now >= probe_at:
            self.breaker.probe_due(now)
            self._open()
        elif self._links or self._waiting:
            self._act()
        silent = self._links.silent(now)
        is_silent = bool(silent) and len(silent) >= min(self._ceiling.now, self.breaker.allowance)
        if is_silent is not self._was_silent:
            self._was_silent = is_silent
            if is_silent:
                self._end_waiting(Retired(no_reply(f"{self.name} does not answer at present")))
            self._changed()

    def probe(self) -> None:
        """Try at once whether the provider is back, if it is down."""
        if self.breaker.state == "down":
            self.breaker.release(self._clock.seconds())
            self._open()

    def follow(self, provider: Provider, dial: Callable[[bool], Deferred[Connection]]) -> None:
        """Go by another configuration of the same provider.

        Connections that were opened by the old one end after what they carry.
        """
        self.dial = dial
        if provider == self.provider:
            return
        self.provider = provider
        self._ceiling.follow(provider.connections)
        self._opening.cancel()
        for link in self._links.spend():
            self._close(link)
        if self.breaker.state == "probing":
            self._open()
        self._act()

    def stop(self) -> None:
        """Close what is idle, begin nothing more; transactions under way go on."""
        self._stopping = True
        for link in self._links.spend():
            self._close(link)
        self._opening.cancel()
        self._end_waiting(Retired(no_reply("the daemon stops")))

    def abort(self) -> None:
        """End every connection now; what had a dot under way ends uncertain, the rest retired."""
        self._stopping = True
        for link in list(self._links):
            link.connection.abort()

    def _act(self) -> None:
        plan = assign(
            self._links,
            opening=len(self._opening),
            waiting=len(self._waiting),
            limit=min(self._ceiling.now, self.breaker.allowance),
            now=self._clock.seconds(),
            idle_timeout=self.provider.idle_timeout,
            most=self.provider.messages_per_connection,
        )
        for link in plan.close:
            self._close(link)
        for link in plan.send:
            if self._waiting and not link.spent:
                self._deliver(link, self._waiting.popleft())
        for _ in range(plan.open):
            self._open()

    def _deliver(self, link: Link, job: Job) -> None:
        link.load += 1
        self._under_way += 1
        if job.began is not None:
            job.began(job.argument)
        link.connection.deliver(job.batch).addCallback(self._ended, link, job)

    def _ended(self, result: Result, link: Link, job: Job) -> None:
        """A transaction is over: the connection is kept or closed, and the breaker hears of it."""
        connection = link.connection
        link.load -= 1
        self._under_way -= 1
        if connection.out_of_step:
            self._in_step_again = self._clock.seconds() + OUT_OF_STEP
        if not result.usable or connection.carried >= self.provider.messages_per_connection or self._stopping:
            link.spent = True
        if link.spent and link.idle:
            self._close(link)
        outcomes = result.outcomes
        if not self._stopping:
            outcomes = self._poison.outcomes(result, job.mail, self._clock.seconds(), self.last_success_at)
        outcomes = self._judge(outcomes, connection)
        job.done(replace(result, outcomes=outcomes) if outcomes is not result.outcomes else result, job.argument)
        if self._waiting:
            self._act()

    def _judge(self, outcomes: tuple[Outcome, ...], connection: Connection) -> tuple[Outcome, ...]:
        """Tell the breaker; a fault that is only the limit of connections becomes Retired."""
        now = self._clock.seconds()
        for outcome in outcomes:
            if type(outcome) is Delivered:
                self.last_success_at = now
                if self.breaker.succeeded(now):
                    self._up()
                return outcomes
        if self._stopping:
            return blameless(outcomes)
        return self._judge_failure(worst_of(outcomes), outcomes, connection)

    def _judge_failure(
        self, worst: Outcome, outcomes: tuple[Outcome, ...], connection: Connection
    ) -> tuple[Outcome, ...]:
        now = self._clock.seconds()
        if isinstance(worst, ProviderFault):
            if worst.reply.code == 421 and not connection.carried and self._lower_limit():
                return blameless(outcomes)
            self._fault(worst)
        elif isinstance(worst, Retired):
            self._close_idle()
        elif isinstance(worst, Uncertain):
            if self.breaker.lost(now, str(worst.reply)):
                self._down(str(worst.reply))
        elif self.breaker.answered(now):
            self._up()
        return outcomes

    def _lower_limit(self) -> bool:
        """If other connections work, their number is what the provider allows."""
        return self._ceiling.lower(sum(not link.spent for link in self._links), self._clock.seconds())

    def _fault(self, fault: ProviderFault) -> None:
        if self.breaker.fault(self._clock.seconds(), str(fault.reply), fault.auth):
            self._down(str(fault.reply))
        self._end_waiting(fault)

    def _end_waiting(self, outcome: ProviderFault | Retired) -> None:
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            job.end(outcome)

    def _down(self, error: str) -> None:
        self._news.provider_down(self.name, error)
        self._close_idle()
        self._changed()

    def _up(self) -> None:
        self._news.provider_up(self.name)
        self._changed()

    def _open(self) -> None:
        self._opening.add(self.dial(self._clock.seconds() >= self._in_step_again))

    def _opened(self, connection: Connection) -> None:
        if self._stopping:
            connection.quit()
            return
        link = Link(connection)
        connection.when_ended = lambda _: self._links.discard(link)
        connection.idle_since = self._clock.seconds()
        self.certificate_ends = connection.certificate_ends
        self._links.add(link)
        self._depth = connection.depth
        if self.breaker.connected(self._clock.seconds()):
            self._up()
        if not self.breaker.allowance:
            self._close(link)  # it would keep the probe out where the provider lets in no more
        self._act()

    def _failed(self, fault: ProviderFault, ours: bool) -> None:
        refused = fault.reply.code in (0, 421) and not fault.auth
        # Where it lets in three and no more, the fourth may be refused before the three are in.
        if self._stopping or (
            self.breaker.state == "up" and (ours or (refused and (self._lower_limit() or len(self._opening) > 0)))
        ):
            return
        self._fault(fault)

    def _close_idle(self) -> None:
        for link in [link for link in self._links if link.idle]:
            self._close(link)

    def _close(self, link: Link) -> None:
        link.spent = True
        link.connection.when_ended = None
        self._links.discard(link)
        link.connection.quit()
