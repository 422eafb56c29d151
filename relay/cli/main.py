"""The command `mailrelay`; each of its subcommands is a module beside this one."""

from __future__ import annotations

import click

import relay
from relay.cli.check import check
from relay.cli.demo import demo


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(relay.__version__, prog_name="mailrelay")
def main() -> None:
    """A local mail relay that makes each mail durable and delivers it through SMTP providers."""


main.add_command(check)
main.add_command(demo)
