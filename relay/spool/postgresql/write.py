"""Write: what is to be durable together, as it is asked for in the reactor's thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from relay.spool.arriving import WritingBody
from relay.spool.postgresql.lease import Lease
from relay.spool.rows import ORIGIN, Found, Row, mail_row, recipient_rows
from relay.spool.spool import Settlement, SpoolError, Standing, Submission


@dataclass(frozen=True, slots=True)
class NewMail:
    """The rows of a mail that is taken. `lease` is what it begins with; its body is in `piece` already if None."""

    row: Row
    people: Sequence[Row]
    lease: Lease
    small: bytes | None


def new_mail(submission: Submission, owned: bool) -> NewMail:
    """Its rows. Raises ValueError for text that is no UTF-8."""
    row, body = mail_row(submission), submission.body
    key, place = submission.envelope.key, None if isinstance(body, bytes) else body
    stands = {each.number: (int(each.state), each.due) for each in submission.standings()}
    number = key
    if place is not None:
        assert isinstance(place, WritingBody)
        number = getattr(place.place, "body", key)
    return NewMail(row, recipient_rows(submission.envelope), Lease(1, owned, stands, number), row[14])


class Write:
    """One of them. With nothing in it, it only finds out whether the server takes a commit.

    reports   whether reports that were put off may be claimed: one process puts them together
    claims    how many mails to claim that are due at `now`; `obtain`: the key of the one to claim
    odd       1 where of an odd number of places the last one is for the newest mail, else 0
    suspects  whether one of them may be suspected
    besides   keys of mails that are not to be claimed
    released  keys of mails that are not to be ours any more
    answer    what `done` fires with
    """

    __slots__ = (
        "answer",
        "besides",
        "claims",
        "done",
        "error",
        "forgotten",
        "mails",
        "notes",
        "now",
        "obtain",
        "octets",
        "odd",
        "released",
        "reports",
        "settlement",
        "suspects",
    )

    def __init__(self) -> None:
        self.mails: list[NewMail] = []
        self.settlement: Settlement | None = None
        self.notes: list[tuple[str, str]] = []
        self.forgotten: Sequence[str] = ()
        self.released: Sequence[int] = ()
        self.claims = 0
        self.odd = 0
        self.besides: Sequence[int] = ()
        self.reports = True
        self.suspects = True
        self.now = 0.0
        self.obtain = 0
        self.octets = 0
        self.answer: Any = None
        self.done: Deferred[Any] = Deferred()
        self.error: SpoolError | None = None

    @property
    def origins(self) -> list[str]:
        """Those that it notes."""
        return [name.removeprefix(ORIGIN) for name, _ in self.notes if name.startswith(ORIGIN)]

    @property
    def counts(self) -> bool:
        """Whether it is among the writes that a commit is said to hold."""
        return bool(self.mails or self.settlement or self.notes or self.forgotten)


def repeats(one: Settlement, other: Settlement) -> bool:
    """Whether they are the same, asked for twice."""
    return (one.key, one.turn, one.finished, tuple(one.standings)) == (
        other.key,
        other.turn,
        other.finished,
        tuple(other.standings),
    )


def quarantine(found: Found) -> Settlement:
    """HELD for every recipient that waits of a mail that was found damaged."""
    envelope = found.mail.envelope
    held: list[Standing] = [standing for standing in found.mail.standings if standing.state.waiting]
    return Settlement(envelope.key, envelope.uuid, held, turn=found.mail.turn)
