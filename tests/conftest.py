"""What every test may rely on: the package itself, and a word at the end about each program that was not there.

The tests run against the installed package where there is one, else against the checkout: the checkout comes last on
the path. `tests` itself is found there too, so a test may import what stands beside it as `tests.…`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.postgres import Servers

CHECKOUT = Path(__file__).resolve().parent.parent
MISSING: pytest.StashKey[set[str]] = pytest.StashKey()

sys.path.append(str(CHECKOUT))
# Debian keeps Postfix's programs where only root's PATH looks, and PostgreSQL's and git's where none does.
POSTGRESQL = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
os.environ["PATH"] += os.pathsep + os.pathsep.join(
    ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/lib/git-core", *POSTGRESQL]
)


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


@pytest.fixture(scope="session")
def postgresql_servers() -> Iterator[Servers]:
    """Servers of PostgreSQL that tests share; a test that ends one has one of its own (tests/postgres.py)."""
    from tests.postgres import Servers

    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture(params=["pip", pytest.param("debian", marks=pytest.mark.needs("pg_ctl"))])
def dsn(request: pytest.FixtureRequest, postgresql_servers: Servers) -> str:
    """The connection string of a database of PostgreSQL's in which nothing is, of each PostgreSQL that is there."""
    return postgresql_servers[request.param].new()
