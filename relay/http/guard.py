"""Guard: who is answered at all.

Pages are for programs and people of this machine. A browser of this machine also speaks for whatever page it shows,
and DNS rebinding gives that page's own name our address; so the name that the client believes to speak to counts too
(`Host`, RFC 9110, 7.2, and the target, where it is in absolute form: RFC 9112, 3.2.2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from twisted.internet.address import UNIXAddress

from relay.config.loopback import is_loopback

_AUTHORITY = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z.-]+))(?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


def is_here(peer: object) -> bool:
    """Whether `peer`, a Twisted address, is on this machine."""
    return isinstance(peer, UNIXAddress) or is_loopback(getattr(peer, "host", ""))


def names_loopback(authority: bytes) -> bool:
    """Whether `host` or `host:port` is localhost or a loopback address, the latter written in full.

    >>> [names_loopback(each) for each in (b"LOCALHOST:8025", b"[::1]", b"127.0.0.1.evil.example", b"a@127.0.0.1")]
    [True, True, False, False]
    """
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        return False
    address, name = found.groups()
    if address is not None:
        return is_loopback(address.decode("ascii"))
    plain = name.decode("ascii").lower()
    return is_loopback(plain) or plain.removesuffix(".") == "localhost"


def origin_form(target: bytes) -> tuple[bytes | None, bytes]:
    """The authority of a target in absolute form (None in any other) and the path without its query.

    >>> origin_form(b"http://localhost:8025/health?x"), origin_form(b"/health")
    ((b'localhost:8025', b'/health'), (None, b'/health'))
    """
    absolute = _ABSOLUTE.fullmatch(target)
    authority, target = absolute.groups() if absolute else (None, target)
    return authority, target.partition(b"?")[0] or b"/"


def query(target: bytes) -> bytes:
    """What stands behind the first question mark of a target; nothing where there is none.

    >>> query(b"/history.json?step=60&after=1"), query(b"/")
    (b'step=60&after=1', b'')
    """
    return target.partition(b"?")[2]


def stranger(peer: object, version: bytes, hosts: Sequence[bytes], authority: bytes | None) -> str | None:
    """Why a request is refused, in one line; None where it is answered.

    hosts      the values of all its Host fields
    authority  what its target names, if it does
    """
    if not is_here(peer):
        return "Only this machine is answered here."
    if authority is not None and not names_loopback(authority):
        return "The target of the request names another host than localhost or a loopback address."
    if not hosts and version == b"HTTP/1.0":
        return None
    if len(hosts) != 1:
        return f"One Host field belongs in a request; this one has {len(hosts)}."
    if not names_loopback(hosts[0]):
        return "Host names neither localhost nor a loopback address, as 127.0.0.1 or [::1]: open the page under one."
    return None
