"""SQLite as the spool: the contract, the start from whatever lies there, damage, and disks that fail."""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from twisted.internet.defer import gatherResults

from relay.envelope import Recipient
from relay.spool.health import IDLE
from relay.spool.spool import LARGE, Damaged, Mail, Settlement, SpoolError, SpoolFailing, SpoolFull, Standing, State
from relay.spool.sqlite import SqliteSpool, open_spool, reading
from relay.spool.sqlite.database import SCHEMA, for_reading
from relay.spool.sqlite.folder import Reserve
from relay.spool.sqlite.write import Write
from relay.spool.sqlite.writer import SLACK
from tests.contract.pump import Pump
from tests.contract.spool_contract import Bench, SpoolContract, keys, of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the spool of `bench` lies."""
    return tmp_path / "0"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A folder for one spool."""

    def start(pump: Pump, now: Callable[[], float], place: int) -> SqliteSpool:
        return open_spool(
            tmp_path / str(place), reactor=pump, now=now, random_bits=random.Random(1).getrandbits, min_free=0
        )

    bench = Bench(start)
    yield bench
    bench.close()


def sqlite(bench: Bench) -> SqliteSpool:
    """The spool that is in use."""
    assert isinstance(bench.spool, SqliteSpool)
    return bench.spool


def change(folder: Path, statement: str, *values: object) -> None:
    """Do to the database what no spool does."""
    with closing(sqlite3.connect(folder / "spool.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        assert connection.execute(statement, values).rowcount != 0


def quarantined(bench: Bench) -> list[tuple[Mail, State | None]]:
    """What the spool will say of damage."""
    told: list[tuple[Mail, State | None]] = []
    sqlite(bench).quarantined = lambda mail, was: told.append((mail, was))
    return told


class TestSqlite(SpoolContract):
    """The contract."""


class TestStart:
    """From whatever lies in the folder."""

    @pytest.mark.parametrize("umask", [0, 0o777 & ~0o700])
    def test_nobody_else_may_look(self, bench: Bench, folder: Path, umask: int) -> None:
        """0700 and 0600 whatever the umask is and whatever the modes were."""
        folder.mkdir(mode=0o755)
        old = os.umask(umask)
        try:
            bench.open()
            bench.submit_large()
            bench.submit()
        finally:
            os.umask(old)
        modes = {path.name: path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")]}

        assert {mode for name, mode in modes.items() if name in (folder.name, "bodies")} == {0o700}
        assert {mode for name, mode in modes.items() if name not in (folder.name, "bodies")} == {0o600}
        assert {"lock", "spool.sqlite", "spool.sqlite-wal"} < modes.keys()

    def test_one_daemon_for_each_spool(self, bench: Bench, folder: Path) -> None:
        """The second one is told who has it; after that one's end it is free."""
        bench.open()
        with pytest.raises(SpoolError, match=rf"in use by another daemon \(pid {os.getpid()}\)"):
            open_spool(folder, reactor=Pump(), now=lambda: 0.0, random_bits=random.getrandbits, min_free=0)
        bench.open()

    def test_a_newer_schema(self, bench: Bench, folder: Path) -> None:
        """It is refused with both numbers, and not touched."""
        bench.open()
        bench.close()
        change(folder, f"PRAGMA user_version = {SCHEMA + 1}")
        with pytest.raises(SpoolError, match=f"number {SCHEMA + 1}, this one knows {SCHEMA}"):
            bench.open()
        change(folder, f"PRAGMA user_version = {SCHEMA}")

        bench.open()
        assert sqlite(bench).found_damage == ()

    def test_a_directory_that_cannot_be_one(self, bench: Bench, folder: Path) -> None:
        """The error names it."""
        folder.write_text("")
        with pytest.raises(SpoolError, match=str(folder)):
            bench.open()
        folder.unlink()
        folder.mkdir()
        (folder / "spool.sqlite").mkdir()
        with pytest.raises(SpoolError, match=str(folder)):
            bench.open()

    def test_what_a_crash_leaves_of_bodies(self, bench: Bench, folder: Path) -> None:
        """Parts and bodies without a row are removed; bodies with one and files that are not ours stay."""
        bench.open()
        submission, body = bench.submit_large()
        orphan = bench.spool.next_id()[1]
        bench.close()
        bodies = folder / "bodies"
        for name in (orphan, "0123456789abcdef.part", "notes.txt", "mine.part"):
            (bodies / name).write_text("x")
        (bodies / bench_folder_name(orphan)).mkdir()
        bench.open()

        assert {path.name for path in bodies.iterdir()} == {
            submission.envelope.uuid,
            "notes.txt",
            "mine.part",
            bench_folder_name(orphan),
        }
        assert bench.body(of(bench.find(submission))) == body

    def test_a_body_goes_with_its_mail(self, bench: Bench, folder: Path) -> None:
        """After the commit that ends the mail, its file is removed; also one that was there at the start."""
        bench.open()
        first, _ = bench.submit_large()
        bench.open()
        second, _ = bench.submit_large()
        third, body = bench.submit_large()
        bench.settle(first)
        bench.settle(second)
        bench.close()

        assert [path.name for path in (folder / "bodies").iterdir()] == [third.envelope.uuid]
        bench.open()
        assert bench.body(of(bench.find(third))) == body

    @pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
    def test_no_file_in_place_of_the_lock(self, bench: Bench, folder: Path, kind: str) -> None:
        """Nobody can say whose the spool is: the error names it, and what a link leads to stays as it is."""
        folder.mkdir()
        target, path = folder.with_name("target"), folder / "lock"
        target.write_text("mine")
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(target)
        with pytest.raises(SpoolError, match=str(path)):
            bench.open()

        assert target.read_text() == "mine"

    def test_a_folder_in_place_of_the_reserve(self, folder: Path) -> None:
        """Then there is none."""
        (folder / "reserve").mkdir(parents=True)
        reserve = Reserve(folder / "reserve", 4096)
        reserve.keep()

        assert not reserve.release()


def bench_folder_name(uuid: str) -> str:
    """A folder's name that could be a body's."""
    return uuid[:-1] + ("0" if uuid[-1] != "0" else "1")


class TestDamage:
    """A mail that is not what was acknowledged is HELD, never delivered, never deleted."""

    @pytest.mark.parametrize(
        ("how", "statement", "value"),
        [
            ("ready", "UPDATE mail SET sender = ? WHERE key = ?", "c@example.com"),
            ("due", "UPDATE mail SET sender = ? WHERE key = ?", None),
            ("page", "UPDATE mail SET sender = CAST(? AS TEXT) WHERE key = ?", b"\xff\xfe@example.com"),
            ("find", "UPDATE mail SET head = ? WHERE key = ?", b"X: y\r\n"),
            ("ready", "UPDATE mail SET head = ? WHERE key = ?", 5),
            ("due", "UPDATE mail SET received_at = ? WHERE key = ?", "yesterday"),
            ("page", "UPDATE mail SET uuid = ? WHERE key = ?", "nonsense"),
            ("find", "UPDATE mail SET body_size = ? WHERE key = ?", "many"),
            ("ready", "UPDATE mail SET checksum = ? WHERE key = ?", 1),
            ("due", "UPDATE mail SET body = ? WHERE key = ?", "text"),
            ("page", "UPDATE mail SET size = ? WHERE key = ?", -1),
            ("find", "UPDATE recipient SET address = ? WHERE mail = ? AND number = 1", "eve@example.net"),
            ("ready", "UPDATE recipient SET address = ? WHERE mail = ? AND number = 1", b"\xff"),
            ("due", "UPDATE recipient SET notify = ? WHERE mail = ? AND number = 1", "NEVER"),
            ("page", "UPDATE recipient SET number = ? WHERE mail = ? AND number = 1", 7),
            ("find", "UPDATE recipient SET state = ? WHERE mail = ? AND number = 1", 77),
            ("ready", "UPDATE recipient SET state = ? WHERE mail = ? AND number = 1", "x"),
            ("due", "UPDATE recipient SET attempts = ? WHERE mail = ? AND number = 1", "x"),
            ("page", "UPDATE recipient SET reply = ? WHERE mail = ? AND number = 1", b"\xff"),
            ("find", "UPDATE recipient SET due = ? WHERE mail = ? AND number = 1", "never"),
            ("ready", "DELETE FROM recipient WHERE number = 0 AND ? IS NULL AND mail = ?", None),
            ("due", "DELETE FROM mail WHERE ? IS NULL AND key = ?", None),
        ],
    )
    def test_rows_that_changed(self, bench: Bench, folder: Path, how: str, statement: str, value: object) -> None:
        """However it is read: found, said once, HELD durably, shown; the others go on."""
        bench.open()
        damaged, sound = bench.submit("b@example.net", "c@example.net"), bench.submit()
        if how == "due":
            for submission, number in ((damaged, 0), (damaged, 1), (sound, 0)):
                bench.defer(submission, bench.time, number)
        bench.close()
        schemaless = statement.replace("UPDATE", "UPDATE OR REPLACE")
        with closing(sqlite3.connect(folder / "spool.sqlite", isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', '')")
        change(folder, schemaless, value, damaged.envelope.key)
        bench.open()
        told = quarantined(bench)
        reads = {
            "ready": bench.ready,
            "due": lambda: bench.due(bench.time),
            "page": bench.page,
            "find": lambda: [of(bench.find(each)) for each in (damaged, sound)],
        }
        mails = reads[how]()

        expected = [sound] if how in ("ready", "due") else [damaged, sound]
        assert keys(mails) == keys(expected)
        ((mail, was),) = told
        assert mail.envelope.key == damaged.envelope.key
        assert was in (State.READY, State.DEFERRED)
        assert {standing.state for standing in mail.standings} == {State.HELD}
        assert all(standing.reply.startswith("quarantine: ") for standing in mail.standings)

        bench.open()
        assert bench.spool.tally.held == 1
        assert quarantined(bench) == []
        assert keys(bench.ready() + bench.due(bench.time)) == keys([sound])
        assert keys(bench.page()) == keys([damaged, sound])

    def test_a_mail_without_recipients(self, bench: Bench, folder: Path) -> None:
        """It is HELD too: somebody has to see it."""
        bench.open()
        submission = bench.submit()
        bench.close()
        change(folder, "DELETE FROM recipient")
        bench.open()
        told = quarantined(bench)
        (mail,) = bench.page()

        assert mail.envelope.sender == submission.envelope.sender
        assert [standing.state for standing in mail.standings] == [State.HELD]
        assert [was for _, was in told] == [None]
        bench.open()
        assert bench.spool.tally.held == 1

    def test_a_recipient_that_is_done_stays_done(self, bench: Bench, folder: Path) -> None:
        """Damage does not undo what was delivered."""
        bench.open()
        submission = bench.submit("b@example.net", "c@example.net")
        bench.settle(submission, Standing(0, submission.envelope.recipients[0], State.DELIVERED, reply="250 Ok"))
        bench.close()
        change(folder, "UPDATE mail SET head = x'00'")
        bench.open()
        assert bench.ready() == []

        states = [(standing.state, standing.reply) for standing in bench.page()[0].standings]
        assert states[0] == (State.DELIVERED, "250 Ok")
        assert states[1][0] is State.HELD

    def test_a_small_body_that_changed(self, bench: Bench, folder: Path) -> None:
        """It is never handed out; a body asked for alone fails with Damaged."""
        bench.open()
        damaged, sound = bench.submit(body=b"x" * 10_000), bench.submit()
        bench.close()
        change(folder, "UPDATE mail SET body = zeroblob(10000) WHERE key = ?", damaged.envelope.key)
        bench.open()
        told = quarantined(bench)
        with pytest.raises(Damaged, match="body"):
            bench.body(of(bench.find(damaged)))
        assert keys(bench.ready()) == keys([sound])
        assert [was for _, was in told] == [State.READY]

    @pytest.mark.parametrize("what", ["flip", "short", "long", "gone", "link", "folder", "pipe"])
    def test_a_large_body_that_changed(self, bench: Bench, folder: Path, what: str) -> None:
        """It is checked before any of it is handed out."""
        bench.open()
        submission, body = bench.submit_large()
        file = folder / "bodies" / submission.envelope.uuid
        match what:
            case "flip":
                file.write_bytes(body[:1000] + bytes([body[1000] ^ 1]) + body[1001:])
            case "short":
                file.write_bytes(body[:-1])
            case "long":
                file.write_bytes(body + b"x")
            case "gone":
                file.unlink()
            case "folder":
                file.unlink()
                file.mkdir()
            case "pipe":
                file.unlink()
                os.mkfifo(file)
            case "link":
                file.rename(folder / "elsewhere")
                file.symlink_to(folder / "elsewhere")
        with pytest.raises(Damaged):
            bench.body(of(bench.find(submission)))

    def test_a_limit_is_met_though_there_is_damage(self, bench: Bench, folder: Path) -> None:
        """Damaged mail takes no place in an answer."""
        bench.open()
        submissions = [bench.submit() for _ in range(6)]
        bench.close()
        change(folder, "UPDATE mail SET head = x'00' WHERE key IN (?, ?)", *keys(submissions[1:3]))
        bench.open()

        assert keys(bench.ready(limit=3)) == keys([submissions[0], *submissions[3:5]])


def filled(bench: Bench, mails: int = 200) -> dict[int, bytes | None]:
    """A closed spool with mails in many pages: key -> small body."""
    bench.open()
    large, _ = bench.submit_large()
    told: dict[int, bytes | None] = {large.envelope.key: None}
    for _ in range(mails):
        body = os.urandom(2500)
        told[bench.submit("b@example.net", "c@example.net", body=body).envelope.key] = body
    bench.close()
    return told


class TestDamagedDatabase:
    """A file that is no sound database: set aside whole, what can be read goes on, and the log is told."""

    @pytest.mark.parametrize("what", ["page", "header", "first page", "cut", "cut within a page", "text"])
    def test_what_is_sound_goes_on(self, bench: Bench, folder: Path, what: str) -> None:
        """Every mail that is handed out is as it was acknowledged."""
        told = filled(bench)
        file = folder / "spool.sqlite"
        octets = file.read_bytes()
        match what:
            case "page":
                page = len(octets) // 4096 // 2
                octets = octets[: page * 4096] + os.urandom(4096) + octets[(page + 1) * 4096 :]
            case "header":
                octets = b"\0" * 100 + octets[100:]
            case "first page":
                octets = os.urandom(4096) + octets[4096:]
            case "cut":
                octets = octets[: len(octets) // 4096 // 2 * 4096]
            case "cut within a page":
                octets = octets[: len(octets) // 2 + 1000]
            case "text":
                octets = b"These are my notes.\n" * 300
        file.write_bytes(octets)
        bench.open()
        mails = bench.ready(limit=1000)

        (said,) = sqlite(bench).found_damage
        assert str(folder / "damaged" / "1") in said
        assert (folder / "damaged" / "1" / "spool.sqlite").read_bytes() == octets
        assert {mail.envelope.key: mail.body for mail in mails}.items() <= told.items()
        least = {"page": 190, "header": 201, "first page": 201, "cut": 50, "cut within a page": 50, "text": 0}[what]
        assert len(mails) >= least
        left = sum(1 for _ in folder.glob("**/bodies/*"))
        assert left == 1
        submission = bench.submit()
        bench.open()
        assert sqlite(bench).found_damage == ()
        assert submission.envelope.key in keys(bench.ready(limit=1000))

    def test_any_flipped_bits(self, bench: Bench, folder: Path) -> None:
        """Whatever is flipped: the daemon starts, and nothing wrong is handed out."""
        told = filled(bench, 40)
        octets = (folder / "spool.sqlite").read_bytes()
        dice = random.Random(5)
        for turn in range(25):
            flipped = bytearray(octets)
            for _ in range(1 + turn):
                flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
            (folder / "spool.sqlite").write_bytes(flipped)
            bench.open()
            sound = {mail.envelope.key: mail.body for mail in bench.ready(limit=1000)}
            shown = keys(bench.page(limit=1000))
            bench.close()

            assert sound.items() <= told.items()
            assert set(sound) <= set(shown)
            assert len(sound) > 20
            for suffix in ("", "-wal", "-shm"):
                (folder / f"spool.sqlite{suffix}").unlink(missing_ok=True)
            for damaged in folder.glob("damaged/*"):
                for body in (damaged / "bodies").iterdir():
                    body.rename(folder / "bodies" / body.name)
                shutil.rmtree(damaged)

    @pytest.mark.parametrize("place", [5, 20, 32 + 20 * 4120 + 4, 32 + 20 * 4120 + 2000])
    def test_a_flipped_bit_in_the_log(self, bench: Bench, folder: Path, place: int) -> None:
        """What was acknowledged after it is not lost with it."""
        bench.open()
        told = [bench.submit(body=os.urandom(1000)) for _ in range(40)]
        shutil.copytree(folder, folder.with_name("1"))
        bench.place = 1
        log = folder.with_name("1") / "spool.sqlite-wal"
        octets = bytearray(log.read_bytes())
        octets[place] ^= 4
        log.write_bytes(octets)
        bench.open()
        sound = bench.ready()

        assert "its log" in sqlite(bench).found_damage[0]
        assert {mail.body for mail in sound} <= {submission.body for submission in told}
        assert len(sound) >= 38
        assert len(bench.page()) == 40

    @pytest.mark.parametrize(
        ("octets", "damaged"), [(b"", False), (bytes(20_000), False), (b"x", False), (b"x" * 20_000, True)]
    )
    def test_a_log_that_is_none(self, bench: Bench, folder: Path, octets: bytes, damaged: bool) -> None:
        """Beside a sound database: what may be something is set aside, and nothing is lost."""
        told = filled(bench, 5)
        (folder / "spool.sqlite-wal").write_bytes(octets)
        bench.open()

        assert bool(sqlite(bench).found_damage) == damaged
        assert {mail.envelope.key: mail.body for mail in bench.ready()} == told
        if damaged:
            assert (folder / "damaged" / "1" / "spool.sqlite-wal").read_bytes() == octets

    def test_a_log_beside_a_lost_first_page(self, bench: Bench, folder: Path) -> None:
        """Both the pages that were copied from it and those that stand in it yet are read."""
        filled(bench, 10)
        bench.open()
        later = [bench.submit() for _ in range(3)]
        shutil.copytree(folder, folder.with_name("1"))
        bench.place = 1
        with (folder.with_name("1") / "spool.sqlite").open("r+b") as file:
            file.write(bytes(100))
        bench.open()

        assert len(bench.ready()) == 14
        assert set(keys(later)) < set(keys(bench.ready()))

    def test_a_log_that_ends_in_the_middle_of_a_commit(self, bench: Bench, folder: Path) -> None:
        """What a power cut leaves: the last commit was not acknowledged, and nothing is damaged."""
        bench.open()
        told = [bench.submit(body=os.urandom(1000)) for _ in range(10)]
        log = folder / "spool.sqlite-wal"
        before = log.stat().st_size
        bench.submit(body=os.urandom(20_000))
        shutil.copytree(folder, folder.with_name("1"))
        log = folder.with_name("1") / "spool.sqlite-wal"
        octets = bytearray(log.read_bytes())
        octets[before + 4120 : before + 2 * 4120] = bytes(4120)
        log.write_bytes(octets)
        bench.place = 1
        bench.open()

        assert sqlite(bench).found_damage == ()
        assert keys(bench.ready()) == keys(told)

    @pytest.mark.parametrize("database", [None, b""])
    def test_a_wal_without_its_database(self, bench: Bench, folder: Path, database: bytes | None) -> None:
        """SQLite would throw it away; it is kept, and so are the bodies."""
        filled(bench, 3)
        file = folder / "spool.sqlite"
        file.unlink()
        if database is not None:
            file.write_bytes(database)
        (folder / "spool.sqlite-wal").write_bytes(b"WAL")
        bench.open()

        assert (folder / "damaged" / "1" / "spool.sqlite-wal").read_bytes() == b"WAL"
        assert len(list((folder / "damaged" / "1" / "bodies").iterdir())) == 1
        assert sqlite(bench).found_damage
        bench.submit()

    def test_a_wal_that_has_it_all(self, bench: Bench, folder: Path) -> None:
        """A database that is gone before anything was copied into it: what its log holds goes on."""
        bench.open()
        told = [bench.submit(body=os.urandom(1000)) for _ in range(20)]
        large, body = bench.submit_large()
        shutil.copytree(folder, folder.with_name("1"))
        bench.place = 1
        (folder.with_name("1") / "spool.sqlite").unlink()
        bench.open()

        assert keys(bench.ready(limit=1000)) == [*keys(told), large.envelope.key]
        assert bench.body(of(bench.find(large))) == body
        assert len(sqlite(bench).found_damage) == 1

    @pytest.mark.parametrize("left", [None, 0, 32, 20_000])
    def test_a_wal_that_was_cut_short(self, bench: Bench, folder: Path, left: int | None) -> None:
        """Its index, which a kill leaves, knows how long it was: bodies whose mails are lost are kept."""
        bench.open()
        told = [bench.submit(body=os.urandom(1000)) for _ in range(20)]
        large, body = bench.submit_large()
        shutil.copytree(folder, folder.with_name("1"))
        bench.place = 1
        wal = folder.with_name("1") / "spool.sqlite-wal"
        if left is None:
            wal.unlink()
        else:
            os.truncate(wal, left)
        bench.open()

        assert set(keys(bench.ready(limit=1000))) <= set(keys(told))
        assert len(sqlite(bench).found_damage) == 1
        kept = folder.with_name("1") / "damaged" / "1" / "bodies" / large.envelope.uuid
        assert kept.read_bytes() == body

    @pytest.mark.parametrize("suffix", ["-wal", "-shm"])
    @pytest.mark.parametrize("kind", ["folder", "pipe", "link", "link to nothing"])
    def test_no_file_in_place_of_the_log(self, bench: Bench, folder: Path, suffix: str, kind: str) -> None:
        """It is set aside untouched, and what the database holds goes on."""
        told = filled(bench, 3)
        target = folder.with_name("target")
        target.write_text("mine")
        path = folder / f"spool.sqlite{suffix}"
        match kind:
            case "folder":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
            case "link":
                path.symlink_to(target)
            case "link to nothing":
                path.symlink_to(folder / "nothing")
        mode = target.stat().st_mode
        bench.open()

        assert set(keys(bench.ready())) == set(told)
        assert len(sqlite(bench).found_damage) == 1
        assert os.path.lexists(folder / "damaged" / "1" / path.name)
        assert (target.read_text(), target.stat().st_mode) == ("mine", mode)
        bench.submit()

    def test_bodies_without_a_database(self, bench: Bench, folder: Path) -> None:
        """A database that is gone is damage: its bodies are kept."""
        filled(bench, 3)
        (folder / "spool.sqlite").unlink()
        bench.open()

        assert len(list((folder / "damaged" / "1" / "bodies").iterdir())) == 1

    def test_another_programs_database(self, bench: Bench, folder: Path) -> None:
        """It is set aside like any other file that is none of ours."""
        folder.mkdir()
        with closing(sqlite3.connect(folder / "spool.sqlite")) as connection:
            connection.execute("CREATE TABLE bookmark (url TEXT)")
        bench.open()

        assert "another program" in sqlite(bench).found_damage[0]
        assert (folder / "damaged" / "1" / "spool.sqlite").exists()

    def test_damage_that_is_met_in_use(self, bench: Bench, folder: Path) -> None:
        """It fails for now, and the next start looks closer, however large the database is."""
        told = filled(bench)
        bench.open()
        file = folder / "spool.sqlite"
        with file.open("r+b") as octets:
            octets.seek(4096 * 2)
            octets.write(os.urandom(file.stat().st_size - 4096 * 2))
        for _ in range(3):
            with pytest.raises(SpoolFailing, match="the next start repairs"):
                bench.ready(after=next(iter(told)))
        assert (folder / "suspect").exists()
        bench.open()

        assert sqlite(bench).found_damage
        assert not (folder / "suspect").exists()

    @pytest.mark.parametrize("step", range(1, 5))
    def test_a_crash_while_it_is_set_aside(self, bench: Bench, folder: Path, step: int) -> None:
        """At each renaming: the next start brings it to the same end."""
        told = filled(bench, 20)
        file = folder / "spool.sqlite"
        octets = b"\0" * 100 + file.read_bytes()[100:]
        file.write_bytes(octets)
        crash = (
            "import sys, pathlib, os\n"
            "from relay.spool.sqlite.opening import opened\n"
            "left = [int(sys.argv[2])]\n"
            "def audit(event, _):\n"
            "    if event == 'os.rename':\n"
            "        left[0] -= 1\n"
            "        if not left[0]: os._exit(9)\n"
            "sys.addaudithook(audit)\n"
            "opened(pathlib.Path(sys.argv[1]))\n"
        )
        ended = subprocess.run([sys.executable, "-c", crash, folder, str(step)], timeout=30, check=False)
        assert ended.returncode == (9 if step <= 3 else 0)
        bench.open()

        assert {mail.envelope.key: mail.body for mail in bench.ready()} == told
        assert (folder / "damaged" / "1" / "spool.sqlite").read_bytes() == octets
        assert not list(folder.glob("spool.sqlite.*"))


@contextmanager
def full(bench: Bench) -> Iterator[None]:
    """The database may not grow: what a full volume says, SQLite says then."""
    writing, _ = sqlite(bench)._connections
    (pages,) = writing.execute("PRAGMA page_count").fetchone()
    writing.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    try:
        yield
    finally:
        writing.execute("PRAGMA max_page_count = 1073741823").fetchone()


@contextmanager
def refusing() -> Iterator[None]:
    """Every write to a file fails with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestFailingDisk:
    """Errors of storage are temporary and honest, and the spool goes on when the disk does."""

    def test_a_full_volume(self, bench: Bench) -> None:
        """New mail gets SpoolFull and is not there; outcomes are written; then mail is taken again."""
        bench.open()
        submission, other = bench.submit(), bench.submit()
        with full(bench):
            for _ in range(3):
                with pytest.raises(SpoolFull):
                    bench.submit(body=b"x" * 200_000)
            bench.defer(submission, bench.time)
            bench.settle(other)
        taken = bench.submit(body=b"x" * 200_000)
        bench.open()

        assert keys(bench.page()) == keys([submission, taken])

    def test_a_write_that_fails(self, bench: Bench) -> None:
        """All of the group fails and none of it is there; the spool says that it cannot be written, until it can."""
        bench.open()
        submission = bench.submit()
        with refusing():
            asked = [bench.spool.submit(bench.mail(body=b"x" * 100_000)) for _ in range(20)]
            for each in asked:
                with pytest.raises(SpoolFailing, match="not be written"):
                    bench.pump.wait(each)
            assert not sqlite(bench)._writer.writable
            with pytest.raises(SpoolFailing):
                bench.settle(submission)
        taken = bench.submit()

        assert sqlite(bench)._writer.writable
        bench.open()
        assert keys(bench.page()) == keys([submission, taken])

    def test_a_large_body_that_cannot_be_written(self, bench: Bench, folder: Path) -> None:
        """Its writer fails at the end, asks for no pause for ever, and leaves no file."""
        bench.open()
        bench.submit()
        with refusing():
            writer, _ = bench.large(LARGE * 8, 64)
            with pytest.raises(SpoolFailing, match="large body"):
                bench.pump.wait(writer.finish(bench.spool.next_id()[1]))
            writer.abandon()

        assert list((folder / "bodies").iterdir()) == []

    def test_bodies_without_a_folder(self, bench: Bench, folder: Path) -> None:
        """Small mail does not mind."""
        bench.open()
        (folder / "bodies").rmdir()
        writer, _ = bench.large(LARGE + 1)
        with pytest.raises(SpoolFailing, match="large body"):
            bench.pump.wait(writer.finish(bench.spool.next_id()[1]))
        bench.submit()

    @pytest.mark.parametrize("name", ["spool.sqlite", "spool.sqlite-wal"])
    def test_a_file_that_is_taken_away(self, bench: Bench, folder: Path, name: str) -> None:
        """Nothing more is acknowledged, since nobody would find it; where it is put back the spool goes on."""
        bench.open()
        first = bench.submit()
        spool = sqlite(bench)
        (folder / name).rename(folder / "aside")
        with pytest.raises(SpoolFailing, match=f"{name} was removed or replaced"):
            bench.submit()
        with pytest.raises(SpoolFailing):
            bench.defer(first, bench.time)
        spool._look()
        assert not spool.health.writable

        (folder / "aside").rename(folder / name)
        spool._look()
        bench.pump.until(lambda: spool._writer.writable)
        second = bench.submit()
        bench.open()
        assert keys(bench.page()) == keys([first, second])

    def test_a_file_that_is_taken_away_while_nothing_is_written(self, bench: Bench, folder: Path) -> None:
        """It is seen within seconds."""
        bench.open()
        spool = sqlite(bench)
        (folder / "spool.sqlite").unlink()
        for _ in range(IDLE):
            spool._look()
        bench.pump.until(lambda: not spool._writer.writable)
        spool._look()
        assert not spool.health.writable

    def test_health_follows(self, bench: Bench) -> None:
        """Without any mail: a disk that takes nothing is seen within seconds, and that it does again, too."""
        bench.open()
        bench.submit()
        spool = sqlite(bench)
        with refusing():
            with pytest.raises(SpoolFailing):
                bench.submit(body=b"x" * 100_000)
            spool._look()
            assert not spool.health.writable
        spool._look()
        bench.pump.until(lambda: spool._writer.writable)
        spool._look()
        assert spool.health.writable

    def test_a_reserve_for_outcomes(self, bench: Bench, tmp_path: Path) -> None:
        """Part of min_free is set aside, given back on a full volume, and set aside again."""
        pump = Pump()
        spool = open_spool(
            tmp_path / "spool", reactor=pump, now=lambda: 5.0, random_bits=random.getrandbits, min_free=2**20
        )
        reserve = tmp_path / "spool" / "reserve"
        assert reserve.stat().st_size == 2**19
        bench.in_use = spool
        bench.pump = pump
        submission = bench.submit()
        with full(bench), pytest.raises(SpoolFull):
            bench.submit(body=b"x" * 200_000)
        assert not reserve.exists()
        spool._look()
        assert reserve.exists()
        bench.settle(submission)


class TestEconomy:
    """What it costs."""

    def test_plans(self, bench: Bench, folder: Path) -> None:
        """No question walks through a whole table or sorts anything."""
        bench.open()
        plans = []
        with closing(for_reading(folder / "spool.sqlite")) as connection:
            asked: list[str] = []
            connection.set_trace_callback(asked.append)
            reading.ready_keys(connection, 1, 10)
            reading.due_keys(connection, 1.0, 10)
            reading.next_due(connection, 1.0)
            reading.page_keys(connection, 1, 10)
            reading.oldest(connection, 1)
            reading.last_key(connection)
            reading.held(connection)
            reading.mails(connection, [1, 2], 100)
            connection.set_trace_callback(None)
            for statement in asked:
                plans += [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]

        assert len(asked) == 12
        assert any("recipient_due" in plan for plan in plans)
        assert [plan for plan in plans if "SCAN" in plan and "CONSTANT" not in plan] == []
        assert [plan for plan in plans if "TEMP B-TREE" in plan and "count(DISTINCT)" not in plan] == []

    def test_space_is_given_back(self, bench: Bench, folder: Path) -> None:
        """After a backlog the file becomes small again, while nothing is asked for."""
        bench.open()
        submissions = [bench.mail(body=b"x" * LARGE) for _ in range(120)]
        bench.pump.wait(gatherResults([bench.spool.submit(submission) for submission in submissions]))
        for submission in submissions:
            bench.settle(submission)
        writer = sqlite(bench)._writer
        for _ in range(1000):
            bench.pump.wait(writer.put(Write()))
            if not writer._slack:
                break
        bench.close()

        assert (folder / "spool.sqlite").stat().st_size < (SLACK + 600) * 4096

    def test_the_commits_are_told_of(self, tmp_path: Path) -> None:
        """How many writes each took, and how long."""
        pump = Pump()
        commits: list[tuple[int, float]] = []
        spool = open_spool(
            tmp_path / "spool",
            reactor=pump,
            now=lambda: 5.0,
            random_bits=random.getrandbits,
            min_free=0,
            committed=lambda writes, seconds: commits.append((writes, seconds)),
        )
        bench = Bench(lambda *_: spool, pump)
        bench.open()
        asked = [spool.submit(bench.mail()) for _ in range(50)]
        pump.wait(gatherResults(asked))
        bench.close()

        assert sum(writes for writes, _ in commits) == 50
        assert len(commits) < 50
        assert all(0 < seconds < 5 for _, seconds in commits)

    def test_a_group_is_settled_without_writing_what_it_deletes(self, bench: Bench) -> None:
        """A settlement that ends its mail changes no standing first."""
        bench.open()
        submission = bench.submit()
        writing, _ = sqlite(bench)._connections
        asked: list[str] = []
        writing.set_trace_callback(asked.append)
        envelope = submission.envelope
        standing = Standing(0, Recipient("b@example.net"), State.DELIVERED, reply="250 Ok")
        bench.pump.wait(bench.spool.settle(Settlement(envelope.key, envelope.uuid, [standing], finished=True)))
        writing.set_trace_callback(None)

        assert [statement.split()[0] for statement in asked if not statement.startswith(("SELECT", "--"))] == [
            "BEGIN",
            "DELETE",
            "DELETE",
            "COMMIT",
        ]
