"""docs/reference/replies.md, compared with every reply that the code spells out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import relay
from relay import intake
from relay.reply import Reply
from relay.smtp.data import receive
from relay.smtp.grammar.parameters import ParameterError
from relay.smtp.server import said
from tests.daemon import CHECKOUT

PAGE = (CHECKOUT / "docs" / "reference" / "replies.md").read_text("utf-8")
ROOT = Path(relay.__file__).parent
SOURCES = [*(ROOT / "smtp").rglob("*.py"), ROOT / "intake.py"]
PARSES = "replies.py"
"""What makes Replies from those of others."""


def listed() -> list[str]:
    """The first column of each table."""
    return re.findall(r"^\| `([^`]+)`", PAGE, re.MULTILINE)


def spelled() -> Iterator[tuple[str, str, str]]:
    """File, code and enhanced code of each Reply that is made; a code that is not a literal is left out."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if path.name != PARSES and isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Reply":
                code, enhanced = node.args[:2]
                if isinstance(code, ast.Constant) and isinstance(enhanced, ast.Constant):
                    yield path.name, str(code.value), str(enhanced.value)


def fixed(module: Any) -> Iterator[Reply]:
    """Replies that are values of a module."""
    for name in vars(module):
        value = getattr(module, name)
        if isinstance(value, Reply):
            yield value


def test_every_code() -> None:
    """Each pair of codes that the code can say is on the page, and no other."""
    pairs = {(code, enhanced) for _, code, enhanced in spelled()} | {("250", "2.0.0")}
    parameters = {(str(ParameterError("", code).reply.code), "5.5.4") for code in (501, 555)}
    said_there = {tuple([*text.split(), ""][:2]) for text in listed()}
    plain = {(code, enhanced if "." in enhanced else "") for code, enhanced in said_there}

    assert plain == pairs | parameters


@pytest.mark.parametrize(
    "reply", [*fixed(said), *fixed(receive), *(reply for reply, _ in (intake.DISK, intake.SPOOL, intake.RATE))], ids=str
)
def test_every_word(reply: Reply) -> None:
    """What is always said in the same words is on the page in these words."""
    assert str(reply) in listed()


@pytest.mark.parametrize(
    "octets",
    [said.RESET, said.SENDER, said.RECIPIENT, said.GO_AHEAD, said.BYE, said.COMMANDS],
)
def test_every_word_of_agreement(octets: bytes) -> None:
    """The same of what nearly every mail meets."""
    assert octets.decode().rstrip() in listed()


def test_words_with_something_in_them() -> None:
    """The greeting, VRFY and the acknowledgement, with a word in capitals for what differs."""
    assert said.banner("HOSTNAME").decode().rstrip() in listed()
    assert said.verify("DOMAIN").decode().rstrip() in listed()
    assert said.queued("UUID").decode().rstrip() in listed()


def test_every_extension() -> None:
    """What EHLO offers."""
    [row] = re.findall(r"^\| `250 HOSTNAME` .*$", PAGE, re.MULTILINE)
    offered = [line[4:] for line in said.extensions("h", 7).decode().replace(" 7", " n").splitlines()[1:]]

    assert re.findall("`([A-Z0-9]+(?: n)?)`", row) == offered
