"""`mailrelay check`: whether the configuration makes sense, and whether each provider lets us in. No mail is sent."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relay.cli.configuration import config_option, read
from relay.cli.terminal import columns, complain, paragraphs, row, say
from relay.config import Config, ConfigErrors

if TYPE_CHECKING:
    from relay.cli.providers import Examined


@click.command()
@config_option
@click.option("--offline", is_flag=True, help="Look at the configuration alone, not at the providers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(path: Path | None, offline: bool, as_json: bool) -> None:
    """Say whether the configuration is good and every provider can be reached, or all that is wrong."""
    from relay.cli.providers import Examined  # a quarter of a second that the other commands need not wait

    errors: list[str] = []
    examined: Sequence[Examined] = ()
    try:
        config = read(path)
    except ConfigErrors as error:
        errors = str(error).splitlines()
    else:
        examined = [Examined(each.name, ()) for each in config.providers] if offline else _examined(config)
    ok = not errors and all(each.ok for each in examined)
    if as_json:
        providers = [each.document() for each in examined]
        say(json.dumps({"ok": ok, "errors": errors, "providers": providers}))
    else:
        _print(errors, examined)
    sys.exit(0 if ok else 1)


def _examined(config: Config) -> Sequence[Examined]:
    """What is found when each provider is connected to."""
    from twisted.internet import reactor
    from twisted.python.failure import Failure

    from relay.cli.providers import examine_all

    work: Any = reactor
    results: list[Sequence[Examined] | Failure] = []
    work.callWhenRunning(lambda: examine_all(work, config).addBoth(results.append).addBoth(lambda _: work.stop()))
    work.run()
    if not results:
        sys.exit(1)  # somebody has pressed Ctrl-C
    if isinstance(results[0], Failure):
        results[0].raiseException()
        raise AssertionError
    return results[0]


def _print(errors: list[str], examined: Sequence[Examined]) -> None:
    for line in errors:
        complain(line)
    if errors:
        return
    room = columns(sys.stdout)
    widths = (max((len(each.name) for each in examined), default=0), 5, 6)
    for each in examined:
        for step in each.steps:
            cells = (each.name, step.step, "ok" if step.ok else "FAILED", step.detail)
            for text in paragraphs(row(cells, widths, None), room):
                say(text)
    if all(each.ok for each in examined):
        for text in paragraphs([f"ok: {', '.join(each.name for each in examined)}"], room):
            say(text)
