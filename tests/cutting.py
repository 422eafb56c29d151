"""Cutting: a proxy before PostgreSQL that loses connections where it hurts: behind a COMMIT, before its answer."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.daemon import PATIENCE

_COMMITTED = b"C\0\0\0\x0bCOMMIT\0"
"""CommandComplete, as the server says it of a COMMIT."""


class Cutting:
    """Connections to `port` lead to `target` on loopback, from the beginning of a `with` block to its end.

    cuts  how many connections were lost so
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self._left = 0
        self._changed = threading.Condition()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def aim(self) -> int:
        """Lose the connection of the next COMMIT; how many will have been lost then."""
        with self._changed:
            self._left += 1
            return self.cuts + self._left

    def cut(self) -> None:
        """The same, and wait until that has happened."""
        goal = self.aim()
        with self._changed:
            there = self._changed.wait_for(lambda: self.cuts >= goal, PATIENCE)
        assert there, f"{self.cuts} connections were cut, not {goal}"

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._changed:
            _end(*self._sockets)
        for thread in list(self._threads):
            thread.join(PATIENCE)

    def _begin(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self._sockets.update((near, far))
            self._begin(self._serve, near, far)

    def _serve(self, near: socket.socket, far: socket.socket) -> None:
        back = threading.Thread(target=self._carry, args=(far, near, True), daemon=True)
        back.start()
        self._carry(near, far, False)
        back.join(PATIENCE)
        with self._changed:
            self._sockets.difference_update((near, far))
        near.close()
        far.close()

    def _carry(self, one: socket.socket, other: socket.socket, answers: bool) -> None:
        """What comes from `one` goes to `other`, as long as there is nothing to be cut."""
        before = b""
        with suppress(OSError):
            while octets := one.recv(65536):
                if answers and _COMMITTED in before + octets and self._is_cut():
                    break
                before = octets[-len(_COMMITTED) :]
                other.sendall(octets)
        _end(one, other)

    def _is_cut(self) -> bool:
        with self._changed:
            if not self._left:
                return False
            self._left -= 1
            self.cuts += 1
            self._changed.notify_all()
            return True


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
