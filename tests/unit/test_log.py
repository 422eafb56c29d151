"""The log: lines arrive whole or not at all, and nobody waits for whoever reads them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from relay import log
from relay.log import LIMIT, Log, json_line, text_line, timestamp

NOW = 1700000000.25
ENOUGH = 10.0
"""Seconds after which a log that should have ended has not."""


def line(number: int, padding: int = 0) -> dict[str, object]:
    return {"time": timestamp(NOW), "level": "info", "event": "received", "number": number, "x": "x" * padding}


def read_all(descriptor: int) -> bytes:
    """What comes until the writer's end is closed."""
    pieces = iter(lambda: os.read(descriptor, 65536), b"")
    return b"".join(pieces)


def entries(octets: bytes) -> list[dict[str, Any]]:
    """The lines in `octets`, each of which is a whole JSON object and ends as a line does."""
    assert octets[-1:] in (b"\n", b"")
    return [json.loads(text) for text in octets.splitlines()]


def numbers(octets: bytes) -> list[int]:
    """Those of the lines that `line` has made."""
    return [entry["number"] for entry in entries(octets) if "number" in entry]


def warnings(octets: bytes) -> list[dict[str, Any]]:
    """What the log said of itself."""
    return [entry for entry in entries(octets) if entry["event"] == "warning"]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe of 4 KiB: (reader's end, writer's end)."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    for descriptor in (reader, writer):
        with suppress(OSError):  # where the test has closed it itself
            os.close(descriptor)


