"""`mailrelay status`: how the daemon is, in figures."""

from __future__ import annotations

import json
import sys
import time
from calendar import timegm
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from relay.cli.configuration import config_option
from relay.cli.daemon import Asking
from relay.cli.terminal import columns, paragraphs, row, say
from relay.phrases import many, span

_MIB = 2**20


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, that of /health.")
def status(path: Path | None, as_json: bool) -> None:
    """Say how the daemon is: its queue, its providers, its alerts."""
    health = Asking(path, "status").all()
    if as_json:
        say(json.dumps(health))
        return
    for line in lines(health, columns(sys.stdout), time.time()):
        say(line)


def lines(health: Mapping[str, Any], room: int | None, now: float) -> Iterator[str]:
    """The object of /health, for people."""
    yield from paragraphs(_figures(health), room)
    yield ""
    widths = (max(8, *(len(provider["name"]) for provider in health["providers"])), 8, 11, 16)
    yield from row(("PROVIDER", "STATE", "CONNECTIONS", "LAST SUCCESS", "LAST ERROR"), widths, room)
    for provider in health["providers"]:
        connections = provider["connections"]
        use = f"{connections['active']}+{connections['idle']} of {connections['limit']}"
        success, error = _ago(provider["last_success_at"], now), provider["last_error"] or "-"
        yield from row((provider["name"], provider["state"], use, success, error), widths, room)
    alerts = [f"ALERT {alert['name']} since {alert['since']}: {alert['message']}" for alert in health["alerts"]]
    yield from paragraphs(alerts, room)


def _figures(health: Mapping[str, Any]) -> Iterator[str]:
    queue, totals, spool = health["queue"], health["totals"], health["spool"]
    yield (
        f"mailrelay {health['version']} ({health['instance']}): {health['status']}, "
        f"up for {span(health['uptime_seconds'])}"
    )
    states = ", ".join(f"{queue[state]} {state}" for state in ("ready", "active", "deferred", "held"))
    oldest = f"; the oldest is {span(queue['oldest_age_seconds'])} old" if queue["total"] > queue["held"] else ""
    yield f"queue: {many(queue['total'], 'mail')} ({states}){oldest}"
    yield (
        f"finished since the start: {many(totals['totalEmails'], 'mail')} "
        f"({totals['successfulEmails']} delivered, {totals['failedEmails']} failed)"
    )
    writable = "writable" if spool["writable"] else "NOT writable"
    yield f"spool: {spool['backend']}, {writable}, {spool['free_bytes'] // _MIB} MiB free"


def _ago(text: str | None, now: float) -> str:
    return "-" if text is None else f"{span(now - seconds(text))} ago"


def seconds(text: str) -> float:
    """Since the epoch, of a time as the daemon writes it.

    >>> seconds("2023-11-14T22:13:20.500Z")
    1700000000.0
    """
    return float(timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")))
