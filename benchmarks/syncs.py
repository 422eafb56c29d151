"""`python -m benchmarks.syncs`: how often each peer syncs for a mail, and its system calls, by strace. As root.

It slows what it looks at, so the groups are larger than they are without it: with one session each mail has its own.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks.figures import load
from benchmarks.peers import Mailrelay, Peer, Postfix
from benchmarks.sink import Sink

MAILS = 500
_SYNCS = ("fsync", "fdatasync", "syncfs", "sync_file_range", "msync")
_LINE = re.compile(r"^\s*[0-9.]+\s+[0-9.]+\s+[0-9]+\s+([0-9]+)\s+(?:[0-9]+\s+)?(\w+)$", re.MULTILINE)


def counted(peer: Peer, sink: Sink, sessions: int) -> dict[str, int]:
    """System calls by name, while MAILS are carried."""
    with tempfile.NamedTemporaryFile("r", dir="/var/tmp") as table:
        strace = subprocess.Popen(
            ["strace", "-f", "-c", "-S", "calls", "-o", table.name, *(f"-p{pid}" for pid in peer.processes())],
            stderr=subprocess.DEVNULL,
        )
        time.sleep(1.0)
        wanted = sink.count + MAILS
        load(peer.port, MAILS, size=4096, sessions=sessions).wait()
        while sink.count < wanted:
            time.sleep(0.05)
        strace.send_signal(signal.SIGINT)
        strace.wait()
        return {name: int(calls) for calls, name in _LINE.findall(table.read())}


def main() -> None:
    """Run, print."""
    peers: dict[str, Callable[[Path, int], Peer]] = {
        "Postfix": lambda folder, port: Postfix(folder, port, connections=10),
        "mailrelay": lambda folder, port: Mailrelay(folder, port, connections=10),
    }
    print("| sessions | peer | syncs a mail | system calls a mail |")
    print("|---|---|---|---|")
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        for sessions in (1, 20):
            for name, start in peers.items():
                sink = Sink()
                try:
                    with closing(start(folder / f"{name}{sessions}", sink.port)) as peer:
                        calls = counted(peer, sink, sessions)
                finally:
                    sink.close()
                syncs = sum(calls.get(each, 0) for each in _SYNCS) / MAILS
                every = sum(count for each, count in calls.items() if each != "total") / MAILS
                print(f"| {sessions} | {name} | {syncs:.2f} | {every:.0f} |", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
