"""Addresses: where a recipient's or a sender's address leads by the rules of [addresses].

A rule's key is `name@domain`, `name`, `*@domain` or `*`. The most specific one that fits applies, once, whatever the
case. What no rule names passes as it is. The null reverse-path is "" and fits none (RFC 5321, 4.5.5).

Where the sender's address changes, From: may have to follow; `Rules.rewrite_from` changes the octets of that address
and no others. Addresses are found in a field as RFC 5322 (3.4, 4.4) has them: not in a comment, not in a quoted name,
not in an encoded word (RFC 2047, 5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from relay.envelope import Recipient

_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
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


class _Table:
    """The rules of one kind. Keys of every form stand in one dictionary, so that a look-up tries three at most."""

    def __init__(self, domain: str, rules: Mapping[str, Sequence[str]]) -> None:
        self._rules: dict[str, Sequence[str]] = {}
        for key, targets in rules.items():
            if "@" in key:
                self._rules[_comparable(key, domain)] = targets
        for key, targets in rules.items():
            if "@" not in key:
                self._rules.setdefault(key if key == "*" else _comparable(key, domain), targets)

    def find(self, comparable: str) -> Sequence[str] | None:
        rules = self._rules
        if not rules:
            return None
        found = rules.get(comparable)
        if found is None:
            found = rules.get("*" + comparable[comparable.rindex("@") :])
        return rules.get("*") if found is None else found


class Rules:
    """The rules of one configuration.

    domain   what a name without a domain gets
    aliases  key to the addresses that a recipient leads to
    senders  key to the address that takes a sender's place
    """

    def __init__(self, domain: str, aliases: Mapping[str, Sequence[str]], senders: Mapping[str, str]) -> None:
        self.domain = domain
        self._aliases = _Table(domain, aliases)
        self._senders = _Table(domain, {key: (target,) for key, target in senders.items()})
        self._any_alias = bool(aliases)
        self._any_sender = bool(senders)

    def complete(self, address: str) -> str:
        """`address`, with the domain if it is a name alone; "" stays "".

        >>> Rules("example.com", {}, {}).complete("root")
        'root@example.com'
        """
        return f"{address}@{self.domain}" if address and _is_bare(address) else address

    def recipients(self, address: str) -> tuple[str, ...]:
        """The addresses that a recipient's leads to: itself, if no alias names it.

        >>> Rules("example.com", {"root": ["ops@example.net"]}, {}).recipients("Root")
        ('ops@example.net',)
        """
        if self._any_alias:
            targets = self._aliases.find(_comparable(address, self.domain))
            if targets is not None:
                return tuple(map(self.complete, targets))
        return (self.complete(address),)

    def expand(self, recipients: Iterable[Recipient]) -> tuple[Recipient, ...]:
        """The recipients of a mail behind the aliases, each address once (compared without case; the first counts)."""
        found: dict[str, Recipient] = {}
        for recipient in recipients:
            for address in self.recipients(recipient.address):
                if address == recipient.address:
                    found.setdefault(address.lower(), recipient)
                else:
                    found.setdefault(address.lower(), replace(recipient, address=address))
        return tuple(found.values())

    def sender(self, address: str) -> str:
        """The address that a mail goes on with whose sender has this one; "" for ""."""
        if self._any_sender and address:
            targets = self._senders.find(_comparable(address, self.domain))
            if targets is not None:
                return self.complete(targets[0])
        return self.complete(address)

    def rewrite_from(self, field: bytes, old: str, new: str) -> bytes | None:
        """The From: `field` (its name, its folds and its end included) with `new` wherever it holds `old`.

        None where it does not hold it. A name alone is compared with the domain that it would get.
        """
        value = field.index(b":") + 1
        wanted = _comparable(old, self.domain)
        pieces, end = [], 0
        for mailbox in mailboxes(field[value:]):
            if _comparable(mailbox.address, self.domain) == wanted:
                pieces += [field[end : value + mailbox.start], new.encode()]
                end = value + mailbox.end
        return b"".join([*pieces, field[end:]]) if pieces else None


@dataclass(frozen=True, slots=True)
class Mailbox:
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
    """Add to `found` the address that the tokens of `element` are, if they are one (RFC 5322, 3.4.1)."""
    kinds = "".join(["w" if token.lastgroup in ("atom", "quoted") else token.group()[0] for token in element])
    if not re.fullmatch(r"w(\.w)*(@(w(\.w)*|\[))?", kinds):
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


def _is_bare(address: str) -> bool:
    return "@" not in address or address.endswith('"')


def _comparable(address: str, domain: str) -> str:
    """The one form of all ways to write this address: lower case, a domain, an A-label, no needless quotes."""
    local, _, host = (f"{address}@{domain}" if _is_bare(address) else address).rpartition("@")
    if local.startswith('"') and local.endswith('"') and len(local) > 1:
        local = _QUOTED_PAIR.sub(r"\1", local[1:-1])
    if not host.isascii():
        with suppress(UnicodeError):  # no name that DNS knows is compared as it is
            host = host.encode("idna").decode()
    return f"{local}@{host}".lower()
