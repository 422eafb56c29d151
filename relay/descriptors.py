"""Descriptors: how many files and connections the daemon may have open at once, and what that allows.

Sessions are bounded by them, so that one too many is told so. Where all are taken nevertheless, a large mail that comes
in gets 451, and who connects is turned away without a word or waits; both may come again.
"""

from __future__ import annotations

import os
import resource

from twisted.internet import tcp

from relay.config import Config

_OTHERS = 32
"""The log, the database, the listeners, the page and commands."""


def raise_limit() -> int:
    """Allow as many as whoever started us lets us have; how many that is.

    The lower limit that shells begin with is for programs that use select(), and nothing here does.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def sessions(config: Config, limit: int) -> int:
    """How many sessions at once `limit` does for, one at least, where every other one brings a large mail in a file."""
    connections = sum(provider.connections for provider in config.providers)
    return max((limit - _OTHERS - connections) * 2 // 3, 1)


def shortage(config: Config, limit: int) -> str | None:
    """What to tell the operator where that is less than the configuration allows; None where it is not."""
    served, wanted = sessions(config, limit), config.smtp.max_connections
    if served >= wanted:
        return None
    return (
        f"only {limit} file descriptors are allowed, so {served} SMTP connections are served at once and not {wanted}: "
        "raise LimitNOFILE= or ulimit -Hn, or lower smtp.max_connections"
    )


def regain_reserve() -> bool:
    """Have Twisted keep one back again, with which it turns people away, where it lost that; whether it has one.

    It gives it up for a moment when it does so, and another thread may be faster at opening something. Without it the
    listener would be looked at again and again, to no end, for as long as all are taken.
    """
    reserve = tcp._reservedFD
    if not reserve.available():
        try:
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return False  # Twisted itself would log it each time
        reserve.reserve()
    return bool(reserve.available())
