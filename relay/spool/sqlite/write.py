"""Write: what one commit of the writer is to hold for somebody, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from relay.spool.rows import Row
from relay.spool.spool import SpoolFailing


class Write:
    """What is to be durable together: rows of new mails, new standings, a mail that has ended, a damaged one.

    With nothing in it, it only finds out whether the disk takes a commit. An `outcome` is of a mail that was
    acknowledged before, and so may use the reserve.
    """

    __slots__ = (
        "changed",
        "done",
        "error",
        "forgotten",
        "gone",
        "held",
        "mails",
        "notes",
        "octets",
        "outcome",
        "recipients",
        "standings",
    )

    def __init__(self, held: tuple[int, str] | None = None) -> None:
        self.mails: list[Row] = []
        self.recipients: list[Row] = []
        self.standings: list[Row] = []
        self.notes: list[tuple[str, str]] = []
        self.forgotten: Sequence[str] = ()
        self.gone = 0
        self.held = held
        self.octets = 0
        self.outcome = held is not None
        self.changed = False
        self.done: Deferred[None] = Deferred()
        self.error: SpoolFailing | None = None

    @property
    def empty(self) -> bool:
        """Whether it is only to find out."""
        return not (self.mails or self.standings or self.gone or self.held or self.notes or self.forgotten)
