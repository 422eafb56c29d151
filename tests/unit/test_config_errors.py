"""Configurations that are bad: every problem of a file is said in one go, each with its place and what to do.

`tests/bad_configs/<case>/` has a relay.toml (or relay.json) and, in `expected`, all that is said of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config import ConfigErrors, Problem, load

CASES = sorted((Path(__file__).parent.parent / "bad_configs").iterdir())
ENVIRON = {"STATE_DIRECTORY": "/var/lib/relay"}
"""So that nothing depends on how long the path of the checkout is."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_file(case: Path) -> None:
    """Exactly what is expected is said: all problems, nothing else, one a line."""
    [file] = case.glob("relay.*")

    with pytest.raises(ConfigErrors) as caught:
        load(file, ENVIRON, lambda: "app1.example.com")

    assert str(caught.value).replace(str(case), "{folder}") + "\n" == (case / "expected").read_text("utf-8")
    assert "hunter2" not in str(caught.value)
    assert all(problem.fix for problem in caught.value.problems)


def test_a_problem_keeps_to_its_line() -> None:
    """Whatever a file holds, a message is one line of text that can be written out."""
    problem = Problem("relay\n.toml", "a\x1bb", 'is "\u2028"', "correct it \udcff")

    assert str(problem) == r'relay\x0a.toml: a\x1bb: is "\x2028"; correct it \udcff'
