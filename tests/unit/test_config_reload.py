"""Reload: what takes effect in a daemon that runs, and what waits for a restart."""

from __future__ import annotations

from pathlib import Path

from attrs import evolve

from relay.config.reload import needs_restart, reloaded
from relay.config.values import Config, Http, Listener, Provider, Secret, Smtp, SpoolSection

RUNNING = Config(
    hostname="app1.example.com",
    instance="app1",
    spool=SpoolSection(directory=Path("/srv/spool"), drop=Path("/srv/drop"), dsn=Secret("a")),
    providers=(Provider("smtp.example.com", password=Secret("hunter2")),),
)
OTHER = (Listener("tcp:2626:interface=127.0.0.1"),)


def test_nothing_has_changed() -> None:
    """Then nothing waits."""
    assert needs_restart(RUNNING, evolve(RUNNING)) == ()
    assert reloaded(RUNNING, RUNNING) == RUNNING


def test_what_takes_effect_at_once() -> None:
    """Providers, limits and all else."""
    read = evolve(
        RUNNING,
        smtp=Smtp(max_recipients=5),
        providers=(Provider("smtp.example.com", password=Secret("other")),),
    )

    assert needs_restart(RUNNING, read) == ()
    assert reloaded(RUNNING, read) == read


def test_what_needs_a_restart() -> None:
    """It is named, key by key, and stays as it was; the rest of the file takes effect."""
    read = evolve(
        RUNNING,
        hostname="app2.example.com",
        instance="app2",
        smtp=Smtp(listen=OTHER, max_recipients=5),
        http=Http(listen=()),
        spool=evolve(RUNNING.spool, directory=Path("/var/spool"), dsn=Secret("b"), min_free=0),
    )

    after = reloaded(RUNNING, read)

    assert needs_restart(RUNNING, read) == (
        "hostname",
        "instance",
        "smtp.listen",
        "http.listen",
        "spool.directory",
        "spool.dsn",
        "spool.min_free",
    )
    assert after == evolve(RUNNING, smtp=Smtp(max_recipients=5))
