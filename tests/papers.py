"""Papers: what stands in code blocks of the documentation, and how it is tried out without touching this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from relay.config import Config, load
from tests.daemon import CHECKOUT

PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")])

PROVIDER = '\n[[provider]]\nhost = "smtp.provider.example"\n'
"""What a part of a configuration needs to be a whole one."""

_MACHINE = re.compile(r"(?<![\w/.])/(etc|usr|var|run)/(?!share)")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def named(page: Path) -> str:
    """A page, as tests call it."""
    return str(page.relative_to(CHECKOUT))


def moved(text: str, root: Path, more: Mapping[str, str] | None = None) -> str:
    """`text` with the machine's folders below `root`, and other words replaced."""
    text = _MACHINE.sub(rf"{root}/\1/", text)
    for word, other in (more or {}).items():
        text = text.replace(word, other)
    return text


def taken(text: str, folder: Path) -> Config:
    """What relay.config makes of a block, with its secrets in their places. Raises ConfigErrors."""
    text = moved(text, folder) + ("" if "[[provider]]" in text else PROVIDER)
    secrets = re.findall(r'{ (file|credential|env) = "([^"]+)" }', text)
    for _, name in secrets:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("https://alerts.example/\n")
    (folder / "relay.toml").write_text(text)
    environ = {name: "sesame" for form, name in secrets if form == "env"}
    return load(folder / "relay.toml", {"CREDENTIALS_DIRECTORY": str(folder), **environ})
