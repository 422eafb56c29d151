"""Ledger: what was acknowledged, what providers were given and said, and what the spool says became of it.

Recipients have names of their own in every mail, so that a recipient's address stands for a mail and its place in it;
a report has only one, and stands for itself.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from relay.bounce.digest import read
from relay.bounce.notice import Kind
from relay.envelope import Envelope
from relay.outcome import CannotTake, Deferred, Delivered, Outcome, OverLimit, ProviderFault, Rejected
from relay.spool.spool import Settlement, State
from relay.upstream.sender import Batch

_REPORT = re.compile(rb"\r\nMessage-ID: <([0-9a-f-]{36})@")


def named(batch: Batch, number: int) -> str:
    """The recipient of a transaction with that number."""
    report = _REPORT.search(batch.body) if isinstance(batch.body, bytes) else None
    return batch.recipients[number].address if report is None else report[1].decode()


@dataclass
class Ledger:
    """See the module's docstring.

    acknowledged  mails by key: those of applications, and reports
    copies        how often a provider took a mail for a recipient
    excused       how many copies beyond the first may be there: for each unanswered dot, and for each kill
    refused       providers that refused a recipient, and whether one of them did for good
    faulted       providers and mails whose last transaction there met a fault; the next such one counts
    aged          recipients of whom something was said that counts, the mail being older than allowed
    ended         what became of recipients, durably
    reported      for how many reports of a failure a recipient was named in
    """

    max_age: float
    acknowledged: dict[int, Envelope] = field(default_factory=dict)
    copies: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    refused: dict[str, set[str]] = field(default_factory=dict)
    final: set[str] = field(default_factory=set)
    faulted: set[tuple[str, str]] = field(default_factory=set)
    aged: set[str] = field(default_factory=set)
    ended: dict[str, State] = field(default_factory=dict)
    reported: Counter[str] = field(default_factory=Counter)
    read: int = 0

    def acknowledge(self, envelope: Envelope) -> None:
        """It is durable."""
        self.acknowledged[envelope.key] = envelope

    def take(self, batch: Batch, number: int) -> None:
        """A provider has it for that recipient, whatever it says."""
        self.copies[named(batch, number)] += 1

    def said(self, provider: str, batch: Batch, outcomes: tuple[Outcome, ...], age: float) -> None:
        """What a provider said of each recipient, the mail being of that age when it was begun."""
        through = any(isinstance(outcome, Delivered) for outcome in outcomes)
        meeting = (provider, named(batch, 0).partition("-")[2])
        fault = any(isinstance(outcome, ProviderFault) for outcome in outcomes)
        poison = fault and meeting in self.faulted
        (self.faulted.add if fault else self.faulted.discard)(meeting)
        for number, outcome in enumerate(outcomes):
            name = named(batch, number)
            if isinstance(outcome, Rejected | CannotTake):
                self.refused.setdefault(name, set()).add(provider)
            if isinstance(outcome, Rejected) and outcome.final:
                self.final.add(name)
            counts = isinstance(outcome, Deferred | Rejected | CannotTake) or poison
            if age >= self.max_age and (counts or (isinstance(outcome, OverLimit) and not through)):
                self.aged.add(name)

    def sent_again(self) -> None:
        """After a kill, or because a person wants it, what is not ended durably may be sent once more."""
        for address, copies in self.copies.items():
            if address not in self.ended:
                self.excused[address] = copies

    def follow(self, settled: list[Settlement]) -> None:
        """Take down what has become durable, and check that it may be."""
        new, self.read = settled[self.read :], len(settled)
        for settlement in new:
            self._settlement(settlement)

    def _settlement(self, settlement: Settlement) -> None:
        mail = self.acknowledged.get(settlement.key)
        for standing in settlement.standings:
            if not standing.state.waiting:
                name = settlement.uuid if mail and mail.report else standing.recipient.address
                assert name not in self.ended, f"{name} came to a second end"
                self.ended[name] = standing.state
        for report in settlement.reports:
            self.acknowledge(report.envelope)
            assert isinstance(report.body, bytes)
            account = read(report.head + report.body)
            if account is not None and account.kind is Kind.FAILURE:
                self.reported.update([fate.recipient.address for fate in account.fates])

    def check_copies(self) -> None:
        """Nobody gets a mail twice but for an unanswered dot or a kill."""
        for address, copies in self.copies.items():
            assert copies <= 1 + self.excused[address], f"{address}: {copies} copies, {self.excused[address]} excused"

    def check_ends(self, providers: int) -> None:
        """Every end has its reason, and the sender hears of what failed, once."""
        for envelope in self.acknowledged.values():
            for recipient in envelope.recipients:
                name = envelope.uuid if envelope.report else recipient.address
                state = self.ended.get(name)
                if state is State.BOUNCED:
                    assert name in self.final or len(self.refused.get(name, ())) == providers, name
                elif state is State.EXPIRED:
                    assert name in self.aged, name
                elif state is State.DELIVERED and not envelope.report:
                    assert self.copies[name], f"{name} was given to nobody"
                hears = envelope.sender and (recipient.notify is None or "FAILURE" in recipient.notify)
                failed = state in (State.BOUNCED, State.EXPIRED) and bool(hears)
                assert self.reported[name] == failed, f"{name}: {state!r}, {self.reported[name]} reports"
