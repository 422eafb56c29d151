"""Opening: from a TCP connection to one that carries mail: greeting, EHLO, TLS, EHLO again, AUTH.

The frame is Twisted's ESMTPSender, whose steps call one another. Overridden is what it gets wrong: replies are read
strictly, nothing that came before TLS counts inside it, TLS and AUTH are never left out because they were not offered,
no HELO follows a refused EHLO, and the password is nowhere kept or logged.

Failure: whatever goes wrong before the end is a ProviderFault, with the stage that it happened at; the connection is
closed then.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.mail.smtp import ESMTPSender
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.config.values import Provider
from relay.outcome import ProviderFault, Stage, classify
from relay.reply import Reply, no_reply
from relay.smtp.grammar.replies import Replies
from relay.upstream.batch import Features
from relay.upstream.sender.ehlo import Offer, offer
from relay.upstream.sender.login import Login, order
from relay.upstream.sender.outflow import Outflow
from relay.upstream.sender.tls import Handshake, Trust

CLOSES_WITHIN = 2.0
"""Seconds a provider has to answer QUIT, and to close its side of a connection."""

_NEVER = sys.maxsize

AWAITED = {
    Stage.CONNECT: "the greeting",
    Stage.EHLO: "the reply to EHLO",
    Stage.TLS: "TLS",
    Stage.AUTH: "the reply to AUTH",
    Stage.MAIL: "the reply to MAIL",
    Stage.RCPT: "the reply to RCPT",
    Stage.DATA: "the reply to DATA",
    Stage.BODY: "the provider to read the mail",
    Stage.DOT: "the reply to the end of the mail",
}
"""What we wait for at each stage."""


class _Tls(TLSMemoryBIOProtocol):
    """Twisted's TLS, which says when it has given us all that it had."""

    def dataReceived(self, octets: bytes) -> None:
        """Part of IProtocol."""
        TLSMemoryBIOProtocol.dataReceived(self, octets)
        opening: Any = self.wrappedProtocol
        opening.read_all()


