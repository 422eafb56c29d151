"""Handing over: a service manager, as far as sockets go. It opens them, and becomes the command (sd_listen_fds(3)).

    python handing_over.py NAME=KIND:PLACE... -- COMMAND...

KIND: tcp and udp (PLACE: an address, the port is any), unix (a path; mode 0600), connection (a pair's end), file,
held (the number of a file descriptor that whoever runs this keeps open).
"""

from __future__ import annotations

import os
import socket
import sys

FIRST = 3
"""The first file descriptor that is handed over."""


def opened(kind: str, place: str) -> int:
    """A file descriptor of that kind."""
    if kind == "file":
        return os.open(place, os.O_RDONLY)
    if kind == "held":
        return os.dup(int(place))
    if kind == "connection":
        return socket.socketpair()[0].detach()
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET6 if ":" in place else socket.AF_INET
    it = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    it.bind(place if kind == "unix" else (place, 0))
    if kind == "unix":
        os.chmod(place, 0o600)  # noqa: PTH101
    if kind != "udp":
        it.listen()
    return it.detach()


def main() -> None:
    """Open all, put them in their order, and go."""
    arguments = sys.argv[1:]
    end = arguments.index("--")
    names, whats = zip(*(each.split("=", 1) for each in arguments[:end]), strict=True)
    found = [os.dup2(opened(*what.split(":", 1)), 100 + number) for number, what in enumerate(whats)]
    for number, fileno in enumerate(found, FIRST):
        os.dup2(fileno, number)
        os.set_inheritable(fileno, False)
    handed = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(found)), "LISTEN_FDNAMES": ":".join(names)}
    command = arguments[end + 1 :]
    os.execve(command[0], command, {**os.environ, **handed})


if __name__ == "__main__":
    main()
