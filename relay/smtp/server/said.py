"""Said: the server's replies that are always the same (RFC 5321, 4.2; enhanced codes RFC 3463).

Those that nearly every mail meets are octets; the others are values, which may be logged, too.
"""

from __future__ import annotations

from relay.reply import Reply
from relay.smtp.grammar.answers import octets

RESET = octets(Reply(250, "2.0.0", ("Ok",)))
SENDER = octets(Reply(250, "2.1.0", ("Ok",)))
RECIPIENT = octets(Reply(250, "2.1.5", ("Ok",)))
GO_AHEAD = octets(Reply(354, "", ("End data with <CR><LF>.<CR><LF>",)))
BYE = octets(Reply(221, "2.0.0", ("Bye",)))
COMMANDS = octets(Reply(214, "2.0.0", ("EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT",)))

NOT_LOCAL = Reply(554, "5.7.1", ("only programs on this host are served",))
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", ("too many connections, try again later",))
TOO_MANY_ERRORS = Reply(421, "4.7.0", ("too many errors",))
TOO_MUCH_TALK = Reply(421, "4.7.0", ("too many commands without a mail",))
TOO_LATE = Reply(421, "4.4.2", ("nothing came for too long",))
STOPPING = Reply(421, "4.3.2", ("shutting down, try again later",))

TOO_EARLY = Reply(554, "5.5.0", ("something was sent before our reply: wait for it after connecting, EHLO and DATA",))
FOREIGN = Reply(554, "5.5.0", ("this is SMTP",))
LINE_FEED = Reply(500, "5.5.2", ("lines end in CRLF",))
LONG_LINE = Reply(500, "5.5.2", ("the line is too long",))
CONTROLS = Reply(500, "5.5.2", ("a line holds neither NUL nor a lone CR",))
EMPTY = Reply(500, "5.5.2", ("an empty line is no command",))
UNKNOWN = Reply(500, "5.5.1", ("that command is not known here",))
NO_ARGUMENT = Reply(501, "5.5.4", ("that command takes no argument",))
VERIFY_WHOM = Reply(501, "5.5.4", ("write VRFY user@example.com",))
CHUNK = Reply(501, "5.5.4", ("write BDAT size, or BDAT size LAST",))

NO_EXPN = Reply(502, "5.5.1", ("there are no lists here",))
NO_AUTH = Reply(502, "5.5.1", ("no AUTH here: leave user and password empty",))
NO_TLS = Reply(502, "5.5.1", ("no TLS here: this host's own programs need none",))

HELLO_FIRST = Reply(503, "5.5.1", ("EHLO or HELO first",))
MAIL_FIRST = Reply(503, "5.5.1", ("MAIL first",))
ONE_MAIL = Reply(503, "5.5.1", ("a mail was begun already: end it, or RSET",))
CHUNKS_BEGAN = Reply(503, "5.5.1", ("the mail was begun with BDAT: go on so, or RSET",))
NO_RECIPIENTS = Reply(554, "5.5.1", ("no valid recipients",))
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", ("too many recipients: send the mail again to the others",))
TROUBLE = Reply(451, "4.3.0", ("an error of ours, try again later",))


def verify(domain: str) -> bytes:
    """The reply to VRFY. sendmail(1) asks so for the domain, where its user may not read the configuration."""
    return octets(Reply(252, "2.0.0", (f"Send mail to find out; names without a domain are at {domain}",)))


def queued(uuid: str) -> bytes:
    """The reply to content that is durable."""
    return f"250 2.0.0 queued as {uuid}\r\n".encode()


def banner(hostname: str) -> bytes:
    """The greeting."""
    return octets(Reply(220, "", (f"{hostname} ESMTP mailrelay",)))


def hello(hostname: str) -> bytes:
    """The reply to HELO."""
    return octets(Reply(250, "", (hostname,)))


def extensions(hostname: str, max_size: int) -> bytes:
    """The reply to EHLO."""
    offered = ("PIPELINING", f"SIZE {max_size}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING")
    return octets(Reply(250, "", (hostname, *offered)))
