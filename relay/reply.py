"""Reply: what one party of an SMTP dialogue answers to a command (RFC 5321, 4.2; enhanced codes RFC 3463).

One value for both directions: what our server says, what a provider said, what a bounce quotes and a page shows.
Octets become replies, and the reverse, in `relay.smtp.grammar`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_ATOM = r"""[^\s<>()\[\]:;,"']"""
_ADDRESS = re.compile(rf"""(?:"[^"]{{0,64}}"|(?<!{_ATOM}){_ATOM}+)@(?:\[[^\]\s]{{0,255}}\]|{_ATOM}+)""")


def printable(text: str) -> str:
    r"""`text` with every control character as `\xNN`, so that it can stand on a terminal, a page or a log line."""
    return text if text.isprintable() else _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", text)


def nameless(text: str) -> str:
    """`text`, a provider's words, with every mail address in it as `[address]`: pages name nobody.

    >>> nameless("550 5.1.1 <b@example.net>: no such user")
    '550 5.1.1 <[address]>: no such user'
    """
    return _ADDRESS.sub("[address]", text)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply's code (200 to 599), its enhanced code ("5.1.1", or "" where none was said) and its lines of text.

    Code 0 stands for no reply at all: a lost connection, a wait that ran out, a line that is no reply. `lines` then
    holds our own words for what happened.
    """

    code: int
    enhanced: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The lines on one, control characters escaped."""
        return printable(" ".join(self.lines))

    def __str__(self) -> str:
        """The reply on one line as people quote it: `550 5.1.1 No such user`."""
        said = f"{self.code} {self.enhanced} {self.text}" if self.enhanced else f"{self.code} {self.text}"
        return said if self.code else self.text


def no_reply(what: str) -> Reply:
    """The Reply that stands for none: `what` says in plain words what was seen instead."""
    return Reply(0, "", (what,))
