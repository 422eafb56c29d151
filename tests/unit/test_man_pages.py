"""The man pages, compared with the commands, and read by groff."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest

from relay.cli.main import main
from relay.sendmail import arguments
from tests.daemon import CHECKOUT

MAN = CHECKOUT / "docs" / "man"
PAGES = sorted(MAN.glob("mailrelay*.1"))


def plain(page: str) -> str:
    """A page without roff's escapes."""
    return (MAN / page).read_text("utf-8").replace("\\-", "-")


def section(text: str, heading: str) -> str:
    """What stands below a heading."""
    return re.split(r"^\.S[HS] ", text.partition(f"{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def options(command: click.Command) -> set[str]:
    """The options of a command, and of those below it."""
    found = {param.opts[0] for param in command.params if isinstance(param, click.Option)}
    if isinstance(command, click.Group):
        for each in command.commands.values():
            found |= options(each)
    return found


@pytest.mark.parametrize("name", sorted(main.commands))
def test_the_options(name: str) -> None:
    """Each option of a command has a paragraph, and no other has."""
    text = section(plain("mailrelay.1"), f".SS {name}")

    assert set(re.findall(r"^\.BI? (--[a-z-]+)", text, re.MULTILINE)) == options(main.commands[name])


def test_the_commands_of_the_queue() -> None:
    """Each of them stands in the page."""
    queue = main.commands["queue"]
    assert isinstance(queue, click.Group)
    text = section(plain("mailrelay.1"), ".SS queue")
    lines = re.findall(r"^\.BR? ([a-z].*)$", text, re.MULTILINE)

    assert set(queue.commands) <= set(re.findall("[a-z]+", " ".join(lines)))


def test_the_options_of_sendmail() -> None:
    """Each letter that is taken has a paragraph, and no other has."""
    text = section(plain("mailrelay-sendmail.1"), ".SH OPTIONS")
    lines = re.findall(r"^\.BI?R? (-.*)$", text, re.MULTILINE)
    letters = set(re.findall("-([A-Za-z])", " ".join(lines)))

    assert letters == set(arguments._WITH_VALUE + arguments._ALONE) | {"q"}


@pytest.mark.needs("groff")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_groff_has_nothing_to_say(page: Path) -> None:
    """No warning of any kind."""
    said = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", page],
        capture_output=True,
        text=True,
        check=True,
    )

    assert said.stderr == ""
