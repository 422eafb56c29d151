"""Commands: the lines of a client, without their CRLF (RFC 5321, 4.1.1; BDAT is RFC 3030's).

Each parser gives a value, or the Reply with which its line is refused. What is said here is syntax alone: whether a
command may come now, and whether we want what it asks for, the server knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from relay.envelope import Recipient
from relay.reply import Reply
from relay.smtp.grammar import parameters, paths
from relay.smtp.grammar.parameters import ParameterError
from relay.smtp.grammar.paths import PATH_LIMIT, PathError

LINE_LIMIT = 4096
"""Octets of a command line with its CRLF (RFC 5321, 4.5.3.1.4, and what the extensions add to it)."""
HELO_LIMIT = 255
"""Octets of the argument of EHLO or HELO (RFC 5321, 4.5.3.1.2)."""

# What nearly every client sends: an ASCII dot-string, a domain, and no parameter that needs a closer look.
_PLAIN = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,200}@[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
_PLAIN_MAIL = re.compile(
    rb"[Mm][Aa][Ii][Ll] [Ff][Rr][Oo][Mm]:<(|" + _PLAIN + rb")>"
    rb"(?: [Ss][Ii][Zz][Ee]=([0-9]{1,20}))?(?: BODY=(?:7BIT|8BITMIME))?( SMTPUTF8)?"
)
_PLAIN_RCPT = re.compile(rb"[Rr][Cc][Pp][Tt] [Tt][Oo]:<(" + _PLAIN + rb")>")

# Of lines without the spaces at their end. No space may be matched in two ways: a client would have us try them all.
_MAIL = re.compile(rb"MAIL ++FROM: *+(.*)", re.IGNORECASE)
_RCPT = re.compile(rb"RCPT ++TO: *+(.*)", re.IGNORECASE)
_HELO = re.compile(rb"[EH][HE]LO ++([^\x00-\x1f\x7f]*)", re.IGNORECASE)
_BDAT = re.compile(rb"BDAT ++([0-9]{1,18})( ++LAST)?", re.IGNORECASE)

_FOREIGN = re.compile(
    rb"""(?: (?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI  # HTTP, WebDAV
              |PROPFIND|PROPPATCH|MKCOL|COPY|MOVE|LOCK|UNLOCK|REPORT|SEARCH|QUERY) [ \r\n]
           | [A-Za-z][!-9;-~]*:         # a header field
           | [^A-Za-z\r\n] | \r[^\n]    # a TLS hello, say
         )""",
    re.IGNORECASE | re.VERBOSE,
)

_MAIL_PARAMETERS = ("SIZE", "BODY", "SMTPUTF8", "RET", "ENVID")
_RCPT_PARAMETERS = ("NOTIFY", "ORCPT")


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL. `sender` is "" for the null reverse-path, `size` 0 where the client does not say it.

    What BODY says is checked and forgotten: content is judged by its octets.
    """

    sender: str
    size: int = 0
    smtp_utf8: bool = False
    ret: str = ""
    envid: str = ""


@dataclass(frozen=True, slots=True)
class Bdat:
    """BDAT: that many octets follow, and whether they are the last ones."""

    size: int
    last: bool


def is_foreign(octets: bytes, start: int = 0, end: int = LINE_LIMIT) -> bool:
    r"""Whether what stands from `start` on, a line or the beginning of one, is not SMTP at all.

    >>> is_foreign(b"GET / HTTP/1.1\r\n"), is_foreign(b"Host:"), is_foreign(b"\x16\x03\x01"), is_foreign(b"GETX")
    (True, True, True, False)
    """
    return _FOREIGN.match(octets, start, end) is not None


def verb(line: bytes) -> bytes:
    """The verb of a line, in upper case."""
    space = line.find(b" ")
    return (line if space < 0 else line[:space]).upper()


