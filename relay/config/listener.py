r"""Listener: where connections are accepted, as a Twisted endpoint string that can only mean this machine.

What such a string can promise is checked here. What a socket is really bound to (an inherited one above all) is known
once it is open, and is checked again then.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from attrs import frozen
from twisted.internet.endpoints import quoteStringArgument

from relay.config.kinds import text_of
from relay.config.loopback import is_loopback
from relay.config.origin import Origin
from relay.config.problem import Wrong, nearest, shown

LONGEST_SOCKET_PATH = 107
"""Octets that fit into a unix socket's address on Linux, the NUL at its end not counted."""

_PARAMETERS = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "interface", "backlog"),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "systemd": ("domain", "index", "name"),
}
_VALUES = {
    "backlog": "[0-9]{1,5}",
    "mode": "[0-7]{3,4}",
    "lockfile": "[01]",
    "domain": "INET|INET6|UNIX",
    "index": "[0-9]{1,4}",
    "name": ".+",
    "address": ".+",
}
_FIXES = {
    "backlog": "write a whole number",
    "mode": "write it like mode=660",
    "lockfile": "write lockfile=0 or lockfile=1",
    "domain": "write INET, INET6 or UNIX",
    "index": "write a whole number from 0",
    "name": "write what FileDescriptorName= says",
    "address": "write a path",
}
_PART = re.compile(r"((?:\\.|[^\\:])*)(?::|\Z)")
_KEY = re.compile(r"((?:\\.|[^\\=])*)=")


@frozen
class Listener:
    """A Twisted endpoint string. `optional`: it is left out where the host has no IPv6."""

    endpoint: str
    optional: bool = False


@frozen
class Endpoint:
    """A Twisted endpoint string of a kind that stays on this machine."""

    @property
    def says(self) -> str:
        """What it may be."""
        return "an endpoint"

    def read(self, value: object, origin: Origin) -> Listener:
        """The listener; a relative path of a unix socket has become absolute."""
        text = text_of(value, self.says)
        inner = text.removeprefix("haproxy:")
        kind, _, rest = inner.partition(":")
        if kind not in _PARAMETERS:
            meant = nearest(kind, [*_PARAMETERS, *(["haproxy"] if inner == text else [])])
            fix = "write tcp:, tcp6:, unix: or systemd:, or haproxy: and one of these"
            raise Wrong(f"{shown(text)} is not an endpoint", f"did you mean {meant}:?" if meant else fix)
        try:
            said = _arguments(kind, rest)
            if kind == "unix":
                path = _socket_path(said.pop("address"), origin)
                inner = ":".join([f"unix:{path}", *(f"{key}={value}" for key, value in said.items())])
            elif kind != "systemd":
                _check_tcp(said)
        except Wrong as wrong:
            raise Wrong(f"{shown(text)} {wrong.what}", wrong.fix) from None
        return Listener("haproxy:" + inner if text.startswith("haproxy:") else inner)


def with_backlog(endpoint: str, backlog: int) -> str:
    """An endpoint string of TCP or a unix socket that says how many connections may wait there to be accepted."""
    kind, _, rest = endpoint.partition(":")
    return endpoint if "backlog" in _arguments(kind, rest) else f"{endpoint}:backlog={backlog}"


def _arguments(kind: str, text: str) -> dict[str, str]:
    """What an endpoint string says behind its kind, by parameter. Raises Wrong, without the endpoint itself."""
    names = _PARAMETERS[kind]
    said: dict[str, str] = {}
    for number, part in enumerate(_parts(text)):
        keyed = _KEY.match(part)
        name = _unquoted(keyed[1]) if keyed else "".join(names[number : number + 1])
        if not part:
            raise Wrong("has an empty parameter", r'a colon inside an address is written \: (in TOML "\\:")')
        if name not in names:
            raise Wrong(
                f"has an unknown parameter {shown(name or part)}",
                f"known: {', '.join(names)}",
            )
        if name in said:
            raise Wrong(f"says {name} twice", "say it once")
        said[name] = _unquoted(part[keyed.end() :] if keyed else part)
        if name in _VALUES and not re.fullmatch(_VALUES[name], said[name]):
            raise Wrong(f"has no valid {name}", _FIXES[name])
    if names[0] not in said:
        raise Wrong(f"lacks its {names[0]}", f"write {kind}:{names[0].upper()}")
    if kind == "systemd" and ("index" in said) is ("name" in said):
        raise Wrong("must say either index or name", f"write systemd:domain={said['domain']}:name=…")
    return said


def _parts(text: str) -> list[str]:
    """`text` split at the colons that have no backslash before them."""
    if not text:
        return []
    parts: list[str] = []
    at = 0
    while match := _PART.match(text, at):
        parts.append(match[1])
        at = match.end()
        if at == len(text) and not (match[0].endswith(":") and len(match[0]) > len(match[1])):
            return parts
    raise Wrong("ends in a backslash", r"write a backslash as \\")


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _check_tcp(said: Mapping[str, str]) -> None:
    """Raise Wrong unless a TCP endpoint has a port (0: any that is free) and stays on loopback."""
    port = said["port"]
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise Wrong("has no valid port", "write a port from 0 to 65535")
    interface = said.get("interface", "")
    if not interface:
        raise Wrong("would listen on every address of this machine", "add :interface=127.0.0.1")
    if not is_loopback(interface):
        raise Wrong(f"does not listen on loopback: {shown(interface)}", r"write interface=127.0.0.1 or interface=\:\:1")


def _socket_path(path: str, origin: Origin) -> str:
    """The absolute path of a unix socket, quoted. Raises Wrong."""
    absolute = str(origin.folder / path)
    check_socket_path(absolute)
    return str(quoteStringArgument(absolute)).replace("=", r"\=")


def check_socket_path(path: str) -> None:
    """Raise Wrong if `path` is too long for a unix socket."""
    length = len(os.fsencode(path))
    if length > LONGEST_SOCKET_PATH:
        raise Wrong(
            f"is too long for a unix socket ({length} octets, and {LONGEST_SOCKET_PATH} fit): {path}",
            "use a folder with a shorter path",
        )
