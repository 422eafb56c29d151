"""Kinds: what the values of the configuration may be, and how each is read.

`relay.config.values` names a kind at each key, as Annotated[type, kind]. A kind's `read` takes what TOML or JSON gave
and returns the value that the program works with, or raises Wrong, which says what is wrong and what to do.
`relay.config.names` has the kinds for hosts and addresses, `relay.config.listener` the one for endpoints.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from attrs import frozen

from relay.config.origin import Origin
from relay.config.problem import Wrong, kind_of, nearest, shown
from relay.config.secret import Secret, read_secret

T_co = TypeVar("T_co", covariant=True)

_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_OCTETS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_DURATION = re.compile(r"([0-9]{1,15})(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,15})(KiB|MiB|GiB|TiB)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LONGEST_DURATION = 3650 * 86400


class Kind(Protocol[T_co]):
    """What a value may be."""

    @property
    def says(self) -> str:
        """What it may be in a few words, as in "must be <says>"."""

    def read(self, value: object, origin: Origin) -> T_co:
        """The value; Wrong where `value` is not of this kind."""


def text_of(value: object, says: str) -> str:
    """`value`, if it is a string without control characters."""
    if not isinstance(value, str):
        raise Wrong(f"must be {says}, not {kind_of(value)}", "write a string")
    if _CONTROL.search(value):
        raise Wrong(f"{shown(value)} holds a control character", f"write {says}")
    return value


@frozen
class Some:
    """Beside the type of an array: there is at least one in it."""


@frozen
class Duration:
    """A length of time, as float seconds; 0 where `zero` says that it means something."""

    zero: bool = False

    @property
    def says(self) -> str:
        """What it may be."""
        return "a duration" if self.zero else "a duration above 0"

    def read(self, value: object, origin: Origin) -> float:
        """The seconds that a number says, or digits and a unit."""
        if isinstance(value, str):
            match = _DURATION.fullmatch(value)
            if match is None:
                raise Wrong(f"{shown(value)} is no duration", 'write it like "250ms", "30s", "5m", "1h" or "5d"')
            seconds = int(match[1]) * _MILLISECONDS[match[2]] / 1000
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise Wrong(f"must be {self.says}, not {kind_of(value)}", 'write seconds, or a string like "30s" or "5m"')
        else:
            seconds = value
        # Written so that a NaN, which compares with nothing, is out of range.
        if not (0 <= seconds <= _LONGEST_DURATION and (seconds or self.zero)):
            least = "from 0" if self.zero else "above 0"
            raise Wrong(f"{shown(value)} is out of range", f'write a duration {least}, and "3650d" at most')
        return float(seconds)


@frozen
class Size:
    """A number of octets, as int."""

    least: int = 0
    most: int = 2**60

    @property
    def says(self) -> str:
        """What it may be."""
        return "a size" if self.least == 0 else "a size above 0"

    def read(self, value: object, origin: Origin) -> int:
        """The octets that a whole number says, or digits and a unit."""
        if isinstance(value, str):
            match = _SIZE.fullmatch(value)
            if match is None:
                raise Wrong(
                    f"{shown(value)} is no size", 'write octets as a number, or a string like "64KiB" or "25MiB"'
                )
            octets = int(match[1]) * _OCTETS[match[2]]
        elif isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(
                f"must be {self.says}, not {kind_of(value)}", 'write octets, or a string like "64KiB" or "25MiB"'
            )
        else:
            octets = value
        if not self.least <= octets <= self.most:
            raise Wrong(f"{shown(value)} is out of range", f"write a size from {self.least} to {self.most} octets")
        return octets


@frozen
class Whole:
    """A whole number."""

    least: int
    most: int = 1_000_000

    @property
    def says(self) -> str:
        """What it may be."""
        return f"a whole number from {self.least} to {self.most}"

    def read(self, value: object, origin: Origin) -> int:
        """The number."""
        if isinstance(value, bool) or not isinstance(value, int):
            hint = "write it without quotes" if isinstance(value, str) else "write digits only"
            raise Wrong(f"must be {self.says}, not {kind_of(value)}", hint)
        if not self.least <= value <= self.most:
            raise Wrong(f"{shown(value)} is out of range", f"write {self.says}")
        return value


@frozen
class Share:
    """A number from 0 to 1."""

    @property
    def says(self) -> str:
        """What it may be."""
        return "a number from 0 to 1"

    def read(self, value: object, origin: Origin) -> float:
        """The number."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Wrong(f"must be {self.says}, not {kind_of(value)}", "write a number such as 0.2")
        if not 0 <= value <= 1:
            raise Wrong(f"{shown(value)} is out of range", f"write {self.says}")
        return float(value)


