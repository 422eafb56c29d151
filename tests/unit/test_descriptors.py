"""Descriptors: the limit, what is said of one that may not do, and the one that is kept back."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet import tcp
from twisted.logger import LogEvent, globalLogPublisher

from relay.config import load
from relay.descriptors import raise_limit, regain_reserve, sessions, shortage

CONFIG = """
[smtp]
max_connections = 1000
[[provider]]
name = "one"
host = "mail.example.com"
connections = 20
[[provider]]
name = "two"
host = "mail.example.net"
connections = 5
"""


@pytest.fixture
def limit() -> Iterator[tuple[int, int]]:
    """The limits of this process, which are as they were once the test is over."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield limits
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_as_many_as_may_be(limit: tuple[int, int]) -> None:
    """The lower limit is raised to the higher one."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(200, limit[1]), limit[1]))

    assert raise_limit() == limit[1]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limit[1], limit[1])


def test_a_limit_that_may_not_do(tmp_path: Path) -> None:
    """One and a half for each session, one for each connection to a provider, some for all else; one fewer is told."""
    file = tmp_path / "relay.toml"
    file.write_text(CONFIG)
    config = load(file, {})
    needed = 1500 + 20 + 5 + 32
    told = shortage(config, needed - 1)

    assert shortage(config, needed) is None
    assert told is not None
    assert told.startswith(
        f"only {needed - 1} file descriptors are allowed, so 999 SMTP connections are served at once"
    )
    assert [sessions(config, limit) for limit in (30, 57, 60, 1024)] == [1, 1, 2, 644]


def test_the_one_kept_back_is_taken_again(limit: tuple[int, int]) -> None:
    """As soon as there is one; until then nothing is said, however often it is tried."""
    heard: list[LogEvent] = []
    reserve = tcp._reservedFD
    reserve.reserve()
    reserve.__enter__()
    globalLogPublisher.addObserver(heard.append)  # type: ignore[arg-type]  # a list's method is an observer
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limit[1]))
        without = regain_reserve()
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        again = regain_reserve()
        kept = len(list(Path("/proc/self/fd").iterdir()))
        regain_reserve()
    finally:
        globalLogPublisher.removeObserver(heard.append)  # type: ignore[arg-type]

    assert (without, again, reserve.available()) == (False, True, True)
    assert len(list(Path("/proc/self/fd").iterdir())) == kept
    assert heard == []
