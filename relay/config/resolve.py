"""Resolve: the defaults that follow from other keys, from the machine, or from where the file is."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Thread

from attrs import evolve

from relay.config.kinds import UNSAID
from relay.config.names import is_host, split_address
from relay.config.origin import Origin
from relay.config.values import Addresses, Config, Provider, SpoolSection

_STATE = Path("/var/lib/mailrelay")
_WAIT = 2.0


@cache
def machine_name() -> str:
    """The machine's FQDN, asked for once; its bare name where no name server tells in time, or only "localhost"."""
    names = (answered(socket.getfqdn, _WAIT) or "", socket.gethostname())
    return next((name for name in names if is_host(name) and not name.startswith("localhost")), "localhost")


def answered(ask: Callable[[], str], wait: float) -> str | None:
    """What `ask` returns, or None if it has not after `wait` seconds: a resolver knows no deadline of its own."""
    found: list[str] = []
    asking = Thread(target=lambda: found.append(ask()), name="resolver", daemon=True)
    asking.start()
    asking.join(wait)
    return next(iter(found), None)


def resolve(draft: Config, origin: Origin, hostname: Callable[[], str]) -> Config:
    """`draft` with nothing left to fill in. `hostname` is asked where the draft does not say."""
    name = draft.hostname or hostname()
    domain = draft.addresses.domain or name
    return evolve(
        draft,
        hostname=name,
        instance=draft.instance or name,
        addresses=_addresses(draft.addresses, domain),
        smtp=evolve(draft.smtp, postmaster=_whole(draft.smtp.postmaster or "postmaster", domain)),
        spool=_spool(draft.spool, origin, draft.path),
        bounce=evolve(draft.bounce, from_=draft.bounce.from_ or f"Mail Delivery System <mailer-daemon@{domain}>"),
        providers=tuple(map(_provider, draft.providers)),
        alerts=evolve(draft.alerts, mail_from=draft.alerts.mail_from or f"mailrelay@{domain}"),
    )


def _whole(address: str, domain: str) -> str:
    """`address` with a domain."""
    return address if split_address(address)[1] else f"{address}@{domain}"


def _addresses(draft: Addresses, domain: str) -> Addresses:
    return Addresses(
        domain=domain,
        aliases={key: tuple(_whole(to, domain) for to in targets) for key, targets in draft.aliases.items()},
        senders={key: _whole(to, domain) for key, to in draft.senders.items()},
    )


def _spool(draft: SpoolSection, origin: Origin, file: Path | None) -> SpoolSection:
    """Where systemd keeps a service's state, where Debian does, or beside the file."""
    given = origin.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if draft.directory != UNSAID:
        directory = draft.directory
    elif given:
        directory = origin.folder / given / "spool"
    elif file is not None and Path("/etc") in file.parents:
        directory = _STATE / "spool"
    else:
        directory = origin.folder / "spool"
    return evolve(draft, directory=directory, drop=directory.parent / "drop" if draft.drop == UNSAID else draft.drop)


def _provider(draft: Provider) -> Provider:
    tls = draft.tls or ("implicit" if draft.port == 465 else "starttls")
    return evolve(
        draft,
        name=draft.name or draft.host,
        tls=tls,
        port=draft.port or (465 if tls == "implicit" else 587),
        server_name=(draft.server_name or draft.host).removesuffix("."),
    )
