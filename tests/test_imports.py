"""The import law: who stands above whom in `relay/`.

A module imports only what stands in a row above it, in its own row, or beside it in its own package, and never in a
circle. A row of `HOUSE` names modules of `relay`; a package is named once, for all that is in it.
"""

from __future__ import annotations

import ast
import configparser
import re
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import relay
from tests.daemon import CHECKOUT

HOUSE: tuple[tuple[str, ...], ...] = (
    ("envelope", "reply", "outcome", "clock", "mailbox", "notify", "inherited", "door", "phrases", "turns"),
    ("config",),
    ("events", "log", "metrics"),
    ("addresses", "retry", "limits", "bounce"),
    ("smtp",),
    ("spool",),
    ("upstream",),
    ("intake", "schedule", "delivery", "drop", "move"),
    ("alerts", "http", "control"),
    ("listening", "observer", "descriptors"),
    ("service", "policies"),
    ("sandbox",),
    ("tap", "cli", "sendmail"),
)

STRANGERS = {("smtp", "spool"), ("spool", "smtp")}
"""Neither of a pair imports the other, wherever they stand."""

NAMES_THE_REACTOR = {"service", "tap", "cli"}
"""All else is given a reactor, or only what it needs of one."""

KNOWS_NO_TWISTED = ("smtp.grammar", "smtp.data", "sendmail")
"""The wire is tested without a network, and sendmail(1) has no time to import it."""

ROWS = {name: number for number, row in enumerate(HOUSE) for name in row}


def imported(source: str, package: str) -> Iterator[str]:
    """Every dotted name that `source`, a module in `package`, imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: 1 - node.level or None] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def within(name: str, *packages: str) -> bool:
    """Whether the dotted `name` is one of `packages` or in one of them."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def faults(sources: Mapping[str, str]) -> list[str]:
    """What breaks the law in `sources`: module ("relay.smtp.server", "relay.smtp.__init__") -> source."""
    found: list[str] = []
    circle = TopologicalSorter[str]()
    for module, source in sources.items():
        name = module.removeprefix("relay.").removesuffix("__init__").rstrip(".")
        unit = name.split(".")[0]
        if unit and unit not in ROWS:
            found.append(f"{module} has no place in the house: name it in a row of HOUSE in tests/test_imports.py")
            continue
        for target in sorted(set(imported(source, module.rpartition(".")[0]))):
            found.extend(f"{module} {fault}" for fault in _judge(name, unit, target))
            if target.startswith("relay."):
                other = _module(target, sources)
                if other not in (None, module):
                    circle.add(module, other)
    try:
        circle.prepare()
    except CycleError as error:
        found.append(f"a circle of imports: {' -> '.join(error.args[1])}")
    return found


def _judge(name: str, unit: str, target: str) -> Iterator[str]:
    """What is wrong with the import of `target` by the module `name` of `unit`."""
    if within(target, "twisted.internet.reactor") and unit not in NAMES_THE_REACTOR:
        yield f"names the reactor; only {', '.join(sorted(NAMES_THE_REACTOR))} may"
    if within(target, "twisted") and within(name, *KNOWS_NO_TWISTED):
        yield f"imports {target}, and is to know no Twisted"
    if not target.startswith("relay."):
        return
    other = target.split(".")[1]
    if other not in ROWS:
        if not (other.startswith("__") and other.endswith("__")):
            yield f"imports {target}, which has no place in the house"
    elif not unit:
        yield f"imports {target}; the package itself imports nothing of its own"
    elif (unit, other) in STRANGERS:
        yield f"imports {target}; {unit} and {other} do not know each other"
    elif ROWS[other] > ROWS[unit]:
        yield f"imports {target}, which stands below it"


def _module(target: str, sources: Mapping[str, str]) -> str | None:
    """The module of `sources` that an imported dotted name is or is in."""
    while target:
        for module in (target, f"{target}.__init__"):
            if module in sources:
                return module
        target = target.rpartition(".")[0]
    return None


def test_every_module_keeps_to_its_place() -> None:
    """No module of the program breaks the law."""
    root = Path(relay.__file__).parent
    sources = {
        ".".join(("relay", *path.relative_to(root).with_suffix("").parts)): path.read_text("utf-8")
        for path in sorted(root.rglob("*.py"))
    }

    assert "relay.envelope" in sources
    assert faults(sources) == []


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        (
            "relay.reply",
            "from relay.config import Config",
            "relay.reply imports relay.config.Config, which stands below",
        ),
        ("relay.retry", "def f():\n    import relay.service", "relay.retry imports relay.service, which stands below"),
        ("relay.smtp.server", "from relay.spool.spool import Spool", "smtp and spool do not know each other"),
        ("relay.spool.sqlite", "from ..smtp import grammar", "spool and smtp do not know each other"),
        ("relay.intake", "from twisted.internet import reactor", "relay.intake names the reactor"),
        ("relay.upstream.pool", "import twisted.internet.reactor", "relay.upstream.pool names the reactor"),
        ("relay.smtp.grammar.paths", "from twisted.python import log", "is to know no Twisted"),
        ("relay.common", "", "relay.common has no place in the house"),
        ("relay.alerts", "import relay.common", "relay.alerts imports relay.common, which has no place"),
        ("relay.__init__", "from relay import reply", "the package itself imports nothing"),
    ],
)
def test_a_module_that_breaks_the_law(module: str, source: str, fault: str) -> None:
    """Each way to break it is found, and said with the module's name."""
    [said] = faults({module: source})

    assert fault in said
    assert module in said


def test_two_modules_that_import_each_other() -> None:
    """A circle is found also where both stand in one row."""
    [said] = faults({"relay.reply": "import relay.outcome", "relay.outcome": "from relay import reply"})

    assert said.startswith("a circle of imports: ")
    assert "relay.reply" in said
    assert "relay.outcome" in said


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("relay.outcome", "from relay.reply import Reply"),
        ("relay.smtp.server", "from relay.smtp import grammar\nfrom . import data\nfrom relay import __version__"),
        ("relay.service", "from twisted.internet import reactor, defer"),
        ("relay.cli.demo", "from twisted.internet import reactor\nfrom relay.sandbox import Sandbox"),
        ("relay.upstream.sender", "from twisted.internet import defer\nimport twisted.mail.smtp"),
    ],
)
def test_a_module_that_keeps_the_law(module: str, source: str) -> None:
    """What stands above, beside, or outside may be imported; the reactor by those who may name it."""
    assert faults({module: source}) == []


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


def test_what_is_imported_is_required() -> None:
    """setup.cfg names every distribution that a module imports, and no other: none is there by another's grace."""
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    extras = setup["options.extras_require"]
    listed = f"{setup['options']['install_requires']}\n{extras.get('postgresql', '')}".split("\n")
    required = {_normal(re.split(r"[\[ <>=!~]", line)[0]) for line in listed if line}
    modules = {
        target.split(".")[0]
        for path in Path(relay.__file__).parent.rglob("*.py")
        for target in imported(path.read_text("utf-8"), "relay")
    }
    homes = packages_distributions()
    found = {
        module: {_normal(name) for name in homes[module]} & required
        for module in modules - sys.stdlib_module_names - {"relay"}
    }

    assert [module for module, names in found.items() if not names] == []
    assert set().union(*found.values()) == required
