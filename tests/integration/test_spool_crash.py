"""A process that uses a SQLite spool is killed, or its disk fails, at every arrow: what it was promised holds."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relay.spool.spool import LARGE, Mail, State
from relay.spool.sqlite import SqliteSpool, open_spool
from tests.contract.pump import Pump
from tests.contract.spool_contract import Bench
from tests.contract.spool_user import body_of
from tests.daemon import CHECKOUT


@dataclass
class Ledger:
    """What the user of a spool was promised, over all its lives."""

    submitted: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    deferred: dict[int, float] = field(default_factory=dict)
    ending: dict[int, int] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)

    def note(self, said: str) -> None:
        """Take down all whole lines."""
        for line in said.split("\n")[:-1]:
            match line.split():
                case ["submitted", key]:
                    self.submitted.add(int(key))
                case ["refused", key]:
                    self.refused.add(int(key))
                case ["deferred", key, due]:
                    self.deferred[int(key)] = float(due)
                case ["ending", key, report]:
                    self.ending[int(key)] = int(report)
                case ["ended", key, report]:
                    self.ended[int(key)] = int(report)

    def check(self, mails: dict[int, Mail], refusals: bool) -> None:
        """Nothing acknowledged is lost, nothing ended is there, a report is there exactly when its mail has ended."""
        reports = set(self.ending.values())
        assert self.submitted - self.ending.keys() <= mails.keys()
        assert not self.ended.keys() & mails.keys()
        for key, report in self.ending.items():
            if key in self.submitted:
                assert (key in mails) != (report in mails)
        assert set(self.ended.values()) <= mails.keys() | self.ending.keys()
        if refusals:
            assert not self.refused & mails.keys()
        for key, due in self.deferred.items():
            if key in mails:
                assert [standing.state for standing in mails[key].standings] == [State.READY, State.DEFERRED]
                assert mails[key].standings[1].due == due
        assert all(standing.state is not State.HELD for mail in mails.values() for standing in mail.standings)
        assert reports & mails.keys() <= reports


def user(directory: Path, rounds: int, strace: Sequence[str] = (), *, waits: bool = False) -> subprocess.Popen[bytes]:
    """The process, under strace where that is to interfere; once it is open it may wait for a line."""
    traced = ["strace", "-f", "-qq", "-o", os.devnull, *strace] if strace else []
    return subprocess.Popen(
        [
            *traced,
            sys.executable,
            "-m",
            "tests.contract.spool_user",
            directory,
            str(rounds),
            *(["wait"] if waits else []),
        ],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(CHECKOUT)])},
    )


def bench_of(directory: Path) -> Bench:
    """Where the spool that another process used can be looked at."""

    def start(pump: Pump, now: object, place: int) -> SqliteSpool:
        return open_spool(directory, reactor=pump, now=time.time, random_bits=random.getrandbits, min_free=0)

    return Bench(start)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """The spool that the other process used."""
    bench = bench_of(tmp_path / "spool")
    yield bench
    bench.close()


def agree(bench: Bench, ledger: Ledger, directory: Path, refusals: bool = False) -> None:
    """Open the spool, and hold what is there against the ledger."""
    spool = bench.open()
    assert isinstance(spool, SqliteSpool)
    assert spool.found_damage == ()
    mails: dict[int, Mail] = {}
    while found := bench.page(max(mails, default=0), 500):
        mails |= {mail.envelope.key: mail for mail in found}
    ledger.check(mails, refusals)
    for key, mail in mails.items():
        assert bench.body(mail) == body_of(key)
    bench.close()
    large = {mail.envelope.uuid for key, mail in mails.items() if len(body_of(key)) > LARGE}
    assert {path.name for path in (directory / "bodies").iterdir()} == large


def test_killed_at_any_time(bench: Bench, tmp_path: Path) -> None:
    """Again and again, on the same spool."""
    ledger = Ledger()
    dice = random.Random(7)
    for _ in range(6):
        with user(tmp_path / "spool", 10_000) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"opened\n"
            lines = dice.randrange(1, 150)
            ledger.note("".join(process.stdout.readline().decode() for _ in range(lines)))
            process.send_signal(signal.SIGKILL)
            ledger.note(process.stdout.read().decode())
        agree(bench, ledger, tmp_path / "spool")
    assert len(ledger.submitted) > 100


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    ("call", "when"),
    [
        ("fdatasync", 3),  # as the tables are made
        ("unlink", 1),
        ("pwrite64", 12),
        ("ftruncate", 2),
        ("fdatasync", 14),  # as a group is committed
        ("pwrite64", 70),
        ("rename", 1),  # as a large body gets its name
        ("fsync", 4),  # as that name is made durable
        ("unlink", 4),  # as a body goes after its mail
    ],
)
def test_killed_at_an_arrow(bench: Bench, tmp_path: Path, call: str, when: int) -> None:
    """As one of its threads is about to ask the kernel for something for the nth time."""
    ledger = Ledger()
    with user(tmp_path / "spool", 40, [f"--inject={call}:signal=SIGKILL:when={when}"]) as process:
        said, _ = process.communicate(timeout=60)
    ledger.note(said.decode())

    assert process.returncode == -signal.SIGKILL
    assert (b"opened" in said) == (when > 12 or call in ("rename", "fsync") or (call, when) == ("unlink", 4))
    agree(bench, ledger, tmp_path / "spool")


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    ("call", "error", "when"),
    [("fdatasync", "EIO", "14+3"), ("pwrite64", "ENOSPC", "70+60"), ("fsync", "EIO", "3+3"), ("rename", "EIO", "1+2")],
)
def test_a_disk_that_fails_at_times(bench: Bench, tmp_path: Path, call: str, error: str, when: str) -> None:
    """What was refused is not there, and all else goes on."""
    ledger = Ledger()
    with user(tmp_path / "spool", 20, [f"--inject={call}:error={error}:when={when}"]) as process:
        said, _ = process.communicate(timeout=60)
    ledger.note(said.decode())

    assert said.endswith(b"closed\n")
    assert ledger.refused
    assert len(ledger.submitted) > 20
    agree(bench, ledger, tmp_path / "spool", refusals=True)
