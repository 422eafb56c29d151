"""`mailrelay check`: whether the configuration makes sense. Nothing is opened, sent or changed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from relay.cli.configuration import config_option, read
from relay.config import ConfigErrors


@click.command()
@config_option
@click.option("--offline", is_flag=True, help="Look at the configuration alone, not at the providers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(path: Path | None, offline: bool, as_json: bool) -> None:
    """Say whether the configuration is good, or everything that is wrong with it."""
    if not offline:
        raise click.UsageError("this version looks at no provider yet: say --offline")
    errors: list[str] = []
    providers: list[str] = []
    try:
        providers = [provider.name for provider in read(path).providers]
    except ConfigErrors as error:
        errors = str(error).splitlines()
    if as_json:
        found = [{"name": name, "ok": True, "steps": []} for name in providers]
        click.echo(json.dumps({"ok": not errors, "errors": errors, "providers": found}))
    else:
        for line in errors:
            click.echo(line, err=True)
        if not errors:
            click.echo(f"ok: {', '.join(providers)}")
    sys.exit(1 if errors else 0)
