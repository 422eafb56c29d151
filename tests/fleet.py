"""Fleet: several instances that share one queue, each with a folder and ports of its own, and what their logs say."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.daemon import free_port
from tests.running import Running, Settings, configure

FIGURES = 1.5
"""Seconds after which figures of the queue are surely not older than what others have done."""

_ENDS = ("delivered", "bounced", "expired", "deleted")


def postgresql(dsn: str) -> Mapping[str, object]:
    """The [spool] of instances whose queue is there."""
    return {"backend": "postgresql", "dsn": dsn}


class Fleet:
    """Instances named `names`, not started yet; the end of a `with` block ends those that run.

    spool    the [spool] of each of them
    proxied  whether they expect HAProxy's header
    ports    where each takes mail, also after a restart
    checks   where each answers HTTP
    running  those that were started and not ended by a method here
    lives    each daemon that ever ran
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        providers: Sequence[Mapping[str, object]],
        spool: Mapping[str, object],
        settings: Settings | None = None,
        *,
        proxied: bool = False,
    ) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in names}
        self.checks = {name: free_port() for name in names}
        self.running: dict[str, Running] = {}
        self.lives: list[tuple[str, Running]] = []
        self._settled_since: float | None = None
        for name in names:
            (folder / name).mkdir()
            own: Settings = {
                "": {"instance": name},
                "smtp": {"listen": [f"{'haproxy:' * proxied}tcp:{self.ports[name]}:interface=127.0.0.1"]},
                "http": {"listen": [f"tcp:{self.checks[name]}:interface=127.0.0.1"]},
                "spool": spool,
            }
            whole: dict[str, dict[str, object]] = {}
            for section, keys in (*own.items(), *(settings or {}).items()):
                whole.setdefault(section, {}).update(keys)
            configure(folder / name, providers, whole)

    def start(self, *names: str) -> None:
        """Start these (all, if none is named) at once; they are up once this returns. Raises what one of them does."""
        wrong: list[BaseException] = []

        def one(name: str) -> None:
            try:
                running = Running(self.folder / name)
            except BaseException as error:
                wrong.append(error)
                return
            self.running[name] = running
            self.lives.append((name, running))

        threads = [threading.Thread(target=one, args=(name,)) for name in names or self.ports]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        for error in wrong:
            raise error

    def kill(self, name: str) -> Running:
        """Kill it with -9; what it said stays to be read."""
        running = self.running.pop(name)
        running.process.kill()
        running.__exit__(None, None, None)
        return running

    def stop(self, name: str) -> int:
        """A graceful end; its status."""
        running = self.running.pop(name)
        status = running.stop()
        running.__exit__(None, None, None)
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self.running):
            self.running.pop(name).__exit__(None, None, None)

    # What it says of itself

    def events(self, *names: str) -> list[tuple[str, dict[str, Any]]]:
        """The events of that name, each with the instance that says so, life by life."""
        return [
            (instance, entry)
            for instance, life in self.lives
            for line in list(life.errors)
            if line.startswith("{") and (entry := json.loads(line)).get("event") in names
        ]

    def settled(self) -> Counter[tuple[str, str]]:
        """How often each recipient of each mail came to its end, by all logs: never more than once."""
        return Counter((entry["id"], to) for _, entry in self.events(*_ENDS) for to in entry["to"])

    def finished(self) -> Counter[str]:
        """How often each mail came to its end."""
        return Counter(entry["id"] for _, entry in self.events("finished"))

    def errors(self) -> list[str]:
        """What instances say that is to be mended."""
        return [f"{name}: {line}" for name, life in self.lives for line in life.errors if '"level":"error"' in line]

    def await_event(self, name: str, event: str) -> dict[str, Any]:
        """The next one of that instance."""
        return self.running[name].event(event)

    def is_settled(self) -> bool:
        """Whether nothing waits but what is held, as all that run have seen it for longer than figures may be old."""
        queues = [each.health()["queue"] for each in self.running.values()]
        if any(queue["total"] != queue["held"] for queue in queues):
            self._settled_since = None
            return False
        now = time.monotonic()
        self._settled_since = self._settled_since or now
        return now - self._settled_since > FIGURES
