"""Mailbox: the addresses in a header field like From: or To:, and where they stand in it (RFC 5322, 3.4 and 4.4).

They are not looked for in comments, in quoted names and in encoded words (RFC 2047, 5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_ENCODED_WORD = re.compile(r"=\?[^?]+\?[BbQq]\?[^?]*\?=")

_TOKEN = re.compile(
    r"""
    (?P<space> [ \t\r\n]+ )
  | (?P<quoted> " (?: [^"\\] | \\. )*+ " )
  | (?P<literal> \[ (?: [^\]\\] | \\. )*+ \] )
  | (?P<special> [()<>,;:@.] )
  | (?P<atom> [^\s()<>,;:@."\[\]\\]+ )
  | (?P<open> ["\[] .* )
  | (?P<stray> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_COMMENT = re.compile(r"\\.|[()]", re.DOTALL)


class Mailbox(NamedTuple):
    """An address in the value of a header field, without comments and folds, and the octets that it stands on."""

    address: str
    start: int
    end: int


def mailboxes(value: bytes) -> list[Mailbox]:
    """The addresses in `value`, the value of a field like From: or To:, in their order; also those in groups.

    A name without a domain counts; an encoded word is none. An element that makes no sense is left out.

    >>> [mailbox.address for mailbox in mailboxes(b' "a@b" <c@d.example>, team: root (x@y);')]
    ['c@d.example', 'root']
    """
    found: list[Mailbox] = []
    element: list[re.Match[str]] = []
    angle = False
    for token in _tokens(value.decode("latin-1")):
        special = token.group() if token.lastgroup == "special" else ""
        if special == "<" and not angle:
            element, angle = [], True
        elif special == ">" and angle:
            _close(element, found)
            element, angle = [token], False  # whatever stands behind it is no address
        elif special == ":" and angle:
            element = []  # an obsolete route: <@relay:a@b>
        elif special and special in ",;:" and not angle:
            if special != ":":
                _close(element, found)
            element = []
        else:
            element.append(token)
    if not angle:
        _close(element, found)
    return found


def _close(element: Sequence[re.Match[str]], found: list[Mailbox]) -> None:
    """Add to `found` the address that the tokens of `element` are, if they are one (RFC 5322, 3.4.1).

    Dots in odd places, which some mailboxes of old have, are let pass.
    """
    kinds = "".join(["w" if token.lastgroup in ("atom", "quoted") else token.group()[0] for token in element])
    if not re.fullmatch(r"\.*w(\.+w)*\.*(@(w(\.w)*|\[))?", kinds):
        return
    address = "".join([token.group() for token in element])
    if _ENCODED_WORD.fullmatch(address):
        return
    text = address.encode("latin-1").decode("utf-8", "surrogateescape")
    found.append(Mailbox(text, element[0].start(), element[-1].end()))


def _tokens(text: str) -> Iterable[re.Match[str]]:
    """The tokens of a field's value, without white space and comments."""
    position = 0
    while token := _TOKEN.match(text, position):
        position = token.end()
        if token.group() == "(":
            position = _behind_comment(text, position)
        elif token.lastgroup != "space":
            yield token


def _behind_comment(text: str, position: int) -> int:
    """Where the comment ends whose inside begins at `position`; comments nest. One without an end is the rest."""
    depth = 1
    for mark in _IN_COMMENT.finditer(text, position):
        depth += {"(": 1, ")": -1}.get(mark.group(), 0)
        if not depth:
            return mark.end()
    return len(text)


def is_bare(address: str) -> bool:
    """Whether `address` has no domain."""
    return "@" not in address or address.endswith('"')
