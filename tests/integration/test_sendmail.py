"""sendmail(1) against a real daemon, and against what answers in its place."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from relay.drop.form import load
from tests.running import Running, configure, soon
from tests.sending import NOBODY, SENDMAIL, sendmail
from tests.sink import Mail, Sink

root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A provider that takes everything."""
    with Sink() as sink:
        yield sink


@pytest.fixture
def folder(tmp_path: Path, sink: Sink) -> Iterator[Path]:
    """A folder that every user reaches, with a configuration."""
    place = Path(f"/tmp/mailrelay-test-{os.getpid()}-{time.time_ns()}")
    place.mkdir(mode=0o755)
    place.chmod(0o755)
    settings(place, sink)
    yield place
    shutil.rmtree(place)


def settings(folder: Path, sink: Sink, addresses: Mapping[str, object] | None = None, **smtp: object) -> Path:
    """A configuration with a unix socket for everybody."""
    return configure(
        folder,
        [sink.table()],
        {
            "smtp": {"listen": ["tcp:0:interface=127.0.0.1", "unix:smtp.sock:mode=666"], **smtp},
            "addresses": addresses or {"domain": "example.com"},
            "delivery": {"batch_delay": 0},
        },
    )


def header(mail: Mail) -> str:
    """The header below the trace, as text."""
    return mail.below_trace.partition(b"\r\n\r\n")[0].decode()


def recipients(mails: list[Mail]) -> list[bytes]:
    """Of all of them, in order."""
    return sorted(recipient for mail in mails for recipient in mail.recipients)


def test_as_cron_calls_it(folder: Path, sink: Sink) -> None:
    """From: gets a domain; the envelope's sender is the user's."""
    mail = b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@app1> true\nX-Cron-Env: <SHELL=/bin/sh>\n\nout\n"
    with Running(folder):
        done = sendmail(folder, ["-i", "-FCronDaemon", "-B8BITMIME", "-oem", "root"], mail)
        [taken] = sink.wait_for(1)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert taken.recipients == (b"root@example.com",)
    assert taken.sender.endswith(b"@example.com")
    assert "From: root@example.com (Cron Daemon)" in header(taken)


def test_cron_by_the_rules(folder: Path, sink: Sink) -> None:
    """From root's address to that of a person, with one in From: that providers take; by the drop folder likewise."""
    addresses = {
        "domain": "example.com",
        "aliases": {"root": ["ops@example.net"]},
        "senders": {"root@example.com": "noreply@example.com"},
    }
    settings(folder, sink, addresses=addresses)
    mail = b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@app1> true\nX-Cron-Env: <SHELL=/bin/sh>\n\nout\n"
    arguments = ["-i", "-FCronDaemon", "-B8BITMIME", "-oem", "-froot", "root"]
    with Running(folder) as daemon:
        assert sendmail(folder, arguments, mail).returncode == 0
        sink.wait_for(1)
        daemon.stop()
    assert sendmail(folder, arguments, mail).returncode == 0
    with Running(folder):
        mails = sink.wait_for(2)

    for taken in mails:
        assert (taken.sender, taken.recipients) == (b"noreply@example.com", (b"ops@example.net",))
        assert "\r\nFrom: noreply@example.com (Cron Daemon)\r\nX-Original-From: root" in f"\r\n{header(taken)}"
        assert header(taken).count("From: ") == 2


def test_what_it_adds(folder: Path, sink: Sink) -> None:
    """A From: in ASCII, whatever the locale; SMTPUTF8 only where an address needs it."""
    with Running(folder):
        for locale in ("C", "tr_TR.UTF-8", "ja_JP.eucJP"):
            environ = {"LC_ALL": locale, "TZ": "Asia/Kathmandu"}
            assert sendmail(folder, ["-F", "Jörg Müller", "b@example.net"], b"hi\n", environ=environ).returncode == 0
            assert sendmail(folder, ["-F", b"Vir\xe1g", "b@example.net"], b"hi\n", environ=environ).returncode == 0
        mails = sink.wait_for(6)

    for mail in mails:
        assert mail.content.isascii()
        assert re.search(
            r"^From: (=\?utf-8\?b\?SsO2cmcgTcO8bGxlcg==\?=\r\n )?<?\S+@example\.com>?$", header(mail), re.MULTILINE
        )