@pytest.fixture
def on_pipe(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> Log:
    """A log whose file descriptor 2 is the writer's end of the pipe, not started."""
    monkeypatch.setattr(log, "_STDERR", pipe[1])
    return Log(None, "json", lambda: NOW)


def test_lines_in_their_order(tmp_path: Path) -> None:
    """Every line stands in the file, in the order in which it was said, once the log is closed."""
    sink = Log(tmp_path / "log", "json", lambda: NOW)
    sink.start()
    for number in range(1000):
        sink.write(line(number))
    sink.close(ENOUGH)

    assert numbers((tmp_path / "log").read_bytes()) == list(range(1000))
    assert sink.dropped == 0


def test_lines_before_the_start(tmp_path: Path) -> None:
    """What is said before the thread runs waits for it; a log that never ran writes it when it is closed."""
    sink = Log(tmp_path / "log", "json", lambda: NOW)
    sink.write(line(1))
    sink.close(ENOUGH)

    assert numbers((tmp_path / "log").read_bytes()) == [1]


def test_a_file_that_others_may_not_read(tmp_path: Path) -> None:
    """A log names people's addresses: a new file is for its owner and group."""
    Log(tmp_path / "log", "json", lambda: NOW).close(ENOUGH)

    assert (tmp_path / "log").stat().st_mode & 0o137 == 0


def test_a_file_in_no_folder(tmp_path: Path) -> None:
    """A file that cannot be opened is told at once."""
    with pytest.raises(FileNotFoundError):
        Log(tmp_path / "none" / "log", "json", lambda: NOW)


def test_a_file_that_ends_within_a_line(tmp_path: Path) -> None:
    """A line that a kill cut off stays alone: the next one begins on a line of its own."""
    path = tmp_path / "log"
    path.write_bytes(b'{"number":1}\n{"numb')
    sink = Log(path, "json", lambda: NOW)
    sink.write(line(2))
    sink.close(ENOUGH)

    whole, torn, after = path.read_bytes().splitlines()
    assert (whole, torn) == (b'{"number":1}', b'{"numb')
    assert json.loads(after)["number"] == 2


@pytest.mark.parametrize("waiting", [True, False])
def test_a_pipe_that_nobody_reads(on_pipe: Log, pipe: tuple[int, int], waiting: bool) -> None:
    """Writing returns at once whether or not the descriptor waits; past LIMIT lines are dropped, counted and said."""
    reader, writer = pipe
    os.set_blocking(writer, waiting)
    on_pipe.start()
    size = len(json_line(line(0, 1000)))
    total = 3 * LIMIT // size
    begin = time.monotonic()
    for number in range(total):
        on_pipe.write(line(number, 1000))

    assert time.monotonic() - begin < ENOUGH
    dropped = on_pipe.dropped
    assert total - dropped == pytest.approx(LIMIT / size, abs=30)

    got = b""
    while total > len(numbers(got)) + sum(warning["dropped"] for warning in warnings(got)):
        got += drain(reader)

    assert numbers(got) == sorted(numbers(got))
    assert on_pipe.dropped == dropped == total - len(numbers(got))
    assert warnings(got)[0]["time"] == timestamp(NOW)
    on_pipe.write(line(total))
    assert numbers(drain(reader)) == [total]
    on_pipe.close(ENOUGH)


def drain(reader: int) -> bytes:
    """What a pipe holds or will hold soon, up to the end of a line."""
    got = bytearray()
    while not got.endswith(b"\n"):
        got += os.read(reader, 65536)
    return bytes(got)


def test_the_end_while_nobody_reads(on_pipe: Log, pipe: tuple[int, int]) -> None:
    """Closing waits as long as it was told to and no longer."""
    os.set_blocking(pipe[1], False)
    on_pipe.start()
    for number in range(100):
        on_pipe.write(line(number, 1000))
    begin = time.monotonic()
    on_pipe.close(0.2)

    assert 0.1 < time.monotonic() - begin < ENOUGH


def test_a_reader_who_is_gone(on_pipe: Log, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """EPIPE ends nothing and is not tried over and over; lines wait, and further ones are counted as dropped."""
    writes = counted(monkeypatch)
    os.close(pipe[0])
    on_pipe.start()
    for number in range(2 * LIMIT // 1000):
        on_pipe.write(line(number, 1000))

    assert on_pipe.dropped > 0
    on_pipe.close(ENOUGH)
    assert len(writes) <= 3


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by the size of each write from now on."""
    writes: list[int] = []
    write = os.write

    def counting(descriptor: int, octets: memoryview) -> int:
        writes.append(len(octets))
        return write(descriptor, octets)

    monkeypatch.setattr(os, "write", counting)
    return writes


def test_few_writes_for_many_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that are said together are written together."""
    writes = counted(monkeypatch)
    sink = Log(tmp_path / "log", "json", lambda: NOW)
    for number in range(1000):
        sink.write(line(number))
    sink.start()
    sink.close(ENOUGH)

    assert len(writes) <= 2


class Disk:
    """Stands for os.write on a disk that has `room` octets left until somebody makes more."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.refused = 0
        self.on_refusal: Callable[[], object] = lambda: None
        self._write = os.write

    def __call__(self, descriptor: int, octets: memoryview) -> int:
        """Take what there is room for."""
        if not self.room:
            self.refused += 1
            self.on_refusal()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self._write(descriptor, octets[: self.room])
        self.room -= taken
        return taken


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that the disk took in part goes on at the octet where it broke off, once there is room again."""
    disk = Disk(150)
    monkeypatch.setattr(os, "write", disk)
    monkeypatch.setattr(log, "PAUSE", 0.01)
    sink = Log(tmp_path / "log", "json", lambda: NOW)

    def make_room() -> None:
        if disk.refused == 3:
            disk.room = LIMIT

    disk.on_refusal = make_room
    for number in range(10):
        sink.write(line(number))
    sink.start()
    drained(tmp_path / "log", 10)
    sink.close(ENOUGH)

    assert numbers((tmp_path / "log").read_bytes()) == list(range(10))
    assert disk.refused == 3


def drained(path: Path, lines: int) -> None:
    """Come back when the file has as many lines: the log's thread writes it meanwhile."""
    end = time.monotonic() + ENOUGH
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < end, path.read_bytes()


def test_a_file_that_was_moved_away(tmp_path: Path) -> None:
    """After `reopen` lines go to a new file under the old name (logrotate)."""
    path = tmp_path / "log"
    sink = Log(path, "json", lambda: NOW)
    sink.start()
    sink.write(line(1))
    drained(path, 1)
    path.rename(tmp_path / "log.1")
    sink.reopen(path, "json")
    sink.write(line(2))
    sink.close(ENOUGH)
    sink_lines = (tmp_path / "log.1").read_bytes() + path.read_bytes()

    assert numbers(sink_lines) == [1, 2]
    assert numbers(path.read_bytes())[-1] == 2


def test_a_file_that_was_moved_away_within_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that the old file has only in part stands in the new one whole."""
    disk = Disk(150)
    monkeypatch.setattr(os, "write", disk)
    old, new = tmp_path / "old", tmp_path / "new"
    sink = Log(old, "json", lambda: NOW)

    def switch() -> None:
        disk.room = LIMIT
        sink.reopen(new, "json")

    disk.on_refusal = switch
    for number in range(4):
        sink.write(line(number))
    sink.start()
    drained(new, 3)
    sink.close(ENOUGH)

    assert len(old.read_bytes()) == 150
    assert numbers(new.read_bytes()) == [1, 2, 3]


def test_another_form_and_no_file_any_more(
    on_pipe: Log, pipe: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new configuration may change the form and the place; the file that was open is given back."""
    sink = Log(tmp_path / "log", "json", lambda: NOW)
    sink.start()
    sink.write(line(1))
    drained(tmp_path / "log", 1)
    sink.reopen(None, "text")
    sink.write({"time": timestamp(NOW), "level": "info", "event": "stopping"})
    sink.close(ENOUGH)

    assert os.read(pipe[0], 1000) == b"2023-11-14T22:13:20.250Z info stopping\n"
    assert numbers((tmp_path / "log").read_bytes()) == [1]
    on_pipe.close(ENOUGH)


def test_a_file_that_cannot_be_opened_again(tmp_path: Path) -> None:
    """The old file stays, and a line in it says why."""
    path = tmp_path / "log"
    sink = Log(path, "json", lambda: NOW)
    sink.start()
    sink.reopen(tmp_path / "none" / "log", "json")
    sink.write(line(1))
    drained(path, 2)
    sink.close(ENOUGH)

    [warning] = warnings(path.read_bytes())
    assert "cannot be opened" in warning["message"]
    assert "No such file or directory" in warning["message"]


def test_no_room_for_the_file_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is no reason not to begin: the file is made when there is room."""
    path, tries, opening = tmp_path / "log", [], os.open
    monkeypatch.setattr(log, "PAUSE", 0.01)

    def open_later(name: Path, *arguments: int) -> int:
        tries.append(name)
        if len(tries) < 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opening(name, *arguments)

    monkeypatch.setattr(os, "open", open_later)
    sink = Log(path, "json", lambda: NOW)
    sink.start()
    sink.write(line(1))
    drained(path, 1)
    sink.close(ENOUGH)

    assert numbers(path.read_bytes()) == [1]


def test_a_named_pipe_that_nobody_reads_yet(tmp_path: Path) -> None:
    """It opens without a wait, and its reader gets whole lines."""
    os.mkfifo(tmp_path / "log")
    sink = Log(tmp_path / "log", "json", lambda: NOW)
    sink.start()
    sink.write(line(1))
    with (tmp_path / "log").open("rb", buffering=0) as reader:
        got = drain(reader.fileno())
    sink.close(ENOUGH)

    assert numbers(got) == [1]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"message": "a\r\nb\x1b[31m\x9b1m\u2028"}, r'"a\r\nb\u001b[31m\x9b1m\x2028"'),
        ({"to": ["a@b", "Jörg@b"]}, "a@b,Jörg@b"),
        ({"from": ""}, '""'),
        ({"reply": '250 "x"'}, r'"250 \"x\""'),
        ({"seconds": 0.125}, "0.125"),
        ({"up": True}, "true"),
        ({"why": None}, "null"),
        ({"odd": "\udcff"}, r"\udcff"),
        ({"path": Path("/x y")}, "/x y"),
    ],
)
def test_a_readable_line(entry: dict[str, Any], said: str) -> None:
    """Text: one line whatever is in it, no control character, and values that hold blanks in quotes."""
    [name] = entry

    octets = text_line({"time": "T", "level": "info", "event": "e", "id": "u", **entry})

    assert octets.decode() == f"T info e u {name}={said}\n"


@pytest.mark.parametrize("text", ["a\r\nb\x1b[31m\x9b\u2028", "Jörg", "\udcff\ud800", '"\\', "\x00"])
def test_an_object_a_line(text: str) -> None:
    """JSON: ASCII on one line whatever is in it, and the same text when it is read."""
    octets = json_line({"message": text, "path": Path("/x")})

    assert octets.isascii()
    assert octets.count(b"\n") == 1
    assert json.loads(octets) == {"message": text, "path": "/x"}


def test_time_by_the_wall() -> None:
    """RFC 3339, in UTC, with milliseconds, also at the end of a second."""
    assert timestamp(1700000000.9996) == "2023-11-14T22:13:20.999Z"
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