class Choice:
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    @property
    def says(self) -> str:
        """What it may be."""
        return " or ".join(f'"{word}"' for word in self.words)

    def read(self, value: object, origin: Origin) -> str:
        """The word."""
        if not isinstance(value, str):
            raise Wrong(f"must be {self.says}, not {kind_of(value)}", "write a string")
        if value not in self.words:
            meant = nearest(value, filter(None, self.words))
            raise Wrong(f"{shown(value)} is not known", f'did you mean "{meant}"?' if meant else f"write {self.says}")
        return value


@frozen
class Text:
    """Text on one line; "" where `empty` says that it means something."""

    empty: bool = False

    @property
    def says(self) -> str:
        """What it may be."""
        return "a string"

    def read(self, value: object, origin: Origin) -> str:
        """The text."""
        text = text_of(value, self.says)
        if not text.strip() and not (self.empty and not text):
            raise Wrong("is empty", "write something, or leave the key out")
        if len(text) > 256:
            raise Wrong("is longer than 256 characters", "write less")
        return text


UNSAID = Path()
"""Where a path is not said, until its default is known."""


@frozen
class FilePath:
    """A path, made absolute: one that is relative is relative to the configuration file's folder."""

    empty: bool = False

    @property
    def says(self) -> str:
        """What it may be."""
        return "a path"

    def read(self, value: object, origin: Origin) -> Path:
        """The absolute path; UNSAID for ""."""
        text = text_of(value, self.says)
        if not text and not self.empty:
            raise Wrong("is empty", "write a path, or leave the key out")
        if not text:
            return UNSAID
        path = origin.folder / text
        return path.resolve() if ".." in path.parts else path


@frozen
class Certificates:
    """A file of certificates in PEM form; None for ""."""

    @property
    def says(self) -> str:
        """What it may be."""
        return "a path"

    def read(self, value: object, origin: Origin) -> Path | None:
        """The absolute path of a file that can be read and holds what it should."""
        path = FilePath(empty=True).read(value, origin)
        if path == UNSAID:
            return None
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except ssl.SSLError:
            raise Wrong(f"{path} holds no certificates", "name a file of certificates in PEM form") from None
        except OSError as error:
            raise Wrong(f"{path} cannot be read: {error.strerror}", "name a file that this user may read") from None
        return path


@frozen
class LogFile:
    """A file to append to; None for "-", file descriptor 2."""

    @property
    def says(self) -> str:
        """What it may be."""
        return 'a path or "-"'

    def read(self, value: object, origin: Origin) -> Path | None:
        """The absolute path, in a folder that is there."""
        if value == "-":
            return None
        path = FilePath().read(value, origin)
        try:
            if path.is_dir():
                raise Wrong(f"{path} is a folder", "write the path of a file")
            if not path.parent.is_dir():
                raise Wrong(f"there is no folder {path.parent}", "make it, or write another path")
        except OSError as error:
            raise Wrong(f"{path} cannot be reached: {error.strerror}", "write another path") from None
        return path


@frozen
class Hidden:
    """A secret; "" is none."""

    @property
    def says(self) -> str:
        """What it may be."""
        return "a secret"

    def read(self, value: object, origin: Origin) -> Secret:
        """The secret, read from where the value says that it is."""
        return read_secret(value, origin)


@frozen
class HiddenUrl:
    """A secret that is an http or https URL; "" is none."""

    @property
    def says(self) -> str:
        """What it may be."""
        return "a secret that is a URL"

    def read(self, value: object, origin: Origin) -> Secret:
        """The secret. Why it is no URL is not said: the reason would quote it."""
        secret = read_secret(value, origin)
        try:
            url = urlsplit(secret.reveal())
            good = url.scheme in ("http", "https") and url.hostname and (url.port is None or url.port > 0)
        except ValueError:
            good = False
        if secret and (not good or not secret.reveal().isascii() or " " in secret.reveal()):
            raise Wrong("is no http or https URL", 'write "https://host/path", percent-encoded')
        return secret
