"""The papers: what they point to is there, every page is found from the index, and the README's example is good."""

from __future__ import annotations

import re
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path

import click
import pytest

from relay.cli.main import main
from relay.config import load
from tests.daemon import CHECKOUT
from tests.papers import PAGES, blocks, named, taken

CONFIGURATIONS = [(page, number) for page in PAGES for number in range(len(blocks(page, "toml")))]


def targets(page: Path) -> set[Path]:
    """The files that a page links to."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text("utf-8"))
    return {(page.parent / link).resolve() for link in links}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    """Each file that a page links to is there."""
    assert {target for target in targets(page) if not target.exists()} == set()


def test_the_index_knows_every_page() -> None:
    """docs/README.md links to all that is below docs/."""
    index = CHECKOUT / "docs" / "README.md"

    assert set((CHECKOUT / "docs").rglob("*.md")) - targets(index) - {index} == set()


def test_the_configuration_in_the_readme(tmp_path: Path) -> None:
    """It is taken as it stands, once its secrets are there."""
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    example = re.search(r"^    \[\[provider\]\]\n(?:(?:    .*)?\n)+", readme, re.MULTILINE)
    assert example is not None
    (tmp_path / "relay.toml").write_text(example[0])
    (tmp_path / "provider.secret").write_text("sesame\n")

    config = load(tmp_path / "relay.toml", {"OTHER_SECRET": "sesame"})

    assert [(provider.name, provider.port, provider.tls) for provider in config.providers] == [
        ("smtp.provider.example", 587, "starttls"),
        ("smtp.other.example", 465, "implicit"),
    ]


def test_some_tests_by_make() -> None:
    """`make test TESTS=…` runs those and no others."""
    some = "tests/unit -k sqlite"
    make = [
        "make",
        "--no-print-directory",
        "--dry-run",
        "--assume-old=.venv/installed-to-test",
        "test",
        f"TESTS={some}",
    ]
    line = subprocess.run(make, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    _, *arguments = shlex.split(line)

    # --cov takes a path that stands behind it for one to be measured, and then all tests are run.
    assert arguments == [*some.split(), "--cov"]


@pytest.mark.parametrize(("page", "number"), CONFIGURATIONS, ids=lambda it: named(it) if isinstance(it, Path) else None)
def test_a_configuration(page: Path, number: int, tmp_path: Path) -> None:
    """Each block of TOML is taken, once its secrets are there; a part of a configuration with a provider beside it."""
    taken(blocks(page, "toml")[number], tmp_path)


def test_every_how_to_has_something_to_run() -> None:
    """No page is words alone, and no block has a language that no test knows."""
    for page in (CHECKOUT / "docs" / "how-to").glob("*.md"):
        languages = re.findall("^```([a-z]+)$", page.read_text("utf-8"), re.MULTILINE)
        assert languages, named(page)
        assert set(languages) <= {"toml", "sh", "ini", "python", "dockerfile", "yaml", "haproxy"}, named(page)


def commands(page: Path) -> set[str]:
    """What stands behind `mailrelay` in code; patterns of commands are left out."""
    text = page.read_text("utf-8")
    spans = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
    spans += [line for script in blocks(page, "sh") for line in script.splitlines()]
    found = [re.match(r"(?:[A-Z_]+=\S+ )?(?:/\S+/)?mailrelay ([^#>|]+)", span) for span in spans]
    return {match[1].strip() for match in found if match and not re.search("[…|[]", match[0])}


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=named)
def test_commands_exist(page: Path) -> None:
    """Each `mailrelay` command that a page names is one, with options that it has."""
    for text in commands(page):
        command: click.Command = main
        words = shlex.split(text)
        while isinstance(command, click.Group) and words:
            assert words[0] in command.commands, text
            command = command.commands[words.pop(0)]
        if isinstance(command, click.Group):
            continue
        with suppress(click.MissingParameter):
            command.make_context(text, words)
