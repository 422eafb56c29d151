"""Settings: what of the configuration this command goes by, as far as its user may read it.

The daemon's own reading of it judges everything and says what is wrong. Here whatever makes no sense counts as not
said, so that a mail finds its way also while somebody edits the file.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from typing import NamedTuple

SYSTEM_FILE = "/etc/mailrelay/relay.toml"
_STATE = "/var/lib/mailrelay"
_PORT = 2525
_MAX_SIZE = 25 * 2**20
_MAX_RECIPIENTS = 1000
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = re.compile(r"([0-9]{1,15})(KiB|MiB|GiB|TiB)")
_PART = re.compile(r"(?:\\.|[^\\:])+")
_KEYED = re.compile(r"((?:\\.|[^\\=])*)=(.*)")
_PROXY = b"PROXY UNKNOWN\r\n"  # HAProxy's "PROXY protocol", version 1


class Place(NamedTuple):
    """Where the daemon takes mail: the path of a unix socket, or an address and a port; and what is said first."""

    path: str = ""
    host: str = ""
    port: int = 0
    preamble: bytes = b""


class Settings(NamedTuple):
    """The defaults are those of a configuration that cannot be read.

    domain   what names without one get in the header; "" where the file does not say
    is_read  whether the file could be read
    """

    places: tuple[Place, ...] = (Place(host="127.0.0.1", port=_PORT),)
    drop: str = f"{_STATE}/drop"
    control: str = f"{_STATE}/spool/control.sock"
    domain: str = ""
    max_size: int = _MAX_SIZE
    max_recipients: int = _MAX_RECIPIENTS
    is_read: bool = False


def read(environ: Mapping[str, str]) -> Settings:
    """What $MAILRELAY_CONFIG says, or the system's file; never one in the current folder."""
    try:
        return of_file(environ.get("MAILRELAY_CONFIG") or SYSTEM_FILE)
    except (OSError, ValueError, RecursionError):
        return Settings()


def of_file(path: str) -> Settings:
    """What the file at `path` says. Raises OSError where it cannot be read, ValueError where it makes no sense."""
    path = os.path.abspath(path)  # noqa: PTH100  pathlib takes as long to import as all else here
    with open(path, "rb") as file:  # noqa: PTH123  the same
        tables = _json(file.read()) if path.endswith(".json") else tomllib.load(file)
    return _settings(tables, path)


def _json(octets: bytes) -> dict[str, object]:
    """The older form of the file, under TOML's names."""
    import json  # few have such a file

    tables = json.loads(octets)
    if not isinstance(tables, dict):
        raise ValueError("no object")
    smtp = _table(tables, "smtp")
    return {**tables, "smtp": {**smtp, **{_snake(key): value for key, value in smtp.items()}}}


def _snake(key: str) -> str:
    return re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", key)


def _settings(tables: Mapping[str, object], path: str) -> Settings:
    smtp, spool, addresses = (_table(tables, name) for name in ("smtp", "spool", "addresses"))
    folder = os.path.dirname(path)  # noqa: PTH120  as above
    default = f"{_STATE}/spool" if path.startswith("/etc/") else "spool"
    directory = _path(folder, _text(spool, "directory") or default)
    listen = smtp.get("listen")
    endpoints = listen if isinstance(listen, list) else [f"tcp:{_PORT}:interface=127.0.0.1", rf"tcp6:{_PORT}:\:\:1"]
    found = [place for text in endpoints if isinstance(text, str) and (place := _place(text, folder))]
    recipients = smtp.get("max_recipients")
    return Settings(
        tuple(sorted(found, key=lambda place: not place.path)),
        _path(folder, _text(spool, "drop") or f"{directory}/../drop"),
        f"{directory}/control.sock",
        _text(addresses, "domain") or _text(tables, "hostname"),
        _size(smtp.get("max_message_size")) or _MAX_SIZE,
        recipients if isinstance(recipients, int) and recipients > 0 else _MAX_RECIPIENTS,
        is_read=True,
    )


def _table(tables: Mapping[str, object], name: str) -> Mapping[str, object]:
    table = tables.get(name)
    return table if isinstance(table, dict) else {}


def _text(table: Mapping[str, object], key: str) -> str:
    value = table.get(key)
    return value if isinstance(value, str) else ""


def _path(folder: str, path: str) -> str:
    return os.path.normpath(f"{folder}/{path}" if not path.startswith("/") else path)


def _size(value: object) -> int:
    """Octets; 0 where it is none."""
    if isinstance(value, int):
        return max(value, 0)
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    return int(match[1]) * _UNITS[match[2]] if match else 0


def _place(endpoint: str, folder: str) -> Place | None:
    r"""Where a Twisted endpoint listens; None where that cannot be known (an inherited socket, any free port).

    >>> _place(r"tcp6:2525:interface=\:\:1", "/etc")
    Place(path='', host='::1', port=2525, preamble=b'')
    """
    preamble = _PROXY if endpoint.startswith("haproxy:") else b""
    kind, *parts = _PART.findall(endpoint.removeprefix("haproxy:")) or [""]
    names = {"tcp": ("port", "interface"), "tcp6": ("port", "interface"), "unix": ("address",)}.get(kind, ())
    said: dict[str, str] = {}
    for name, part in zip((*names, *[""] * len(parts)), parts, strict=False):
        keyed = _KEYED.fullmatch(part)
        said[keyed[1] if keyed else name] = re.sub(r"\\(.)", r"\1", keyed[2] if keyed else part)
    port, host, path = said.get("port", ""), said.get("interface", ""), said.get("address", "")
    if kind == "unix" and path:
        return Place(path=_path(folder, path), preamble=preamble)
    if names and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536:
        return Place(host=host, port=int(port), preamble=preamble)
    return None
