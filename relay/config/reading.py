"""Reading: a document becomes a Config, and every key that is wrong becomes a Problem; one never hides another.

cattrs finds for each type what reads it; the kind beside a type (`relay.config.kinds`) judges the value. Where a
value is wrong the default stands in for it, so that what depends on several keys can still be looked at.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Annotated, Any, get_args, get_origin

from attrs import Attribute, fields, has, resolve_types
from cattrs import Converter

from relay.config.document import Document, Key, Pairs, Route, Step
from relay.config.kinds import Some
from relay.config.problem import Problem, Wrong, kind_of, nearest
from relay.config.values import Config

NOT_KEYS = {"path", "warnings"}
"""Attributes that the configuration does not say itself."""


def attributes(section: type) -> dict[str, Attribute[Any]]:
    """The attributes of a section that are keys, by name."""
    return {attribute.name: attribute for attribute in fields(resolve_types(section)) if attribute.name not in NOT_KEYS}


class Reading:
    """One pass over a document. `problems` grows; `draft` has the defaults where nothing, or nothing good, is said."""

    def __init__(self, document: Document) -> None:
        self.problems: list[Problem] = []
        self._document = document
        self._failed: set[Route] = set()
        self._route: Route = ()
        self._converter = converter = Converter()
        converter.register_structure_hook_func(has, self._section)
        for form, read in ((tuple, self._array), (Mapping, self._table), (Annotated, self._value)):
            converter.register_structure_hook_func(partial(_is_form, form), read)
        self.draft = converter.structure(document.tables, Config)

    def spoiled(self, *route: Step) -> bool:
        """Whether what stands at `route` is wrong, or a part of it, or what it is a part of."""
        return any(all(map(operator.eq, failure, route)) for failure in self._failed)

    def wrong(self, route: Route, what: str, fix: str = "") -> None:
        """Note what is wrong at `route`."""
        self.problems.append(self._document.problem(route, what, fix))
        self._failed.add(route)

    def _take(self, step: Step, value: object, kind: Any) -> list[Any]:
        """What `value`, one step further, means: one value, or none where it is wrong."""
        self._route = (*self._route, step)
        try:
            return [self._converter.structure(value, kind)]
        except Wrong as wrong:
            self.wrong(self._route, wrong.what, wrong.fix)
            return []
        finally:
            self._route = self._route[:-1]

    def _section(self, value: object, section: type) -> object:
        """A table whose keys are known."""
        table = _checked_table(value)
        self._said_twice(table)
        known = {self._document.spell(attribute.name): attribute for attribute in attributes(section).values()}
        said: dict[str, object] = {}
        for key, inner in table.items():
            if key not in known:
                self.wrong((*self._route, Key(key)), "is not a known key", self._meant(key, known))
                continue
            for taken in self._take(known[key].name, inner, known[key].type):
                said[known[key].name] = taken
        return section(**said)

    def _array(self, value: object, kind: Any) -> tuple[object, ...]:
        """An array; a table of it that is wrong leaves an empty one, so that the others keep their places."""
        element = get_args(kind)[0]
        if not isinstance(value, list):
            fix = "write [[provider]], in double brackets" if has(element) else "write it in [brackets]"
            raise Wrong(f"must be an array{' of tables' if has(element) else ''}, not {kind_of(value)}", fix)
        taken: list[object] = []
        for number, inner in enumerate(value):
            taken += self._take(number, inner, element) or ([element()] if has(element) else [])
        return tuple(taken)

    def _table(self, value: object, kind: Any) -> dict[object, object]:
        """A table whose keys are free."""
        table = _checked_table(value)
        self._said_twice(table)
        key_kind, value_kind = get_args(kind)
        taken: dict[object, object] = {}
        for key, inner in table.items():
            step = Key(key)
            read = self._take(step, key, key_kind)
            if read and read[0] in taken:
                self.wrong((*self._route, step), "is there in another spelling too", "say it once")
            for meant in self._take(step, inner, value_kind):
                taken |= dict.fromkeys(read, meant)
        return taken

    def _value(self, value: object, kind: Any) -> object:
        """What a kind reads."""
        judge = kind.__metadata__[0]
        if not isinstance(judge, Some):
            return judge.read(value, self._document.origin_of(self._route))
        if value == []:
            raise Wrong("is empty", "name at least one, or leave the key out")
        return self._array(value, get_args(kind)[0])

    def _said_twice(self, table: dict[str, object]) -> None:
        for key in table.repeated if isinstance(table, Pairs) else ():
            self.wrong((*self._route, Key(key)), "is said twice", "say it once")

    def _meant(self, key: str, known: Iterable[str]) -> str:
        """What to do about an unknown key."""
        spell = self._document.spell
        close = nearest(key, known)
        elsewhere = [
            spell(name)
            for name, section in attributes(Config).items()
            if has(_element(section.type)) and key in map(spell, attributes(_element(section.type)))
        ]
        if not close and not elsewhere and key in map(spell, attributes(Config)):
            return "it belongs at the top, above the first section"
        hints = [f"did you mean {close}?"] if close else []
        hints += [f"it is a key of {' and of '.join(elsewhere)}"] if elsewhere else []
        return ", or ".join(hints) or f"known here: {', '.join(known)}"


def _is_form(form: object, kind: Any) -> bool:
    """Whether `kind` is `form[…]`."""
    return get_origin(kind) is form


def _element(kind: Any) -> Any:
    """What an array is made of; any other type itself."""
    return get_args(kind)[0] if get_origin(kind) is tuple else kind


def _checked_table(value: object) -> dict[str, object]:
    if isinstance(value, Wrong):
        raise value
    if not isinstance(value, dict):
        raise Wrong(f"must be a table, not {kind_of(value)}", "write its keys, each with a value")
    return value
