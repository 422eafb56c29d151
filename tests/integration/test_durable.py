"""What the kernel is asked to do before a mail is acknowledged, and what is said when it cannot do it."""

from __future__ import annotations

import re
import signal
import smtplib
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon import PATIENCE
from tests.running import Running, configure, given, letter, soon
from tests.sink import Sink

pytestmark = pytest.mark.needs("strace")

LARGE = 300 * 1024
SYNCS = ("fsync", "fdatasync")

_CALL = re.compile(r"(\d+) +(\d+\.\d+) (\w+)\((.*)\) += (-?\d+).*<(\d+\.\d+)>")
_BEGUN = re.compile(r"(\d+) +(\d+\.\d+) (\w+)\((.*) <unfinished \.\.\.>")
_ENDED = re.compile(r"(\d+) +\d+\.\d+ <\.\.\. \w+ resumed>(.*)\) += (-?\d+).*<(\d+\.\d+)>")
_QUEUED = re.compile(r"250 2\.0\.0 queued as ([0-9a-f-]{36})")


@dataclass(frozen=True)
class Call:
    """One system call, from `begin` to `end`."""

    name: str
    arguments: str
    result: int
    begin: float
    end: float


def calls(trace: Path) -> list[Call]:
    """What strace -f -ttt -T wrote, by their ends; calls that never ended are left out."""
    found: list[Call] = []
    begun: dict[str, tuple[float, str, str]] = {}
    for line in trace.read_text("utf-8", "replace").splitlines():
        if match := _BEGUN.match(line):
            begun[match[1]] = float(match[2]), match[3], match[4]
        elif match := _ENDED.match(line):
            at, name, arguments = begun.pop(match[1])
            found.append(Call(name, arguments + match[2], int(match[3]), at, at + float(match[4])))
        elif match := _CALL.match(line):
            at = float(match[2])
            found.append(Call(match[3], match[4], int(match[5]), at, at + float(match[6])))
    return sorted(found, key=lambda call: call.end)


def between(found: list[Call], end: Call, answer: Call) -> list[Call]:
    """Those that began after `end` and ended well before `answer` left."""
    return [call for call in found if call.begin >= end.end and call.end <= answer.begin and call.result >= 0]


def acknowledged(found: list[Call]) -> Iterator[tuple[str, Call, Call]]:
    """The id of each acknowledged mail, the call that read the end of its content, and the one that said 250."""
    for answer in found:
        match = _QUEUED.search(answer.arguments) if answer.name == "sendto" else None
        if match is not None:
            connection = answer.arguments.partition(",")[0]
            read = [
                call
                for call in found
                if call.name == "recvfrom"
                and call.arguments.startswith(f"{connection},")
                and call.result > 0
                and call.end <= answer.begin
            ]
            yield match[1], read[-1], answer


def traced(folder: Path) -> list[str]:
    """strace, so that its words fit what is read here; -y names the file behind each descriptor."""
    wanted = ",".join((*SYNCS, "recvfrom", "sendto", "rename"))
    return ["strace", "-f", "-ttt", "-T", "-y", "-s", "64", "-e", f"trace={wanted}", "-o", str(folder / "trace")]


