"""Flags: what the plugin's command line says of the configuration; it overrides the file."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from attrs import evolve, field, frozen

from relay.config.document import Document
from relay.config.origin import Origin
from relay.config.problem import Wrong

_URL = re.compile(
    r"(?P<scheme>smtps?)://"
    r"(?:(?P<username>[^:/?#\s]*)(?::(?P<password>[^/?#\s]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:@/?#\s\[\]]+)(?::(?P<port>[0-9]{1,9}))?/?"
    r"(?:\?(?P<query>[^#\s]*))?"
)
_PARAMETERS = ("tls", "name", "password_file", "password_env")


@frozen
class Flags:
    """The flags as they were given. A provider's URL may hold a password, so they are not shown."""

    config: Path | None = None
    providers: tuple[str, ...] = field(default=(), repr=False)
    spool: str | None = None
    listen: tuple[str, ...] = ()
    http: tuple[str, ...] = ()


def override(document: Document, flags: Flags, origin: Origin) -> Document:
    """`document` with what the flags say in the place of what it says there. `origin` is the command line's."""
    places = dict(document.places)
    if flags.providers:
        document.tables[document.spell("providers")] = [_table_or_wrong(url) for url in flags.providers]
        places[("providers",)] = (origin, "--provider")
    for section, attribute, flag, value in (
        ("spool", "directory", "--spool", flags.spool),
        ("smtp", "listen", "--listen", list(flags.listen)),
        ("http", "listen", "--http", list(flags.http)),
    ):
        table = document.tables.setdefault(section, {})
        if value not in (None, []) and isinstance(table, dict):
            table[attribute] = value
            places[(section, attribute)] = (origin, flag)
    return evolve(document, places=places)


def warnings(flags: Flags) -> tuple[str, ...]:
    """What is not wrong with the flags, and had better be otherwise."""
    fix = "?password_file= or ?password_env= keeps it out of there"
    return tuple(
        f"--provider[{number}]: every user of this host can read its password in the list of processes; {fix}"
        for number, url in enumerate(flags.providers, 1)
        if (match := _URL.fullmatch(url)) and match["password"]
    )


def _table_or_wrong(url: str) -> dict[str, object] | Wrong:
    """The [[provider]] table that a URL stands for, or what is wrong with it, which takes the table's place."""
    try:
        return provider_table(url)
    except Wrong as wrong:
        return Wrong(wrong.what, wrong.fix)


def provider_table(url: str) -> dict[str, object]:
    """The [[provider]] table that `url` stands for. Raises Wrong, which shows no part of it: any may be a password."""
    match = _URL.fullmatch(url)
    if match is None:
        fix = (
            "write smtp://USER:SECRET@HOST:PORT, with %40 for @, %3A for :, %2F for /, %3F for ?, %23 for #, %25 for %"
        )
        raise Wrong("is no URL of a provider", fix)
    implicit = match["scheme"] == "smtps"
    table: dict[str, object] = {"host": match["host"].strip("[]"), "tls": "implicit" if implicit else "starttls"}
    if match["port"]:
        table["port"] = int(match["port"])
    for key in ("username", "password"):
        if match[key]:
            table[key] = _decoded(match[key])
    said = _parameters(match["query"] or "")
    if "tls" in said and (said["tls"] != "none" or implicit):
        raise Wrong("says of tls what it cannot be", "write smtp://…?tls=none for none, smtps:// for implicit TLS")
    table |= {key: said[key] for key in ("tls", "name") if key in said}
    secrets = [{form: said[f"password_{form}"]} for form in ("file", "env") if f"password_{form}" in said]
    if len(secrets) + ("password" in table) > 1:
        raise Wrong("says the password twice", "say it once")
    if secrets:
        table["password"] = secrets[0]
    return table


def _parameters(query: str) -> dict[str, str]:
    """What stands behind the question mark."""
    said: dict[str, str] = {}
    for part in query.split("&") if query else ():
        key, _, value = part.partition("=")
        if key not in _PARAMETERS:
            raise Wrong("has an unknown parameter", f"known: {', '.join(_PARAMETERS)}; a ? in a password is %3F")
        if key in said:
            raise Wrong(f"says {key} twice", "say it once")
        said[key] = _decoded(value)
    return said


def _decoded(text: str) -> str:
    """`text` without its percent-encoding (RFC 3986, 2.1)."""
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise Wrong("is percent-encoded from something that is not UTF-8", "encode it from UTF-8") from None
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        raise Wrong("has a % that begins no percent-encoding", "write %25 for %")
    return decoded
