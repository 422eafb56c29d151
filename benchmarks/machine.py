"""Machine: what the figures were measured on and with, as the page says it."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from relay import __version__
from tests.postgres import build

_REST = "and as many deliveries to a destination at once, from the first on, as mailrelay has connections"
CHECKOUT = Path(__file__).resolve().parent.parent


def commit() -> str:
    """The commit that is checked out, with a `+` where relay/ differs from it."""
    name = _said("git", "rev-parse", "--short", "HEAD")
    changed = _said("git", "status", "--porcelain", "--", "relay")
    return name + "+" * bool(changed) if name else __version__


def described(settings: Mapping[str, str], command: str, load: Sequence[float]) -> str:
    """The machine, the versions and the settings of a run that `command` began when the load was `load`."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    postfix = _said("postconf", "-h", "mail_version")
    postgresql = _said(str(build("pip").programs / "postgres"), "--version").rpartition(" ")[2]
    on = f"{os.cpu_count()} processors, {memory:.0f} GiB, {platform.system()} {platform.release()}"
    python = f"Python {platform.python_version()}, Twisted {version('twisted')}, SQLite {sqlite3.sqlite_version}"
    busy = ", ".join(f"{each:.1f}" for each in load)
    lines = [
        f"Machine: {_model()}, {on}, the queues on {_disk()}.",
        f"mailrelay {__version__} ({commit()}), {python}; Postfix {postfix}; PostgreSQL {postgresql}.",
        f"The last run: `{command}`, {time.strftime('%Y-%m-%d', time.gmtime())}; the load when it began: {busy}.",
        f"Postfix: {', '.join(f'`{name} = {value}`' for name, value in settings.items())}; {_REST}.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _model() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _disk() -> str:
    return _said("findmnt", "--noheadings", "--output", "FSTYPE", "--target", "/var/tmp")
