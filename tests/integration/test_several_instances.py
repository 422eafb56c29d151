"""docs/how-to/several-instances.md: every block of it, in its order, with a primary, a standby, HAProxy and instances.

`systemctl` starts and stops real daemons; `runuser` and the hosts' names lead to servers of the test's own.
"""

from __future__ import annotations

import os
import signal
import smtplib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.daemon import CHECKOUT, PATIENCE, free_port
from tests.haproxy import HAProxy
from tests.integration.test_howtos import PLAYED
from tests.papers import blocks, moved
from tests.postgres import USER, Postgres, build
from tests.running import TWISTD, Running, configure, given, letter, soon, toml
from tests.sink import Sink

pytestmark = pytest.mark.needs("haproxy")

PAGE = CHECKOUT / "docs" / "how-to" / "several-instances.md"

Step = Callable[[], object]

SYSTEMCTL = """
stop() {
    pid=$(cat $2.pid) && kill -TERM $pid
    while [ "$(cut -d' ' -f3 /proc/$pid/stat 2>/dev/null || echo Z)" != Z ]; do sleep 0.05; done
}
start() {
    export CREDENTIALS_DIRECTORY=$PWD/etc/mailrelay
    twistd -n --pidfile= mailrelay --config etc/mailrelay/$2.toml 2>>$2.log >/dev/null & echo $! > $2.pid
    until curl -fsS http://127.0.0.1:$(cat $2.http)/readyz 2>/dev/null; do kill -0 $(cat $2.pid); done
}
for word in "$@"; do
    case $1:$word in
        restart:mailrelay@*) stop x ${word#*@}; start x ${word#*@} ;;
        enable:mailrelay@*) start x ${word#*@} ;;
    esac
done
"""
"""What systemd does with the page's units."""