def test_without_a_daemon(folder: Path, sink: Sink) -> None:
    """What was left goes out within seconds of the start, and once."""
    with Running(folder) as daemon:
        daemon.stop()
    done = sendmail(folder, ["-t", "-i"], b"To: b@example.net\n\nleft\n")
    [file] = (folder / "drop").iterdir()
    assert done.returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert load(file.read_bytes().partition(b"\n")[0]).recipients == ("b@example.net",)

    with Running(folder) as daemon:
        line = daemon.event("received")
        sink.wait_for(1)
        soon(lambda: not list((folder / "drop").iterdir()), "the folder is empty")

    assert line["client"] == f"uid:{os.getuid()}"
    assert len(sink.mails) == 1


@root
def test_any_user(folder: Path, sink: Sink) -> None:
    """One whom nobody knows, without environment, in a folder that is gone; the socket and the drop folder are open."""
    (folder / "relay.toml").chmod(0o644)
    gone = folder / "gone"
    with Running(folder) as daemon:
        gone.mkdir()
        under = ["sh", "-c", f'cd {gone} && rmdir {gone} && exec "$@"', "sh"]
        assert sendmail(folder, ["b@example.net"], b"up\n", uid=3_000_000, environ={}).returncode == 0
        assert sendmail(folder, ["b@example.net"], b"gone\n", under=under).returncode == 0
        sink.wait_for(2)
        daemon.stop()
    assert sendmail(folder, ["b@example.net"], b"down\n", uid=NOBODY, environ={}).returncode == 0
    listing = subprocess.run(["ls", folder / "drop"], user=NOBODY, check=False, capture_output=True)
    assert listing.returncode != 0

    with Running(folder) as daemon:
        assert daemon.event("received")["client"] == f"uid:{NOBODY}"
        mails = sink.wait_for(3)

    assert b"uid3000000@example.com" in {mail.sender for mail in mails}


@root
def test_a_configuration_that_the_user_may_not_read(folder: Path, sink: Sink) -> None:
    """The default places, and neither of them there: 75, and a line that names the folder."""
    (folder / "relay.toml").chmod(0o600)
    done = sendmail(folder, ["b@example.net"], b"hi\n", uid=NOBODY)

    assert done.returncode == 75
    assert done.stderr.count(b"\n") == 1
    assert b"/var/lib/mailrelay/drop" in done.stderr


@root
def test_the_domain_that_the_user_may_not_read(folder: Path, sink: Sink) -> None:
    """The daemon tells it, so that From: agrees with the envelope."""
    try:
        socket.create_server(("127.0.0.1", 2525)).close()
    except OSError:
        pytest.skip("somebody else listens on the default port")
    settings(folder, sink, listen=["tcp:2525:interface=127.0.0.1"])
    (folder / "relay.toml").chmod(0o600)
    with Running(folder):
        assert sendmail(folder, ["b@example.net"], b"hi\n", uid=NOBODY).returncode == 0
        [mail] = sink.wait_for(1)

    assert mail.sender.endswith(b"@example.com")
    assert b"From: " in mail.content
    assert mail.sender in mail.below_trace


def test_a_listener_behind_a_proxy(folder: Path, sink: Sink) -> None:
    """The header that a proxy would send is sent."""
    settings(folder, sink, listen=["tcp:0:interface=127.0.0.1", "haproxy:unix:smtp.sock:mode=666"])
    with Running(folder):
        assert sendmail(folder, ["b@example.net"], b"hi\n").returncode == 0
        sink.wait_for(1)

    assert list((folder / "drop").iterdir()) == []


def test_nowhere_to_leave_it(folder: Path, sink: Sink) -> None:
    """75, at once."""
    began = time.monotonic()
    done = sendmail(folder, ["b@example.net"], b"hi\n")

    assert done.returncode == 75
    assert str(folder / "drop").encode() in done.stderr
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("up", [True, False])
def test_more_recipients_than_one_mail_may_have(folder: Path, sink: Sink, up: bool) -> None:
    """Each gets it, once, and the long line passes unchanged."""
    people = [f"r{number:04}@example.net" for number in range(1, 1501)]
    line = f"To: {', '.join(people)}"
    mail = f"{line}\nCc: r0001@example.net, R0002@EXAMPLE.NET\n\nnews\n".encode()
    settings(folder, sink, max_recipients=1000)
    with Running(folder) as daemon:
        if not up:
            daemon.stop()
        assert sendmail(folder, ["-t", "-i"], mail).returncode == 0
        if up:
            soon(lambda: len(recipients(sink.mails)) >= 1500, "all have it", 30)
    if not up:
        with Running(folder):
            soon(lambda: len(recipients(sink.mails)) >= 1500, "all have it", 30)

    assert recipients(sink.mails) == [person.encode() for person in people]
    assert all(line in header(mail) for mail in sink.mails)


