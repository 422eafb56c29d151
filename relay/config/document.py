"""Document: what a file or the command line says, before anybody asks what it means.

Failure: nothing here raises for what a file holds; a Problem is returned with an empty document.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import field, frozen

from relay.config.origin import Origin
from relay.config.problem import Problem

Step = str | int
Route = tuple[Step, ...]
"""The way to a value: names of attributes, Keys, and places in arrays, counted from 0."""


class Key(str):
    """A step that stands in the file as it is: no attribute has it."""

    __slots__ = ()


_LARGEST = 4 * 2**20
_BARE = re.compile("[A-Za-z0-9_-]+")
_KEYS = {"providers": "provider", "from_": "from"}


class Pairs(dict[str, object]):
    """A JSON object that remembers the keys that it gives more than once."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        keys = [key for key, _ in pairs]
        self.repeated = sorted({key for key in keys if keys.count(key) > 1})


def snake(attribute: str) -> str:
    """The key of an attribute in TOML."""
    return _KEYS.get(attribute, attribute)


def camel(attribute: str) -> str:
    """The key of an attribute in JSON: maxMessageSize."""
    first, *others = snake(attribute).split("_")
    return first + "".join(map(str.capitalize, others))


@frozen
class Document:
    """Tables as they were parsed.

    tables  a Wrong stands in the place of a table that there would be, were what says it right
    spell   attribute -> key
    places  for a route that is not said where its keys would stand: who says it, and what a message calls it
    """

    origin: Origin
    tables: dict[str, object] = field(repr=False)
    spell: Callable[[str], str] = snake
    places: Mapping[Route, tuple[Origin, str]] = field(factory=dict)

    def origin_of(self, route: Route) -> Origin:
        """Who says what is at `route`."""
        return self._place(route)[0]

    def problem(self, route: Route, what: str, fix: str) -> Problem:
        """What is wrong with the value at `route`."""
        origin, start, rest = self._place(route)
        key = "".join([start, *map(self._written, rest)]).removeprefix(".")
        return Problem(origin.name, key + self._whose(route), what, fix)

    def _place(self, route: Route) -> tuple[Origin, str, Route]:
        """Who says `route`, what its beginning is called, and the steps behind that."""
        for length in range(len(route), 0, -1):
            if route[:length] in self.places:
                return *self.places[route[:length]], route[length:]
        return self.origin, "", route

    def _written(self, step: Step) -> str:
        if isinstance(step, int):
            return f"[{step + 1}]"
        key = step if isinstance(step, Key) else self.spell(step)
        return f".{key}" if _BARE.fullmatch(key) else f".{json.dumps(key, ensure_ascii=False)}"

    def _whose(self, route: Route) -> str:
        """` (name "primary")` behind a provider's key: a place in a list says little."""
        if len(route) < 2 or route[0] != "providers":
            return ""
        tables = self.tables.get(self.spell("providers"))
        table = tables[route[1]] if isinstance(tables, list) and isinstance(route[1], int) else None
        said = [table.get("name"), table.get("host")] if isinstance(table, dict) else []
        # A host with an @ or a slash is a URL in the wrong place, and may hold a password.
        names = [name for name in said if isinstance(name, str) and name and not set(name) & set("@/")]
        return f' (name "{names[0][:60]}")' if names else ""


def read_document(path: Path, origin: Origin) -> tuple[Document, list[Problem]]:
    """What the file at `path` says: in the older form if its name ends in .json, else TOML."""
    older = path.suffix.lower() == ".json"
    try:
        with path.open("rb") as file:
            octets = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its path holds a NUL"
        fix = "write it, or name another one with --config or $MAILRELAY_CONFIG"
        return Document(origin, {}), [Problem(origin.name, "", f"cannot be read: {reason}", fix)]
    tables, what = ({}, "is larger than 4 MiB") if len(octets) > _LARGEST else _parsed(octets, older=older)
    document = Document(origin, tables, camel if older else snake)
    if what:
        return document, [Problem(origin.name, "", what, "correct it; nothing else in the file was looked at")]
    return _modern(document) if older else (document, [])


def _parsed(octets: bytes, *, older: bool) -> tuple[dict[str, object], str]:
    """The tables in a file's octets, or why there are none. The file itself is not quoted: it may hold a password."""
    kind = "JSON" if older else "TOML"
    try:
        text = octets.decode("utf-8-sig")
        tables = json.loads(text, object_pairs_hook=Pairs) if older else tomllib.loads(text)
    except UnicodeDecodeError as error:
        return {}, f"is not UTF-8 (at line {octets.count(10, 0, error.start) + 1})"
    except RecursionError:
        return {}, f"is no {kind} that anybody would write: it is nested too deeply"
    except json.JSONDecodeError as error:
        return {}, f"is not {kind}: {error.msg} (at line {error.lineno}, column {error.colno})"
    except tomllib.TOMLDecodeError as error:
        end = f"(at line {text.count(chr(10)) + 1}, the end of the file)"
        return {}, f"is not {kind}: {str(error).replace('(at end of document)', end)}"
    except ValueError:
        return {}, f"is no {kind} that can be read: it holds a number of thousands of digits"
    return (tables, "") if isinstance(tables, dict) else ({}, "is not JSON of the right form: it is no object")


def _modern(document: Document) -> tuple[Document, list[Problem]]:
    """A document in the older form with what that says in its own way brought to where it stands today."""
    tables, origin = document.tables, document.origin
    places: dict[Route, tuple[Origin, str]] = {}
    problems: list[Problem] = []
    for old, section, attribute in _MOVED:
        if old not in tables:
            continue
        value = tables.pop(old)
        route = (section, attribute) if section else (attribute,)
        table = tables.setdefault(section, Pairs([])) if section else tables
        if not isinstance(table, dict):
            problems.append(Problem(origin.name, old, f"belongs to {section}, which is no table", "correct that first"))
            continue
        if document.spell(attribute) in table:
            also = ".".join(map(document.spell, route))
            problems.append(Problem(origin.name, old, f"says the same as {also}", "say it once"))
            continue
        table[document.spell(attribute)] = value
        places[route] = (origin, old)
    delivery = tables.get("delivery")
    if isinstance(delivery, dict) and "batchDelay" in delivery:
        delivery["batchDelay"] = _milliseconds(delivery["batchDelay"])
    return Document(origin, tables, document.spell, places), problems


_MOVED = (
    ("batchSize", "delivery", "batch_size"),
    ("batchDelay", "delivery", "batch_delay"),
    ("forwardProviders", "", "providers"),
)


def _milliseconds(value: object) -> object:
    """A number of milliseconds as a duration; all else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, float):
        return value / 1000
    return f"{value}ms" if abs(value) < 10**12 else value
