"""What every test may rely on: the package itself, and a word at the end about each program that was not there.

The tests run against the installed package where there is one, else against the checkout: the checkout comes last on
the path. `tests` itself is found there too, so a test may import what stands beside it as `tests.…`.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
MISSING: pytest.StashKey[set[str]] = pytest.StashKey()

sys.path.append(str(CHECKOUT))
# Debian keeps Postfix's programs where only root's PATH looks.
os.environ["PATH"] += os.pathsep + os.pathsep.join(["/usr/local/sbin", "/usr/sbin", "/sbin"])


def pytest_configure(config: pytest.Config) -> None:
    """Begin the list of missing programs."""
    config.stash[MISSING] = set[str]()


def pytest_report_header(config: pytest.Config) -> str:
    """Say which mailrelay is tested."""
    import relay

    return f"mailrelay: {relay.__version__} from {Path(relay.__file__).parent}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `needs("program")` where that program is missing; with CI=true, fail it."""
    wanted: set[str] = {program for marker in item.iter_markers("needs") for program in marker.args}
    missing = sorted(program for program in wanted if shutil.which(program) is None)
    if not missing:
        return
    item.config.stash[MISSING].update(missing)
    reason = f"not installed: {', '.join(missing)}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name every program that a test wanted and did not find."""
    missing = config.stash[MISSING]
    if missing:
        terminalreporter.section("not everything was tested")
        terminalreporter.line(f"These programs are not installed: {', '.join(sorted(missing))}")
        terminalreporter.line("Debian has them as packages; .ci/run names those and installs them.")