def test_a_sync_between_the_end_of_each_mail_and_its_250(tmp_path: Path) -> None:
    """The WAL is synced in between; for a large mail the body before it, its name after that, and then the WAL."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()])
        with Running(tmp_path, under=traced(tmp_path)) as relay:
            applications = [
                threading.Thread(target=relay.submit, args=[letter(f"{client}-{n}", LARGE * (n % 2)) for n in range(8)])
                for client in range(3)
            ]
            for each in applications:
                each.start()
            for each in applications:
                each.join()
            sink.wait_for(24)
    found = calls(tmp_path / "trace")
    large = {mail.id for mail in sink.mails if len(mail.content) > LARGE}

    ids = set()
    for uuid, end, answer in acknowledged(found):
        ids.add(uuid)
        done = between(found, end, answer)
        steps = [
            index for index, call in enumerate(done) if call.name in SYNCS and "spool.sqlite-wal>" in call.arguments
        ]
        assert steps, uuid
        if uuid in large:
            [renamed] = [index for index, call in enumerate(done) if call.name == "rename" and uuid in call.arguments]
            part = done[renamed].arguments.split('"')[1]
            [body] = [
                index for index, call in enumerate(done) if call.name == "fsync" and f"<{part}>" in call.arguments
            ]
            names = [index for index, call in enumerate(done) if call.name == "fsync" and "/bodies>" in call.arguments]
            assert body < renamed
            assert any(renamed < name < step for name in names for step in steps)
    assert ids == {mail.id for mail in sink.mails}
    assert len(large) == 12


@contextmanager
def injecting(process: subprocess.Popen[bytes], what: str, how: str, trace: Path) -> Iterator[None]:
    """Within this strace does `how` to those system calls of a process, and marks where it did in `trace`."""
    command = ["strace", "-f", "-qq", "-e", f"trace={what}", "-e", f"inject={what}:{how}"]
    with subprocess.Popen([*command, "-p", str(process.pid), "-o", trace]) as strace:
        try:
            status = Path(f"/proc/{process.pid}/task")
            soon(
                lambda: strace.poll() is not None or all(traces(task, strace.pid) for task in status.iterdir()),
                "strace is there",
            )
            if strace.returncode is not None:
                pytest.skip("strace may not attach to a process here")
            yield
        finally:
            strace.send_signal(signal.SIGINT)
            strace.wait(PATIENCE)


@contextmanager
def failing(relay: Running, what: str, error: str, trace: Path = Path("/dev/null")) -> Iterator[None]:
    """Within this every one of those system calls of mailrelay fails."""
    with injecting(relay.process, what, f"error={error}", trace):
        yield


def traces(task: Path, tracer: int) -> bool:
    """Whether that thread is traced by `tracer`."""
    return f"TracerPid:\t{tracer}\n" in (task / "status").read_text()


def refusal(client: smtplib.SMTP, content: bytes) -> int:
    """With which code a mail was refused; the connection is in step afterwards."""
    with pytest.raises(smtplib.SMTPResponseException) as refused:
        given(client, content)
    assert client.rset()[0] == 250
    return refused.value.smtp_code


FAILURES = [
    pytest.param("fsync,fdatasync", "EIO", id="sync-EIO"),
    pytest.param("fsync,fdatasync", "ENOSPC", id="sync-ENOSPC"),
    pytest.param("pwrite64", "ENOSPC", id="write-ENOSPC"),
    pytest.param("pwrite64", "EIO", id="write-EIO"),
]


@pytest.mark.parametrize(("what", "error"), FAILURES)
def test_a_disk_that_fails_for_a_while(tmp_path: Path, what: str, error: str) -> None:
    """4xx for each mail meanwhile, none of which is ever sent; once the disk is well mail is taken again."""
    refused = [letter(f"refused-{number}", LARGE * (number % 2)) for number in range(4)]
    with Sink() as sink:
        configure(tmp_path, [sink.table()])
        with Running(tmp_path) as relay:
            taken = relay.submit(letter("before"))
            with relay.client() as client:
                with failing(relay, what, error):
                    codes = {refusal(client, content) for content in refused}
                    soon(lambda: relay.health()["status"] == "failing", "that is to be seen")
                soon(lambda: relay.health()["status"] == "ok", "the disk is well")
                taken.append(given(client, letter("after")))
            relay.event("finished")
            relay.event("finished")
            relay.process.kill()
        with Running(tmp_path) as relay:
            taken += relay.submit(letter("at last"))
            sink.wait_for(3)

    assert codes <= {451, 452}
    assert [mail.id for mail in sink.mails] == taken


@pytest.mark.parametrize(("what", "error"), FAILURES)
def test_killed_while_the_disk_fails(tmp_path: Path, what: str, error: str) -> None:
    """What was refused is not found again by the next start."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()])
        with Running(tmp_path) as relay:
            taken = relay.submit(letter("before"))
            relay.event("finished")
            with relay.client() as client, failing(relay, what, error):
                refusal(client, letter("refused"))
                relay.process.kill()
                relay.process.wait(PATIENCE)
        with Running(tmp_path) as relay:
            taken += relay.submit(letter("after"))
            sink.wait_for(2)

    assert [mail.id for mail in sink.mails] == taken


def test_outcomes_while_the_disk_fails(tmp_path: Path) -> None:
    """A mail that a provider took is not sent again because that could not be written; it is written later."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()])
        with Running(tmp_path) as relay:
            with sink.gate(".") as gate:
                [uuid] = relay.submit(letter("one"))
                sink.wait_until_reached(".")
                with failing(relay, "fsync,fdatasync", "EIO"):
                    gate.opened.set()
                    relay.line("an outcome could not be written")
                    assert relay.health()["totals"]["successfulEmails"] == 0
            assert relay.event("delivered")["id"] == uuid
            assert relay.event("finished")["result"] == "delivered"

    assert [mail.id for mail in sink.mails] == [uuid]


def test_stopped_while_the_disk_fails(tmp_path: Path) -> None:
    """The end is not put off for ever: the outcome that could not be written is lost, and costs one copy."""
    with Sink() as sink:
        configure(tmp_path, [sink.table()])
        with Running(tmp_path) as relay, sink.gate(".") as gate:
            relay.submit(letter("one"))
            sink.wait_until_reached(".")
            with failing(relay, "fsync,fdatasync", "EIO"):
                gate.opened.set()
                relay.line("an outcome could not be written")
                relay.process.terminate()
                relay.line("sent again")
                assert relay.process.wait(5) in (0, -15)
        with Running(tmp_path) as relay:
            relay.event("finished")

    assert [mail.below_trace for mail in sink.mails] == [letter("one")] * 2
