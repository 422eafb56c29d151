"""Passage: a transaction on its way over one connection: how far its content has left, how long a reply may take."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from relay.outcome import Outcome, Retired, Stage
from relay.reply import Reply
from relay.upstream.batch import Batch, Features, Result
from relay.upstream.sender.outflow import Outflow
from relay.upstream.transaction import Transaction

_PATIENCE = {Stage.MAIL: 300.0, Stage.RCPT: 300.0, Stage.DATA: 120.0, Stage.BODY: 180.0}
"""Seconds (RFC 5321, 4.5.3.2). The one for the end of the mail is configured."""

_RESET = 20.0

WARM = 1.0
"""Seconds for which a connection is surely there that has carried a mail behind another, so that its provider is none
that leaves after each, and had nothing refused, which makes some leave."""


class Passage(Transaction):
    """See the module's docstring.

    done     fires with its Result
    end      octets of ours, counted from the first, after which its content has left; None until that is written
    ours     whether it waits for us and not for the provider: for our disk
    trouble  why that failed
    """

    __slots__ = ("done", "end", "ours", "trouble")

    done: Deferred[Result]
    end: int | None
    ours: bool
    trouble: Exception | None

    def has_left(self, outflow: Outflow) -> bool:
        """Whether the end of its content has left."""
        return self.end is not None and outflow.left >= self.end

    def patience(self, behind_dot: float) -> float:
        """Seconds that the provider has for what is due next."""
        if self.stage is Stage.DOT:
            return behind_dot
        return _RESET if self.resetting else _PATIENCE[self.stage]

    def result(self, *, usable: bool) -> Result:
        """What came of it, once it is over."""
        outcomes = tuple([outcome for outcome in self.outcomes if outcome is not None])
        return Result(outcomes, usable, self.begun, self.trouble, self._features.dsn)


def retired(batch: Batch, reply: Reply) -> Result:
    """What came of a batch that was not begun here."""
    outcomes: tuple[Outcome, ...] = (Retired(reply),) * len(batch.recipients)
    return Result(outcomes, usable=False)


def leaves_whole(batch: Batch, features: Features) -> bool:
    """Whether a small mail may leave whole, its envelope unanswered, which saves a round trip (RFC 3030, 4.2).

    Only where CHUNKING is offered, and on a connection that is warm: one that the provider gives up in silence makes
    the mail uncertain, where it costs nothing if MAIL goes ahead.
    """
    return features.chunking and features.pipelining and batch.in_one_piece and batch.before is None
