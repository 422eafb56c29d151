"""`mailrelay print-unit`: the files with which systemd runs the daemon."""

from __future__ import annotations

import sysconfig
from importlib.resources import files
from pathlib import Path

import click

from relay.cli.terminal import write

UNIT = "mailrelay.service"
TEMPLATE = "mailrelay@.service"
_SHIPPED = "/opt/mailrelay/bin/twistd"
_LOADED = "LoadCredential=primary.secret:/etc/mailrelay/primary.secret"
_EACH = (
    ("mailrelay as a service. `mailrelay print-unit`", "Instances. `mailrelay print-unit --template`"),
    ("(systemctl edit mailrelay)", "(systemctl edit mailrelay@)"),
    ("Description=Local mail relay", "Description=Local mail relay, instance %i"),
    ("After=network.target", "After=postgresql.service network.target"),
    ("/etc/mailrelay/relay.toml", "/etc/mailrelay/%i.toml"),
    (_LOADED, f"{_LOADED}\nLoadCredential=database.secret:/etc/mailrelay/database.secret"),
    ("Directory=mailrelay", "Directory=mailrelay/%i"),
)
"""What an instance's unit says in another way."""


@click.command("print-unit")
@click.option(
    "--service", "name", flag_value=UNIT, default=UNIT, help="The service; this is what is printed without a flag."
)
@click.option("--template", "name", flag_value=TEMPLATE, help="A service for each of several instances.")
@click.option("--socket", "name", flag_value="mailrelay.socket", help="Sockets that systemd opens, on port 25.")
@click.option("--sysusers", "name", flag_value="mailrelay.sysusers", help="The user that the service runs as.")
@click.option("--example", "name", flag_value="relay.toml", help="A configuration to begin with.")
def print_unit(name: str) -> None:
    """Print a systemd unit, with the path of this installation, or what goes with it."""
    write(unit(name, Path(sysconfig.get_path("scripts")) / "twistd"))


def unit(name: str, twistd: Path) -> str:
    """A file of the package, in which the service starts `twistd`."""
    text = (files("relay") / "system" / (UNIT if name == TEMPLATE else name)).read_text("utf-8")
    for one, other in _EACH if name == TEMPLATE else ():
        text = text.replace(one, other)
    return text.replace(_SHIPPED, _quoted(str(twistd)))


def _quoted(path: str) -> str:
    """`path` as a word of ExecStart= (systemd.service(5), COMMAND LINES)."""
    plain = path.replace("%", "%%").replace("$", "$$")
    if not any(character in plain for character in " \t'\"\\;"):
        return plain
    inner = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{inner}"'
