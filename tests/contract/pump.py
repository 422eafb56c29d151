"""Pump: as much of a reactor as a spool needs, without one running."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds that a test waits for a thread before it fails."""


class Pump:
    """What threads ask for is called in the test's own thread, while it waits for something."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def callFromThread(self, f: Callable[..., object], *args: object, **kwargs: object) -> None:
        """See IReactorFromThreads."""
        self._calls.put(lambda: f(*args, **kwargs))

    def until(self, condition: Callable[[], bool]) -> None:
        """Call what is asked for until `condition` holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self._calls.get(timeout=max(deadline - time.monotonic(), 0.0))()

    def wait(self, deferred: Deferred[T]) -> T:
        """What `deferred` fires with; raises what it fails with."""
        answers: list[T | Failure] = []
        deferred.addBoth(answers.append)
        self.until(lambda: bool(answers))
        answer = answers[0]
        if isinstance(answer, Failure):
            answer.raiseException()
            raise AssertionError
        return answer
