"""Main: the command from its arguments to its exit status (sysexits.h).

Any user and any environment will do: no entry in passwd, no HOME, a current folder that is gone, a closed standard
error. What is said goes there, one line each, in ASCII.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from relay.mailbox import is_bare
from relay.sendmail import arguments
from relay.sendmail.arguments import Arguments, UsageError
from relay.sendmail.author import from_content, host_name, user_name
from relay.sendmail.message import Message, addresses
from relay.sendmail.settings import Settings, read
from relay.sendmail.smtp import Connection, Mail, NotNow, Refused, connect
from relay.sendmail.submit import TEMPORARY, UNAVAILABLE, USAGE, Submission, shown

_PIECE = 256 * 1024


class TooLarge(Exception):
    """The mail is larger than any may be."""


def main() -> None:
    """What setup.cfg makes the commands mailrelay-sendmail and mailq of."""
    _fill_standard_streams()
    words = [os.fsencode(word) for word in sys.argv]
    if os.path.basename(words[0]) == b"mailq":  # noqa: PTH119  pathlib takes as long to import as all else here
        words[1:] = [b"-bp"]
    try:
        status = run(words[1:], os.environ)
    except KeyboardInterrupt:
        status = TEMPORARY
    sys.exit(status)


def run(words: Sequence[bytes], environ: Mapping[str, str]) -> int:
    """Do what the words behind the command's name ask for; the exit status."""
    settings = read(environ)
    try:
        asked = arguments.parse(words)
        if asked.mode == arguments.MAIL:
            return send(asked, settings)
    except UsageError as error:
        return _end(USAGE, str(error))
    except TooLarge:
        return _end(UNAVAILABLE, f"the message is larger than the {settings.max_size} octets that are taken here")
    except Refused as refused:
        return _end(UNAVAILABLE, str(refused))
    if asked.mode == arguments.DIALOGUE:
        from relay.sendmail.dialogue import hold  # few ask for it

        return hold(settings.places)
    from relay.sendmail.queue import Unanswered, flush, show

    try:
        return (show if asked.mode == arguments.LIST else flush)(settings.control)
    except Unanswered as error:
        return _end(error.status, str(error))
    except BrokenPipeError:
        return TEMPORARY


def send(asked: Arguments, settings: Settings) -> int:
    """Take the mail on standard input to its recipients. Raises UsageError, TooLarge and Refused."""
    wanted = [address for word in asked.recipients for address in _addresses(word)]
    sender = None if asked.sender is None else "".join(_addresses(asked.sender)[:1]) if asked.sender else ""
    message = Message(_standard_input(asked.dot_ends, settings.max_size))
    if asked.from_header:
        wanted += message.recipients()
    if not wanted:
        raise UsageError("no recipient: the header names none")
    connection, why = _connection(settings)
    user, full_name = user_name(os.getuid())
    domain = settings.domain or _domain(connection, settings.is_read)
    author = from_content(full_name if asked.full_name is None else asked.full_name, f"{user}@{domain}")
    content = message.content(author, domain)
    if len(content) > settings.max_size:
        raise TooLarge
    mail = Mail(user if sender is None else sender, content, asked.notify, asked.ret, asked.envid)
    submission = Submission(settings, mail, connection, why)
    status = submission.run(_unique(wanted, domain))
    if connection is not None:
        connection.close()
    return _end(status, *submission.said)


def _connection(settings: Settings) -> tuple[Connection | None, str]:
    """A connection to the daemon, or why there is none."""
    try:
        connection = connect(settings.places)
        if connection is not None:
            connection.hello()
    except NotNow as later:
        return None, str(later)
    return connection, "no daemon answers"


def _domain(connection: Connection | None, is_read: bool) -> str:
    """What names without a domain get, where the configuration does not say: the daemon's own name, or what it says."""
    if connection is None:
        return host_name()
    if not is_read:
        with suppress(NotNow):
            _, found, domain = connection.ask(b"VRFY postmaster").lines[0].rpartition(" are at ")
            if found:
                return domain
    return connection.hostname


def _addresses(word: bytes) -> list[str]:
    found = addresses(word)
    if not found:
        raise UsageError(f"{word.decode('latin-1')!r} is no address")
    return found


def _unique(wanted: Sequence[str], domain: str) -> list[str]:
    """Each address once, as it was written first."""
    found: dict[str, str] = {}
    for address in wanted:
        found.setdefault((f"{address}@{domain}" if is_bare(address) else address).lower(), address)
    return list(found.values())


def _standard_input(dot_ends: bool, limit: int) -> bytes:
    """All of it, or up to a line of one dot. Raises TooLarge."""
    pieces: list[bytes] = []
    size = 0
    with suppress(OSError), open(0, "rb", closefd=False) as stream:
        while piece := stream.readline() if dot_ends else stream.read(_PIECE):
            if dot_ends and piece in (b".\n", b".\r\n", b"."):
                break
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise TooLarge
    return b"".join(pieces)


def _fill_standard_streams() -> None:
    """Where a standard stream is closed, the next file or socket would take its number, and its output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open("/dev/null", os.O_RDWR)


def _end(status: int, *said: str) -> int:
    for text in said:
        with suppress(OSError):
            os.write(2, f"mailrelay-sendmail: {shown(text)}\n".encode())
    return status
