"""Figures: what one run of one peer came to, and the rows of the tables that they stand in."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"


@dataclass(frozen=True)
class Figures:
    """One run: per second taken and arrived, milliseconds of CPU a mail, MiB at most, recipients missing.

    twice, cut  recipients that came again, and mails of another size than most
    """

    taken: float
    arrived: float
    cpu: float
    memory: float
    missing: int
    twice: int = 0
    cut: int = 0


def load(
    port: int, mails: int, *, size: int, sessions: int, recipients: int = 1, persistent: bool = True
) -> subprocess.Popen[bytes]:
    """smtp-source, which has begun to hand in."""
    command = ["smtp-source", "-s", str(sessions), "-m", str(mails), "-l", str(size), "-r", str(recipients)]
    command += ["-f", "a@example.com", "-t", "b@example.net", *(["-d"] if persistent else [])]
    return subprocess.Popen([*command, f"127.0.0.1:{port}"])


def enter(row: str, page: Path = PAGE) -> None:
    """Put a row into the page, in place of the one with the same two first cells."""
    lines = page.read_text("utf-8").splitlines()
    beginning = "|".join(row.split("|")[:3]) + "|"
    [place] = [number for number, line in enumerate(lines) if line.startswith(beginning)]
    lines[place] = row
    page.write_text("\n".join(lines) + "\n", "utf-8")
