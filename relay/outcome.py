"""Outcome: what one attempt at one provider came to for one recipient.

`classify` is the only place that judges a reply. Log, metric, retry and bounce all read the value that it returns.

The codes are RFC 5321's (4.2), the enhanced ones RFC 3463's and RFC 4954's (6); 5.7.57 and 5.7.139 are Exchange
Online's words for a login that it wants and does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from relay.reply import Reply


class Stage(IntEnum):
    """Where in a connection a reply was due; the order is the protocol's."""

    CONNECT = 0  # DNS and TCP, up to the greeting
    EHLO = 1
    TLS = 2
    AUTH = 3
    MAIL = 4
    RCPT = 5
    DATA = 6
    BODY = 7  # the octets are leaving, the final dot (or last chunk) has not left
    DOT = 8  # the final dot has left


@dataclass(frozen=True, slots=True)
class Delivered:
    """The provider took the mail for this recipient: its 2xx to the final dot."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now: the next provider at once, later all of them again."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused. `final`: no such mailbox, so no other provider is asked."""

    reply: Reply
    final: bool = False


@dataclass(frozen=True, slots=True)
class CannotTake:
    """This provider lacks what the mail needs (8BITMIME, SMTPUTF8, SIZE); it was not asked. The reply is ours."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class OverLimit:
    """The provider's limit of recipients in one transaction: the rest goes into the next one at once."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The final dot had left and no reply came: delivered or not, nobody knows (RFC 1047)."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class ProviderFault:
    """The provider's trouble, or that of our account there; never the mail's. `auth`: AUTH was refused."""

    reply: Reply
    auth: bool = False


@dataclass(frozen=True, slots=True)
class Retired:
    """The connection had done its work and ended: nobody's fault, its mail goes over another one."""

    reply: Reply


_LOGIN = frozenset({"5.7.8", "5.7.9", "5.7.11", "5.7.30", "5.7.57", "5.7.139"})
_MAILBOX = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1", "5.2.2"})

Outcome = Delivered | Deferred | Rejected | CannotTake | OverLimit | Uncertain | ProviderFault | Retired


def classify(
    stage: Stage, reply: Reply, *, carried: bool = False, taken: bool = False, closed: bool = False
) -> Outcome | None:
    """What `reply`, due at `stage`, means; None where it is the good answer and the dialogue goes on.

    carried  this connection had taken a mail to its end before
    taken    an earlier recipient of this transaction was accepted
    closed   no reply because the peer ended the connection (and not because a wait ran out or a line made no sense)

    >>> classify(Stage.DOT, Reply(250, "2.0.0", ("Ok",)))
    Delivered(reply=Reply(code=250, enhanced='2.0.0', lines=('Ok',)))
    """
    code, enhanced = reply.code, reply.enhanced
    kind = code // 100
    if stage < Stage.MAIL:
        refused = kind in (4, 5) and code != 421
        return None if kind in (2, 3) else ProviderFault(reply, auth=refused and stage is Stage.AUTH)
    if kind not in (2, 4, 5) and not (stage is Stage.DATA and code == 354):
        return _unspoken(stage, reply, carried and closed)
    if kind == 2:
        if stage is Stage.DOT:
            return Delivered(reply)
        return None if stage < Stage.DATA else ProviderFault(reply)
    if kind == 3:
        return None
    if carried and (code == 421 or enhanced.endswith(".4.2")):
        return Retired(reply)
    if code in (530, 534, 535, 538) or (kind == 5 and enhanced in _LOGIN):
        return ProviderFault(reply)
    if (code == 421 and stage < Stage.DOT) or (stage is Stage.MAIL and 500 <= code <= 504):
        return ProviderFault(reply)
    if stage is Stage.RCPT:
        return _recipient(reply, taken)
    return Deferred(reply) if kind == 4 else Rejected(reply)


def _unspoken(stage: Stage, reply: Reply, ended_after_work: bool) -> Outcome:
    """No reply, or a line that is none."""
    if stage is Stage.DOT:
        return Uncertain(reply)
    if stage is Stage.MAIL and ended_after_work:
        return Retired(reply)
    return ProviderFault(reply)


def _recipient(reply: Reply, taken: bool) -> Outcome:
    """A 4xx or 5xx to RCPT. The limit is RFC 5321's 4.5.3.1.10, where 552 is an old form of 452."""
    code, enhanced = reply.code, reply.enhanced
    about_limit = enhanced.endswith(".5.3")
    if taken and ((code in (452, 552) and (about_limit or not enhanced)) or (code < 500 and enhanced == "4.5.3")):
        return OverLimit(reply)
    if code < 500:
        return Deferred(reply)
    return Rejected(reply, final=enhanced in _MAILBOX)
