"""Npm: packages of Node's world, from the registry that npm knows."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.daemon import PATIENCE


def from_npm(folder: Path, package: str) -> None:
    """Install `package` into `folder`; where npm does not get it, skip the test, but fail it with CI=true."""
    done = subprocess.run(
        ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", package],
        cwd=folder, check=False, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    if done.returncode and os.environ.get("CI") != "true":
        pytest.skip(f"npm does not get {package}: {done.stderr}")
    assert done.returncode == 0, done.stderr