def parse_mail(line: bytes) -> Mail | Reply:
    """A line that begins with MAIL.

    >>> parse_mail(b"MAIL FROM:<a@example.com> SIZE=10")
    Mail(sender='a@example.com', size=10, smtp_utf8=False, ret='', envid='')
    """
    plain = _PLAIN_MAIL.fullmatch(line)
    if plain is not None:
        address, size, utf8 = plain.groups()
        if len(address) <= PATH_LIMIT - 2:
            return Mail(address.decode(), int(size or 0), utf8 is not None)
    match = _MAIL.fullmatch(line.rstrip(b" "))
    if match is None:
        return Reply(501, "5.5.2", ("write MAIL FROM:<user@example.com>",))
    try:
        inner, rest = paths.cut(match[1])
    except PathError as error:
        return Reply(501, "5.5.2", (str(error),))
    try:
        sender = paths.parse(inner)
        values = parameters.parse(rest, _MAIL_PARAMETERS)
        if "BODY" in values:
            parameters.check_body(values["BODY"])
        mail = Mail(
            sender,
            parameters.size(values["SIZE"]) if "SIZE" in values else 0,
            parameters.flag("SMTPUTF8", values),
            parameters.ret(values["RET"]) if "RET" in values else "",
            parameters.envid(values["ENVID"]) if "ENVID" in values else "",
        )
    except PathError as error:
        return Reply(501, "5.1.7", (str(error),))
    except ParameterError as error:
        return error.reply
    if not (mail.smtp_utf8 or sender.isascii()):
        return Reply(553, "5.6.7", ("an address that is not ASCII needs SMTPUTF8 behind it",))
    return mail


def parse_rcpt(line: bytes, *, smtp_utf8: bool) -> Recipient | Reply:
    """A line that begins with RCPT, in a transaction with or without SMTPUTF8. The address may be bare.

    >>> parse_rcpt(b"RCPT TO:<Postmaster>", smtp_utf8=False)
    Recipient(address='Postmaster', notify=None, orcpt='')
    """
    plain = _PLAIN_RCPT.fullmatch(line)
    if plain is not None and len(plain[1]) <= PATH_LIMIT - 2:
        return Recipient(plain[1].decode())
    match = _RCPT.fullmatch(line.rstrip(b" "))
    if match is None:
        return Reply(501, "5.5.2", ("write RCPT TO:<user@example.com>",))
    try:
        inner, rest = paths.cut(match[1])
    except PathError as error:
        return Reply(501, "5.5.2", (str(error),))
    try:
        address = paths.parse(inner)
        values = parameters.parse(rest, _RCPT_PARAMETERS)
        recipient = Recipient(
            address,
            parameters.notify(values["NOTIFY"]) if "NOTIFY" in values else None,
            parameters.orcpt(values["ORCPT"]) if "ORCPT" in values else "",
        )
    except PathError as error:
        return Reply(501, "5.1.3", (str(error),))
    except ParameterError as error:
        return error.reply
    if not address:
        return Reply(501, "5.1.3", ("a recipient has an address: RCPT TO:<user@example.com>",))
    if not (smtp_utf8 or address.isascii()):
        return Reply(553, "5.6.7", ("an address that is not ASCII needs SMTPUTF8 behind the MAIL before it",))
    return recipient


def parse_helo(line: bytes) -> str | Reply:
    r"""The argument of EHLO or HELO: 1 to 255 octets without control characters; others than ASCII as `\xNN`.

    >>> parse_helo(b"EHLO [127.0.0.1]")
    '[127.0.0.1]'
    """
    match = _HELO.fullmatch(line.rstrip(b" "))
    if match is None or not 0 < len(match[1]) <= HELO_LIMIT:
        return Reply(501, "5.5.4", ("EHLO and HELO take the name of your host, at most 255 octets",))
    return match[1].decode("ascii", "backslashreplace")


def parse_bdat(line: bytes) -> Bdat | None:
    """A line that begins with BDAT; None where nobody can say how many octets follow, or for what.

    >>> parse_bdat(b"BDAT 1000 LAST")
    Bdat(size=1000, last=True)
    """
    match = _BDAT.fullmatch(line.rstrip(b" "))
    return Bdat(int(match[1]), match[2] is not None) if match else None
