"""Secret: a password, a connection string or a URL that no page, log, repr or traceback ever shows."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from relay.config.origin import Origin
from relay.config.problem import Wrong, kind_of, nearest

_LARGEST = 64 * 1024
_FORMS = ("file", "env", "credential")
_HOW = 'write a string, { file = "…" }, { env = "…" } or { credential = "…" }'


class Secret:
    """Text that only `reveal` gives away. False where there is none; equal where the text is equal.

    It is kept in a closure, so that looking at the object, also by way of vars(), pickle or attrs, shows nothing.
    """

    __slots__ = ("_reveal",)

    def __init__(self, text: str = "") -> None:
        self._reveal: Callable[[], str] = lambda: text

    def reveal(self) -> str:
        """The text itself."""
        return self._reveal()

    def __bool__(self) -> bool:
        return self.reveal() != ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.reveal().encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash(self.reveal())

    def __repr__(self) -> str:
        return "Secret(…)"

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is never pickled")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object) -> Secret:
        return self


NO_SECRET = Secret()


def read_secret(value: object, origin: Origin) -> Secret:
    """The secret that a string or one of the three tables gives. Raises Wrong, which never shows it."""
    if isinstance(value, str):
        return _checked(value) if value else NO_SECRET
    if not isinstance(value, dict):
        raise Wrong(f"must be a secret, not {kind_of(value)}", _HOW)
    for form in value:
        if form not in _FORMS:
            meant = nearest(form, _FORMS)
            raise Wrong("has an unknown key for a secret", f"did you mean {meant}?" if meant else _HOW)
    if len(value) != 1:
        raise Wrong("must be given in one way", _HOW)
    [(form, name)] = value.items()
    if not isinstance(name, str) or not name:
        raise Wrong(f"its {form} must be a string that is not empty", _HOW)
    return _checked(_TAKE[form](name, origin))


def _from_file(name: str, origin: Origin) -> str:
    """The text of a file. One line end at its end is not part of the secret: editors and `echo` put it there."""
    if "\0" in name:
        raise Wrong("its file is no path: it holds a NUL", "write the path of a file")
    return _text(origin.folder / name)


def _from_environment(name: str, origin: Origin) -> str:
    if name not in origin.environ:
        raise Wrong(f"the environment has no {name}", "set it, or take the secret from elsewhere")
    return origin.environ[name]


def _from_credential(name: str, origin: Origin) -> str:
    """What systemd's LoadCredential= leaves in a folder of the service."""
    folder = origin.environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        raise Wrong("there is no $CREDENTIALS_DIRECTORY", f"start it by systemd with LoadCredential={name}:…")
    if "/" in name or "\0" in name or name in (".", ".."):
        raise Wrong("its credential is no name of a credential", "write the name that LoadCredential= gives it")
    return _text(Path(folder) / name)


_TAKE: dict[str, Callable[[str, Origin], str]] = {
    "file": _from_file,
    "env": _from_environment,
    "credential": _from_credential,
}


def _text(path: Path) -> str:
    """The text in `path` without the line end at its end. Raises Wrong."""
    try:
        # Without O_NONBLOCK a FIFO that nobody writes to would hold up the start for ever.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123  # pathlib takes no descriptor
            octets = file.read(_LARGEST + 1)
    except OSError as error:
        raise Wrong(f"{path} cannot be read: {error.strerror}", "name a file that this user may read") from None
    if len(octets) > _LARGEST:
        raise Wrong(f"{path} is too large for a secret", "name a file of at most 64 KiB")
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise Wrong(f"{path} is not UTF-8", "name a file that holds the secret as text") from None
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def _checked(text: str) -> Secret:
    """The secret, if there is one."""
    if not text:
        raise Wrong("the secret is empty", "put it there, or leave the key out")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise Wrong("the secret is not text: it holds a NUL or is not UTF-8", "name what holds the secret as text")
    return Secret(text)
