"""Debian's own programs, with mailrelay-sendmail in the place where they look: cron, mailx, git, PHP.

They run in a mount namespace, in which that place and cron's folders are others than the machine's.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import PATIENCE, Daemon
from tests.running import Running, configure
from tests.sending import SENDMAIL
from tests.sink import Mail, Sink

PLACE = Path("/usr/sbin/sendmail")
LETTER = "From 0000000 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.com>\nSubject: [PATCH] Größe\n\n.\nFrom here\n---\n"


def _namespaces() -> bool:
    try:
        trial = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
        return subprocess.run(trial, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


pytestmark = [
    pytest.mark.needs("unshare", "mount", "sendmail"),
    pytest.mark.skipif(os.getuid() != 0 or not _namespaces(), reason="only root may bind a file over another"),
]


class Host:
    """A machine whose sendmail(1) is ours; `relay` is its daemon, `sink` the provider, `folder` for all else."""

    def __init__(self, folder: Path, sink: Sink) -> None:
        self.folder = folder
        self.sink = sink
        addresses = {"domain": "example.com", "aliases": {"root": ["ops@example.net"]}}
        configure(folder, [sink.table()], {"addresses": addresses})
        (folder / "sendmail").write_text(
            f'#!/bin/sh\nMAILRELAY_CONFIG={folder}/relay.toml exec {SENDMAIL} "$@"\n',
        )
        (folder / "sendmail").chmod(0o755)
        self.relay = Running(folder)

    def under(self, *more: str) -> list[str]:
        """What a program runs under; `more` are further commands that make that place."""
        bind = f"mount --bind {self.folder}/sendmail {PLACE.resolve()}"
        return ["unshare", "--mount", "sh", "-ec", "; ".join([bind, *more, 'exec "$@"']), "sh"]

    def run(self, *command: str | Path, text: str = "") -> Mail:
        """What a program sends: once while the daemon is up, and the same by the drop folder; once each."""
        mails = []
        for up in (True, False):
            before = len(self.sink.mails)
            if not up:
                self.relay.stop()
            done = subprocess.run(
                [*self.under(), *command],
                input=text.encode(),
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "USER": "root", "LC_ALL": "C.UTF-8"},
                capture_output=True,
                check=False,
                timeout=PATIENCE,
            )
            assert done.returncode == 0, (done.stdout, done.stderr)
            if not up:
                assert len(self.sink.mails) == before
                self.relay = Running(self.folder)
            mails.append(self.sink.wait_for(before + 1)[-1])
        assert mails[0].recipients == mails[1].recipients
        return mails[0]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """One of its own for each test."""
    with Sink() as sink:
        host = Host(tmp_path, sink)
        yield host
        host.relay.__exit__(None, None, None)


@pytest.mark.needs("cron")
def test_cron(host: Host) -> None:
    """What a job prints is in root's alias's box; a job that is silent sends nothing."""
    for name in ("crontabs", "cron.d", "run"):
        (host.folder / name).mkdir()
    table = host.folder / "crontabs" / "root"
    table.write_text('@reboot echo "said: ä"\n@reboot true\n')
    table.chmod(0o600)
    crontab = host.folder / "crontab"
    crontab.touch()
    places = {"crontabs": "/var/spool/cron/crontabs", "cron.d": "/etc/cron.d", "run": "/run", "crontab": "/etc/crontab"}
    under = host.under(*[f"mount --bind {host.folder}/{name} {place}" for name, place in places.items()])
    with Daemon([*under, "cron", "-f"], host.folder, {**os.environ, "LC_ALL": "C.UTF-8"}):
        [mail] = host.sink.wait_for(1)

    assert (mail.sender, mail.recipients) == (b"root@example.com", (b"ops@example.net",))
    assert b"\r\nFrom: root@example.com (Cron Daemon)\r\n" in mail.content
    assert b"\r\nSubject: Cron <root@" in mail.content
    assert mail.content.endswith("\r\n\r\nsaid: ä\r\n".encode())


@pytest.mark.needs("bsd-mailx")
def test_bsd_mailx(host: Host) -> None:
    """To a name of the host and to an address, with a dot at the beginning of a line."""
    mail = host.run("bsd-mailx", "-s", "hello", "-c", "c@example.net", "root", text="It works.\n..\nbye\n")

    assert mail.recipients == (b"ops@example.net", b"c@example.net")
    assert b"\r\nSubject: hello\r\n" in mail.content
    assert mail.content.endswith(b"\r\n\r\nIt works.\r\n..\r\nbye\r\n")


@pytest.mark.needs("s-nail")
def test_s_nail(host: Host) -> None:
    """With a blind copy, of which the others hear nothing."""
    set_place = f"-Smta={shlex.quote(str(PLACE))}"
    mail = host.run("s-nail", "-n", set_place, "-s", "hello", "-b", "c@example.net", "root", text="It works.\n")

    assert sorted(mail.recipients) == [b"c@example.net", b"ops@example.net"]
    assert not re.search(rb"(?im)^bcc:", mail.content)


@pytest.mark.needs("git", "git-send-email")
def test_git_send_email(host: Host) -> None:
    """A patch as it is, from whom it says."""
    (host.folder / ".gitconfig").write_text("[user]\nname = A\nemail = a@example.com\n")
    (host.folder / "0001.patch").write_text(LETTER, "utf-8")
    mail = host.run(
        "git", "send-email", "--quiet", "--confirm=never", "--from=A <a@example.com>", "--to=b@example.net",
        "--envelope-sender=auto", "--8bit-encoding=UTF-8", "0001.patch",
    )  # fmt: skip

    assert (mail.sender, mail.recipients) == (b"a@example.com", (b"b@example.net", b"a@example.com"))
    assert mail.content.endswith(b"\r\n.\r\nFrom here\r\n---\r\n")


@pytest.mark.needs("php")
def test_php(host: Host) -> None:
    """mail(), with no word about sendmail in any php.ini."""
    code = 'exit(mail("b@example.net", "hello", "It works.\\n", "X-A: b", "-fshop@example.com") ? 0 : 1);'
    mail = host.run("php", "-n", "-r", code)

    assert (mail.sender, mail.recipients) == (b"shop@example.com", (b"b@example.net",))
    assert b"\r\nX-A: b\r\n" in mail.content
    assert mail.content.endswith(b"\r\n\r\nIt works.\r\n\r\n")