def test_fewer_recipients_than_it_thought(folder: Path, sink: Sink) -> None:
    """What the daemon says counts: the others go in a next mail, over the same connection."""
    settings(folder, sink, max_recipients=3)
    with Running(folder):
        settings(folder, sink, max_recipients=1000)
        done = sendmail(folder, [f"r{number}@example.net" for number in range(8)], b"hi\n")
        soon(lambda: len(recipients(sink.mails)) >= 8, "all have it", 20)

    assert done.returncode == 0
    assert len(recipients(sink.mails)) == 8


def test_what_the_daemon_refuses(folder: Path, sink: Sink) -> None:
    """69, with its words; an address that is none keeps the mail from nobody else."""
    settings(folder, sink, max_message_size=1000)
    with Running(folder) as daemon:
        assert sendmail(folder, ["b@example.net"], b"x" * 2000).returncode == 69
        assert sendmail(folder, ["b@example.net"], b"a\0b\n").returncode == 69
        done = sendmail(folder, ["b@example.net", "a@b@c", b"\xff@example.net"], b"hi\n")
        sink.wait_for(1)
        assert sendmail(folder, [b"-f\xff@example.com", "b@example.net"], b"hi\n").returncode == 69
        daemon.stop()
        down = [
            sendmail(folder, ["b@example.net"], b"x" * 2000).returncode,
            sendmail(folder, ["b@example.net"], b"a\0b\n").returncode,
            sendmail(folder, ["a@b@c"], b"a\n").returncode,
        ]

    assert done.returncode == 69
    assert b"a@b@c" in done.stderr
    assert b"\\udcff@example.net: " in done.stderr
    assert b"1 of 3 recipients were taken" in done.stderr
    assert down == [69, 69, 69]
    assert list((folder / "drop").iterdir()) == []


def test_usage(folder: Path) -> None:
    """64, a line, and nothing sent."""
    for arguments in ([], ["-Z"], ["two words"], ["-t"], ["-bd"]):
        done = sendmail(folder, arguments, b"Subject: nobody\n\n")
        assert done.returncode == 64, arguments
        assert done.stderr.startswith(b"mailrelay-sendmail: ")


def test_a_whole_dialogue_at_once(folder: Path, sink: Sink) -> None:
    """-bs waits for each reply itself; lines may end in LF, and content is no command."""
    lines = [
        "EHLO x",
        "MAIL FROM:<a@example.com>",
        "RCPT TO:<b@example.net>",
        "DATA",
        "Subject: s",
        "",
        "..dot",
        "QUIT",
        ".",
    ]
    with Running(folder):
        for end in ("\n", "\r\n"):
            done = sendmail(folder, ["-bs"], (end.join([*lines, "QUIT"]) + end).encode())
            codes = [line[:4] for line in done.stdout.decode().splitlines() if line[3] == " "]
            assert (done.returncode, codes) == (0, ["220 ", "250 ", "250 ", "250 ", "354 ", "250 ", "221 "])
        chunk = b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nBDAT 3 LAST\r\na\r\nNOOP\r\n"
        assert b"250 2.0.0 queued" in sendmail(folder, ["-bs"], chunk).stdout
        mails = sink.wait_for(3)

    assert [mail.content.rpartition(b"Subject: s")[2] for mail in mails[:2]] == [b"\r\n\r\n.dot\r\nQUIT\r\n"] * 2


def test_a_dialogue_without_a_daemon(folder: Path) -> None:
    """421, and 75."""
    done = sendmail(folder, ["-bs"], b"EHLO x\r\n")

    assert (done.returncode, done.stdout[:4]) == (75, b"421 ")


