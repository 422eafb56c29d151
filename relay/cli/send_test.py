"""`mailrelay send-test`: one mail through the daemon, and what happens to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from relay.cli.configuration import config_option
from relay.cli.daemon import FAILED, Asking
from relay.cli.terminal import columns, paragraphs, say


@click.command("send-test")
@config_option
@click.argument("address")
@click.option("--from", "sender", metavar="ADDRESS", help="Who it is from; default: who alerts are from.")
@click.option(
    "--wait", default=60, show_default=True, type=click.IntRange(0, 3600), help="Seconds to wait for its end."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def send_test(path: Path | None, address: str, sender: str | None, wait: int, as_json: bool) -> None:
    """Send a mail to ADDRESS and show what happens to it, step by step."""
    asking = Asking(path, "send-test", to=address, seconds=wait, **{"from": sender})
    steps = []
    for piece in asking:
        steps.append(piece["step"])
        if not as_json:
            for text in paragraphs([piece["step"]], columns(sys.stdout)):
                say(text)
    result = asking.done["result"]
    if as_json:
        say(json.dumps({**asking.done, "steps": steps}))
    elif result == "waiting":
        say(f"not finished yet; it stays in the queue (`mailrelay queue why {asking.done['id']}`)")
    if result != "delivered":
        sys.exit(FAILED)
