"""The configuration as values: one frozen class a section, whose attributes are the keys and their defaults.

Durations are float seconds, sizes int octets, paths absolute. An attribute that is a Python word has an underscore
behind it (`bounce.from_`), and `providers` holds the [[provider]] tables. In a Config that was read nothing is left
to be filled in: where a default below is only "" or 0 or None, `relay.config.resolve` has put the real one there.

What a key means is said in docs/reference/configuration.md; what it may be, by the kind beside its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from attrs import field, frozen

from relay.config.kinds import (
    UNSAID,
    Certificates,
    Choice,
    Duration,
    FilePath,
    Hidden,
    HiddenUrl,
    LogFile,
    Share,
    Size,
    Some,
    Text,
    Whole,
)
from relay.config.listener import Endpoint, Listener
from relay.config.names import Address, FieldName, From, Host, OwnName, Pattern
from relay.config.secret import NO_SECRET, Secret

__all__ = [
    "Addresses",
    "Alerts",
    "Bounce",
    "Config",
    "Delivery",
    "Http",
    "Listener",
    "Log",
    "Provider",
    "RateLimit",
    "Retry",
    "Secret",
    "Smtp",
    "SpoolSection",
]


@frozen
class Addresses:
    """[addresses]: the keys of both tables are patterns in lower case; each address to go to has its domain."""

    domain: Annotated[str, OwnName(empty=True)] = ""
    aliases: Mapping[Annotated[str, Pattern()], Annotated[tuple[Annotated[str, Address(bare=True)], ...], Some()]] = (
        field(factory=dict)
    )
    senders: Mapping[Annotated[str, Pattern()], Annotated[str, Address(bare=True)]] = field(factory=dict)


@frozen
class RateLimit:
    """[smtp] rate_limit: mails in any span of `per`; 0: as many as come."""

    messages: Annotated[int, Whole(0)] = 0
    per: Annotated[float, Duration()] = 60.0
    by: Annotated[str, Choice("client", "sender")] = "client"


@frozen
class Smtp:
    """[smtp]: towards local applications."""

    listen: Annotated[tuple[Annotated[Listener, Endpoint()], ...], Some()] = (
        Listener("tcp:2525:interface=127.0.0.1"),
        Listener(r"tcp6:2525:interface=\:\:1", optional=True),
    )
    max_message_size: Annotated[int, Size(1, 2**40)] = 25 * 2**20
    max_recipients: Annotated[int, Whole(1)] = 1000
    max_connections: Annotated[int, Whole(1)] = 200
    idle_timeout: Annotated[float, Duration()] = 300.0
    postmaster: Annotated[str, Address(bare=True, empty=True)] = ""
    bare_newlines: Annotated[str, Choice("normalize", "reject")] = "normalize"
    drop_headers: tuple[Annotated[str, FieldName()], ...] = ("Bcc", "Resent-Bcc", "Return-Path")
    rate_limit: RateLimit = RateLimit()


@frozen
class SpoolSection:
    """[spool]: where mail waits."""

    backend: Annotated[str, Choice("sqlite", "postgresql")] = "sqlite"
    directory: Annotated[Path, FilePath()] = UNSAID
    drop: Annotated[Path, FilePath(empty=True)] = UNSAID
    dsn: Annotated[Secret, Hidden()] = NO_SECRET
    min_free: Annotated[int, Size()] = 256 * 2**20


@frozen
class Delivery:
    """[delivery]: how mail is handed to providers."""

    workers: Annotated[int, Whole(1)] = 10
    queue_size: Annotated[int, Whole(1, 1_000_000_000)] = 1000
    batch_size: Annotated[int, Whole(1)] = 20
    batch_delay: Annotated[float, Duration(zero=True)] = 1.0
    probe: Annotated[float, Duration()] = 15.0
    probe_max: Annotated[float, Duration()] = 600.0


@frozen
class Retry:
    """[retry]: when a mail that was deferred is tried again."""

    schedule: tuple[Annotated[float, Duration(zero=True)], ...] = (60.0, 300.0, 900.0, 1800.0)
    interval: Annotated[float, Duration()] = 3600.0
    jitter: Annotated[float, Share()] = 0.2
    max_age: Annotated[float, Duration(zero=True)] = 432_000.0


@frozen
class Bounce:
    """[bounce]: who hears of a mail that could not be delivered. `to` is "sender", "none" or an address."""

    to: Annotated[str, Address(words=("sender", "none"))] = "sender"
    from_: Annotated[str, From()] = ""
    per_hour: Annotated[int, Whole(0)] = 20
    delay_warning: Annotated[float, Duration(zero=True)] = 14_400.0


@frozen
class Provider:
    """One [[provider]]: a party that takes our mail. `tls` is "starttls", "implicit" or "none"; `auth` "" is any."""

    host: Annotated[str, Host()] = ""
    name: Annotated[str, Text()] = ""
    port: Annotated[int, Whole(1, 65535)] = 0
    tls: Annotated[str, Choice("starttls", "implicit", "none")] = ""
    username: Annotated[str, Text(empty=True)] = ""
    password: Annotated[Secret, Hidden()] = NO_SECRET
    auth: Annotated[str, Choice("", "PLAIN", "LOGIN", "CRAM-MD5")] = ""
    connections: Annotated[int, Whole(1)] = 10
    messages_per_connection: Annotated[int, Whole(1)] = 100
    idle_timeout: Annotated[float, Duration(zero=True)] = 30.0
    timeout: Annotated[float, Duration()] = 60.0
    dot_timeout: Annotated[float, Duration()] = 600.0
    ca_file: Annotated[Path | None, Certificates()] = None
    server_name: Annotated[str, Host(empty=True)] = ""
    on_uncertain: Annotated[str, Choice("retry", "hold")] = "retry"
    null_sender: Annotated[str, Address(empty=True)] = ""
    pipeline_depth: Annotated[int, Whole(1, 1000)] = 1


@frozen
class Http:
    """[http]: the page and its figures."""

    listen: tuple[Annotated[Listener, Endpoint()], ...] = (Listener("tcp:8025:interface=127.0.0.1"),)


@frozen
class Alerts:
    """[alerts]: when somebody is told, and how. `repeat` 0: once."""

    check_interval: Annotated[float, Duration()] = 60.0
    backlog: Annotated[int, Whole(0, 1_000_000_000)] = 100
    oldest: Annotated[float, Duration(zero=True)] = 1800.0
    repeat: Annotated[float, Duration(zero=True)] = 3600.0
    webhook: Annotated[Secret, HiddenUrl()] = NO_SECRET
    mail_to: tuple[Annotated[str, Address()], ...] = ()
    mail_from: Annotated[str, Address(empty=True)] = ""


@frozen
class Log:
    """[log]. `file` None: file descriptor 2."""

    format: Annotated[str, Choice("json", "text")] = "json"
    file: Annotated[Path | None, LogFile()] = None


@frozen
class Config:
    """A whole configuration. `path` is the file it came from; `warnings` are for the log at the start."""

    hostname: Annotated[str, OwnName()] = ""
    instance: Annotated[str, Text()] = ""
    addresses: Addresses = Addresses()
    smtp: Smtp = Smtp()
    spool: SpoolSection = SpoolSection()
    delivery: Delivery = Delivery()
    retry: Retry = Retry()
    bounce: Bounce = Bounce()
    providers: tuple[Provider, ...] = ()
    http: Http = Http()
    alerts: Alerts = Alerts()
    log: Log = Log()
    path: Path | None = None
    warnings: tuple[str, ...] = ()
