"""`mailrelay demo`: a relay, a provider to play with and the status page, all on loopback, until Ctrl-C.

Its files lie in one folder of the user's own, never in the current one, and stay there afterwards. The configuration is
one of them, so that other commands can be pointed at the demo.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import click

import relay
from relay.config import ConfigErrors, load
from relay.sandbox import Maildir, open_sandbox

_IPV4, _IPV6 = "127.0.0.1", "::1"
_COLON = r"\:"  # as one stands in the string of a Twisted endpoint
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_port = click.IntRange(1, 65535)


@click.command()
@click.option("--smtp-port", type=_port, default=2525, show_default=True, help="Where the relay takes mail.")
@click.option("--http-port", type=_port, default=8025, show_default=True, help="Where the status page is.")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), help="Where its files go.")
def demo(smtp_port: int, http_port: int, directory: Path | None) -> None:
    """Run a relay, a provider that keeps what it gets in a Maildir, and the status page, on loopback."""
    from twisted.internet import reactor

    from relay.service import make_service  # half a second that the other commands need not wait

    folder = (directory or state_folder(os.environ)).absolute()
    listen = [f"tcp:{smtp_port}:interface={_IPV4}"]
    free(_IPV4, smtp_port, "--smtp-port")
    free(_IPV4, http_port, "--http-port")
    if free(_IPV6, smtp_port, "--smtp-port"):
        listen.append(f"tcp6:{smtp_port}:interface={_IPV6.replace(':', _COLON)}")
    file = folder / "relay.toml"
    try:
        maildir = Maildir(folder / "Maildir", time.time)
        provider = open_sandbox(reactor, maildir)
        file.write_text(_configuration(listen, f"tcp:{http_port}:interface={_IPV4}", provider), "utf-8")
    except OSError as error:
        raise click.ClickException(f"{folder}: {error.strerror}; name another folder with --directory") from None
    try:
        service = make_service(load(file, os.environ), reactor)
    except ConfigErrors as errors:
        raise click.ClickException(str(errors)) from None
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored; Twisted replaces this one
    click.echo(_welcome(smtp_port, http_port, folder))
    reactor.run()


def state_folder(environ: Mapping[str, str]) -> Path:
    """Where programs of a user keep what outlives them (the XDG Base Directory Specification)."""
    return Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "mailrelay-demo"


def free(address: str, port: int, option: str) -> bool:
    """Whether `port` can be listened on; False where the host lacks the address. Raises ClickException if taken."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        if error.errno in _NO_SUCH_ADDRESS and address == _IPV6:
            return False
        raise click.ClickException(f"port {port} on {address}: {error.strerror}; name another with {option}") from None
    return True


def _configuration(smtp: list[str], http: str, provider: int) -> str:
    """The relay.toml of a demo whose provider listens on that port. JSON's arrays of strings are TOML's too."""
    return f"""# Written by `mailrelay demo` at each start.

[smtp]
listen = {json.dumps(smtp)}

[spool]
directory = "spool"

[http]
listen = {json.dumps([http])}

[log]
format = "text"

[[provider]]
name = "sandbox"
host = "{_IPV4}"
port = {provider}
tls = "none"
"""


def _welcome(smtp_port: int, http_port: int, folder: Path) -> str:
    """What there is to try."""
    python = (
        f'import smtplib; smtplib.SMTP("{_IPV4}", {smtp_port}).sendmail('
        '"me@example.com", ["you@example.com"], "Subject: hello\\n\\nIt works.\\n")'
    )
    return f"""mailrelay {relay.__version__}: a relay, and a provider that keeps every mail instead of sending it on.

Hand it a mail:

    python3 -c {shlex.quote(python)}
    swaks --server {_IPV4}:{smtp_port} --from me@example.com --to you@example.com

See it:

    {folder / "Maildir" / "new"}   (each mail, as the provider got it)
    http://{_IPV4}:{http_port}/   (the status page)

The configuration is {folder / "relay.toml"}. Ctrl-C ends it. The log follows.
"""
