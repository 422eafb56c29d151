"""Outbox: what is to be told over one way, a few at once, and of each alert only the newest.

A way that hangs delays no other way and nothing else, and what gathers meanwhile is bounded by the number of alerts:
of each there is at most one message under way and one behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from relay.alerts.decision import Change

AT_ONCE = 3
"""So many messages are under way at once."""

Outdated = Callable[[], bool]
"""Whether a message need not be tried any further: something newer is to be told, or all ends."""

Carry = Callable[[Change, Outdated], Coroutine[Any, Any, None]]
"""Tells one message, as well as it can, and says itself what went wrong."""


class Outbox:
    """See the module's docstring. `warn` takes a line for the log."""

    def __init__(self, carry: Carry, warn: Callable[[str], None]) -> None:
        self._carry = carry
        self._warn = warn
        self._waiting: dict[str, Change] = {}
        self._under_way: dict[str, Deferred[None]] = {}
        self._stopped = False

    @property
    def busy(self) -> bool:
        """Whether anything is still to be told."""
        return bool(self._under_way)

    def put(self, change: Change) -> None:
        """Tell this, as soon as there is room and what was said of the same alert is over."""
        self._waiting[change.alert] = change
        self._begin()

    def stop(self) -> None:
        """Drop what waits and what is under way."""
        self._stopped = True
        self._waiting.clear()
        for carrying in list(self._under_way.values()):
            carrying.cancel()

    def _begin(self) -> None:
        for name in [name for name in self._waiting if name not in self._under_way]:
            if len(self._under_way) < AT_ONCE and not self._stopped:
                self._one(self._waiting.pop(name))

    def _one(self, change: Change) -> None:
        name = change.alert
        carrying = Deferred.fromCoroutine(self._carry(change, lambda: self._stopped or name in self._waiting))
        self._under_way[name] = carrying
        carrying.addErrback(self._failed).addCallback(self._over, name)

    def _failed(self, failure: Failure) -> None:
        """What it says is not repeated: it may hold what is secret."""
        if not failure.check(CancelledError):
            self._warn(f"an alert could not be told: unexpected {failure.type.__name__ if failure.type else failure}")

    def _over(self, _: None, name: str) -> None:
        del self._under_way[name]
        self._begin()
