"""A disk that hangs: whoever asks is answered at once and told the truth, and all goes on when the disk does."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemon import PATIENCE
from tests.running import Running, configure, letter, soon
from tests.sink import Sink

AT_ONCE = 2.0
"""Seconds in which an answer is no answer of the disk; a fast machine needs some thousandths."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, in a file."""
    image, path = tmp_path / "image", tmp_path / "disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, path], capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not permitted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def hanging(disk: Path) -> Iterator[None]:
    """Whoever writes waits."""
    subprocess.run(["fsfreeze", "--freeze", disk], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", disk], check=True)


def status(port: int, path: str) -> int:
    """What is answered, at once."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=AT_ONCE) as answer:
            found: int = answer.status
            return found
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.needs("mount", "mkfs.ext4", "fsfreeze")
def test_a_disk_that_hangs(tmp_path: Path, disk: Path) -> None:
    """Pages are answered, and /health is `failing` after 5 s; the mail that waited is taken when the disk is back."""
    paths = ["/", "/status.json", "/history.json", "/health", "/metrics", "/readyz", "/livez"]
    with Sink() as sink, ThreadPoolExecutor(1) as application:
        spool = {"directory": str(disk / "spool"), "drop": str(tmp_path / "drop"), "min_free": "1MiB"}
        configure(tmp_path, [sink.table()], {"spool": spool})
        with Running(tmp_path) as relay:
            relay.submit(letter("before"))
            with hanging(disk):
                since = time.monotonic()
                waiting = application.submit(relay.submit, letter("meanwhile"))
                soon(lambda: status(relay.http, "/health") == 503, "it is failing")
                took = time.monotonic() - since
                statuses = [status(relay.http, path) for path in paths]
                shown = relay.health()
                held_up = not waiting.done()
            waiting.result(PATIENCE)
            soon(lambda: relay.health()["status"] == "ok", "all is well")
            sink.wait_for(2)

    assert took < 5 + AT_ONCE
    assert statuses == [200, 200, 200, 503, 200, 503, 200]
    assert (shown["status"], shown["spool"]["writable"]) == ("failing", False)
    assert held_up