class Stand:
    """What listens in the daemon's place, and says `lines`, one for each line that it hears, the first at once."""

    def __init__(self, path: Path, *lines: bytes) -> None:
        self.heard: list[bytes] = []
        self._lines = lines
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            link, _ = self._server.accept()
        except OSError:
            return
        with link, link.makefile("rb") as stream:
            for line in self._lines:
                link.sendall(line)
                if line.startswith(b"354"):
                    while (heard := stream.readline()) not in (b".\r\n", b""):
                        self.heard.append(heard)
                else:
                    self.heard.append(stream.readline())

    def __enter__(self) -> Stand:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(10)


GOOD = (b"220 x\r\n", b"250 x\r\n", b"250 Ok\r\n", b"250 Ok\r\n", b"354 Go\r\n")


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (b"421 4.3.2 stopping\r\n",),
        (b"SSH-2.0-x\r\n",),
        GOOD[:2],
        (*GOOD[:2], b"451 4.3.0 later\r\n"),
        (*GOOD[:3], b"452 4.3.1 disk\r\n"),
        (*GOOD[:4], b"451 4.3.0 later\r\n"),
        (*GOOD, b"451 4.3.0 later\r\n"),
        GOOD,
    ],
    ids=["hangs up", "421", "no SMTP", "lost behind EHLO", "MAIL", "RCPT", "DATA", "the dot", "lost behind the dot"],
)
def test_not_now(folder: Path, lines: tuple[bytes, ...]) -> None:
    """Whatever says "later", or nothing any more: the mail is left, once."""
    (folder / "drop").mkdir()
    with Stand(folder / "smtp.sock", *lines):
        done = sendmail(folder, ["b@example.net"], b"hi\n")

    assert (done.returncode, done.stderr) == (0, b"")
    assert len(list((folder / "drop").iterdir())) == 1


@pytest.mark.parametrize(
    "lines",
    [
        (b"554 5.7.1 no\r\n",),
        (*GOOD[:2], b"552 5.3.4 too large\r\n"),
        (*GOOD[:3], b"550 5.1.1 nobody\r\n"),
        (*GOOD, b"550 5.6.0 not so\r\n"),
    ],
)
def test_never(folder: Path, lines: tuple[bytes, ...]) -> None:
    """What says "no" says it for good: 69, with its words, and nothing is left."""
    (folder / "drop").mkdir()
    with Stand(folder / "smtp.sock", *lines):
        done = sendmail(folder, ["b@example.net"], b"hi\n")

    assert done.returncode == 69
    assert lines[-1].strip() in done.stderr
    assert list((folder / "drop").iterdir()) == []


def test_nobody_greets(folder: Path) -> None:
    """After 2 seconds the mail is left."""
    (folder / "drop").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "smtp.sock"))
        server.listen()
        began = time.monotonic()
        assert sendmail(folder, ["b@example.net"], b"hi\n").returncode == 0

    assert 1.9 < time.monotonic() - began < 10
    assert len(list((folder / "drop").iterdir())) == 1


def test_part_of_the_recipients(folder: Path) -> None:
    """Where some could neither be taken nor written: 75, and a line that says how many were."""
    lines = (*GOOD[:4], b"451 4.3.0 later\r\n", b"354 Go\r\n", b"250 Ok\r\n")
    with Stand(folder / "smtp.sock", *lines):
        done = sendmail(folder, ["b@example.net", "c@example.net"], b"hi\n")

    assert done.returncode == 75
    assert b"1 of 2 recipients were taken" in done.stderr


def test_closed_streams(folder: Path, sink: Sink) -> None:
    """Standard input, output and error may all be closed."""
    with Running(folder):
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            under = ["sh", "-c", f'exec "$@" {closed}', "sh"]
            assert sendmail(folder, ["b@example.net"], b"hi\n", under=under).returncode == 0
        sink.wait_for(4)


def test_it_is_quick(folder: Path, sink: Sink) -> None:
    """It imports next to nothing: no Twisted, no email, no asyncio."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, relay.sendmail.main; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    with Running(folder):
        times = []
        for _ in range(7):
            before = os.times()
            assert sendmail(folder, ["b@example.net"], b"hi\n").returncode == 0
            after = os.times()
            times.append(after.children_user + after.children_system - before.children_user - before.children_system)

    assert not {"twisted", "email", "asyncio", "attr", "dataclasses", "inspect", "json", "pathlib"} & set(loaded)
    assert statistics.median(times) < 0.15
    assert SENDMAIL.exists()
