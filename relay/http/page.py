"""Page: the figures in people's words. `view` chooses the words once; the page and its script only set them in place.

A reply may hold whatever a provider likes to say: it is text here, and stays text in the script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from time import gmtime, strftime

from relay.http.figures import Failure, Health, Provider, ProviderState, Queue
from relay.reply import nameless, printable

COLUMNS: Mapping[str, Sequence[str]] = {
    "providers": ("Name", "State", "Connections", "Last success", "Last error"),
    "alerts": ("Name", "Since", "Message"),
    "failures": ("Time", "Mail", "Provider", "Outcome", "Reply"),
}
"""The tables and what their columns are called: on a narrow screen each cell says so itself."""

NOTHING: Mapping[str, str] = {
    "providers": "No provider is configured.",
    "alerts": "None.",
    "failures": "None since the start.",
}
"""What a table without rows says."""

YOUNG = 3600.0
"""Seconds for which the page says that its plots begin with the daemon."""

FAILURES = 20
"""So many rows of failures there are at most."""

NAMED = 4
"""So many alerts the headline names, the oldest first."""

_SHELL = Template(Path(__file__).with_name("page.html").read_text("utf-8"))

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, slots=True)
class View:
    """All that changes on the page: texts by the id of their element, and rows by the id of their table's body.

    A row is its state ("" or a word that gives it a colour) and its cells; a row of one cell takes the whole width.
    """

    texts: Mapping[str, str]
    rows: Mapping[str, Sequence[Sequence[str]]]


def view(health: Health, failures: Sequence[Failure], now: float) -> View:
    """What the page says at `now`, seconds since the epoch."""
    queue, totals, spool = health.queue, health.totals, health.spool
    texts = {
        "status": health.status,
        "instance": health.instance,
        "headline": headline(health),
        "history": young(health.uptime_seconds, now),
        "now": moment(now),
        "total": f"{queue.total:,}",
        "ready": f"{queue.ready:,}",
        "active": f"{queue.active:,}",
        "deferred": f"{queue.deferred:,}",
        "held": f"{queue.held:,}",
        "oldest": oldest(queue),
        "uptime": duration(health.uptime_seconds),
        "emails": f"{totals.emails:,}",
        "successful": f"{totals.successful:,}",
        "failed": f"{totals.failed:,}",
        "recipients": f"{totals.recipients:,}",
        "mean": duration(totals.processing_seconds / totals.emails) if totals.emails else "–",
        "version": health.version,
        "spool": f"{spool.backend}, {size(spool.free_bytes)} free" + ("" if spool.writable else ", cannot be written"),
    }
    rows = {
        "providers": [_provider(provider, now) for provider in health.providers],
        "alerts": [["alert", alert.name, moment(alert.since), nameless(alert.message)] for alert in health.alerts],
        "failures": _failures(failures),
    }
    return View(
        {name: printable(text) for name, text in texts.items()},
        {name: [list(map(printable, row)) for row in table or [["", NOTHING[name]]]] for name, table in rows.items()},
    )


def _failures(failures: Sequence[Failure]) -> list[list[str]]:
    """A row for each thing that went wrong: many mails that fail alike hide nothing else."""
    alike: dict[tuple[str, str, str], list[Failure]] = {}
    for each in failures:
        alike.setdefault((each.provider, each.outcome, nameless(each.reply)), []).append(each)
    rows = []
    for (provider, outcome, reply), [newest, *others] in list(alike.items())[:FAILURES]:
        more = f" (and {len(others)} more alike since {moment(others[-1].time)[11:]})" if others else ""
        rows.append([outcome, moment(newest.time), newest.id, provider, outcome, f"{reply}{more}"])
    return rows


def headline(health: Health) -> str:
    """The status in a sentence or a few, the worst first. It changes only with what it tells of: it is read aloud."""
    away = [_outage(each) for each in health.providers if each.state is not ProviderState.UP]
    said = []
    if not health.taking:
        said.append("No mail can be taken now.")
    if len(away) == len(health.providers):
        said.append("No provider is up: what was taken waits.")
    if away:
        said.append(f"{'; '.join(away)}.")
    if health.alerts:
        names = [alert.name for alert in health.alerts]
        more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
        said.append(f"{'Alert' if len(names) == 1 else 'Alerts'}: {', '.join([*names[:NAMED], *more])}.")
    if not said:
        said.append("Mail is taken, and every provider is up.")
    if not health.totals.emails and not health.queue.total:
        said.append("No mail has come yet since the start.")
    return " ".join(said)


def _outage(provider: Provider) -> str:
    """What a provider is instead of being up, and since when. A probe is part of an outage."""
    state = ProviderState.DOWN if provider.state is ProviderState.PROBING else provider.state
    if provider.since is None:
        return f"{provider.name} is {state.value}"
    return f"{provider.name} has been {state.value} since {moment(provider.since)}"


def oldest(queue: Queue) -> str:
    """The age of the oldest mail that waits; held mail waits for a person and has none.

    >>> oldest(Queue()), oldest(Queue(held=1)), oldest(Queue(ready=1, oldest_age_seconds=61))
    ('none waits', 'only held mail', '1 min 1 s')
    """
    if not queue.total:
        return "none waits"
    return duration(queue.oldest_age_seconds) if queue.total > queue.held else "only held mail"


def young(uptime: float, now: float) -> str:
    """What the plots cannot show yet, as long as that may surprise."""
    if uptime >= YOUNG:
        return ""
    return f"Kept since the start at {moment(now - uptime)[11:]}: there is nothing to show from before that."


def _provider(provider: Provider, now: float) -> list[str]:
    connections, success, since = provider.connections, provider.last_success_at, provider.since
    state, error = provider.state.value, nameless(provider.last_error or "–")
    return [
        state,
        provider.name,
        state if since is None else f"{state} for {_ago(since, now)}",
        f"{connections.active} busy, {connections.idle} idle of {connections.limit}",
        "–" if success is None else f"{_ago(success, now)} ago",
        error if provider.error_at is None else f"{_ago(provider.error_at, now)} ago: {error}",
    ]


def _ago(then: float, now: float) -> str:
    return duration(max(now - then, 0.0))


def html(shown: View) -> bytes:
    """The page with `shown` set in it."""
    texts = {name: escape(text) for name, text in shown.texts.items()}
    rows = {name: "".join(_row(row, COLUMNS[name]) for row in table) for name, table in shown.rows.items()}
    return _SHELL.substitute(texts, **rows).encode("utf-8", "backslashreplace")


def _row(row: Sequence[str], columns: Sequence[str]) -> str:
    state, *cells = map(escape, row)
    if len(cells) == 1:
        return f'<tr data-state="{state}"><td colspan="{len(columns)}">{cells[0]}</td></tr>'
    made = (f'<td data-column="{column}">{cell}</td>' for column, cell in zip(columns, cells, strict=True))
    return f'<tr data-state="{state}">{"".join(made)}</tr>'


def moment(seconds: float) -> str:
    """Seconds since the epoch as a date and time of day.

    >>> moment(1700000000.5)
    '2023-11-14 22:13:20 UTC'
    """
    return strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(seconds))


def duration(seconds: float) -> str:
    """Seconds in the two largest units that there are; below a minute with what matters of a second.

    >>> duration(0.0123), duration(4.25), duration(59.9), duration(7260), duration(180000)
    ('12 ms', '4.2 s', '60 s', '2 h 1 min', '2 d 2 h')
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    rest, parts = int(seconds), list[str]()
    for length, unit in _UNITS:
        count, rest = divmod(rest, length)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def size(octets: int) -> str:
    """Octets in the largest unit that leaves at least one.

    >>> size(1023), size(1536), size(5 * 2**30)
    ('1023 B', '1.5 KiB', '5.0 GiB')
    """
    if octets < 1024:
        return f"{octets} B"
    amount, units = octets / 1024, iter(("KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while amount >= 1024 and (larger := next(units, None)):
        amount, unit = amount / 1024, larger
    return f"{amount:.1f} {unit}"
