"""Names: the kinds of values that are hosts and mail addresses (RFC 5321, 4.1.2; RFC 5322, 3.4; RFC 6531)."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

from attrs import frozen

from relay.config.kinds import text_of
from relay.config.origin import Origin
from relay.config.problem import Wrong, shown

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_INTERNATIONAL = re.compile(r"(?=.{1,253}\Z)\w(?:[\w-]{0,61}\w)?(?:\.\w(?:[\w-]{0,61}\w)?)*")
_NUMBERS = re.compile(r"(?:.*\.)?[0-9]+")
_LOCAL = re.compile(r'[^\s()<>\[\]:;@\\,"]+|"(?:[^"\\]|\\.)*"')
_FROM = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^<>@,;:"()\[\]\\]*)\s*<([^<>]*)>|([^<>]+)')
_FIELD = re.compile("[!-9;-~]+")
_LONGEST_LOCAL = 64
_LONGEST_ADDRESS = 254


def is_literal(domain: str) -> bool:
    """Whether `domain` is an address literal (RFC 5321, 4.1.3): [192.0.2.1] or [IPv6:2001:db8::1]."""
    if not (domain.startswith("[") and domain.endswith("]")):
        return False
    inner = domain[1:-1]
    tagged = inner[:5].lower() == "ipv6:"
    try:
        return isinstance(ip_address(inner[5:] if tagged else inner), IPv6Address) is tagged
    except ValueError:
        return False


def is_host(name: str) -> bool:
    """Whether `name` is a host's name. One that ends in a number is an IP address written wrong."""
    return _HOST.fullmatch(name) is not None and _NUMBERS.fullmatch(name) is None


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@frozen
class OwnName:
    """The name by which this machine or its mail is known: a host's name or an address literal."""

    empty: bool = False

    @property
    def says(self) -> str:
        """What it may be."""
        return "a host name"

    def read(self, value: object, origin: Origin) -> str:
        """The name."""
        text = text_of(value, self.says)
        if (not text and self.empty) or is_host(text) or is_literal(text):
            return text
        if not text:
            raise Wrong("is empty", "write a host name, or leave the key out")
        if not text.isascii():
            raise Wrong(f"{shown(text)} is not ASCII", "write the name with its A-label (xn--…)")
        if _is_ip(text):
            raise Wrong(
                f"{shown(text)} is an IP address and no name", "write a host name, or the address in [brackets]"
            )
        raise Wrong(f"{shown(text)} is no host name", 'write one like "app1.example.com"')


@frozen
class Host:
    """A host to connect to: a name or an IP address."""

    empty: bool = False

    @property
    def says(self) -> str:
        """What it may be."""
        return "a host name or an IP address"

    def read(self, value: object, origin: Origin) -> str:
        """The host. What looks like a URL is not shown: it may hold a password."""
        text = text_of(value, self.says)
        if (not text and self.empty) or _is_ip(text) or is_host(text.removesuffix(".")):
            return text
        if not text:
            raise Wrong("is empty", f"write {self.says}")
        if "/" in text or "@" in text:
            raise Wrong("is no host name", "write the host alone; port, username and password have keys of their own")
        if not text.isascii():
            raise Wrong(f"{shown(text)} is not ASCII", "write the name with its A-label (xn--…)")
        if ":" in text or "[" in text:
            raise Wrong(f"{shown(text)} is no host name", "write the host without brackets, and its port at `port`")
        raise Wrong(f"{shown(text)} is no host name", 'write one like "smtp.example.com"')


def split_address(address: str) -> tuple[str, str]:
    """The local part and the domain of `address`; the domain is "" where there is none.

    >>> split_address('"a@b"@example.com'), split_address('"a@b"')
    (('"a@b"', 'example.com'), ('"a@b"', ''))
    """
    quoted, quote, rest = address.rpartition('"')
    local, at, domain = rest.rpartition("@")
    return (quoted + quote + local, domain) if at else (address, "")


def fault_of_address(address: str, *, bare: bool) -> str:
    """Why `address` is none ("" if it is one); with `bare` it may lack its domain."""
    local, domain = split_address(address)
    whole = len(local) < len(address)
    if not (whole or bare):
        return "has no @"
    if not _LOCAL.fullmatch(local) or len(local.encode()) > _LONGEST_LOCAL:
        return "has no valid name before the @"
    if whole and not (is_literal(domain) or (_INTERNATIONAL.fullmatch(domain) and not _NUMBERS.fullmatch(domain))):
        return "has no valid domain behind the @"
    return "is too long" if len(address.encode()) > _LONGEST_ADDRESS else ""


@frozen
class Address:
    """A mail address. `bare`: it may lack its domain; `empty`: it may be ""; `words`: what it may be besides."""

    bare: bool = False
    empty: bool = False
    words: tuple[str, ...] = ()

    @property
    def says(self) -> str:
        """What it may be."""
        words = [f'"{word}"' for word in self.words]
        return " or ".join([*words, "an address or a name" if self.bare else "an address"])

    def read(self, value: object, origin: Origin) -> str:
        """The address, as it was written."""
        text = text_of(value, self.says)
        if text in self.words or (not text and self.empty):
            return text
        if not text:
            raise Wrong("is empty", f"write {self.says}")
        if fault := fault_of_address(text, bare=self.bare):
            raise Wrong(f"{shown(text)} {fault}", f"write {self.says} like ops@example.com")
        return text


@frozen
class Pattern:
    """What a rule of [addresses] applies to: name@domain, name, *@domain or *; in lower case."""

    @property
    def says(self) -> str:
        """What it may be."""
        return "name@domain, name, *@domain or *"

    def read(self, value: object, origin: Origin) -> str:
        """The pattern."""
        text = text_of(value, self.says)
        if (
            not text
            or fault_of_address(text, bare=True)
            or "*" in text.removeprefix("*@").replace("*", "", text == "*")
        ):
            raise Wrong(f"{shown(text)} is no address to go by", f"write {self.says}")
        return text.lower()


@frozen
class From:
    """What stands in a From: field: an address, with or without a name (RFC 5322, 3.4); "" where it is left out."""

    @property
    def says(self) -> str:
        """What it may be."""
        return "a name and an address"

    def read(self, value: object, origin: Origin) -> str:
        """The field's content."""
        text = text_of(value, self.says)
        if not text:
            return text
        fix = 'write it like "Mail Delivery System <mailer-daemon@example.com>"'
        match = _FROM.fullmatch(text)
        address = (match[1] or match[2] or "") if match else ""
        if fault_of_address(address, bare=False):
            raise Wrong(f"{shown(text)} is not one address", fix)
        if not address.isascii():
            raise Wrong(f"{shown(text)} has an address that is not ASCII", fix)
        return text


@frozen
class FieldName:
    """The name of a header field (RFC 5322, 3.6.8)."""

    @property
    def says(self) -> str:
        """What it may be."""
        return "the name of a header field"

    def read(self, value: object, origin: Origin) -> str:
        """The name."""
        text = text_of(value, self.says)
        if not _FIELD.fullmatch(text):
            raise Wrong(f"{shown(text)} is no header field's name", 'write the name without a colon, like "Bcc"')
        return text
