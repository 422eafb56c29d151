"""Origin: where a value of the configuration was written down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen


@frozen
class Origin:
    """The file (or the command line) that says something.

    name     how messages call it
    folder   what relative paths in it are relative to; absolute
    environ  the environment it may take secrets from
    """

    name: str
    folder: Path
    environ: Mapping[str, str] = field(repr=False)
