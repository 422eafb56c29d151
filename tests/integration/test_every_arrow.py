"""Every operation by which a spool gets to the disk kills its process once, or fails once: until nothing does any more.

Of the many writes some are left out, unless MAILRELAY_ARROWS is "all".
"""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import pytest

from tests.integration.test_durable import injecting
from tests.integration.test_spool_crash import Ledger, agree, bench_of, user

pytestmark = pytest.mark.needs("strace")

ALL = os.environ.get("MAILRELAY_ARROWS") == "all"
ROUNDS = 2
PATIENCE = 60
LOG = logging.getLogger(__name__)


STEPS = {"mkdir": 1, "pwrite64": 11, "write": 7, "fdatasync": 3, "fsync": 1, "ftruncate": 1, "rename": 1, "unlink": 1}
IN_USE = ("pwrite64", "fdatasync", "fsync", "rename")
"""What is still done once a spool is open: strace counts for each thread, and it is others than at the start."""

OF_SOME = ("fsync", "rename", "unlink")
"""What only large bodies need; chance says how many of them there are."""


def life(folder: Path, call: str, how: str, in_use: bool) -> tuple[str, bool]:
    """One that strace interferes with, from the start or once it is open: what it said, and whether it did."""
    trace = folder / "trace"
    if not in_use:
        strace = ["-o", str(trace), "-e", f"trace={call}", "-e", f"inject={call}:{how}"]
        with user(folder / "spool", ROUNDS, strace) as process:
            said, _ = process.communicate(timeout=PATIENCE)
    else:
        with user(folder / "spool", ROUNDS, waits=True) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            with injecting(process, call, how, trace):
                said += process.communicate(b"\n", timeout=PATIENCE)[0]
    killed = process.returncode == -signal.SIGKILL
    return said.decode(), killed or "(INJECTED)" in trace.read_text("utf-8", "replace")


@pytest.mark.parametrize(
    ("call", "in_use"),
    [(call, False) for call in STEPS] + [(call, True) for call in (*IN_USE, "write", "unlink")],
)
def test_killed_at_each(tmp_path: Path, call: str, in_use: bool) -> None:
    """As one of its threads is about to do it for the first time, the second, and so on."""
    number, killed, step = 1, True, 1 if ALL else STEPS[call]
    while killed:
        ledger, folder = Ledger(), tmp_path / str(number)
        folder.mkdir()
        said, killed = life(folder, call, f"signal=SIGKILL:when={number}", in_use)
        assert killed or said.endswith("closed\n")
        ledger.note(said)
        agree(bench_of(folder / "spool"), ledger, folder / "spool")
        number += step
    LOG.info("killed at every %d. %s of %d", step, call, number - step)
    assert number > 1 + step or (in_use and call in OF_SOME)


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize(
    ("call", "in_use"), [(call, False) for call in (*IN_USE, "ftruncate")] + [(call, True) for call in IN_USE]
)
def test_each_fails(tmp_path: Path, call: str, error: str, in_use: bool) -> None:
    """What was refused is not there and all else goes on; only an opening that fails ends the program."""
    number, failed, step = 1, True, 1 if ALL else STEPS[call]
    refused = unopened = 0
    while failed:
        ledger, folder = Ledger(), tmp_path / str(number)
        folder.mkdir()
        said, failed = life(folder, call, f"error={error}:when={number}", in_use)
        assert said.endswith("closed\n") or (failed and "opened" not in said), said
        ledger.note(said)
        refused, unopened = refused + len(ledger.refused), unopened + ("opened" not in said)
        agree(bench_of(folder / "spool"), ledger, folder / "spool", refusals=True)
        number += step
    LOG.info(
        "%s at every %d. %s of %d: %d mails refused, %d openings", error, step, call, number - step, refused, unopened
    )
    if not (in_use and call in OF_SOME):
        assert number > 1 + step
        assert refused or not in_use
