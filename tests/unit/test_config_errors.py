"""Configurations that are bad: every problem of a file is said in one go, each with its place and what to do.

`tests/bad_configs/<case>/` has a relay.toml (or relay.json) and, in `expected`, all that is said of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import Config, ConfigErrors, Problem, load
from relay.config.check import check
from relay.config.document import Document, camel, snake
from relay.config.origin import Origin
from relay.config.reading import Reading
from relay.config.resolve import resolve
from tests.unit.test_config_reference import keys

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


KEYS = sorted({step for key, _, _ in keys(Config) for step in key.split(".")} | {"batchSize", "forwardProviders", "x"})
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["a", "5m", "a@b", "none"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8), st.booleans())
def test_any_tables_at_all(tables: dict[str, object], older: bool) -> None:
    """Whatever a file holds, it is a configuration, or a list of problems, each with its place."""
    document = Document(Origin("relay.toml", Path("/"), {}), tables, camel if older else snake)

    reading = Reading(document)
    config = resolve(reading.draft, document.origin, lambda: "app1.example.com")
    for route, what, fix in list(check(config, reading.spoiled)):
        reading.wrong(route, what, fix)

    assert config.hostname
    assert all(str(problem).startswith("relay.toml: ") for problem in reading.problems)
    assert reading.problems or config.providers