@implementer(IHandshakeListener)
class Opening(ESMTPSender):
    """A connection that is being made ready for mail.

    stage             how far it has come
    opened            fires with None once it is ready, or with the fault; never fails
    features          what the provider offers, without PIPELINING where that was forbidden
    mechanism         the one of the login, or ""
    certificate_ends  when the provider's certificate ends, in seconds since the epoch; None without TLS
    """

    debug = False  # else the last lines said are kept, the password among them
    __setattr__ = object.__setattr__  # Twisted's looks at each name
    transport: Any

    def __init__(
        self, provider: Provider, hostname: str, trust: Trust | None, clock: IReactorTime, *, pipelining: bool = True
    ) -> None:
        handshake = None if trust is None else Handshake(trust)
        ESMTPSender.__init__(self, provider.username.encode(), None, handshake, hostname.encode())
        self.requireTransportSecurity = provider.tls != "none"
        self.requireAuthentication = bool(provider.username)
        self.provider = provider
        self.clock = clock
        self.stage = Stage.CONNECT
        self.opened: Deferred[ProviderFault | None] = Deferred()
        self.features = Features()
        self.mechanism = ""
        self.certificate_ends: float | None = None
        self._handshake = handshake
        self._pipelining = pipelining
        self._replies = Replies()
        self._reply = no_reply("")  # the one that is being dealt with
        self._more = False  # whether the provider had said more by then
        self._offer = Offer(self.features, starttls=False, mechanisms=())
        self._login: Login | None = None
        self._is_open = False
        self._is_lost = False
        self._closing: IDelayedCall | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.provider.name}, {self.stage.name}>"

    @property
    def peer(self) -> str:
        """The address that was connected to."""
        return str(getattr(self._outflow.getPeer(), "host", ""))

    def connectionMade(self) -> None:
        """Wait for the greeting, inside TLS if that is implicit."""
        tcp = self.transport
        set_no_delay = getattr(tcp, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)
        self._outflow = Outflow(tcp)
        self.transport = self._outflow
        ESMTPSender.connectionMade(self)
        if self.provider.tls == "implicit":
            self._begin_tls()

    def dataReceived(self, data: bytes) -> None:
        """Take what the provider says."""
        replies = self._replies.receive(data)
        if self._is_open:
            self.carry(replies)
            return
        while replies and not self._is_open:
            self._reply = replies.pop(0)
            self._more = bool(replies) or self._replies.midway
            if self._reply.code == 0:
                self.fail(ProviderFault(self._reply))
                return
            if self.opened.called:
                return
            good = self._reply.code in self._expected
            step: Callable[[int, bytes], None] = self._okresponse if good else self._failresponse
            step(self._reply.code, self._reply.text.encode())
        if self._is_open:
            self.carry(replies)

    def carry(self, replies: list[Reply]) -> None:
        """Take replies that came once the connection was open."""

    def read_all(self) -> None:
        """Hear that nothing is left of what TLS had to read."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone; while opening that is a fault."""
        self._is_lost = True
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        if self.stage is Stage.TLS and self._handshake is not None:
            self.fail(ProviderFault(no_reply(f"TLS failed: {self._handshake.failed(reason)}")))
        else:
            self.fail(ProviderFault(no_reply(f"the connection was lost while waiting for {AWAITED[self.stage]}")))

    def handshakeCompleted(self) -> None:
        """Part of IHandshakeListener: TLS is there; go on if it is the provider whom it leads to."""
        if self._tlsMode or self._handshake is None:
            return
        try:
            self.certificate_ends = self._handshake.complete()
        except ValueError as error:
            self.fail(ProviderFault(no_reply(f"TLS failed: {error}")))
            return
        self._tlsMode = True
        if self.provider.tls == "implicit":
            self.stage = Stage.CONNECT
        else:
            self.esmtpState_ehlo(220, b"")

    def esmtpState_ehlo(self, code: int, resp: bytes) -> None:
        """Say EHLO."""
        self.stage = Stage.EHLO
        ESMTPSender.esmtpState_ehlo(self, code, resp)

    def esmtpState_serverConfig(self, code: int, resp: bytes) -> None:
        """Read what is offered; go on with TLS, or with AUTH."""
        self._offer = found = offer(self._reply)
        self.features = found.features
        if not self._pipelining:
            self.features = replace(found.features, pipelining=False, chunking=False)
        if not self._tlsMode and self.context is not None:
            self.stage = Stage.TLS
        self.tryTLS(code, resp, {b"STARTTLS": None} if found.starttls else {})  # type: ignore[no-untyped-call]

    def esmtpState_starttls(self, code: int, resp: bytes) -> None:
        """Begin TLS, if nothing was said behind the 220: whoever said that is not known."""
        if self._more:
            self.fail(ProviderFault(no_reply("the provider said something in clear behind its 220 to STARTTLS")))
            return
        self._begin_tls()

    def _begin_tls(self) -> None:
        """Put TLS between us and TCP. Each write goes through at once: they are few, and large."""
        self.stage = Stage.TLS
        self._replies = Replies()
        assert self._handshake is not None
        tcp = self._outflow.transport
        factory = TLSMemoryBIOFactory(self._handshake, True, Factory(), clock=self.clock)
        tcp.protocol = self.transport = _Tls(factory, self, False)  # type: ignore[no-untyped-call]
        self.transport.makeConnection(self._outflow)

    def authenticate(self, code: int, resp: bytes, items: Any) -> None:
        """Log in, if there is a username."""
        if not self.requireAuthentication:
            self._ready()
            return
        self.stage = Stage.AUTH
        provider, offered = self.provider, self._offer.mechanisms
        self._login = Login(provider.username, provider.password, order(offered, provider.auth, self._tlsMode))
        self._expected = [*range(200, 300), 334]
        self._okresponse = self._challenged
        self._failresponse = self._refused
        command = self._login.begin()
        if command is None:
            self.fail(ProviderFault(no_reply(self._no_mechanism())))
        else:
            self._say(command)

    def _no_mechanism(self) -> str:
        offered = " ".join(self._offer.mechanisms)
        if not offered:
            return "AUTH is not offered, and without a login no mail is sent"
        return f"AUTH is offered with {offered} only, none of which may be used"

    def _challenged(self, code: int, resp: bytes) -> None:
        """A challenge to answer, or the login is done."""
        assert self._login is not None
        if code != 334:
            self.mechanism = self._login.mechanism
            self._ready()
            return
        answer = self._login.answer(self._reply)
        if answer is None:
            reply = no_reply(f"a challenge of AUTH {self._login.mechanism} that makes no sense")
            self.fail(ProviderFault(self._login.censored(reply)))
        else:
            self._say(answer)

    def _refused(self, code: int, resp: bytes) -> None:
        """The login was refused, or only its mechanism."""
        assert self._login is not None
        command = self._login.begin() if self._login.gives_way(self._reply) else None
        if command is None:
            self._refuse(self._login.censored(self._reply))
        else:
            self._say(command)

    def _ready(self) -> None:
        self._login = None
        self.stage = Stage.MAIL
        self._is_open = True
        self.opened.callback(None)

    def smtpConnectionFailed(self, code: int, resp: bytes) -> None:
        """The greeting is none."""
        self._refuse(self._reply)

    def esmtpEHLORequired(self, code: int = -1, resp: bytes | None = None) -> None:
        """EHLO was refused, often for the name that was said."""
        said, reply = self.identity.decode(), self._reply
        self._refuse(Reply(reply.code, reply.enhanced, (*reply.lines, f"(to EHLO {said})")))

    def esmtpTLSRequired(self, code: int = -1, resp: bytes | None = None) -> None:
        """STARTTLS is not offered, by the provider or by somebody in between."""
        self.fail(ProviderFault(no_reply("STARTTLS is not offered, and in clear nothing is sent")))

    def esmtpTLSFailed(self, code: int = -1, resp: bytes | None = None) -> None:
        """STARTTLS was refused."""
        self._refuse(self._reply)

    def sendError(self, exc: Exception) -> None:
        """What is left of Twisted's own ways to fail."""
        self.fail(ProviderFault(no_reply(str(exc))))

    def _refuse(self, reply: Reply) -> None:
        outcome = classify(self.stage, reply)
        self.fail(outcome if isinstance(outcome, ProviderFault) else ProviderFault(reply))

    def fail(self, fault: ProviderFault) -> None:
        """It comes to nothing."""
        if not self.opened.called:
            self._login = None
            self._reply = fault.reply
            self.close()
            self.opened.callback(fault)

    def close(self) -> None:
        """Close the connection, by force if the provider does not close its side too."""
        if not self._is_lost:
            self.force_soon()
            self.transport.loseConnection()

    def force_soon(self) -> None:
        """Give the provider no more time than CLOSES_WITHIN."""
        if self._closing is None:
            self._closing = self.clock.callLater(CLOSES_WITHIN, self._close_by_force)

    def _close_by_force(self) -> None:
        self.transport.abortConnection()

    def write(self, octets: bytes) -> int:
        """Write; the place of its end in what left. TLS drops what is written once the other side has closed it."""
        outflow = self._outflow
        before = outflow.written
        self.transport.write(octets)
        return outflow.written if outflow.written - before >= len(octets) else _NEVER

    def _say(self, line: bytes) -> None:
        self.transport.write(line + b"\r\n")
