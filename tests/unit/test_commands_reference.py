"""docs/reference/commands.md, compared with the commands."""

from __future__ import annotations

import re

import click
import pytest

from relay.cli.main import main
from relay.delivery.selection import STATES
from relay.sendmail import arguments, submit
from tests.daemon import CHECKOUT

PAGE = (CHECKOUT / "docs" / "reference" / "commands.md").read_text("utf-8")


def section(heading: str) -> str:
    """The page's part below a heading."""
    return re.split(r"^## ", PAGE.partition(f"## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def tables(text: str, heading: str) -> list[str]:
    """What stands in the first column of tables with that heading, without its quotes."""
    found: list[str] = []
    for table in re.findall(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE):
        for line in table.splitlines():
            found += re.findall(r"`([^`]+)`", line.split("|")[1])
    return found


def options(command: click.Command) -> set[str]:
    """The options of a command, and of those below it."""
    found = {param.opts[0] for param in command.params if isinstance(param, click.Option)}
    if isinstance(command, click.Group):
        for each in command.commands.values():
            found |= options(each)
    return found


@pytest.mark.parametrize("name", sorted(main.commands))
def test_the_options(name: str) -> None:
    """Each is on the page, and no other."""
    assert set(tables(section(f"`mailrelay {name}`"), "option")) == options(main.commands[name])


def test_every_command_has_its_section() -> None:
    """Also those below `queue`."""
    queue = main.commands["queue"]
    assert isinstance(queue, click.Group)
    sections = set(re.findall(r"^## `mailrelay (.*)`$", PAGE, re.MULTILINE))

    assert sections == set(main.commands)
    assert set(tables(section("`mailrelay queue`"), "command")) == set(queue.commands)


def test_the_options_of_sendmail() -> None:
    """Each letter is on the page."""
    said = tables(section("`mailrelay-sendmail`"), "option")
    letters = {option[1] for option in said}

    assert letters == set(arguments._WITH_VALUE + arguments._ALONE + "q")
    assert {option[2] for option in said if option[1] == "b"} == {key.decode() for key in arguments._MODES}


def test_states_and_statuses() -> None:
    """What is counted up is all there is."""
    [line] = [line for line in section("`mailrelay queue`").splitlines() if line.startswith("| `--state`")]
    statuses = [int(number) for number in re.findall(r"^\| (\d+) \|", section("Exit statuses"), re.MULTILINE)]

    assert re.findall(r"`(\w+)`", line) == list(STATES)
    assert statuses == [0, 1, 2, 3, submit.OK, submit.USAGE, submit.UNAVAILABLE, submit.TEMPORARY, submit.NO_PERMISSION]
