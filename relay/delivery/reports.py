"""Reports: the mails that tell senders what became of theirs, made when outcomes are about to be written down.

A report is durable in the very commit that makes its recipients BOUNCED, EXPIRED or warned. Which recipients are
reported to whom, and in which words, is `relay.bounce`'s.

Failure: where the original cannot be read, the report goes without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from relay.bounce.fate import Fate
from relay.bounce.notice import Kind, Original, needed, who_hears
from relay.bounce.report import Letterhead, Matter, delay_report, failure_report
from relay.envelope import Envelope, Recipient
from relay.retry import delay_warning_due
from relay.schedule import Item
from relay.spool.spool import Spool, SpoolError, Standing, State, Submission

_FAILED = (State.BOUNCED, State.EXPIRED)


@dataclass(frozen=True, slots=True)
class Terms:
    """What of the configuration reports go by.

    to             "sender", "none" or an address
    delay_warning  seconds after which a sender is told that a mail waits; 0: never
    max_age        seconds after which a mail is given up
    hosts          the host of each provider, by name
    """

    letterhead: Letterhead
    to: str
    delay_warning: float
    max_age: float
    hosts: Mapping[str, str]


class Reports:
    """Writes what is owed. `now` is on the spool's scale, `wall` the system's time for dates."""

    def __init__(self, terms: Terms, spool: Spool, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self.terms = terms
        self._spool = spool
        self._now = now
        self._wall = wall

    def owed(self, item: Item, settled: Sequence[Standing]) -> bool:
        """Whether anything in these new standings is to be reported."""
        return any(
            standing.state is not State.DELIVERED and self._kind(item.envelope, standing) is not None
            for standing in settled
        )

    async def write(
        self, item: Item, settled: Sequence[Standing]
    ) -> tuple[tuple[Standing, ...], tuple[Submission, ...]]:
        """The standings, with it noted who has been warned, and the reports to be made durable with them."""
        by_kind: dict[Kind, list[Standing]] = {}
        for standing in settled:
            if (kind := self._kind(item.envelope, standing)) is not None:
                by_kind.setdefault(kind, []).append(standing)
        beginning = await self._beginning(item, max(needed(item.envelope, kind) for kind in by_kind))
        reports = tuple([self._report(item.envelope, kind, group, beginning) for kind, group in by_kind.items()])
        warned = {standing.number for standing in by_kind.get(Kind.DELAY, ())}
        return tuple([replace(s, warned=True) if s.number in warned else s for s in settled]), reports

    def _kind(self, envelope: Envelope, standing: Standing) -> Kind | None:
        """What is to be said of a recipient, if its sender is one to be told."""
        if standing.state in _FAILED:
            kind = Kind.FAILURE
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

    def _report(self, envelope: Envelope, kind: Kind, group: Sequence[Standing], beginning: bytes) -> Submission:
        terms, wall = self.terms, self._wall()
        to = who_hears(terms.to, envelope, group[0].recipient, kind) or ""
        fates = [
            Fate(
                standing.recipient,
                standing.reply,
                terms.hosts.get(standing.provider, ""),
                wall,
                expired=standing.state is State.EXPIRED,
            )
            for standing in group
        ]
        key, uuid = self._spool.next_id()
        age = self._now() - envelope.received_at
        matter = Matter(uuid, to, wall, age, envelope, Original.of(envelope, kind, beginning))
        if kind is Kind.FAILURE:
            octets = failure_report(terms.letterhead, matter, fates)
        else:
            octets = delay_report(terms.letterhead, matter, fates, wall + terms.max_age - age)
        report = Envelope(key, uuid, "", (Recipient(to),), self._now(), len(octets), report=True)
        return Submission(report, b"", octets)
