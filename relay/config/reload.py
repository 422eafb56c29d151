"""Reload: what of a configuration takes effect in a daemon that runs, and what only when it starts again."""

from __future__ import annotations

from attrs import evolve, fields

from relay.config.values import Config, SpoolSection


def needs_restart(running: Config, read: Config) -> tuple[str, ...]:
    """The keys in which `read` differs from what runs and that a reload leaves as they are."""
    pairs: list[tuple[str, object, object]] = [
        ("hostname", running.hostname, read.hostname),
        ("instance", running.instance, read.instance),
        ("smtp.listen", running.smtp.listen, read.smtp.listen),
        ("http.listen", running.http.listen, read.http.listen),
    ]
    for attribute in fields(SpoolSection):
        key = attribute.name
        pairs.append((f"spool.{key}", getattr(running.spool, key), getattr(read.spool, key)))
    return tuple(key for key, before, after in pairs if before != after)


def reloaded(running: Config, read: Config) -> Config:
    """What runs after a reload: `read`, but for what needs a restart."""
    return evolve(
        read,
        hostname=running.hostname,
        instance=running.instance,
        smtp=evolve(read.smtp, listen=running.smtp.listen),
        http=running.http,
        spool=running.spool,
    )
