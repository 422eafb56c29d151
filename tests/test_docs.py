"""The papers: what they point to is there, every page is found from the index, and the README's example is good."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay.config import load
from tests.daemon import CHECKOUT

PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")])


def targets(page: Path) -> set[Path]:
    """The files that a page links to."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text("utf-8"))
    return {(page.parent / link).resolve() for link in links}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
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
