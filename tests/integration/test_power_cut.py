"""Power that is cut, and a disk that fails at every so many writes, while mail comes and goes: nobody is lost.

MAILRELAY_POWER_ROUNDS says how often the power is cut, MAILRELAY_FAIL_EVERY (numbers, with commas) which writes fail;
--log-cli-level=info shows what came of it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemon import PATIENCE
from tests.integration.test_durable import failing
from tests.reckoning import Handed, Moody, Reckoning, held, is_settled
from tests.running import Running, Settings, configure, soon
from tests.sink import Sink

ROUNDS = int(os.environ.get("MAILRELAY_POWER_ROUNDS", "2"))
EVERY = [int(number) for number in os.environ.get("MAILRELAY_FAIL_EVERY", "5").split(",")]
SEED = int(os.environ.get("MAILRELAY_POWER_SEED") or random.SystemRandom().getrandbits(32))
WORKERS = 10
LOG = logging.getLogger(__name__)

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
_WITHOUT_THE_JOURNAL = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH: what is not synced is lost


class Disk:
    """A file system of its own, in a file: each time in another copy of it.

    Whoever makes a namespace of mounts meanwhile keeps the last one there as it was: without power.
    """

    def __init__(self, folder: Path) -> None:
        self._image = folder / "image"
        self._mounted = 0
        self.path = folder / "disk"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(128 << 20)
        subprocess.run(["mkfs.ext4", "-q", self._image], check=True)

    def mount(self) -> bool:
        """Whether that is permitted."""
        last, self._image = self._image, self._image.with_suffix(f".{self._mounted}")
        self._mounted += 1
        subprocess.run(["cp", "--sparse=always", last, self._image], check=True)
        last.unlink()
        command: list[str | Path] = ["mount", "-o", "loop", self._image, self.path]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def unmount(self) -> None:
        """Nobody uses it any more."""
        subprocess.run(["umount", self.path], check=True)

    def cut_power(self) -> None:
        """From now on nothing is written, and what was not synced before is gone."""
        disk = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(disk, _SHUTDOWN, struct.pack("I", _WITHOUT_THE_JOURNAL))
        finally:
            os.close(disk)


@contextmanager
def mounted(disk: Disk) -> Iterator[None]:
    """Within this it is there."""
    if not disk.mount():
        pytest.skip("mounting a file system is not permitted here")
    try:
        yield
    finally:
        disk.unmount()


def settings(spool: Path) -> Settings:
    """What all of these tests need."""
    return {
        "spool": {"directory": str(spool), "min_free": "1MiB"},
        "delivery": {"workers": WORKERS, "batch_size": 3, "batch_delay": 0},
        "retry": {"schedule": ["1s"], "interval": "1s"},
        "bounce": {"per_hour": 1_000_000},
    }


def settled(folder: Path, handed: Handed, sink: Sink) -> Reckoning:
    """What has come of it, once all is well."""
    with Running(folder) as relay:
        soon(lambda: is_settled(relay), "everything that waited is settled", 2 * PATIENCE)
        return Reckoning.of(handed, [sink], held(folder))


@pytest.mark.needs("mount", "mkfs.ext4")
def test_power_cuts(tmp_path: Path) -> None:
    """What was not synced when the power went is gone, and nothing of that was promised to anybody."""
    LOG.info("MAILRELAY_POWER_SEED=%d", SEED)
    choose, handed, disk = random.Random(SEED), Handed(), Disk(tmp_path)
    with Moody("sink", 0.0, choose) as sink:
        configure(tmp_path, [sink.table()], settings(disk.path / "spool"))
        for number in range(ROUNDS):
            with mounted(disk), Running(tmp_path) as relay:
                applications = handed.applying(relay, f"mail-{number}", choose)
                handed.wait_for(choose.randrange(100))
                disk.cut_power()
                relay.process.kill()
                for each in applications:
                    each.join()
        with mounted(disk):
            result = settled(tmp_path, handed, sink)
    LOG.info("%d cuts: %s", ROUNDS, result)

    # A refusal that is heard here left when the power was gone: its mail may have reached the disk.
    assert (result.lost, result.wrong, result.torn) == (frozenset(), frozenset(), 0)
    assert result.copies <= ROUNDS * WORKERS


@pytest.mark.needs("strace")
@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize(("what", "error"), [("fsync,fdatasync", "EIO"), ("pwrite64,ftruncate,rename", "ENOSPC")])
def test_every_so_many_writes_fail(tmp_path: Path, what: str, error: str, every: int) -> None:
    """Whatever fails is not promised, and an outcome that cannot be written is written later; then it is killed."""
    choose, handed, trace = random.Random(SEED), Handed(), tmp_path / "trace"
    with Moody("sink", 0.0, choose) as sink:
        configure(tmp_path, [sink.table()], settings(tmp_path / "spool"))
        with Running(tmp_path) as relay:
            before = handed.applying(relay, "before", choose, most=5)
            for each in before:
                each.join()
            with failing(relay, what, f"{error}:when={every}+{every}", trace):
                for each in handed.applying(relay, "mail", choose, most=15):
                    each.join()
                relay.process.kill()
                relay.process.wait(PATIENCE)
        result = settled(tmp_path, handed, sink)
    failed = trace.read_text("utf-8", "replace").count("(INJECTED)")
    LOG.info("%s at every %d. call of %s, %d in all: %s", error, every, what, failed, result)

    assert (result.lost, result.wrong, result.ghosts, result.torn) == (frozenset(), frozenset(), frozenset(), 0)
    assert result.copies <= 2 * WORKERS  # under way, and over but not written
    assert failed
    assert {code for code, _ in result.answers} <= {250, 451, 452}
