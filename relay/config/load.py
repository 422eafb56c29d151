"""Load: from a file or flags to a Config, or to everything that is wrong with it.

No function here, nor what it calls, raises ConfigErrors from a frame in which a secret or the environment can be
seen, hence the `del`: a traceback may show the locals of each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import evolve, frozen

from relay.config.check import check
from relay.config.document import Document, read_document
from relay.config.flags import Flags, override, warnings
from relay.config.origin import Origin
from relay.config.problem import ConfigErrors, Problem
from relay.config.reading import Reading
from relay.config.resolve import machine_name, resolve
from relay.config.values import Config

SYSTEM_FILE = Path("/etc/mailrelay/relay.toml")
_NAME = "relay.toml"
_HERE = Path()


@frozen
class _Result:
    config: Config
    problems: tuple[Problem, ...]

    def get(self) -> Config:
        """The configuration; raises ConfigErrors if anything is wrong with it."""
        if self.problems:
            raise ConfigErrors(self.problems)
        return self.config


def find_config(environ: Mapping[str, str], cwd: Path = _HERE) -> Path:
    """The file that is read where none is named: $MAILRELAY_CONFIG, relay.toml in `cwd`, or the system's."""
    if named := environ.get("MAILRELAY_CONFIG", ""):
        return cwd / named
    return cwd / _NAME if os.access(cwd / _NAME, os.F_OK) else SYSTEM_FILE


def load(path: Path, environ: Mapping[str, str], hostname: Callable[[], str] = machine_name) -> Config:
    """The configuration in the file at `path`; `hostname` tells the machine's. Raises ConfigErrors."""
    result = _read(Flags(config=path), environ, _HERE.absolute(), hostname)
    del environ
    return result.get()


def from_flags(
    flags: Flags, environ: Mapping[str, str], cwd: Path = _HERE, hostname: Callable[[], str] = machine_name
) -> Config:
    """The configuration that flags and the file that they name, or that is found, say together. Raises ConfigErrors.

    Flags override the file. Where they name a provider, and no file is named or found, they are all there is. What is
    relative in flags is relative to `cwd`; a daemon that reads them again passes the one that it was started in.
    """
    result = _read(flags, environ, cwd.absolute(), hostname)
    del environ
    return result.get()


def _read(flags: Flags, environ: Mapping[str, str], cwd: Path, hostname: Callable[[], str]) -> _Result:
    """What the flags and their file come to."""
    file = _file(flags, environ, cwd)
    command_line = Origin("command line", cwd, environ)
    origin = command_line if file is None else Origin(str(file), file.parent, environ)
    document, problems = (Document(origin, {}), []) if file is None else read_document(file, origin)
    unread = bool(problems) and not document.tables
    document = override(document, flags, command_line)
    reading = Reading(document)
    config = resolve(evolve(reading.draft, path=file, warnings=warnings(flags)), origin, hostname)
    for route, what, fix in () if unread else list(check(config, reading.spoiled)):
        reading.wrong(route, what, fix)
    return _Result(config, (*problems, *reading.problems))


def _file(flags: Flags, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The absolute path of the file to read, or None where the flags do without one."""
    file = cwd / (flags.config or find_config(environ, cwd))
    named = flags.config or environ.get("MAILRELAY_CONFIG")
    return None if flags.providers and not named and not os.access(file, os.F_OK) else file
