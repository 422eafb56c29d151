"""What twistd asks for: the plugin's flags, and the service that they or a file describe.

Failure: a configuration that makes no sense is told on file descriptor 2 as plain text, all of it at once, with exit
status 1. twistd's usage page is for flags that do not exist.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path

from twisted.application.app import ServerOptions
from twisted.application.service import IService
from twisted.python import usage

from relay.config import Config, ConfigErrors, Flags, from_flags, load
from relay.service import make_service


class Options(usage.Options):
    """The flags of `twistd mailrelay`. They are only read here; what they mean is the configuration's to say."""

    synopsis = "[--config FILE] [--provider URL]... [--spool DIR] [--listen ENDPOINT]... [--http ENDPOINT]..."
    longdesc = "Flags override the file. Without any: $MAILRELAY_CONFIG, ./relay.toml or /etc/mailrelay/relay.toml."

    optParameters = (
        ("config", "c", None, "The configuration file (TOML)."),
        ("spool", None, None, "The folder in which waiting mail is kept."),
    )

    def __init__(self) -> None:
        usage.Options.__init__(self)
        self.providers: list[str] = []
        self.listen: list[str] = []
        self.http: list[str] = []

    def opt_provider(self, url: str) -> None:
        """A provider, smtp://USER:SECRET@HOST:PORT or smtps:// for TLS at once, the preferred one first; repeatable.

        ?password_file=FILE and ?password_env=NAME in place of a secret keep it out of the list of processes.
        """
        self.providers.append(url)

    def opt_listen(self, endpoint: str) -> None:
        """Where applications hand in mail, such as tcp:2525:interface=127.0.0.1; repeatable."""
        self.listen.append(endpoint)

    def opt_http(self, endpoint: str) -> None:
        """Where the status page is, such as tcp:8025:interface=127.0.0.1; repeatable."""
        self.http.append(endpoint)

    def postOptions(self) -> None:
        """Called once all flags are read."""
        if self.parent is not None:
            _do_without_pidfile(self.parent)

    @property
    def flags(self) -> Flags:
        """What was given, as the configuration takes it."""
        return Flags(
            config=Path(self["config"]) if self["config"] else None,
            providers=tuple(self.providers),
            spool=self["spool"],
            listen=tuple(self.listen),
            http=tuple(self.http),
        )


def makeService(options: Options) -> IService:
    """The service of `twistd mailrelay`."""
    here = Path.cwd()
    return _service(lambda: from_flags(options.flags, os.environ, here))


def service_of_tac() -> IService:
    """The service of relay.tac: what $MAILRELAY_CONFIG names, else ./relay.toml."""
    if (twistd := _twistd_that_waits()) is not None:
        _do_without_pidfile(twistd)
    file = Path(os.environ.get("MAILRELAY_CONFIG") or "relay.toml").absolute()
    return _service(lambda: load(file, os.environ))


def _service(configure: Callable[[], Config]) -> IService:
    """The service of a configuration, which is read again at SIGHUP.

    SystemExit(1) after a word on file descriptor 2 where it makes no sense.
    """
    from twisted.internet import reactor

    try:
        return make_service(configure(), reactor, configure)
    except ConfigErrors as errors:
        os.write(2, f"{errors}\n".encode())
        raise SystemExit(1) from None


def _do_without_pidfile(twistd: usage.Options) -> None:
    """Have no twistd.pid written nor looked at, unless one was asked for, or the daemon leaves the terminal.

    Two daemons may share a folder. If they share a spool, its lock knows the other one; a pidfile only guesses.
    """
    if twistd["nodaemon"] and twistd["pidfile"] in ("twistd.pid", os.path.abspath("twistd.pid")):  # noqa: PTH100
        twistd["pidfile"] = ""


def _twistd_that_waits() -> ServerOptions | None:
    """The options of the twistd that is loading relay.tac. It hands them to nobody, so the stack is asked."""
    frame = inspect.currentframe()
    while frame is not None:
        config = frame.f_locals.get("config")
        if isinstance(config, ServerOptions):
            return config
        frame = frame.f_back
    return None
