"""Addresses: where a recipient's or a sender's address leads by the rules of [addresses].

A rule's key is `name@domain`, `name`, `*@domain` or `*`. The most specific one that fits applies, once, whatever the
case. What no rule names passes as it is. The null reverse-path is "" and fits none (RFC 5321, 4.5.5).

Where the sender's address changes, From: may have to follow; `Rules.rewrite_from` changes the octets of that address
and no others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from relay.envelope import Recipient
from relay.mailbox import is_bare, mailboxes

_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


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
        return f"{address}@{self.domain}" if address and is_bare(address) else address

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


def _comparable(address: str, domain: str) -> str:
    """The one form of all ways to write this address: lower case, a domain, an A-label, no needless quotes."""
    local, _, host = (f"{address}@{domain}" if is_bare(address) else address).rpartition("@")
    if local.startswith('"') and local.endswith('"') and len(local) > 1:
        local = _QUOTED_PAIR.sub(r"\1", local[1:-1])
    if not host.isascii():
        with suppress(UnicodeError):  # no name that DNS knows is compared as it is
            host = host.encode("idna").decode()
    return f"{local}@{host}".lower()
