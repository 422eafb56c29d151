"""Poison: mails at which a provider's connections end, so that one of them does not take the provider down for long."""

from __future__ import annotations

from relay.outcome import Deferred, Outcome, ProviderFault
from relay.upstream.batch import Result

FAULTED = 1000
"""So many mails are remembered that met a fault."""

_MAYBE_THE_MAILS = frozenset({0, 421})
"""Replies (none at all, or good-bye) that a mail may cause; a login that is missing is never the mail's fault."""


class Poison:
    """The mails that met a fault at one provider, by their keys."""

    def __init__(self) -> None:
        self._faulted: dict[int, None] = {}  # the last one last

    def outcomes(self, result: Result, mail: int) -> tuple[Outcome, ...]:
        """Those of `result`; a second fault in a row with this mail, behind its MAIL, is its own and defers it."""
        fault = next((outcome for outcome in result.outcomes if isinstance(outcome, ProviderFault)), None)
        if fault is None or not result.begun or fault.reply.code not in _MAYBE_THE_MAILS:
            self._faulted.pop(mail, None)
            return result.outcomes
        if mail not in self._faulted:
            if len(self._faulted) >= FAULTED:
                del self._faulted[next(iter(self._faulted))]
            self._faulted[mail] = None
            return result.outcomes
        del self._faulted[mail]
        return tuple([Deferred(o.reply) if isinstance(o, ProviderFault) else o for o in result.outcomes])
