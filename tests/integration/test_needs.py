"""A test that needs a program which is not there: skipped and named at the end, or failed in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon import CHECKOUT

TESTS = """
import pytest

@pytest.mark.needs("sh", "no-such-program")
def test_that_needs_it(): ...

@pytest.mark.needs("sh")
def test_that_needs_what_is_there(): ...
"""


@pytest.mark.parametrize(
    ("ci", "status", "summary"), [("", 0, "1 passed, 1 skipped"), ("true", 1, "1 passed, 1 error")]
)
def test_a_program_that_is_missing(tmp_path: Path, ci: str, status: int, summary: str) -> None:
    """It is named in the last lines, whether it counts as a failure or not."""
    shutil.copy(CHECKOUT / "tests" / "conftest.py", tmp_path)
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    environ = os.environ | {"CI": ci, "PYTHONPATH": str(CHECKOUT)}

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_it.py"],
        cwd=tmp_path, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == status, done.stdout
    assert "These programs are not installed: no-such-program\n" in done.stdout
    assert summary in done.stdout
