"""Parameters: what follows the path of MAIL and RCPT (RFC 5321, 4.1.1.11; RFC 1870, 6152, 6531, 3461, 6533)."""

from __future__ import annotations

import re
from collections.abc import Collection

from relay.reply import Reply

_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\x00-\x20=\x7f]*))?")
_SIZE = re.compile(r"[0-9]{1,20}")
_XTEXT = r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})"
_ENVID = re.compile(rf"{_XTEXT}{{1,100}}")
_ORCPT = re.compile(rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~.-]+;{_XTEXT}+")
_WIDE = re.compile(r"[^\x00-\x9f]")
_ORCPT_LIMIT = 500


class ParameterError(ValueError):
    """Not what may stand there; `code` is what to answer: 501, or 555 where we do not know or cannot do it."""

    def __init__(self, text: str, code: int = 501) -> None:
        super().__init__(text)
        self.code = code

    @property
    def reply(self) -> Reply:
        """What the client is told."""
        return Reply(self.code, "5.5.4", (str(self),))


def parse(octets: bytes, known: Collection[str]) -> dict[str, str | None]:
    """Keyword, in upper case, to value, or None where no "=" stood; of everything behind a path.

    Raises ParameterError: also for a keyword that is not among the `known` ones, or there twice.

    >>> parse(b" SIZE=5 smtputf8", ("SIZE", "SMTPUTF8"))
    {'SIZE': '5', 'SMTPUTF8': None}
    """
    if octets and not octets.startswith(b" "):
        raise ParameterError("a space belongs between the path and its parameters")
    found: dict[str, str | None] = {}
    for word in filter(None, octets.split(b" ")):
        match = _PARAMETER.fullmatch(word)
        if match is None:
            raise ParameterError("a parameter is KEYWORD or KEYWORD=value")
        keyword = match[1].decode().upper()
        if keyword not in known:
            raise ParameterError(f"the parameter {keyword[:40]} is not known here", 555)
        if keyword in found:
            raise ParameterError(f"{keyword} is there twice")
        try:
            found[keyword] = None if match[2] is None else match[2].decode()
        except UnicodeDecodeError:
            raise ParameterError(f"the value of {keyword} is not valid UTF-8") from None
    return found


def flag(keyword: str, values: dict[str, str | None]) -> bool:
    """Whether a parameter that takes no value is there."""
    if values.get(keyword) is not None:
        raise ParameterError(f"{keyword} takes no value")
    return keyword in values


def size(value: str | None) -> int:
    """SIZE: octets (RFC 1870, 5)."""
    if value is None or not _SIZE.fullmatch(value):
        raise ParameterError("SIZE is a number of octets: SIZE=1024")
    return int(value)


def check_body(value: str | None) -> None:
    """BODY: 7BIT or 8BITMIME (RFC 6152, 3). BINARYMIME needs an extension that is not offered (RFC 3030)."""
    word = (value or "").upper()
    if word == "BINARYMIME":
        raise ParameterError("BINARYMIME is not offered: send lines that end in CRLF", 555)
    _one_of("BODY", word, ("7BIT", "8BITMIME"))


def ret(value: str | None) -> str:
    """RET: FULL or HDRS (RFC 3461, 4.3)."""
    return _one_of("RET", (value or "").upper(), ("FULL", "HDRS"))


def envid(value: str | None) -> str:
    """ENVID: xtext of at most 100 characters (RFC 3461, 4.4), as it came."""
    if value is None or not _ENVID.fullmatch(value):
        raise ParameterError("ENVID is 1 to 100 characters of xtext (RFC 3461)")
    return value


def notify(value: str | None) -> frozenset[str]:
    """NOTIFY: NEVER alone, or some of SUCCESS, FAILURE and DELAY (RFC 3461, 4.1)."""
    words = (value or "").upper().split(",")
    if words != ["NEVER"] and not all(word in ("SUCCESS", "FAILURE", "DELAY") for word in words):
        raise ParameterError("NOTIFY is NEVER, or a list of SUCCESS, FAILURE and DELAY with commas between")
    return frozenset(words)


def orcpt(value: str | None) -> str:
    r"""ORCPT: an address type and xtext (RFC 3461, 4.2), as it came.

    A UTF-8 address in it is turned into its ASCII form, which means the same (RFC 6533, 3).

    >>> orcpt("utf-8;é@example.com")
    'utf-8;\\x{E9}@example.com'
    """
    text = value or ""
    if not text.isascii() and text[:6].lower() == "utf-8;":
        text = _WIDE.sub(lambda match: f"\\x{{{ord(match[0]):X}}}", text)
    if len(text) > _ORCPT_LIMIT or not _ORCPT.fullmatch(text):
        raise ParameterError("ORCPT is an address type, a semicolon and xtext: rfc822;user@example.com (RFC 3461)")
    return text


def _one_of(keyword: str, word: str, choices: tuple[str, str]) -> str:
    if word not in choices:
        raise ParameterError(f"{keyword} is {choices[0]} or {choices[1]}")
    return word
