"""The pages about the wire and about delivery: each of their rows names tests, and they are there."""

from __future__ import annotations

import ast
import re

import pytest

from tests.daemon import CHECKOUT
from tests.dialog import DIRECTORY

PAGES = [CHECKOUT / "docs" / "reference" / "wire.md", CHECKOUT / "docs" / "explanation" / "delivery.md"]
ROWS = [
    line
    for page in PAGES
    for line in page.read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.endswith("| shown by |")
]


def functions(file: str) -> set[str]:
    """The tests in a file of that name, wherever it is."""
    [path] = (CHECKOUT / "tests").rglob(file)
    return {
        node.name
        for node in ast.parse(path.read_bytes()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_a_row(row: str) -> None:
    """It is shown by something, and by nothing that is not there."""
    names = re.findall(r"`([^`]+)`", row.split("|")[-2])
    assert names
    for name in names:
        file, _, function = name.partition("::")
        assert function in functions(file) if function else (DIRECTORY / f"{file}.smtp").exists(), name
