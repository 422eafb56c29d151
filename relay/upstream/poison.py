"""Poison: mails at which a provider's connections end, so that one of them does not take the provider down for long."""

from __future__ import annotations

from dataclasses import dataclass

from relay.outcome import Deferred, Outcome, ProviderFault
from relay.reply import Reply
from relay.upstream.batch import Result

FAULTED = 1000
"""So many mails are remembered that met a fault."""

_MAYBE_THE_MAILS = frozenset({0, 421})
"""Replies (none at all, or good-bye) that a mail may cause; a login that is missing is never the mail's fault."""

_LOGIN = frozenset({530, 534, 535, 538})


@dataclass(frozen=True, slots=True)
class _Fault:
    begun: bool
    at: float


class Poison:
    """The mails that met a fault at one provider, by their keys."""

    def __init__(self) -> None:
        self._faulted: dict[int, _Fault] = {}  # the last one last

    def outcomes(self, result: Result, mail: int, now: float, taken_at: float | None) -> tuple[Outcome, ...]:
        """Those of `result`; a fault that is the mail's own defers it.

        It is its own the second time in a row: behind its MAIL always, at MAIL if the provider took another mail in
        between (`taken_at`: when it took one last). That shows that its sessions are good.
        """
        fault = next((outcome for outcome in result.outcomes if isinstance(outcome, ProviderFault)), None)
        if fault is None or not _may_be_the_mails(fault.reply, result.begun):
            self._faulted.pop(mail, None)
            return result.outcomes
        before = self._faulted.pop(mail, None)
        its_own = before is not None and before.begun is result.begun
        if not result.begun:
            its_own = its_own and before is not None and taken_at is not None and taken_at > before.at
        if not (its_own and result.begun):
            self._remember(mail, _Fault(result.begun, now))
        if not its_own:
            return result.outcomes
        return tuple([Deferred(o.reply) if isinstance(o, ProviderFault) else o for o in result.outcomes])

    def _remember(self, mail: int, fault: _Fault) -> None:
        if len(self._faulted) >= FAULTED:
            del self._faulted[next(iter(self._faulted))]
        self._faulted[mail] = fault


def _may_be_the_mails(reply: Reply, begun: bool) -> bool:
    if begun:
        return reply.code in _MAYBE_THE_MAILS
    return reply.code not in _LOGIN and not reply.enhanced.startswith("5.7.")
