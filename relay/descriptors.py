"""Descriptors: how many files and connections the daemon may have open at once, and what it keeps back of them.

Without any, a large mail that comes in gets 451 and who connects is turned away without a word; both may come again.
"""

from __future__ import annotations

import os
import resource

from twisted.internet import tcp

from relay.config import Config

_OTHERS = 64
"""The log, the database, the listeners, the page and commands."""


def raise_limit() -> int:
    """Allow as many as whoever started us lets us have; how many that is.

    The lower limit that shells begin with is for programs that use select(), and nothing here does.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def shortage(config: Config, limit: int) -> str | None:
    """What to tell the operator where `limit` may not do for all that `config` allows at once; None where it does.

    Each session and each connection to a provider may have a file beside its socket: the content of a large mail.
    """
    connections = config.smtp.max_connections + sum(provider.connections for provider in config.providers)
    needed = 2 * connections + _OTHERS
    if needed <= limit:
        return None
    return (
        f"only {limit} file descriptors are allowed, and {needed} may be needed: raise LimitNOFILE= or ulimit -Hn, or "
        "lower smtp.max_connections; while there are none, who connects is turned away"
    )


def regain_reserve() -> None:
    """Have Twisted keep one back again, with which it turns people away, where it has lost that one.

    It gives it up for a moment when it does so, and another thread may be faster at opening something. Without it the
    listener would be looked at again and again, to no end, for as long as all are taken.
    """
    reserve = tcp._reservedFD
    if reserve.available():
        return
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return  # later; Twisted itself would log it each time
    reserve.reserve()
