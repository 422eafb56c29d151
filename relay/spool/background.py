"""Background: calls that wait for a disk, in threads of their own, answered in the reactor's thread.

What the reactor thread may never wait for is done here. The pool is the spool's alone, so that a disk that hangs
delays no name server's answer and nothing else that Twisted's own pool does.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relay.spool.spool import SpoolFailing, SpoolFull

P = ParamSpec("P")
T = TypeVar("T")


class FromThreads(Protocol):
    """What the spool needs of a reactor."""

    def callFromThread(self, f: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Have `f` called in the reactor's thread, soon."""


def failing(error: OSError, what: str) -> SpoolFailing:
    """The error that says `what` could not be done, and why."""
    text = f"{what}: {error.strerror or error}"
    return SpoolFull(text) if error.errno in (errno.ENOSPC, errno.EDQUOT) else SpoolFailing(text)


class Background:
    """`threads` threads at most; what is asked for is begun in that order."""

    def __init__(self, reactor: FromThreads, threads: int, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Fires with what `function` returns, or fails with what it raises. Fails with SpoolFailing once closed."""
        answer: Deferred[T] = Deferred()

        def run() -> None:
            try:
                result = function(*args, **kwargs)
            except BaseException:  # whatever it is belongs to who asked, not to the pool
                self._reactor.callFromThread(answer.errback, Failure())
            else:
                self._reactor.callFromThread(answer.callback, result)

        try:
            self._pool.submit(run)
        except RuntimeError:
            answer.errback(SpoolFailing("the spool is closed"))
        return answer

    def close(self) -> None:
        """Wait until all is done and the threads have ended. Not for the reactor's thread."""
        self._pool.shutdown()
