"""Author: who hands a mail in, as far as this host knows; in ASCII, whatever the locale says."""

from __future__ import annotations

import re
from binascii import b2a_base64
from contextlib import suppress

_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_PRINTABLE = re.compile(r"[ -~]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_LONGEST = 60  # characters of a name that stand on one line
_OCTETS = 45  # as base64 and with what stands around them they are an encoded word (RFC 2047, 2)
_KEPT = 400


def user_name(uid: int) -> tuple[str, bytes]:
    """The local part for the user with that number, and the full name (b"" where there is none).

    A user whom no database knows, or whose name is not ASCII, is called by the number.
    """
    import pwd

    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return f"uid{uid}", b""
    name = entry.pw_name
    full = entry.pw_gecos.split(",")[0].replace("&", name.capitalize()).encode("utf-8", "surrogateescape")
    if _ATOM.fullmatch(name):
        return name, full
    if name and _PRINTABLE.fullmatch(name):
        return _quoted(name), full
    return f"uid{uid}", full


def from_content(full_name: bytes, address: str) -> str:
    """What stands in From:: the address, with the name before it where that is UTF-8 (RFC 2047, 5)."""
    try:
        name = _CONTROL.sub(" ", full_name.decode()).strip()[:_KEPT]
    except UnicodeDecodeError:
        return address
    if not name:
        return address
    if _PRINTABLE.fullmatch(name) and len(name) <= _LONGEST:
        return f"{name if _is_phrase(name) else _quoted(name)} <{address}>"
    return "\r\n ".join([*_encoded_words(name), f"<{address}>"])


def host_name() -> str:
    """This machine's full name, or its bare one where no name server tells in time."""
    import socket
    from threading import Thread

    found: list[str] = []

    def ask() -> None:
        with suppress(OSError, LookupError, UnicodeError):
            found.append(socket.getfqdn())

    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(2.0)
    names = [*found, socket.gethostname()]
    return next((name for name in names if _ATOM.fullmatch(name) and not name.startswith("localhost")), "localhost")


def _is_phrase(name: str) -> bool:
    """Whether a name may stand without quotes: words, none of which looks encoded (RFC 5322, 3.2.5)."""
    return "=?" not in name and all(re.fullmatch(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+", word) for word in name.split(" "))


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _encoded_words(text: str) -> list[str]:
    """Encoded words, each of whole characters and at most 75 octets long."""
    words: list[bytes] = [b""]
    for character in text:
        octets = character.encode()
        if len(words[-1]) + len(octets) > _OCTETS:
            words.append(b"")
        words[-1] += octets
    return [f"=?utf-8?b?{b2a_base64(word, newline=False).decode()}?=" for word in words]
