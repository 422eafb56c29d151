"""Answers: what a request gets. Pure: everything that is seen comes from a `Source`, everything said is a value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl

from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import CollectorRegistry

from relay.http import figures, guard, page
from relay.http.figures import Failure, Health
from relay.http.history import Excerpt, History

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
SCRIPT = "text/javascript; charset=utf-8"
STYLE = "text/css; charset=utf-8"
ALLOWED = (b"GET", b"HEAD")

_HERE = Path(__file__).parent

EVERYWHERE: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Fields of every answer: nothing is kept, embedded, guessed at or told to others."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as it came. `accept` is the value of its Accept field, "" where there is none."""

    peer: object
    version: bytes
    method: bytes
    target: bytes
    hosts: Sequence[bytes]
    accept: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status code, a body and what it is; `allow` where a method is refused."""

    code: int
    body: bytes
    kind: str = TEXT
    allow: str = ""

    @property
    def fields(self) -> dict[str, str]:
        """All of its header's fields but Date."""
        own = {"Content-Type": self.kind, "Content-Length": str(len(self.body))}
        return {**EVERYWHERE, **own, **({"Allow": self.allow} if self.allow else {})}


class Source(Protocol):
    """Who knows the figures. Called in the reactor's thread; none of it waits for anything."""

    def health(self) -> Health:
        """How it is now."""

    def ready(self) -> bool:
        """Whether the listeners are open and the spool is writable."""

    def failures(self) -> Sequence[Failure]:
        """The newest failures, the newest first, some sixty at most."""

    @property
    def history(self) -> History:
        """How it went."""


Page = Callable[[Ask], Answer]


class Answers:
    """Answers requests about `source`; `now` gives seconds since the epoch, by the wall's clock."""

    def __init__(self, source: Source, registry: CollectorRegistry, now: Callable[[], float]) -> None:
        self._source = source
        self._registry = registry
        self._now = now
        self._pages: Mapping[bytes, Page] = {
            b"/": self._page,
            b"/page.css": _file("page.css", STYLE),
            b"/page.js": _file("page.js", SCRIPT),
            b"/plots.js": _file("plots.js", SCRIPT),
            b"/uplot.css": _file("uplot/uPlot.min.css", STYLE),
            b"/uplot.js": _file("uplot/uPlot.iife.min.js", SCRIPT),
            b"/icon.svg": _file("icon.svg", "image/svg+xml"),
            b"/status.json": self._status,
            b"/history.json": self._history,
            b"/health": self._health,
            b"/livez": lambda _ask: _say(200, "alive"),
            b"/readyz": self._ready,
            b"/metrics": self._metrics,
        }

    def __call__(self, ask: Ask) -> Answer:
        """The answer to `ask`."""
        authority, path = guard.origin_form(ask.target)
        why = guard.stranger(ask.peer, ask.version, ask.hosts, authority)
        if why is not None:
            return _say(403, why)
        if ask.method not in ALLOWED:
            return Answer(405, b"Nothing here can be changed: GET it.\n", allow="GET, HEAD")
        found = self._pages.get(path)
        return _say(404, "There is no such page; / is one.") if found is None else found(ask)

    def _page(self, _ask: Ask) -> Answer:
        return Answer(200, page.html(self._view()), "text/html; charset=utf-8")

    def _status(self, _ask: Ask) -> Answer:
        view = self._view()
        return _object(200, {"texts": view.texts, "rows": view.rows})

    def _view(self) -> page.View:
        return page.view(self._source.health(), self._source.failures(), self._now())

    def _history(self, ask: Ask) -> Answer:
        asked = dict(parse_qsl(guard.query(ask.target).decode("latin-1")))
        try:
            excerpt = self._source.history.after(int(asked.get("step", "1")), int(asked.get("after", "0")))
        except (KeyError, ValueError):
            return _say(400, "step is 1 or 60 (seconds), and after the number of a slot.")
        return _object(200, _excerpt(excerpt))

    def _health(self, _ask: Ask) -> Answer:
        health = self._source.health()
        return _object(503 if health.status == "failing" else 200, figures.document(health))

    def _ready(self, _ask: Ask) -> Answer:
        return _say(200, "ready") if self._source.ready() else _say(503, "unready")

    def _metrics(self, ask: Ask) -> Answer:
        if wants_openmetrics(ask.accept):
            shown: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]  # it has none
            return Answer(200, shown, openmetrics.CONTENT_TYPE_LATEST)
        return Answer(200, exposition.generate_latest(self._registry), exposition.CONTENT_TYPE_PLAIN_0_0_4)


def _file(name: str, kind: str) -> Page:
    answer = Answer(200, (_HERE / name).read_bytes(), kind)
    return lambda _ask: answer


def _excerpt(excerpt: Excerpt) -> dict[str, object]:
    return {
        "step": excerpt.step,
        "first": excerpt.first,
        "offset": excerpt.offset,
        "more": excerpt.more,
        "columns": {
            name: [None if isnan(value) else value for value in column] for name, column in excerpt.columns.items()
        },
    }


def _say(code: int, line: str) -> Answer:
    return Answer(code, f"{line}\n".encode())


def _object(code: int, value: object) -> Answer:
    return Answer(code, json.dumps(value).encode("ascii") + b"\n", JSON)


_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)


def wants_openmetrics(accept: str) -> bool:
    """Whether OpenMetrics 1.0 is asked for by name, and no less than Prometheus' older text (RFC 9110, 12.5.1).

    >>> wants_openmetrics("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
    True
    >>> wants_openmetrics("*/*")
    False
    """
    openmetrics_quality = text_quality = 0.0
    for choice in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in choice.split(";"))
        found = [match for parameter in parameters if (match := _QUALITY.fullmatch(parameter))]
        quality = float(found[0][1]) if found else 1.0
        if kind == "application/openmetrics-text" and not _later(parameters):
            openmetrics_quality = max(openmetrics_quality, quality)
        elif kind == "text/plain":
            text_quality = max(text_quality, quality)
    return openmetrics_quality > 0 and openmetrics_quality >= text_quality


def _later(parameters: Sequence[str]) -> bool:
    """Whether a version behind 1 is asked for."""
    return any(each.startswith("version=") and not each.startswith(("version=0.", "version=1.")) for each in parameters)
