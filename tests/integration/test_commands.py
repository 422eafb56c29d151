"""The commands that ask the daemon, as processes against a process."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import smtplib
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from relay.cli import terminal
from relay.delivery.operator import Order
from relay.spool.sqlite import open_spool
from tests.contract.pump import Pump
from tests.contract.spool_contract import Bench
from tests.daemon import PATIENCE
from tests.running import Running, configure, letter, soon
from tests.sending import NOBODY, sendmail
from tests.sink import NAME, Sink

MAILRELAY = Path(sys.executable).with_name("mailrelay")
MANY = int(os.environ.get("MAILRELAY_QUEUE_MAILS", "3000"))
LONGEST_STALL = 0.1


def command(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a command comes to in `folder`."""
    return subprocess.run(
        [MAILRELAY, *arguments],
        cwd=folder,
        env=os.environ | {"COLUMNS": "80"} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def printed(folder: Path, *arguments: str) -> Any:
    """The JSON that a command prints, which must end well."""
    done = command(folder, *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A provider that puts everything off."""
    with Sink() as sink:
        sink.always(".", "451 4.7.1 Greylisted \x1b[31mred")
        yield sink


@pytest.fixture
def folder(tmp_path: Path, sink: Sink) -> Path:
    """A folder with a configuration, by which what was put off waits for an hour."""
    listen = ["tcp:0:interface=127.0.0.1", "unix:smtp.sock"]
    configure(tmp_path, [sink.table()], {"retry": {"schedule": ["1h"]}, "smtp": {"listen": listen}})
    return tmp_path


def waiting(relay: Running, sink: Sink, mails: int = 1) -> list[str]:
    """So many mails that were put off; their ids."""
    ids = relay.submit(*[letter(f"mail-{number}") for number in range(mails)])
    soon(lambda: relay.health()["queue"]["deferred"] == mails, "all are put off")
    return ids


def test_status(folder: Path, sink: Sink) -> None:
    """The object of /health, and words for people."""
    with Running(folder) as relay:
        waiting(relay, sink)
        health = relay.health()
        status = printed(folder, "status")
        words = command(folder, "status").stdout

    for changing in ("uptime_seconds", "queue", "spool", "providers"):
        assert set(status[changing]) == set(health[changing]) if isinstance(status[changing], dict) else True
        status.pop(changing)
        health.pop(changing)
    assert status == health
    assert "1 mail (0 ready, 0 active, 1 deferred, 0 held)" in words
    assert "sink" in words


def test_list_and_show(folder: Path, sink: Sink) -> None:
    """A list of objects with fixed names; what is no text for a terminal is escaped."""
    with Running(folder) as relay:
        first, second = waiting(relay, sink, 2)
        listed = printed(folder, "queue", "list")
        shown = printed(folder, "queue", "show", second)
        words = command(folder, "queue", "show", first)
        table = command(folder, "queue", "list")

    assert [mail["id"] for mail in listed] == [first, second]
    assert shown == listed[1]
    assert set(shown) == {"id", "sender", "received_at", "size", "state", "recipients"}
    [recipient] = shown["recipients"]
    assert set(recipient) == {"address", "state", "attempts", "next_attempt_at", "provider", "reply"}
    assert (shown["state"], recipient["state"], recipient["attempts"], recipient["provider"]) == (
        "deferred",
        "deferred",
        1,
        "sink",
    )
    assert "\\x1b[31mred" in words.stdout
    assert "\x1b" not in words.stdout + table.stdout
    assert table.stdout.startswith("ID ")
    assert [line[:36] for line in table.stdout.splitlines()[1:]] == [first, second]


def test_what_is_not_there(folder: Path, sink: Sink) -> None:
    """1 and a line for an id that is not queued, 2 for a selection that is missing, 3 without a daemon."""
    with Running(folder):
        missing = command(folder, "queue", "show", "01a21260-000e-7000-8014-5d67acdde3c1")
        unsaid = [command(folder, "queue", order.value).returncode for order in Order]
        unset = [command(folder, "queue", order.value, "--sender", "").returncode for order in Order]
        empty = command(folder, "queue", "list")
        nothing = printed(folder, "queue", "list")
    gone = command(folder, "queue", "list")

    assert (missing.returncode, missing.stdout) == (1, "")
    assert "not in the queue" in missing.stderr
    assert unsaid == unset == [2, 2, 2, 2]
    assert (empty.returncode, empty.stdout) == (0, "The queue is empty.\n")
    assert nothing == []
    assert (gone.returncode, gone.stdout) == (3, "")
    assert "no daemon" in gone.stderr


def test_hold_release_retry_delete(folder: Path, sink: Sink) -> None:
    """Each does what it says, and the log tells."""
    with Running(folder) as relay:
        first, second, third = waiting(relay, sink, 3)
        assert command(folder, "queue", "hold", first).returncode == 0
        assert [mail["id"] for mail in printed(folder, "queue", "list", "--state", "held")] == [first]
        assert relay.event("held")["id"] == first

        sink.usual(".")
        assert printed(folder, "queue", "retry", "--all")["mails"] == 2
        soon(lambda: relay.health()["queue"] | {"oldest_age_seconds": 0} == _queue(held=1), "the others are sent")
        assert command(folder, "queue", "release", "--sender", "a@example.com").returncode == 0
        soon(lambda: relay.health()["queue"]["total"] == 0, "it is sent, too")
        assert relay.event("released")["id"] == first

        sink.always(".", "451 4.7.1 no")
        [last] = waiting(relay, sink)
        assert printed(folder, "queue", "delete", last)["recipients"] == 1
        assert relay.event("deleted")["id"] == last
        assert relay.health()["queue"]["total"] == 0

    assert {mail.id for mail in sink.mails} == {first, second, third, last}


def _queue(**counts: int) -> dict[str, float]:
    states = {state: counts.get(state, 0) for state in ("ready", "active", "deferred", "held")}
    return {"total": sum(states.values()), **states, "oldest_age_seconds": 0}


def test_a_queue_after_a_restart(folder: Path, sink: Sink) -> None:
    """What was held stays held; what only the spool knows is changed as well."""
    with Running(folder) as relay:
        first, second = waiting(relay, sink, 2)
        command(folder, "queue", "hold", first)
        relay.stop()
    with Running(folder) as relay:
        assert {mail["id"]: mail["state"] for mail in printed(folder, "queue", "list")} == {
            first: "held",
            second: "deferred",
        }
        assert command(folder, "queue", "delete", "--all").returncode == 0
        assert relay.health()["queue"]["total"] == 0
        relay.stop()
    with Running(folder) as relay:
        assert printed(folder, "queue", "list") == []


def test_why(folder: Path, sink: Sink) -> None:
    """Which reply, which provider's state, which timer, and when next."""
    with Running(folder) as relay:
        [mail] = waiting(relay, sink)
        deferred = command(folder, "queue", "why", mail).stdout
        sink.stop()
        [ready] = relay.submit(letter("ready"))
        relay.event("provider_down")
        stranded = command(folder, "queue", "why", ready).stdout
        command(folder, "queue", "hold", ready)
        held = command(folder, "queue", "why", ready).stdout

    assert "was tried once; sink said last: 451 4.7.1 Greylisted" in deferred
    assert "It is tried again in" in deferred
    assert "waits for a provider: sink has been down for" in stranded
    assert "tried again in" in stranded
    assert "held by command" in held


def test_export(folder: Path, sink: Sink) -> None:
    """Octet for octet what a provider would get, also where that is large."""
    small, large = letter("small"), letter("large", 500_000)
    with Running(folder) as relay:
        ids = relay.submit(small, large)
        exported = [
            subprocess.run([MAILRELAY, "queue", "export", each], cwd=folder, check=True, capture_output=True).stdout
            for each in ids
        ]

    assert [octets.partition(b"Date: ")[2] for octets in exported] == [
        octets.partition(b"Date: ")[2] for octets in (small, large)
    ]
    assert all(octets.startswith(b"Received: ") for octets in exported)


def test_send_test(folder: Path, sink: Sink) -> None:
    """Each step is shown; 0 only where it was delivered."""
    with Running(folder):
        waits = command(folder, "send-test", "b@example.net", "--wait", "1")
        sink.usual(".")
        sent = command(folder, "send-test", "b@example.net", "--from", "me@example.com")
        wrong = command(folder, "send-test", "two words")

    assert waits.returncode == 1
    assert "451 4.7.1 Greylisted" in waits.stdout
    assert "stays in the queue" in waits.stdout
    assert sent.returncode == 0
    assert "delivered by sink" in sent.stdout
    assert [mail.sender for mail in sink.mails][-1] == b"me@example.com"
    assert (wrong.returncode, wrong.stdout) == (1, "")


def on_terminal(folder: Path, columns: int, *arguments: str) -> list[str]:
    """The lines that a command prints to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {**os.environ, "COLUMNS": str(columns), "LC_ALL": "C.UTF-8"}
    with subprocess.Popen([MAILRELAY, *arguments], cwd=folder, env=variables, stdout=theirs) as process:
        os.close(theirs)
        octets = b""
        with suppress(OSError):  # EIO is how the end is told
            while piece := os.read(ours, 65536):
                octets += piece
    os.close(ours)
    assert process.returncode == 0
    return octets.decode().replace("\r\n", "\n").splitlines()


def test_terminals_of_every_width(folder: Path, sink: Sink) -> None:
    """Nothing is wider than 40 columns or more, the id of a mail stays whole, and no reply moves the cursor."""
    sink.always("RCPT", "451 4.7.1 Greylisted \x1b]0;title\x07 " + "日本語 and a long story " * 8)
    second = sink.table(name="another-provider-with-a-long-name-of-its-own.example.com")
    configure(folder, [sink.table(), second], {"retry": {"schedule": ["1h"]}})
    with Running(folder) as daemon:
        [uuid] = daemon.submit(b"\r\n", to=f"{'b' * 60}@example.net")
        daemon.event("deferred")
        for room in (40, 41, 62, 80, 120, 200):
            for arguments in (
                ["status"],
                ["queue", "list"],
                ["queue", "show", uuid],
                ["queue", "why", uuid],
                ["check"],
            ):
                lines = on_terminal(folder, room, *arguments)
                assert max(map(terminal._width, lines)) <= room, (room, arguments)
                assert not [line for line in lines if not line.isprintable()]
                assert "queue" not in arguments or uuid in " ".join(lines)


@pytest.mark.parametrize("locale", ["C", "tr_TR.UTF-8", "ja_JP.eucJP"])
def test_terminals_that_have_only_some_characters(folder: Path, sink: Sink, locale: str) -> None:
    """No traceback; what cannot be shown is escaped."""
    with Running(folder) as relay:
        with relay.client() as client:
            client.mail("ü@exämple.com", ["SMTPUTF8"])
            client.rcpt("日本@example.net")
            client.data(b"x")
        [mail] = printed(folder, "queue", "list")
        for arguments in (["list"], ["why", mail["id"]], ["show", mail["id"]]):
            done = command(folder, "queue", *arguments, LC_ALL=locale)
            assert (done.returncode, done.stderr) == (0, "")
            if locale == "C":
                assert done.stdout.isascii()
        queue = sendmail(folder, ["-bp"], environ={"LC_ALL": locale})

    assert mail["sender"] == "ü@exämple.com"
    assert queue.returncode == 0
    assert queue.stdout.isascii()


def test_a_secret_that_this_user_does_not_have(folder: Path, sink: Sink) -> None:
    """Commands need only find the socket."""
    with Running(folder):
        file = folder / "relay.toml"
        file.write_text(file.read_text() + '\nusername = "u"\npassword = { credential = "of the daemon" }\n')
        assert command(folder, "status").returncode == 0
        file.write_text("not TOML [")
        assert command(folder, "status").returncode == 1


def test_the_socket(folder: Path, sink: Sink) -> None:
    """Only its owner may ask; what a crash left is in nobody's way; after the stop it is gone."""
    with Running(folder) as relay:
        assert stat.S_IMODE((folder / "spool" / "control.sock").stat().st_mode) == 0o600
        relay.process.kill()
    assert (folder / "spool" / "control.sock").exists()
    with Running(folder) as relay:
        assert command(folder, "status").returncode == 0
        relay.stop()
    assert not (folder / "spool" / "control.sock").exists()


AS_NOBODY = f"""
import encodings.idna, encodings.utf_8_sig, os, sys
import relay.cli.main
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
relay.cli.main.main()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
def test_somebody_else(sink: Sink) -> None:
    """1 and one line, whether it is the socket or the configuration that is not for this user."""
    with tempfile.TemporaryDirectory() as short:
        folder = Path(short)
        folder.chmod(0o755)
        file = configure(folder, [sink.table()])
        with Running(folder):
            for mode, said in ((0o644, "only the daemon's user and root may ask it"), (0o600, "Permission denied")):
                file.chmod(mode)
                done = subprocess.run(
                    [sys.executable, "-c", AS_NOBODY, "status", f"--config={file}"],
                    cwd="/", capture_output=True, text=True, check=False, timeout=PATIENCE,
                )  # fmt: skip
                assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
                assert said in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
def test_mailq(sink: Sink) -> None:
    """The queue, for whoever may ask; 77 for whoever may not, 69 without a daemon."""
    folder = Path(f"/tmp/mailrelay-test-{os.getpid()}")
    folder.mkdir(mode=0o755)
    try:
        configure(folder, [sink.table()], {"retry": {"schedule": ["1h"]}})
        with Running(folder) as relay:
            empty = sendmail(folder, ["-bp"])
            [mail] = waiting(relay, sink)
            mine, others = sendmail(folder, ["-bp"]), sendmail(folder, ["-bp"], uid=NOBODY)
            sink.usual(".")
            flushed = sendmail(folder, ["-q"])
            soon(lambda: relay.health()["queue"]["total"] == 0, "it is sent")
        gone = sendmail(folder, ["-bp"])
    finally:
        shutil.rmtree(folder)

    assert (empty.returncode, empty.stdout) == (0, b"Mail queue is empty\n")
    assert (mine.returncode, mine.stdout.split()[0].decode()) == (0, mail)
    assert (others.returncode, others.stdout) == (77, b"")
    assert flushed.returncode == 0
    assert gone.returncode == 69


def test_check(tmp_path: Path) -> None:
    """Each step of each provider, and 0 only if all is well; no mail is sent."""
    authority = trustme.CA()
    with Sink("good", tls="starttls", authority=authority, login=("user", "sesame")) as good:
        table = good.table(ca_file=good.write_authority(tmp_path / "roots.pem"))
        configure(tmp_path, [table])
        well = printed(tmp_path, "check")
        words = command(tmp_path, "check")
        wrong = [
            table | {"name": "password", "password": "wrong"},
            table | {"name": "certificate", "server_name": "other.example"},
            table | {"name": "port", "port": 1},
            table | {"name": "host", "host": "nowhere.invalid"},
        ]
        configure(tmp_path, wrong)
        ill = command(tmp_path, "check", "--json")

    assert well["ok"] is True
    assert well["errors"] == []
    assert [step["step"] for step in well["providers"][0]["steps"]] == ["dns", "tcp", "tls", "ehlo", "auth"]
    assert NAME in words.stdout
    assert words.returncode == 0
    found = json.loads(ill.stdout)
    assert (ill.returncode, found["ok"]) == (1, False)
    failing = {each["name"]: each["steps"][-1] for each in found["providers"]}
    assert {name: (step["step"], step["ok"]) for name, step in failing.items()} == {
        "password": ("auth", False),
        "certificate": ("tls", False),
        "port": ("tcp", False),
        "host": ("dns", False),
    }
    assert "sesame" not in ill.stdout + ill.stderr + words.stdout
    assert good.mails == []


def filled(folder: Path, mails: int) -> None:
    """A spool that was filled by an earlier life of the daemon."""

    def start(pump: Pump, clock: Any, place: int) -> Any:
        return open_spool(folder / "spool", reactor=pump, now=time.time, random_bits=lambda bits: 7, min_free=0)

    bench = Bench(start)
    spool = bench.open()
    pending = [spool.submit(bench.mail(f"r{number}@example.net", body=b"x" * 1000)) for number in range(mails)]
    for each in pending:
        bench.pump.wait(each)
    bench.close()


def test_a_long_queue(folder: Path, sink: Sink) -> None:
    """Commands over every mail keep nothing else waiting, and leave every count right."""
    sink.stop()
    filled(folder, MANY)
    with Running(folder) as relay:
        relay.event("provider_down")
        for arguments in (["hold", "--all"], ["list", "--json"], ["release", "--all"], ["delete", "--all"]):
            process = subprocess.Popen(
                [MAILRELAY, "queue", *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            with process:
                output, errors = _while_asking(relay, process)
            assert (process.returncode, errors) == (0, b"")
            if arguments[0] == "list":
                assert len(json.loads(output)) == MANY
                assert relay.health()["queue"]["held"] == MANY
        assert relay.health()["queue"]["total"] == 0


def _while_asking(relay: Running, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """What the process prints; meanwhile the daemon answers others in time, nearly always."""
    url = f"http://127.0.0.1:{relay.http}/livez"
    times: list[float] = []
    while True:
        began = time.perf_counter()
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            answer.read()
        times.append(time.perf_counter() - began)
        try:
            output, errors = process.communicate(timeout=0.01)
        except subprocess.TimeoutExpired:
            continue
        times.sort()
        assert times[len(times) * 9 // 10] < LONGEST_STALL * 2
        return output, errors


def test_one_that_reads_slowly(folder: Path, sink: Sink) -> None:
    """It is waited for, and the daemon's memory does not grow with what it has not read."""
    sink.stop()
    filled(folder, MANY)
    with Running(folder) as relay:
        relay.event("provider_down")
        before = relay.memory("VmRSS")
        process = subprocess.Popen([MAILRELAY, "queue", "list", "--json"], cwd=folder, stdout=subprocess.PIPE)
        with process:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"["
            with smtplib.SMTP("127.0.0.1", relay.smtp) as client:
                client.noop()
            assert relay.memory("VmRSS") - before < 64 * 2**20
            rest = process.stdout.read()

    assert len(json.loads(b"[" + rest)) == MANY
