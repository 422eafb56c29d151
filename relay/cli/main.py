"""The command `mailrelay`; each of its subcommands is a module beside this one."""

from __future__ import annotations

import os

import click

import relay
from relay.cli.check import check
from relay.cli.demo import demo
from relay.cli.move import move
from relay.cli.print_unit import print_unit
from relay.cli.queue import queue
from relay.cli.send_test import send_test
from relay.cli.status import status
from relay.cli.terminal import prepare


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(relay.__version__, prog_name="mailrelay")
def main() -> None:
    """A local mail relay that makes each mail durable and delivers it through SMTP providers."""
    prepare(os.environ)


queue.add_command(move)
for command in (check, demo, print_unit, queue, send_test, status):
    main.add_command(command)
