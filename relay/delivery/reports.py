"""Reports: the mails that tell senders what became of theirs, made when outcomes are about to be written down.

A report is durable in the very commit that makes its recipients BOUNCED, EXPIRED or warned. Which recipients are
reported to whom, and in which words, is `relay.bounce`'s.

Failure: where the original cannot be read, the report goes without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from relay.bounce.digest import Account, digest
from relay.bounce.fate import Fate
from relay.bounce.notice import Kind, Original, needed, who_hears
from relay.bounce.report import Letterhead, Matter, delay_report, failure_report, relayed_report
from relay.envelope import Envelope, Recipient
from relay.limits import Quota
from relay.outcome import CannotTake
from relay.retry import delay_warning_due
from relay.schedule import Item
from relay.spool.shared import SharedSpool
from relay.spool.spool import Spool, SpoolError, Standing, State, Submission

_FAILED = (State.BOUNCED, State.EXPIRED)


QUOTA = "quota"
"""The note in which it is kept how many reports each address had in its hour."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What of the configuration reports go by.

    to             "sender", "none" or an address
    delay_warning  seconds after which a sender is told that a mail waits; 0: never
    max_age        seconds after which a mail is given up
    per_hour       reports to one address that go one by one; the others become a digest
    hosts          the host of each provider, by name
    """

    letterhead: Letterhead
    to: str
    delay_warning: float
    max_age: float
    per_hour: int
    hosts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Written:
    """What is to be durable together: standings, in which it is noted who was warned; reports; notes."""

    standings: tuple[Standing, ...]
    reports: tuple[Submission, ...]
    notes: tuple[tuple[str, str], ...]


class Reports:
    """Writes what is owed. `now` is on the spool's scale, `wall` the system's time for dates.

    shared  the spool, where it is the queue of several processes: they count the reports to an address together
    """

    def __init__(
        self,
        terms: Terms,
        spool: Spool,
        now: Callable[[], float],
        wall: Callable[[], float],
        shared: SharedSpool | None = None,
    ) -> None:
        self.terms = terms
        self._shared = shared
        self._spool = spool
        self._now = now
        self._wall = wall
        self._quota = Quota(terms.per_hour, _hours(spool.notes.get(QUOTA, "")))

    def follow(self, terms: Terms) -> None:
        """Go by these from now on."""
        self.terms = terms
        self._quota.per_hour = terms.per_hour

    def owed(self, item: Item, settled: Sequence[Standing], dsn: bool) -> bool:
        """Whether anything in these new standings is to be reported. `dsn`: the provider reports deliveries itself."""
        for standing in settled:
            if standing.state is State.DELIVERED and standing.recipient.notify is None:
                continue
            if self._kind(item.envelope, standing, dsn) is not None:
                return True
        return False

    async def write(self, item: Item, settled: Sequence[Standing], dsn: bool) -> Written:
        """Write what is owed."""
        by_kind: dict[Kind, list[Standing]] = {}
        for standing in settled:
            if (kind := self._kind(item.envelope, standing, dsn)) is not None:
                by_kind.setdefault(kind, []).append(standing)
        beginning = await self._beginning(item, max(needed(item.envelope, kind) for kind in by_kind))
        reports = tuple([await self._report(item, kind, group, beginning) for kind, group in by_kind.items()])
        warned = {standing.number for standing in by_kind.get(Kind.DELAY, ())}
        standings = tuple([replace(s, warned=True) if s.number in warned else s for s in settled])
        notes = () if self._shared is not None else ((QUOTA, json.dumps(self._quota.hours)),)
        return Written(standings, reports, notes)

    def digest(self, to: str, accounts: Sequence[Account]) -> Submission:
        """One report in place of those that would have been too many."""
        key, uuid = self._spool.next_id()
        return self._submission(key, uuid, to, digest(self.terms.letterhead, uuid, self._wall(), to, accounts), 0.0)

    def _kind(self, envelope: Envelope, standing: Standing, dsn: bool) -> Kind | None:
        """What is to be said of a recipient, if its sender is one to be told."""
        if standing.state in _FAILED:
            kind = Kind.FAILURE
        elif standing.state is State.DELIVERED and not dsn:
            kind = Kind.SUCCESS
        elif standing.state is State.DEFERRED and delay_warning_due(
            self._now() - envelope.received_at, self.terms.delay_warning, warned=standing.warned
        ):
            kind = Kind.DELAY
        else:
            return None
        return kind if who_hears(self.terms.to, envelope, standing.recipient, kind) else None

    async def _beginning(self, item: Item, octets: int) -> bytes:
        """At least so many octets of the mail, if they can be read."""
        missing = max(octets - len(item.head), 0)
        try:
            body = item.body if item.body is not None else await self._spool.body(item.mail())
            if isinstance(body, bytes):
                return item.head + body[:missing]
            try:
                return item.head + (await body.read(missing) if missing else b"")
            finally:
                body.close()
        except SpoolError:
            return item.head

    async def _report(self, item: Item, kind: Kind, group: Sequence[Standing], beginning: bytes) -> Submission:
        terms, wall, envelope = self.terms, self._wall(), item.envelope
        to = who_hears(terms.to, envelope, group[0].recipient, kind) or ""
        fates = [self._fate(item, standing, wall) for standing in group]
        key, uuid = self._spool.next_id()
        age = self._now() - envelope.received_at
        matter = Matter(uuid, to, wall, age, envelope, Original.of(envelope, kind, beginning))
        if kind is Kind.FAILURE:
            octets = failure_report(terms.letterhead, matter, fates)
        elif kind is Kind.SUCCESS:
            octets = relayed_report(terms.letterhead, matter, fates)
        else:
            octets = delay_report(terms.letterhead, matter, fates, wall + terms.max_age - age)
        return self._submission(key, uuid, to, octets, await self._admit(to) or 0.0)

    async def _admit(self, to: str) -> float | None:
        """Count one report: None, if it goes at once; else when it becomes part of a digest."""
        if self._shared is None:
            return self._quota.admit(to, self._now())
        try:
            return await self._shared.admit(to, self.terms.per_hour, self._now())
        except SpoolError:
            return None  # it is not left out for that

    def _fate(self, item: Item, standing: Standing, wall: float) -> Fate:
        """`remote` only where it was the provider that spoke, and not we in its place."""
        asked = not isinstance(item.rounds.get(standing.number, {}).get(standing.provider), CannotTake)
        remote = self.terms.hosts.get(standing.provider, "") if asked else ""
        return Fate(standing.recipient, standing.reply, remote, wall, expired=standing.state is State.EXPIRED)

    def _submission(self, key: int, uuid: str, to: str, octets: bytes, due: float) -> Submission:
        envelope = Envelope(key, uuid, "", (Recipient(to),), self._now(), len(octets), report=True)
        return Submission(envelope, b"", octets, due)


def _hours(text: str) -> dict[str, tuple[float, int]]:
    """What was noted; nothing, if that makes no sense."""
    try:
        return {str(to): (float(began), int(sent)) for to, (began, sent) in json.loads(text or "{}").items()}
    except (AttributeError, TypeError, ValueError):
        return {}
