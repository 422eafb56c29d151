"""Log: lines on their way to whoever reads them, and never a wait for whoever does not.

`write` is called in the reactor's thread: it makes the line and lays it down. One thread of its own gathers lines for a
moment and writes them with one call. It alone waits when the pipe is full, the disk is full or the reader is gone.

Failure: what cannot be written now is tried again, from the very octet that was reached, so that no line is torn and
none is glued to another. Meanwhile LIMIT octets of lines wait; further ones are dropped and counted, and the log says
how many once it goes on. A kill loses what was gathered last.
"""

from __future__ import annotations

import errno
import os
import re
import select
import stat
from collections.abc import Callable
from functools import lru_cache
from json import JSONEncoder
from pathlib import Path
from threading import Condition, RLock, Thread
from time import gmtime, monotonic, strftime

from relay.reply import printable

LIMIT = 1024 * 1024
"""Octets that may wait to be written."""

GATHER = 0.010
"""Seconds in which a busy daemon's lines become one write."""

PAUSE = 1.0
"""Seconds until a write that failed is tried again."""

GRAIN = 0.1
"""Seconds after which a wait for a reader looks whether the end has come."""

_STDERR, _NONE = 2, -1
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PLAIN = re.compile(r'[^\s"=,]+')

_json = JSONEncoder(separators=(",", ":"), check_circular=False, default=str).encode
_quoted = JSONEncoder(ensure_ascii=False).encode


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 writes them, in UTC, with milliseconds.

    >>> timestamp(1700000000.5)
    '2023-11-14T22:13:20.500Z'
    """
    second, rest = divmod(int(seconds * 1000), 1000)
    return f"{_to_the_second(second)}.{rest:03d}Z"


@lru_cache(maxsize=8)
def _to_the_second(second: int) -> str:
    """Kept for a moment: a busy daemon says thousands of things in one second."""
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))


def json_line(entry: dict[str, object]) -> bytes:
    """`entry` as one JSON object in ASCII, so that no control character and no broken text reaches a terminal."""
    return (_json(entry) + "\n").encode("ascii")


def text_line(entry: dict[str, object]) -> bytes:
    """`entry` as people read it: time, level, event and id as they are, then `name=value` for the rest."""
    fields = dict(entry)
    head = [str(fields.pop(name)) for name in ("time", "level", "event", "id") if name in fields]
    rest = [f"{name}={_text(value)}" for name, value in fields.items()]
    return (" ".join([*head, *rest]) + "\n").encode("utf-8", "backslashreplace")


def _text(value: object) -> str:
    if isinstance(value, str):
        return printable(value if _PLAIN.fullmatch(value) else _quoted(value))
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return printable(_quoted(value)) if isinstance(value, bool | dict | None) else printable(str(value))


_FORMS = {"json": json_line, "text": text_line}


class Log:
    """Where lines go: the end of the file at `path` (made 0640 where there is none), or file descriptor 2 for None.

    `form` is "json" or "text". `now` gives seconds since the epoch, for the lines that the log says of itself.
    `dropped` is the number of lines that could not be written in time. Lines wait in memory until `start`.

    Raises OSError where the file cannot be opened; a full disk is no reason not to begin.
    """

    def __init__(self, path: Path | None, form: str, now: Callable[[], float]) -> None:
        self.dropped = 0
        self._render = _FORMS[form]
        self._now = now
        self._path = path
        self._descriptor = _STDERR
        self._thread = Thread(target=self._run, name="log", daemon=True)
        self._lock = RLock()  # guards all below; entered twice where the garbage collector has something to say
        self._changed = Condition(self._lock)
        self._lines: list[bytes] = []
        self._octets = 0  # in _lines
        self._in_hand = 0  # octets that the thread has taken and not written
        self._unsaid = 0  # dropped, and the log has not said so
        self._reopening = False
        self._deadline: float | None = None  # set: this is the end, and until when to try
        if path is not None:
            try:
                self._descriptor, torn = _open(path)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._descriptor, torn = _NONE, False
            if torn:
                self._lines.append(b"\n")

    def start(self) -> None:
        """Begin to write. To be called once, after the last fork."""
        self._thread.start()

    def write(self, entry: dict[str, object]) -> None:
        """Take one line: JSON-ready values by name, in their order, `time`, `level` and `event` among them."""
        line = self._render(entry)
        with self._lock:
            if self._octets + self._in_hand + len(line) > LIMIT:
                self.dropped += 1
                self._unsaid += 1
                return
            self._octets += len(line)
            self._lines.append(line)
            if len(self._lines) == 1:
                self._changed.notify()

    def reopen(self, path: Path | None, form: str) -> None:
        """Go on at `path`, in `form`: opened anew also where it is the same, since somebody may have moved the file.

        What waits goes there too. Where it cannot be opened the log stays where it is, and says so.
        """
        with self._changed:
            self._path, self._render = path, _FORMS[form]
            self._reopening = True
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Write what waits, for about `timeout` seconds at most, and give the file back. Later lines are lost."""
        with self._changed:
            self._deadline = monotonic() + timeout
            self._changed.notify()
        if self._thread.ident is None:
            self._thread.start()
        self._thread.join(timeout + GRAIN)

    # In the thread

    def _run(self) -> None:
        while self._await_work():
            self._put(self._take())
        self._drop_file()

    def _await_work(self) -> bool:
        """Wait until there is something to do, and a moment longer for what comes along; False: nothing any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._unsaid or self._urgent())
            self._changed.wait_for(self._urgent, GATHER)
            return not self._over() if self._lines or self._unsaid else self._deadline is None

    def _urgent(self) -> bool:
        return self._reopening or self._deadline is not None

    def _over(self) -> bool:
        return self._deadline is not None and monotonic() >= self._deadline

    def _take(self) -> bytes:
        """All lines that wait, and where some behind them were dropped, a line that says so."""
        with self._changed:
            lines, self._lines = self._lines, []
            if self._unsaid:
                message = f"{self._unsaid} lines of the log were dropped: they could not be written in time"
                lines.append(self._warning(message, dropped=self._unsaid))
            self._octets = self._unsaid = 0
            octets = b"".join(lines)
            self._in_hand = len(octets)
        return octets

    def _put(self, octets: bytes) -> None:
        """Write all of it, however long that takes, unless the end comes first."""
        done = 0
        while True:
            if self._reopening and (lead := self._open_again()) is not None:
                octets, done = lead + octets[octets.rfind(b"\n", 0, done) + 1 :], 0
            with self._changed:
                self._in_hand = len(octets) - done
            if done == len(octets) or self._over():
                return
            try:
                done += os.write(self._descriptor, memoryview(octets)[done:])
            except BlockingIOError:
                self._await_room()
            except OSError:
                if self._deadline is not None:
                    return
                self._pause()

    def _open_again(self) -> bytes | None:
        """Go to `_path`; what is to be written there first. None: nothing has changed, or it cannot be opened."""
        with self._changed:
            self._reopening, path = False, self._path
        if path is None and self._descriptor == _STDERR:
            return None
        try:
            descriptor, torn = (_STDERR, False) if path is None else _open(path)
        except OSError as error:
            if self._descriptor != _NONE:
                why = f"the log file {path} cannot be opened, the log goes on where it was: {error.strerror}"
                with self._changed:
                    self._lines.append(self._warning(why))
            return None
        self._drop_file()
        self._descriptor = descriptor
        return b"\n" if torn else b""

    def _drop_file(self) -> None:
        if self._descriptor not in (_STDERR, _NONE):
            os.close(self._descriptor)

    def _await_room(self) -> None:
        """Wait until the reader has read, but look now and then whether the end has come."""
        room = select.poll()
        room.register(self._descriptor, select.POLLOUT)
        left = GRAIN if self._deadline is None else min(GRAIN, self._deadline - monotonic())
        room.poll(max(left, 0) * 1000)

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(self._urgent, PAUSE)
            self._reopening = self._reopening or self._descriptor == _NONE

    def _warning(self, message: str, **fields: object) -> bytes:
        time = timestamp(self._now())
        return self._render({"time": time, "level": "warning", "event": "warning", "message": message, **fields})


def _open(path: Path) -> tuple[int, bool]:
    """A descriptor at the end of `path`, and whether that end is within a line, cut off by a kill or a full disk.

    Not waiting, and open for reading too: so a named pipe opens whether or not anybody reads it yet.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o640)
    try:
        found = os.fstat(descriptor)
        size = found.st_size if stat.S_ISREG(found.st_mode) else 0
        return descriptor, size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    except OSError:
        os.close(descriptor)
        raise
