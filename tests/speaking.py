"""Speaking: a connection with the daemon on which every octet is the test's own."""

from __future__ import annotations

import socket

from tests.daemon import PATIENCE

HELLO = b"EHLO app.example\r\n"
ENVELOPE = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"


class Dialogue:
    """A connection to `port` of this host; `ahead` is sent at once."""

    def __init__(self, port: int, ahead: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self.socket.makefile("rb")
        if ahead:
            self.socket.sendall(ahead)

    def __enter__(self) -> Dialogue:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self.socket.close()

    def reply(self) -> str:
        """The code of the next reply; "" at the end of the connection."""
        return self.line()[:3]

    def line(self) -> str:
        """The last line of the next reply; "" at the end of the connection."""
        line = b"-" * 4
        while line[3:4] == b"-":
            line = self._stream.readline()
        return line.decode()

    def replies(self, number: int) -> list[str]:
        """The codes of so many."""
        return [self.reply() for _ in range(number)]

    def say(self, octets: bytes) -> None:
        """In one segment, as far as the kernel likes."""
        self.socket.sendall(octets)

    def greet(self) -> None:
        """Up to the reply to EHLO."""
        assert self.reply() == "220"
        self.say(HELLO)
        assert self.reply() == "250"

    def begin(self) -> None:
        """Up to the 354."""
        self.greet()
        self.say(ENVELOPE)
        assert self.replies(3) == ["250", "250", "354"]
