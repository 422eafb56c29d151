"""Arguments: what the command line asks for, in the ways that programs have called sendmail(1) for decades.

Options may stand together (`-ti`), their values beside them or behind (`-fme@example.com`, `-f me@example.com`), and
recipients anywhere. What lies behind `--` is a recipient whatever it looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

MAIL, DIALOGUE, LIST, FLUSH = "mail", "dialogue", "list", "flush"

# What is in neither is a mistake; most of both is only there so that programs that say it need no change.
_WITH_VALUE = "BFLNORVXbfhor"
_ALONE = "GUintv"
_MODES = {b"m": MAIL, b"s": DIALOGUE, b"p": LIST}
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_NOT_XTEXT = re.compile(rb"[^!-*,-<>-~]")  # RFC 3461, 4
_LONGEST_ENVID = 100


class UsageError(Exception):
    """What was asked for makes no sense; the text says why."""


class Arguments:
    """What is to be done.

    mode             MAIL, DIALOGUE (-bs), LIST (-bp) or FLUSH (-q)
    recipients       as they stand on the command line
    from_header      whether the header's recipients are taken, too (-t)
    dot_ends         whether a line of one dot ends the mail (not with -i)
    sender           the envelope's (-f), b"" for the null one; None where it is not said
    full_name        -F
    notify, ret, envid  the DSN parameters as they stand in SMTP (RFC 3461), or ""
    """

    def __init__(self) -> None:
        self.mode = MAIL
        self.recipients: tuple[bytes, ...] = ()
        self.from_header = False
        self.dot_ends = True
        self.sender: bytes | None = None
        self.full_name: bytes | None = None
        self.notify = ""
        self.ret = ""
        self.envid = ""


def parse(words: Sequence[bytes]) -> Arguments:
    """What the words behind the command's name ask for. Raises UsageError."""
    asked = Arguments()
    for option, value in _options(words):
        if option:
            _how(asked, option, value)
            _what(asked, option, value)
        else:
            asked.recipients += (value,)
    if asked.mode != MAIL and asked.recipients:
        raise UsageError("recipients make no sense there")
    if asked.mode == MAIL and not (asked.recipients or asked.from_header):
        raise UsageError("no recipient: name one, or write -t to take those of the header")
    return asked


def _how(asked: Arguments, option: str, value: bytes) -> None:
    """Options that say what is to be done, and how to read the mail."""
    match option:
        case "b":
            asked.mode = _mode(value)
        case "q":
            asked.mode = FLUSH
        case "t":
            asked.from_header = True
        case "i":
            asked.dot_ends = False
        case "o":
            asked.dot_ends = asked.dot_ends and value != b"i"


def _what(asked: Arguments, option: str, value: bytes) -> None:
    """Options that say something of the mail."""
    match option:
        case "f" | "r":
            asked.sender = _sender(value)
        case "F":
            asked.full_name = value
        case "N":
            asked.notify = _notify(value)
        case "R":
            asked.ret = _ret(value)
        case "V":
            asked.envid = _envid(value)


def _options(words: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """Each option with its value (b"" where it has none), and each operand under the name ""."""
    rest = iter(words)
    for word in rest:
        if word == b"--":
            yield from (("", operand) for operand in rest)
        elif not word.startswith(b"-") or word == b"-":
            yield "", word
        else:
            yield from _cluster(word.decode("latin-1")[1:], word[1:], rest)


def _cluster(letters: str, octets: bytes, rest: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """The options in one word; the value of the last one may be the next word."""
    for place, letter in enumerate(letters, 1):
        if letter == "q":
            yield letter, octets[place:]
            return
        if letter in _WITH_VALUE:
            value = octets[place:] or next(rest, None)
            if value is None:
                raise UsageError(f"-{letter} wants a value")
            yield letter, value
            return
        if letter not in _ALONE:
            raise UsageError(f"-{letter if letter.isprintable() else '?'} is no option here")
        yield letter, b""


def _mode(value: bytes) -> str:
    if value not in _MODES:
        raise UsageError("-b is followed by m, s or p")
    return _MODES[value]


def _sender(value: bytes) -> bytes:
    """An address, perhaps in angle brackets."""
    if _CONTROL.search(value):
        raise UsageError("the sender holds a control character")
    value = value.strip()
    return value[1:-1] if value.startswith(b"<") and value.endswith(b">") else value


def _notify(value: bytes) -> str:
    words = value.upper().split(b",")
    if words != [b"NEVER"] and not all(word in (b"SUCCESS", b"FAILURE", b"DELAY") for word in words):
        raise UsageError("-N is followed by never, or by some of success,failure,delay")
    return b",".join(words).decode()


def _ret(value: bytes) -> str:
    if value.upper() not in (b"FULL", b"HDRS"):
        raise UsageError("-R is followed by full or hdrs")
    return value.upper().decode()


def _envid(value: bytes) -> str:
    """As xtext."""
    text = _NOT_XTEXT.sub(lambda match: b"+%02X" % ord(match[0]), value).decode()
    if not 0 < len(text) <= _LONGEST_ENVID:
        raise UsageError(f"-V is followed by an id of at most {_LONGEST_ENVID} characters")
    return text
