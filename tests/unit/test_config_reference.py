"""The reference in docs/reference/configuration.md says what the code does."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import attrs
import pytest

from relay.config.document import Document, snake
from relay.config.kinds import Some
from relay.config.origin import Origin
from relay.config.reading import Reading, attributes
from relay.config.values import Config

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"


def rows() -> dict[str, tuple[str, str]]:
    """Of every key in the tables: what it may be, and its default; `smtp.listen` -> (…, …)."""
    found: dict[str, tuple[str, str]] = {}
    section = ""
    for line in REFERENCE.read_text("utf-8").splitlines():
        if heading := re.fullmatch(r"## (?:\[+(\w+)\]+|(.*))", line):
            section = f"{heading[1]}." if heading[1] else ""
        elif row := re.fullmatch(r"\| `([\w.]+)` \| (.+?) \| (.+?) \| (.+?)?\|", line):
            found[section + row[1]] = (row[2], row[3])
    return found


def keys(section: Any, prefix: str = "") -> Iterator[tuple[str, Any, object]]:
    """Every key that the code knows, with its type and default."""
    for attribute in attributes(section).values():
        key, kind, default = prefix + snake(attribute.name), attribute.type, attribute.default
        element: Any = get_args(kind)[0] if get_origin(kind) is tuple else kind
        if attrs.has(element):
            yield from keys(element, f"{key}.")
        else:
            yield key, kind, {} if get_origin(kind) is Mapping else default


def says(kind: Any) -> str:
    """What a type may be, in the reference's words."""
    if get_origin(kind) is Annotated and not isinstance(kind.__metadata__[0], Some):
        return str(kind.__metadata__[0].says)
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(kind) is tuple:
        return f"array: {says(get_args(kind)[0])}"
    return f"table: {' = '.join(map(says, get_args(kind)))}"


def read(key: str, value: object) -> object:
    """What the code makes of `value` at `key`."""
    *sections, last = key.split(".")
    tables: Any = {last: value}
    for section in reversed(sections):
        tables = {section: [tables] if section == "provider" else tables}
    reading = Reading(Document(Origin("", Path("/"), {}), tables))
    assert reading.problems == []
    found: Any = reading.draft
    for step in key.replace("provider.", "providers.0.").replace("from", "from_").split("."):
        found = found[0] if step == "0" else getattr(found, step)
    return found


KEYS = list(keys(Config))


def test_every_key_is_there() -> None:
    """Each key of the code is in a table of the reference, in the same order, and no other one."""
    assert list(rows()) == [key for key, _, _ in KEYS]


@pytest.mark.parametrize(("key", "kind", "default"), KEYS, ids=[key for key, _, _ in KEYS])
def test_a_key(key: str, kind: Any, default: object) -> None:
    """What it may be is what the code takes; a default in code is the code's, one in words follows from something."""
    may_be, said = rows()[key]

    assert may_be == says(kind)
    if literal := re.fullmatch(r"`([^`]*)`", said):
        found = read(key, tomllib.loads(f"value = {literal[1]}")["value"])
        assert endpoints(found) == endpoints(default)
    else:
        assert not default or default == Path()


def endpoints(value: object) -> object:
    """Listeners without what sets a default one apart from one that was written."""
    return tuple(getattr(element, "endpoint", element) for element in value) if isinstance(value, tuple) else value
