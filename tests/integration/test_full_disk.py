"""A spool on a file system of its own that fills up, in a mount namespace of its own."""

from __future__ import annotations

import json
import os
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.running import Running, Settings, Unread, configure, given, letter, soon
from tests.sink import Sink

MIB = 1024 * 1024
LARGE = 300 * 1024


def may_mount() -> bool:
    """Whether this user may mount here."""
    trial = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(trial, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = [
    pytest.mark.needs("unshare", "mount"),
    pytest.mark.skipif(not may_mount(), reason="mounting a file system is not permitted here"),
]


def in_a_namespace(mounts: str) -> list[str]:
    """What a program is to be started with that is to see these mounts, and nobody else."""
    return ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]


class Disk:
    """The file system at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, leave: int = 0) -> None:
        """Fill it, but for `leave` octets, whatever the daemon takes or gives back meanwhile."""
        with self._filler.open("ab") as filler:
            wanted = self._free() - leave
            while wanted >= 4096:
                try:
                    os.posix_fallocate(filler.fileno(), os.fstat(filler.fileno()).st_size, wanted)
                    wanted = self._free() - leave
                except OSError:
                    wanted //= 2

    def _free(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def empty(self) -> None:
        """Give all of that back."""
        self._filler.unlink()


@contextmanager
def on_a_small_disk(folder: Path, octets: int) -> Iterator[tuple[Running, Disk]]:
    """A daemon whose spool has so much space."""
    (folder / "spool").mkdir()
    with Running(folder, under=in_a_namespace(f"mount -t tmpfs -o size={octets} none spool")) as relay:
        yield relay, Disk(Path(f"/proc/{relay.process.pid}/root{folder}/spool"))


def reply_to_mail(relay: Running) -> tuple[int, bytes]:
    """What MAIL is answered."""
    with relay.client() as client:
        return client.mail("a@example.com")


def test_less_than_min_free(tmp_path: Path) -> None:
    """452 4.3.1 at MAIL, and an alert, while what waits is delivered; and mail again once there is space."""
    with Sink() as sink:
        settings: Settings = {"spool": {"min_free": "8MiB"}, "alerts": {"check_interval": "500ms"}}
        configure(tmp_path, [sink.table()], settings)
        with on_a_small_disk(tmp_path, 32 * MIB) as (relay, disk):
            with sink.gate("."):
                relay.submit(letter("one"))
                sink.wait_until_reached(".")
                disk.fill(leave=6 * MIB)
                soon(lambda: reply_to_mail(relay)[0] == 452, "mail is refused", within=6)
                code, said = reply_to_mail(relay)
                health = relay.health()
                alert = relay.event("alert")
            relay.event("finished")
            disk.empty()
            cleared = relay.event("alert_cleared")
            soon(lambda: reply_to_mail(relay)[0] == 250, "mail is taken", within=6)
            relay.submit(letter("two"))
            sink.wait_for(2)

    assert (code, said[:5]) == (452, b"4.3.1")
    assert health["status"] == "failing"
    assert health["spool"]["free_bytes"] < 8 * MIB
    assert [alert["alert"], cleared["alert"]] == ["disk", "disk"]
    assert "below 8.0 MiB (spool.min_free) new mail is refused" in alert["message"]
    assert len(sink.mails) == 2


def test_full_while_mail_comes_in(tmp_path: Path) -> None:
    """452 or 451 at the end of small and large mails, nothing of them is left, and mail again once there is space."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()], {"spool": {"min_free": 0}})
        with on_a_small_disk(tmp_path, 16 * MIB) as (relay, disk):
            codes = set()
            taken = relay.submit(letter("before"))
            with relay.client() as client:
                disk.fill()
                for number in range(6):
                    try:
                        taken.append(given(client, letter(f"mail-{number}", LARGE * (number % 2) or 100_000)))
                    except smtplib.SMTPResponseException as refused:
                        codes.add(refused.smtp_code)
                        client.rset()
            assert codes
            assert codes <= {451, 452}
            disk.empty()
            soon(lambda: relay.health()["status"] == "ok", "the disk is well")
            taken += relay.submit(letter("after", LARGE))
            soon(lambda: relay.health()["queue"]["total"] == 0, "all of it is delivered")
            left = list((disk.path / "bodies").iterdir())

    assert sorted(mail.id for mail in sink.mails) == sorted(taken)
    assert left == []


def test_an_outcome_while_the_disk_is_full(tmp_path: Path) -> None:
    """With a reserve the outcome is written although the disk is full."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()], {"spool": {"min_free": "8MiB"}})
        with on_a_small_disk(tmp_path, 32 * MIB) as (relay, disk):
            with sink.gate("."):
                ids = relay.submit(*[letter(f"mail-{number}") for number in range(5)])
                sink.wait_until_reached(".")
                disk.fill()
            finished = {relay.event("finished")["id"] for _ in ids}
            soon(lambda: reply_to_mail(relay)[0] == 452, "mail is refused", within=6)

    assert finished == set(ids)
    assert len(sink.mails) == 5


def test_an_outcome_without_a_reserve(tmp_path: Path) -> None:
    """What cannot be written is kept, the mail is not sent again, and it is written once there is space."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()], {"spool": {"min_free": 0}, "delivery": {"workers": 2}})
        with on_a_small_disk(tmp_path, 16 * MIB) as (relay, disk):
            with sink.gate("."):
                ids = relay.submit(*[letter(f"mail-{number}") for number in range(6)])
                sink.wait_until_reached(".", 2)
                disk.fill()
            relay.line("an outcome could not be written")
            sent = len(sink.mails)
            disk.empty()
            finished = [relay.event("finished")["id"] for _ in ids]
            health = relay.health()

    assert 2 <= sent <= 4  # as many as there are workers, and as many more until it was known
    assert sorted(finished) == sorted(ids)
    assert sorted(mail.id for mail in sink.mails) == sorted(ids)
    assert health["queue"]["total"] == 0


def test_a_log_file_on_a_full_disk(tmp_path: Path) -> None:
    """Mail flows on meanwhile; what is written once there is space is whole lines, without any that was torn."""
    (tmp_path / "log").mkdir()
    file = Path("log", "mailrelay.log")
    with Sink() as sink:
        mounted = in_a_namespace("mount -t tmpfs -o size=1M none log")
        with Unread(tmp_path, [sink.table()], {"log": {"file": str(file)}}, under=mounted) as relay:
            seen = Path(f"/proc/{relay.process.pid}/root{tmp_path}") / file
            disk = Disk(seen.parent)
            relay.submit(letter("first"))
            disk.fill()
            ids = relay.submit(*[letter(f"mail-{number}") for number in range(50)])
            soon(lambda: relay.health()["queue"]["total"] == 0, "all of it is delivered")
            disk.empty()
            soon(lambda: ids[-1] in seen.read_text(), "the log goes on")
            relay.process.terminate()
            text = ""
            while relay.process.poll() is None:
                with suppress(OSError):
                    text = seen.read_text()

    entries = [json.loads(line) for line in text.splitlines()]
    assert set(ids) <= {entry["id"] for entry in entries if entry["event"] == "received"}
    assert len(sink.mails) == 51