class Site:
    """Two hosts of a database, and one with HAProxy and two instances, all below one folder."""

    def __init__(self, root: Path, sink: Sink, primary: Postgres, standby: Postgres) -> None:
        self.root = root
        self.sink = sink
        self.primary = primary
        self.standby = standby
        self.ports = {word: str(free_port()) for word in ("2525", "2531", "2532", "8031", "8032")}
        for folder in ("etc/systemd/system", "etc/mailrelay", "etc/haproxy", "etc/postgresql/15/main", "played"):
            (root / folder).mkdir(parents=True)
        (standby.folder / "data").mkdir()
        for number in "12":
            (root / f"{number}.http").write_text(self.ports[f"803{number}"])
        for name, script in {**PLAYED, "runuser": 'shift 3; exec "$@"', "systemctl": SYSTEMCTL}.items():
            (root / "played" / name).write_text(f"#!/bin/bash\nset -e\n{script}\n")
            (root / "played" / name).chmod(0o755)

    @property
    def words(self) -> dict[str, str]:
        """What stands on the page, and what it is here."""
        first, second = self.primary.port, self.standby.port
        return {
            str(self.root / "var/lib/postgresql/15/main"): str(self.standby.folder / "data"),
            "host=db1,db2": f"host=127.0.0.1,127.0.0.1 port={first},{second}",
            "--host=db2": f"--host=127.0.0.1 --port={second}",
            "host=db1": f"host=127.0.0.1 port={first}",
            "/opt/mailrelay/bin": str(TWISTD.parent),
            "803$each": "$(cat $each.http)",
            "sleep 2": "sleep 1.2",
            **self.ports,
        }

    def run(self, script: str) -> None:
        """The commands of one block."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", moved(script, self.root, self.words)],
            cwd=self.root,
            env={
                **os.environ,
                "PATH": ":".join(
                    map(str, [self.root / "played", TWISTD.parent, self.primary.build.programs, os.environ["PATH"]])
                ),
                "PGHOST": "127.0.0.1",
                "PGPORT": str(self.primary.port),
                "PGUSER": "postgres",
            },
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}\n{self.logs()}"

    def write_configuration(self) -> None:
        """The page's, with a provider that is here."""
        text = moved(blocks(PAGE, "toml")[0], self.root, self.words).partition("[[provider]]")[0]
        extra = toml({}, [self.sink.table()])
        (self.root / "etc/mailrelay/1.toml").write_text(f"{text}\n{extra}")
        text = moved(blocks(PAGE, "haproxy")[0], self.root, self.words)
        (self.root / "etc/haproxy/haproxy.cfg").write_text(text)

    def go(self, script: str, before: Mapping[str, Step], after: Mapping[str, Step]) -> list[str]:
        """One block, and what belongs before and behind it; the words by which that was known."""
        found: list[str] = []
        for steps in (before, after):
            if steps is after:
                self.run(script)
            for word, step in steps.items():
                if word in script:
                    step()
                    found.append(word)
        return found

    def start_standby(self) -> None:
        """The copy of the primary becomes a server."""
        if USER is not None:
            subprocess.run(["chown", "-R", USER, self.standby.folder], check=True)
        (self.standby.folder / "data").chmod(0o700)
        self.standby.start()

    def balanced(self) -> HAProxy:
        """HAProxy, once it uses both instances and a mail went through it."""
        proxy = HAProxy(self.root, (self.root / "etc/haproxy/haproxy.cfg").read_text())
        for server in ("1", "2"):
            proxy.await_state(server, "UP")
        self.submit("first")
        return proxy

    def submit(self, name: str) -> None:
        """An application hands a mail in, and tries again where it is told to."""

        def taken() -> bool:
            with suppress(smtplib.SMTPException, OSError), smtplib.SMTP("127.0.0.1", int(self.ports["2525"])) as client:
                client.ehlo_or_helo_if_needed()
                given(client, letter(name))
                return True
            return False

        soon(taken, f"{name} is taken")

    def logs(self) -> str:
        """What the instances say."""
        return "\n".join(file.read_text() for file in sorted(self.root.glob("?.log")))

    def end(self) -> None:
        """No instance runs any more."""
        for file in self.root.glob("?.pid"):
            with suppress(ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGKILL)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """See Site."""
    with ExitStack() as stack:
        sink = stack.enter_context(Sink())
        primary = stack.enter_context(Postgres(build("pip")))
        standby = Postgres(build("pip"))
        stack.push(standby)
        site = Site(tmp_path, sink, primary, standby)
        stack.callback(site.end)
        yield site


def old_queue(root: Path, sink: Sink) -> list[str]:
    """A daemon with a spool in SQLite that has stopped while mail waited; the ids of that."""
    folder = root / "old"
    folder.mkdir()
    configure(folder, [sink.table(port=free_port())])
    with Running(folder) as relay:
        ids = relay.submit(*[letter(f"old-{number}", 300_000 * (number % 2)) for number in range(4)])
        relay.event("provider_down")
        relay.stop()
    (root / "etc/mailrelay/old.toml").write_text(
        (folder / "relay.toml").read_text().replace("[retry]", f'[spool]\ndirectory = "{folder}/spool"\n[retry]')
    )
    return ids


def test_the_page(site: Site) -> None:
    """From an empty host to a promoted standby, with mail going through at each stage."""
    ids: list[str] = []
    with ExitStack() as stack:
        before = {
            "/1.toml >": site.write_configuration,
            "pg_promote": site.primary.kill,
            "queue move": lambda: ids.extend(old_queue(site.root, site.sink)),
        }
        after = {
            "pg_basebackup": site.start_standby,
            "reload haproxy": lambda: stack.enter_context(site.balanced()),
            "restart mailrelay@": lambda: site.submit("upgraded"),
            "pg_promote": lambda: site.submit("promoted"),
        }
        done = [word for script in blocks(PAGE, "sh") for word in site.go(script, before, after)]
        mails = site.sink.wait_for(3 + len(ids))

    assert sorted(done) == sorted([*before, *after])
    assert sorted(mail.id for mail in mails if b"old-" in mail.content) == sorted(ids)
    assert len(mails) == 3 + len(ids)
    assert [line for line in site.logs().splitlines() if "traceback" in line] == []
