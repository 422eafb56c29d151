"""Every operation by which a spool gets to the disk kills its process once, or fails once: until nothing does any more.

Of the many writes some are left out, unless MAILRELAY_ARROWS is "all".
"""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import pytest

from tests.integration.test_spool_crash import Ledger, agree, bench_of, user

pytestmark = pytest.mark.needs("strace")

ALL = os.environ.get("MAILRELAY_ARROWS") == "all"
ROUNDS = 2
PATIENCE = 60
LOG = logging.getLogger(__name__)


STEPS = {"mkdir": 1, "pwrite64": 11, "write": 7, "fdatasync": 3, "fsync": 1, "ftruncate": 1, "rename": 1, "unlink": 1}


@pytest.mark.parametrize("call", STEPS)
def test_killed_at_each(tmp_path: Path, call: str) -> None:
    """As one of its threads is about to do it for the first time, the second, and so on."""
    number, killed, step = 1, True, 1 if ALL else STEPS[call]
    while killed:
        ledger, spool = Ledger(), tmp_path / str(number) / "spool"
        spool.parent.mkdir()
        with user(spool, ROUNDS, [f"--inject={call}:signal=SIGKILL:when={number}"]) as process:
            said, _ = process.communicate(timeout=PATIENCE)
        killed = process.returncode == -signal.SIGKILL
        assert killed or said.endswith(b"closed\n")
        ledger.note(said.decode())
        agree(bench_of(spool), ledger, spool)
        number += step
    LOG.info("killed at every %d. %s of %d", step, call, number - step)
    assert number > 1 + step


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "fsync", "ftruncate", "rename"])
def test_each_fails(tmp_path: Path, call: str, error: str) -> None:
    """What was refused is not there and all else goes on; only an opening that fails ends the program."""
    number, failed, step = 1, True, 1 if ALL else STEPS[call]
    refused = unopened = 0
    while failed:
        ledger, folder = Ledger(), tmp_path / str(number)
        folder.mkdir()
        trace = folder / "trace"
        strace = ["-o", str(trace), "-e", f"trace={call}", f"--inject={call}:error={error}:when={number}"]
        with user(folder / "spool", ROUNDS, strace) as process:
            said, _ = process.communicate(timeout=PATIENCE)
        failed = "(INJECTED)" in trace.read_text()
        assert said.endswith(b"closed\n") or (failed and b"opened" not in said), said
        ledger.note(said.decode())
        refused, unopened = refused + len(ledger.refused), unopened + (b"opened" not in said)
        agree(bench_of(folder / "spool"), ledger, folder / "spool", refusals=True)
        number += step
    LOG.info(
        "%s at every %d. %s of %d: %d mails refused, %d openings", error, step, call, number - step, refused, unopened
    )
    assert number > 1 + step
