"""`mailrelay queue move`: from SQLite into PostgreSQL, killed on the way, while instances deliver what has come."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import psycopg

from tests.daemon import PATIENCE, free_port
from tests.fleet import Fleet, postgresql
from tests.postgres import Servers
from tests.running import TWISTD, Running, configure, letter, soon
from tests.sink import Sink

MAILS = 60


def moving(old: Path, new: Path) -> subprocess.Popen[str]:
    """The command, which has begun."""
    command: list[str | Path] = [TWISTD.with_name("mailrelay"), "queue", "move"]
    command += ["--config", old / "relay.toml", "--to", new / "relay.toml"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def moved(dsn: str) -> int:
    """How many mails were taken in that are not forgotten yet."""
    with psycopg.connect(dsn) as connection:
        if connection.execute("SELECT to_regclass('note')").fetchone() == (None,):
            return 0
        row = connection.execute("SELECT count(*) FROM note WHERE name LIKE 'origin moved %'").fetchone()
    assert row is not None
    return int(row[0])


def filled(folder: Path, sink: Sink) -> list[str]:
    """A spool in SQLite in which mail waits whose provider was away; its ids."""
    folder.mkdir()
    configure(folder, [sink.table(port=free_port())])
    with Running(folder) as relay:
        ids = relay.submit(*[letter(f"mail-{number}", 300_000 * (number % 3 == 0)) for number in range(MAILS)])
        relay.event("provider_down")
        relay.stop()
    return ids


def test_killed_on_the_way(tmp_path: Path, postgresql_servers: Servers) -> None:
    """Each mail arrives, once, under its own id, and the old spool is empty."""
    dsn = postgresql_servers["pip"].new()
    choose = random.Random(1)
    with Sink() as sink, Fleet(tmp_path, "ab", [sink.table()], postgresql(dsn)) as fleet:
        old = tmp_path / "old"
        ids = filled(old, sink)
        fleet.start()
        for _ in range(3):
            goal = moved(dsn) + choose.randrange(1, 12)
            move = moving(old, tmp_path / "a")
            until = time.monotonic() + PATIENCE
            while move.poll() is None and moved(dsn) < goal and time.monotonic() < until:
                pass
            move.kill()
            move.communicate()
        move = moving(old, tmp_path / "a")
        said, wrong = move.communicate(timeout=PATIENCE)
        assert (move.returncode, wrong) == (0, "")
        assert said.endswith(" mails moved\n")
        sink.wait_for(MAILS)
        soon(fleet.is_settled, "all is settled")
        again = moving(old, tmp_path / "a")
        assert again.communicate(timeout=PATIENCE) == ("0 mails moved\n", "")

    assert sorted(mail.id for mail in sink.mails) == sorted(ids)
    assert fleet.finished() == dict.fromkeys(ids, 1)
    assert list((old / "spool" / "bodies").iterdir()) == []
    assert moved(dsn) == 0


def test_a_spool_that_a_daemon_has(tmp_path: Path, postgresql_servers: Servers) -> None:
    """Nothing is moved, and it is said whose it is; nor from a spool into itself."""
    with Sink() as sink, Fleet(tmp_path, "a", [sink.table()], postgresql(postgresql_servers["pip"].new())):
        (tmp_path / "old").mkdir()
        configure(tmp_path / "old", [sink.table()])
        with Running(tmp_path / "old") as relay:
            move = moving(tmp_path / "old", tmp_path / "a")
            said, wrong = move.communicate(timeout=PATIENCE)
            assert (move.returncode, said) == (1, "")
            assert str(relay.process.pid) in wrong
        same = moving(tmp_path / "old", tmp_path / "old")
        assert same.communicate(timeout=PATIENCE) == ("", "Error: both configurations have the same spool\n")
        assert same.returncode == 1
