"""What commands have in common: where the configuration comes from, and how its errors are told."""

from __future__ import annotations

import os
from pathlib import Path

import click

from relay.config import Config, find_config, load

config_option = click.option(
    "--config",
    "path",
    metavar="F",
    type=click.Path(path_type=Path, readable=False),  # what cannot be read is told as other errors of it are
    help="The configuration file; else $MAILRELAY_CONFIG, ./relay.toml or /etc/mailrelay/relay.toml.",
)


def located(path: Path | None) -> Path:
    """`path`, or the file that a command without --config takes."""
    return path or find_config(os.environ)


def read(path: Path | None) -> Config:
    """The configuration in `path`, or in the file that a command without --config takes. Raises ConfigErrors."""
    return load(located(path), os.environ)
