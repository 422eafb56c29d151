"""Notify: tells the service manager how the daemon is, as sd_notify(3) has it: a datagram to $NOTIFY_SOCKET each time.

Where nobody asked to be told, every word is dropped. The watchdog is fed by the reactor: a daemon whose reactor hangs
is silent, and is started again by the service manager.

Failure: none. A socket that is gone, full or of an unknown kind costs the word, never a mail; it is never waited for.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall


def _monotonic() -> int:
    """Microseconds of CLOCK_MONOTONIC, as RELOADING wants them."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


class Notifier:
    """Speaks to the service manager that `environ` names; `clock` is the reactor, which feeds the watchdog.

    `monotonic` gives microseconds of CLOCK_MONOTONIC.
    """

    def __init__(
        self, environ: Mapping[str, str], clock: IReactorTime, monotonic: Callable[[], int] = _monotonic
    ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._monotonic = monotonic
        self._period = _watchdog(environ) / 2 if self._address else 0.0
        self._watchdog = LoopingCall(self._say, "WATCHDOG=1")
        self._watchdog.clock = clock

    def start(self) -> None:
        """Feed the watchdog from now on, if there is one."""
        if self._period and not self._watchdog.running:
            self._watchdog.start(self._period)

    def ready(self, status: str) -> None:
        """All listeners are open, or a reload is over."""
        self._say("READY=1", _status(status))

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={self._monotonic()}")

    def status(self, status: str) -> None:
        """What `systemctl status` shows of the daemon."""
        self._say(_status(status))

    def stopping(self) -> None:
        """The end begins. The watchdog is fed until `stop`: transactions under way may take a while."""
        self._say("STOPPING=1", _status("transactions under way end"))

    def stop(self) -> None:
        """No more of the watchdog."""
        if self._watchdog.running:
            self._watchdog.stop()

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
            way.setblocking(False)
            way.sendto("\n".join(lines).encode(errors="replace"), self._address)


def _address(said: str) -> str:
    """The address of a unix socket; "" where there is none, or one of another family."""
    if said.startswith("@"):
        return "\0" + said[1:]  # abstract, as unix(7) has it
    return said if said.startswith("/") else ""


def _watchdog(environ: Mapping[str, str]) -> float:
    """Seconds within which the service manager wants a sign of life from this process; 0.0: it does not."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    said = environ.get("WATCHDOG_USEC", "")
    return int(said) / 1e6 if re.fullmatch("[0-9]{1,18}", said) else 0.0


def _status(text: str) -> str:
    """One line, whatever `text` holds."""
    return "STATUS=" + " ".join(text.split())
