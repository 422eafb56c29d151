"""Account: what is said and counted of outcomes, once they are durable."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from relay.delivery.attempts import Attempt
from relay.envelope import Envelope
from relay.events import Events, Result
from relay.metrics import Metrics
from relay.outcome import (
    CannotTake,
    Deferred,
    Delivered,
    Outcome,
    OverLimit,
    ProviderFault,
    Rejected,
    Retired,
    Uncertain,
)
from relay.spool.spool import Standing, State

NEWEST = 60
"""So many failures are kept for the page."""

_RESULTS: tuple[tuple[State, Result], ...] = (
    (State.EXPIRED, "expired"),
    (State.BOUNCED, "bounced"),
    (State.DELETED, "deleted"),
    (State.DELIVERED, "delivered"),
)

_LABELS: Mapping[type, str] = {
    Delivered: "delivered",
    Deferred: "deferred",
    Rejected: "rejected",
    CannotTake: "rejected",
    Uncertain: "uncertain",
    ProviderFault: "fault",
}


@dataclass(slots=True)
class Totals:
    """Mails finished since the start, our own reports left out; `seconds` from received to finished, summed."""

    delivered: int = 0
    failed: int = 0
    recipients: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Mishap:
    """One thing that went wrong with a mail; `outcome` is the log's event."""

    time: float
    uuid: str
    provider: str
    outcome: str
    reply: str


class Account:
    """Keeps `totals` and the newest `mishaps`; `now` gives seconds since the epoch by the wall's clock.

    took  is told of each finished mail how many seconds ago it was received
    """

    def __init__(
        self,
        events: Events,
        metrics: Metrics,
        now: Callable[[], float],
        took: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self.totals = Totals()
        self.mishaps: deque[Mishap] = deque(maxlen=NEWEST)
        self._events = events
        self._metrics = metrics
        self._now = now
        self._took = took

    def ended(self, attempt: Attempt, clock: float, now: float) -> None:
        """Say what came of an attempt, and of its mail if that was its end, by the reactor's clock and the spool's."""
        standings, envelope = attempt.item.standings, attempt.item.envelope
        if attempt.outcomes:
            addresses = [standings[number].recipient.address for number in attempt.numbers]
            self.transaction(envelope, attempt.pool.name, addresses, attempt.outcomes, clock - attempt.began)
        if not attempt.settled:
            return
        self.settled(envelope, attempt.settled, attempt.reports[0].envelope.uuid if attempt.reports else "")
        if not any(standing.state.waiting for standing in standings):
            self.finished(envelope, standings, max(now - envelope.received_at, 0.0))

    def transaction(
        self, envelope: Envelope, provider: str, addresses: Sequence[str], outcomes: Sequence[Outcome], seconds: float
    ) -> None:
        """One transaction ended: a line for each reply in it."""
        metrics = self._metrics.provider(provider)
        metrics.attempt_seconds.observe(seconds)
        if type(outcomes[0]) is Delivered and outcomes.count(outcomes[0]) == len(outcomes):
            metrics.delivered.inc(len(outcomes))
            self._events.delivered(envelope.uuid, addresses, provider, outcomes[0].reply, seconds)
            return
        groups: dict[Outcome, list[str]] = {}
        for address, outcome in zip(addresses, outcomes, strict=True):
            groups.setdefault(outcome, []).append(address)
        for outcome, to in groups.items():
            self._one(envelope.uuid, provider, to, outcome, seconds)

    def _one(self, uuid: str, provider: str, to: list[str], outcome: Outcome, seconds: float) -> None:
        metrics, events, reply = self._metrics.provider(provider), self._events, outcome.reply
        match outcome:
            case Delivered():
                metrics.delivered.inc(len(to))
                events.delivered(uuid, to, provider, reply, seconds)
            case Deferred():
                metrics.deferred.inc(len(to))
                events.deferred(uuid, to, provider, reply, seconds)
            case Rejected() | CannotTake():
                metrics.rejected.inc(len(to))
                events.rejected(uuid, to, provider, reply, seconds)
            case Uncertain():
                metrics.uncertain.inc(len(to))
                events.uncertain(uuid, to, provider, reply, seconds)
            case ProviderFault():
                metrics.fault.inc(len(to))
            case OverLimit() | Retired():
                return
        if type(outcome) is not Delivered:
            self.mishaps.appendleft(Mishap(self._now(), uuid, provider, _LABELS[type(outcome)], str(reply)))

    def newest(self) -> tuple[float, str, str]:
        """The newest mishap: when, at which provider, and its words."""
        if not self.mishaps:
            return -math.inf, "", ""
        mishap = self.mishaps[0]
        return mishap.time, mishap.provider, mishap.reply

    def settled(self, envelope: Envelope, standings: Sequence[Standing], report: str) -> None:
        """Recipients have come to an end, or wait for a person; `report` is the id of the one that tells the sender."""
        if {standing.state for standing in standings} == {State.DELIVERED}:
            return
        for state, say in (
            (State.BOUNCED, self._events.bounced),
            (State.EXPIRED, self._events.expired),
        ):
            groups: dict[tuple[str, str], list[str]] = {}
            for standing in standings:
                if standing.state is state:
                    groups.setdefault((standing.provider, standing.reply), []).append(standing.recipient.address)
            for (provider, reply), to in groups.items():
                say(envelope.uuid, to, provider, reply, report)
        held = [standing for standing in standings if standing.state is State.HELD]
        if held:
            self._events.held(envelope.uuid, [standing.recipient.address for standing in held], held[0].reply)

    def finished(self, envelope: Envelope, standings: Sequence[Standing], seconds: float) -> None:
        """Nothing of a mail waits any more; it was received `seconds` ago."""
        states = {standing.state for standing in standings}
        result = next(result for state, result in _RESULTS if state in states)
        self._events.finished(envelope.uuid, result, seconds)
        if envelope.report:
            return
        self._metrics.finished[result].inc()
        self._metrics.processing_seconds.observe(seconds)
        self._took(seconds)
        totals = self.totals
        totals.recipients += len(standings)
        totals.seconds += seconds
        if result == "delivered":
            totals.delivered += 1
        else:
            totals.failed += 1
