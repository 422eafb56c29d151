"""Openings: the connections to a provider that are being opened."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relay.outcome import ProviderFault
from relay.reply import no_reply
from relay.upstream.sender import Connection, Fault


class Openings:
    """Calls `opened` with each connection, or `failed` with what kept it from being one, and whether that is ours."""

    def __init__(self, opened: Callable[[Connection], None], failed: Callable[[ProviderFault, bool], None]) -> None:
        self._opened = opened
        self._failed = failed
        self._opening: set[Deferred[Connection]] = set()

    def __len__(self) -> int:
        """How many."""
        return len(self._opening)

    def add(self, opening: Deferred[Connection]) -> None:
        """One more."""
        self._opening.add(opening)
        opening.addCallbacks(self._is_open, self._is_not, (opening,), {}, (opening,))

    def cancel(self) -> None:
        """Nobody wants them any more; what opens all the same is closed, and nobody hears of it."""
        opening, self._opening = self._opening, set()
        for each in opening:
            each.cancel()

    def _is_open(self, connection: Connection, opening: Deferred[Connection]) -> None:
        if opening not in self._opening:
            connection.quit()
            return
        self._opening.discard(opening)
        self._opened(connection)

    def _is_not(self, failure: Failure, opening: Deferred[Connection]) -> None:
        if opening not in self._opening:
            return
        self._opening.discard(opening)
        error = failure.value
        if isinstance(error, Fault):
            self._failed(error.outcome, error.ours)
        else:
            self._failed(ProviderFault(no_reply(f"unexpected: {error}")), False)
