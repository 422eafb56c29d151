"""Paths: the `<address>` of MAIL and RCPT (RFC 5321, 4.1.2 and 4.1.3; RFC 6531, 3.3).

An address passes as it is: dots in odd places, quotes, literals and names without a domain are not touched, so that an
address and its octets convert into each other without loss. Only a source route is dropped (RFC 5321, appendix C).
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

PATH_LIMIT = 256
"""Octets of a path with its angle brackets (RFC 5321, 4.5.3.1.3)."""
LOCAL_PART_LIMIT = 200
"""Octets; RFC 5321 (4.5.3.1.1) promises only 64, but VERP and SRS write longer ones."""
DOMAIN_LIMIT = 255
"""Octets (RFC 5321, 4.5.3.1.2)."""

# Beyond ASCII all is welcome but what a terminal or a log line could mistake for a control character.
_WIDE = "\u00a0-\u2027\u202a-\U0010ffff"
_ATOM = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~.{_WIDE}-]+"
_QUOTED = rf'"(?:[ !#-\[\]-~{_WIDE}]|\\[ -~])*"'
_NAME = rf"[A-Za-z0-9_{_WIDE}-]+(?:\.[A-Za-z0-9_{_WIDE}-]+)*"
_LITERAL = r"\[[!-Z^-~]+\]"

_BRACKETS = re.compile(rb'<((?:[^"<>]|"(?:[^"\\]|\\.)*")*)>')
_ROUTE = re.compile(rf"@(?:{_NAME}|{_LITERAL})(?:,@(?:{_NAME}|{_LITERAL}))*:")
_MAILBOX = re.compile(rf"({_ATOM}|{_QUOTED})(?:@({_NAME}|{_LITERAL}))?")


class PathError(ValueError):
    """It is no path; the text says why, and what to write."""


def cut(octets: bytes) -> tuple[bytes, bytes]:
    """What stands between the angle brackets at the beginning of `octets`, and what stands behind them.

    Raises PathError.

    >>> cut(b"<a@example.com> SIZE=5")
    (b'a@example.com', b' SIZE=5')
    """
    match = _BRACKETS.match(octets)
    if match is None:
        raise PathError("an address alone belongs there, in angle brackets: <user@example.com>")
    return match[1], octets[match.end() :]


def parse(inner: bytes) -> str:
    """The address between the angle brackets of a path; "" for the null path.

    Raises PathError.

    >>> parse(b"@relay.example:a..b@example.net")
    'a..b@example.net'
    """
    if not inner:
        return ""
    if len(inner) + 2 > PATH_LIMIT:
        raise PathError(f"the address is longer than {PATH_LIMIT} octets")
    try:
        text = inner.decode("utf-8")
    except UnicodeDecodeError:
        raise PathError("the address is not valid UTF-8") from None
    route = _ROUTE.match(text)
    address = text[route.end() :] if route else text
    match = _MAILBOX.fullmatch(address)
    if match is None:
        raise PathError("that is no address; an address alone belongs there: <user@example.com>")
    local_part, domain = match[1], match[2] or ""
    if len(local_part.encode()) > LOCAL_PART_LIMIT:
        raise PathError(f"what stands before the @ is longer than {LOCAL_PART_LIMIT} octets")
    if len(domain.encode()) > DOMAIN_LIMIT:
        raise PathError(f"what stands behind the @ is longer than {DOMAIN_LIMIT} octets")
    if domain.startswith("["):
        _check_literal(domain[1:-1])
    return address


def _check_literal(text: str) -> None:
    """Raises PathError where `text` is no address literal; tags other than IPv6 are taken as they are."""
    tag, colon, rest = text.partition(":")
    try:
        if not colon:
            IPv4Address(text)
        elif tag.lower() == "ipv6":
            IPv6Address(rest)
        elif not (tag and rest):
            raise PathError("that is no address literal: <user@[192.0.2.1]>")
    except AddressValueError:
        raise PathError("that is no address literal: <user@[192.0.2.1]>, <user@[IPv6:2001:db8::1]>") from None


def is_bare(address: str) -> bool:
    """Whether an address that was parsed has no domain.

    >>> is_bare("root"), is_bare('"a@b"'), is_bare("a@example.com")
    (True, True, False)
    """
    return "@" not in address or address.endswith('"')
