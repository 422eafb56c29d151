"""Message: a mail as a program hands it in, made one that may go out (RFC 5322; RFC 6854 for groups in From:).

Lines are ended by CRLF, a mailbox file's `From ` line goes, and so do Bcc: and a From: without an address. What is
missing is added, and names without a domain get one. Every other octet passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from relay.mailbox import is_bare, mailboxes

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_MAILBOX_LINE = re.compile(rb">?From [^\r\n]*\r?(?:\n|\Z)")
_LINE_END = re.compile(rb"\r?\n")
_WORD = re.compile(rb'[^\s,;:<>()"\\\[\]]+')
_HIDDEN = (b"bcc", b"resent-bcc")
_RECIPIENTS = (b"to", b"cc", b"bcc")
_ADDRESSES = (b"from", b"sender", b"reply-to", b"to", b"cc")
_RESENT = b"resent-"
_ONCE = (b"resent-date", b"resent-from", b"resent-sender", b"resent-message-id")


class Field(NamedTuple):
    """One field of a header: its name in lower case, and all its octets, of which the value begins at `value`."""

    name: bytes
    octets: bytes
    value: int


class Message:
    """The mail that stands in `octets`, its lines ended in whichever way."""

    def __init__(self, octets: bytes) -> None:
        while line := _MAILBOX_LINE.match(octets):
            octets = octets[line.end() :]
        octets = _LINE_END.sub(b"\r\n", octets)
        if octets and not octets.endswith(b"\n"):
            octets += b"\r\n"
        self._fields, self._body = _split(octets)

    def recipients(self) -> list[str]:
        """Whom the header names: by Resent- fields where there are any, of which the topmost set counts."""
        resent = list(_newest_resent(self._fields))
        fields = [Field(field.name[7:], field.octets, field.value) for field in resent] or self._fields
        return [
            mailbox.address
            for field in fields
            if field.name in _RECIPIENTS
            for mailbox in mailboxes(field.octets[field.value :])
        ]

    def content(self, author: str, domain: str) -> bytes:
        """What goes out. `author` is the content of the From: that is added where there is none."""
        header: list[bytes] = []
        has_from = False
        for field in self._fields:
            if field.name == b"from":
                if not mailboxes(field.octets[field.value :]):
                    continue
                has_from = True
            if field.name not in _HIDDEN:
                addresses = field.name.removeprefix(_RESENT) in _ADDRESSES
                header.append(_completed(field, domain) if addresses else field.octets)
        if not has_from:
            header.insert(0, f"From: {author}\r\n".encode())
        return b"".join([*header, b"\r\n", self._body])


def addresses(argument: bytes) -> list[str]:
    """Those in one word of a command line, which may be a list as in a header; [] if it makes no sense.

    >>> addresses(b"a..b@example.com"), addresses(b"A <a@example.com>, root")
    (['a..b@example.com'], ['a@example.com', 'root'])
    """
    if _WORD.fullmatch(argument):
        return [argument.decode("utf-8", "surrogateescape")]
    return [mailbox.address for mailbox in mailboxes(argument)]


def _split(octets: bytes) -> tuple[list[Field], bytes]:
    """The header, and the body, without the empty line between them, which may be missing."""
    fields: list[Field] = []
    at = 0
    while match := _FIELD.match(octets, at):
        end = octets.find(b"\n", match.end()) + 1
        while octets.startswith((b" ", b"\t"), end):
            end = octets.find(b"\n", end) + 1
        fields.append(Field(match[1].lower(), octets[at:end], match.end() - at))
        at = end
    return fields, octets[at + 2 if octets.startswith(b"\r\n", at) else at :]


def _newest_resent(fields: list[Field]) -> Iterator[Field]:
    """The Resent- fields of the last time that the mail was sent on: those on top (RFC 5322, 3.6.6)."""
    seen: set[bytes] = set()
    for field in fields:
        if field.name.startswith(_RESENT):
            if field.name in _ONCE and field.name in seen:
                return
            seen.add(field.name)
            yield field
        elif seen and field.name == b"received":
            return


def _completed(field: Field, domain: str) -> bytes:
    """A field whose addresses all have a domain."""
    pieces: list[bytes] = []
    end = 0
    for mailbox in mailboxes(field.octets[field.value :]):
        if is_bare(mailbox.address):
            at = field.value + mailbox.end
            pieces += [field.octets[end:at], f"@{domain}".encode()]
            end = at
    return b"".join([*pieces, field.octets[end:]])
