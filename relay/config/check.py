"""Check: what no key says alone, but several say together.

`check` looks at a resolved draft; where a value was wrong a default stands there, and what is known to be wrong is not
reported a second time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

from relay.config.document import Route
from relay.config.listener import check_socket_path
from relay.config.loopback import is_loopback
from relay.config.problem import Wrong
from relay.config.values import Config, Listener, Provider

Spoiled = Callable[..., bool]
"""Whether what stands at the route that its arguments are is known to be wrong, or a part of it, or what it is in."""

Finding = tuple[Route, str, str]
"""Where, what is wrong, what to do."""

_ANY_PORT = re.compile("tcp6?:(port=)?0+(:|$)")

CONTROL_SOCKET = "control.sock"
"""The control socket's name in the spool directory."""


def check(config: Config, spoiled: Spoiled) -> Iterator[Finding]:
    """Everything that is wrong with how the keys of `config` go together."""
    yield from _listeners(config, spoiled)
    yield from _spool(config, spoiled)
    yield from _providers(config, spoiled)
    spoiled_probe = spoiled("delivery", "probe") or spoiled("delivery", "probe_max")
    if config.delivery.probe_max < config.delivery.probe and not spoiled_probe:
        yield ("delivery", "probe_max"), "is below probe", "write a duration that is at least as long"


def _listeners(config: Config, spoiled: Spoiled) -> Iterator[Finding]:
    """Two listeners at one place."""
    taken = {f"unix:{config.spool.directory / CONTROL_SOCKET}": "the control socket"}
    for section, listeners in (("smtp", config.smtp.listen), ("http", config.http.listen)):
        if spoiled(section, "listen"):
            continue
        for number, listener in enumerate(listeners):
            place = _place(listener)
            if _ANY_PORT.match(place):
                continue
            if place in taken:
                fix = "write another endpoint"
                yield (section, "listen", number), f'"{listener.endpoint}" is also {taken[place]}', fix
            taken.setdefault(place, f"{section}.listen[{number + 1}]")


def _place(listener: Listener) -> str:
    """What a listener takes up: another one may not have the same."""
    return listener.endpoint.removeprefix("haproxy:")


def _spool(config: Config, spoiled: Spoiled) -> Iterator[Finding]:
    spool = config.spool
    if spool.backend == "postgresql" and not spool.dsn and not spoiled("spool", "dsn"):
        yield ("spool", "dsn"), "is missing", 'postgresql needs one: a connection string like "host=db dbname=mail"'
    if spoiled("spool", "directory"):
        return
    try:
        check_socket_path(str(spool.directory / CONTROL_SOCKET))
    except Wrong as wrong:
        yield ("spool", "directory"), wrong.what, wrong.fix
    if os.path.lexists(spool.directory) and not spool.directory.is_dir():
        yield ("spool", "directory"), f"{spool.directory} is no folder", "write the path of a folder"
    if spoiled("spool", "drop"):
        return
    if os.path.lexists(spool.drop) and not spool.drop.is_dir():
        yield ("spool", "drop"), f"{spool.drop} is no folder", "write the path of a folder"
    if spool.drop == spool.directory or spool.directory in spool.drop.parents or spool.drop in spool.directory.parents:
        what = "and spool.directory may not lie in one another: one is open to every user, the other to none"
        yield ("spool", "drop"), what, "write a path beside the spool directory"


def _providers(config: Config, spoiled: Spoiled) -> Iterator[Finding]:
    if not config.providers and not spoiled("providers"):
        yield ("providers",), "there is none", "name at least one, with its host"
    taken: dict[str, int] = {}
    for number, provider in enumerate(config.providers):
        route: Route = ("providers", number)
        if not provider.host and not spoiled(*route, "host"):
            yield (*route, "host"), "is missing", "write the name of the provider's host"
        if provider.name and not spoiled(*route, "name"):
            first = taken.setdefault(provider.name, number)
            if first != number:
                what = f'"{provider.name}" is already the name of provider {first + 1}'
                yield (*route, "name"), what, "give each a name of its own"
        yield from _credentials(provider, route, spoiled)


def _credentials(provider: Provider, route: Route, spoiled: Spoiled) -> Iterator[Finding]:
    """A login of which a half is missing, and one that would cross a network in clear."""
    unknown = spoiled(*route, "password")
    if provider.username and not provider.password and not unknown:
        fix = "write one, or leave the username out"
        yield (*route, "password"), "is missing, and there is a username", fix
    if provider.password and not provider.username and not spoiled(*route, "username"):
        fix = "write one, or leave the password out"
        yield (*route, "username"), "is missing, and there is a password", fix
    away = not (is_loopback(provider.host) or provider.host.lower().removesuffix(".") == "localhost")
    if provider.tls == "none" and (provider.password or unknown) and away and not spoiled(*route, "host"):
        what = f'is "none", and the password would go to {provider.host} in clear'
        yield (*route, "tls"), what, 'write "starttls" or "implicit"'
