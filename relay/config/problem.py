"""Problem: one thing that is wrong with a configuration, and the exception that carries them all."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from attrs import frozen

from relay.reply import printable

_LONGEST = 60


@frozen
class Problem:
    """What is wrong where, and what to do about it.

    file  the file's path, or "command line"
    key   the key's path as it stands in that file (`provider[1].port (name "primary")`), or "" for the file as such
    what  what is wrong, the value shown only where it can hold no secret
    fix   what to do
    """

    file: str
    key: str
    what: str
    fix: str

    def __str__(self) -> str:
        """The problem on one line."""
        where = f"{self.file}: {self.key}" if self.key else self.file
        said = printable(f"{where}: {self.what}; {self.fix}" if self.fix else f"{where}: {self.what}")
        return said.encode("utf-8", "backslashreplace").decode()


class ConfigErrors(Exception):
    """All that is wrong with a configuration; as text, one problem a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class Wrong(Exception):
    """A value is not what its key takes. Never holds a value that may be a secret."""

    def __init__(self, what: str, fix: str = "") -> None:
        self.what = what
        self.fix = fix
        super().__init__(what, fix)


def shown(value: object) -> str:
    """`value` as it stands in a message: quoted where it is text, and never long."""
    text = f'"{value}"' if isinstance(value, str) else _number(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _number(value: object) -> str:
    """A number's digits; Python refuses to write out one of thousands of them."""
    try:
        return str(value)
    except ValueError:
        return "a number of thousands of digits"


def kind_of(value: object) -> str:
    """What a value is in the words of TOML and JSON."""
    for kind, words in _KINDS:
        if isinstance(value, kind):
            return words
    return "a date or time"


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "a whole number"),
    (float, "a number with a fraction"),
    (str, "a string"),
    (list, "an array"),
    (dict, "a table"),
    (type(None), "null"),
)


def nearest(word: str, known: Iterable[str]) -> str:
    """The one of `known` that `word` was probably meant to be, or ""."""
    candidates = {name.lower(): name for name in known}
    return next((candidates[match] for match in get_close_matches(word.lower(), candidates, 1)), "")
