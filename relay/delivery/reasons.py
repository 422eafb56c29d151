"""Reasons: what a mail waits for, in plain sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from relay.delivery.delivery import Delivery
from relay.delivery.digests import waits_for_digest
from relay.delivery.view import View
from relay.phrases import many, span, times
from relay.schedule import Item, Schedule
from relay.spool.spool import QUARANTINE, UNCERTAIN, Standing
from relay.upstream.pool import Pool

NAMED = 3
"""As many recipients of which the same is true are named."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What of the configuration is spoken of: seconds after which a mail is given up, and mails kept in memory."""

    max_age: float
    queue_size: int


class Reasons:
    """Knows what a reason may lie in. `now` is on the spool's scale, `seconds` the clock of the pools."""

    def __init__(
        self,
        schedule: Schedule,
        delivery: Delivery,
        pools: Mapping[str, Pool],
        limits: Limits,
        now: Callable[[], float],
        seconds: Callable[[], float],
    ) -> None:
        self.limits = limits
        self._schedule = schedule
        self._delivery = delivery
        self._pools = pools
        self._now = now
        self._seconds = seconds

    def sentences(self, view: View) -> list[str]:
        """Of a mail: one about itself, then one for each group of recipients of which the same is true."""
        envelope, count = view.envelope, len(view.standings)
        age = span(self._now() - envelope.received_at)
        sender = envelope.sender or "<>"
        said = [
            f"Mail {envelope.uuid} from {sender} to {many(count, 'recipient')} was taken {age} ago; it is {view.state}."
        ]
        groups: dict[str, list[str]] = {}
        for standing, state in zip(view.standings, view.states, strict=True):
            groups.setdefault(self._why(view, standing, state), []).append(standing.recipient.address)
        return said + [f"{_names(addresses)}: {why}" for why, addresses in groups.items()]

    def _why(self, view: View, standing: Standing, state: str) -> str:
        match state:
            case "active" if view.elsewhere:
                return "another instance has it, and is trying it now or about to: its own `queue why` says more."
            case "active" | "ready":
                return self._now_or_soon(self._schedule.items.get(view.envelope.key), standing)
            case "deferred":
                return self._later(view, standing)
            case "held":
                return _held(standing, view.envelope.uuid)
            case "deleted":
                return "deleted by command."
        return f"{state}; {_last_word(standing)}"

    def _now_or_soon(self, item: Item | None, standing: Standing) -> str:
        began = self._delivery.attempts.began(item, standing.number, self._seconds()) if item is not None else None
        if began is not None:
            name, seconds = began
            return f"a transaction with {name} has been under way for {span(seconds)}."
        if self._delivery.is_blocked:
            return "waits until an outcome can be written down; until then nothing new is begun (see the log)."
        if item is None:
            return (
                f"waits in the spool: at most {self.limits.queue_size} mails are in memory (delivery.queue_size), "
                "and its turn comes as these end."
            )
        place = self._delivery.lines.place(item, standing.number)
        if place:
            return f"is in the line of {place}, {self._what_is_scarce(self._pools[place])}."
        if place is None:
            return "waits for the batch of the same mail before it, or is being put into a digest."
        if self._delivery.lines.pausing(item, standing.number):
            return "waits for the pause between two batches (delivery.batch_delay), or for the disk."
        return f"waits for a provider: {self._who_is_up(standing)}."

    def _what_is_scarce(self, pool: Pool) -> str:
        if self._delivery.is_busy:
            return f"and all {self._delivery.settings.workers} workers are busy (delivery.workers)"
        return f"where {pool.busy} of {many(pool.limit, 'connection')} are in use"

    def _who_is_up(self, standing: Standing) -> str:
        pinned = standing.pinned and standing.provider in self._pools
        pools: Iterable[Pool] = [self._pools[standing.provider]] if pinned else self._pools.values()
        said = "; ".join(self.provider(pool) for pool in pools)
        only = f"only {standing.provider} may be tried, since the outcome there was uncertain; " if pinned else ""
        return only + said

    def provider(self, pool: Pool) -> str:
        """How a provider stands."""
        breaker, now = pool.breaker, self._seconds()
        since = span(now - breaker.since)
        error = f" ({breaker.last_error})" if breaker.last_error else ""
        match breaker.state:
            case "down":
                at = breaker.probe_at
                probe = f", tried again in {span(at - now)}" if at is not None else ""
                return f"{pool.name} has been down for {since}{error}{probe}"
            case "probing":
                return f"{pool.name} has been down for {since}{error} and is being tried just now"
            case "paused":
                left = self._delivery.brakes.trial_at(pool.name) - self._now()
                when = f"in {span(left)}" if left > 0 else "soon"
                return (
                    f"{pool.name} has been paused for {since}, since it refused everything{error}; "
                    f"one mail tries it {when}, or at `mailrelay queue retry --provider {pool.name}`"
                )
        return f"{pool.name} is up" + ("" if pool.takes_mail else ", but has not answered for long")

    def _later(self, view: View, standing: Standing) -> str:
        now = self._now()
        due = f"in {span(standing.due - now)}" if standing.due > now else "as soon as there is room in memory"
        if waits_for_digest(Item(view.envelope, b"", None, view.standings)):
            return f"one report too many to this address (bounce.per_hour): it becomes part of a digest {due}."
        where = ""
        if standing.pinned:
            where = f" at {standing.provider} only, since the outcome there was uncertain"
        left = view.envelope.received_at + self.limits.max_age - now
        end = f"It is given up in {span(left)}" if left > 0 else "It is given up then"
        return (
            f"was tried {times(standing.attempts)}; {_last_word(standing)} It is tried again {due}{where}. "
            f"{end}, if it has not been taken."
        )


def _held(standing: Standing, uuid: str) -> str:
    reply = standing.reply
    orders = f"`mailrelay queue release {uuid}` sends it, `mailrelay queue delete {uuid}` removes it."
    if reply.startswith(QUARANTINE):
        return f"held, since the spool is damaged here ({reply.removeprefix(QUARANTINE)}). It is never sent as it is."
    if reply.startswith(UNCERTAIN):
        return (
            f"held: {standing.provider} may have taken it or not ({reply.removeprefix(UNCERTAIN)}). "
            f"Look there first; {orders}"
        )
    return f"held {reply}. {orders}" if reply.startswith("by command") else f"held ({reply}). {orders}"


def _last_word(standing: Standing) -> str:
    if not standing.reply:
        return "nothing was said of it yet."
    who = standing.provider or "mailrelay"
    return f"{who} said last: {standing.reply}."


def _names(addresses: list[str]) -> str:
    named = ", ".join(addresses[:NAMED])
    rest = len(addresses) - NAMED
    return named if rest <= 0 else f"{named} and {many(rest, 'other')}"
