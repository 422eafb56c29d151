"""Webhook: tells alerts by POST to a URL that is a secret.

Nothing here passes on what an error says, since that names the host or more; there are words of our own for what went
wrong. A redirect is not followed, so that what is told goes only where the configuration says.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import Clock, deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.web.client import URI, Agent, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

import relay
from relay.alerts.decision import Change
from relay.alerts.outbox import Outdated
from relay.config.secret import Secret
from relay.log import timestamp

TIMEOUT = 10.0
"""Seconds that one try may take."""

PAUSES = (0.0, 2.0, 8.0)
"""Seconds before each try."""


class Webhook:
    """See the module's docstring. Make it where a disk may be waited for: it reads the certificate store.

    Raises ValueError, with words for people, where TLS cannot know the host.

    instance  which process it is that tells
    reactor   connects
    clock     the time for tries and pauses
    warn      takes a line for the log
    """

    def __init__(
        self, url: Secret, instance: str, reactor: Any, clock: IReactorTime, warn: Callable[[str], None]
    ) -> None:
        self._url = url
        self._instance = instance
        self._reactor = reactor
        self._clock: Any = clock
        self._warn = warn
        self._tls = _tls(url) if urlsplit(url.reveal()).scheme == "https" else None

    async def carry(self, change: Change, outdated: Outdated) -> None:
        """POST it, some times if need be; what went wrong last is a line in the log."""
        trouble = ""
        for pause in PAUSES:
            if pause:
                await deferLater(self._clock, pause)
            if outdated():
                return
            trouble = await self._post(change)
            if not trouble or outdated():
                return
        self._warn(f"the webhook could not be told of the alert {change.alert}, at {len(PAUSES)} tries: {trouble}")

    async def _post(self, change: Change) -> str:
        """One try: what went wrong, or ""."""
        began = self._clock.seconds()
        way = _Way(self._reactor, self._url, self._tls)
        try:
            # The URL is only known in here, and no error leaves this function.
            request: Deferred[Any] = HTTPClient(Agent.usingEndpointFactory(self._reactor, way)).post(
                way.url,
                json=document(change, self._instance),
                headers=way.headers,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._clock,
                timeout=TIMEOUT,
            )
            response = await request
            return "" if 200 <= response.code < 300 else f"it answered {response.code}"
        except Exception as trouble:
            if self._clock.seconds() - began >= TIMEOUT:
                return f"it did not answer within {TIMEOUT:g} s"
            return _words(trouble)
        finally:
            way.close()


def document(change: Change, instance: str) -> dict[str, str]:
    """What is POSTed."""
    return {
        "alert": change.alert,
        "state": change.state,
        "message": change.message,
        "since": timestamp(change.since),
        "instance": instance,
    }


def _tls(url: Secret) -> Any:
    """What checks the host's certificate. ValueError, without a word of the URL, where its host can have none."""
    host = (urlsplit(url.reveal()).hostname or "").removesuffix(".")
    try:
        options = optionsForClientTLS(host)
    except ValueError:
        raise ValueError("alerts.webhook names a host that no certificate can be for; nothing is told there") from None
    # The first connection makes the context, which is what reads; this one goes nowhere.
    nowhere = TLSMemoryBIOFactory(options, True, Factory(), clock=Clock())
    options.clientConnectionForTLS(TLSMemoryBIOProtocol(nowhere, Protocol(), False))
    return options


@implementer(IAgentEndpointFactory)
class _Way:
    """To the URL's host, over connections that can be closed by force.

    url      without user and password
    headers  where those stand, if there are any
    """

    def __init__(self, reactor: Any, url: Secret, tls: Any) -> None:
        parts = urlsplit(url.reveal())
        self.url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self.headers = Headers({"User-Agent": [f"mailrelay/{relay.__version__}"]})
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self.headers.addRawHeader("Authorization", f"Basic {b64encode(login.encode()).decode()}")
        port = parts.port or (443 if tls else 80)
        endpoint = HostnameEndpoint(reactor, parts.hostname or "", port, timeout=TIMEOUT)
        self._endpoint = wrapClientTLS(tls, endpoint) if tls else endpoint
        self._open: list[Any] = []

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Part of IAgentEndpointFactory."""
        return _Kept(self._endpoint, self._open)

    def close(self) -> None:
        """Close what was opened, whatever the other side does."""
        for protocol in self._open:
            protocol.transport.abortConnection()


@implementer(IStreamClientEndpoint)
class _Kept:
    """An endpoint whose protocols are put down in `kept`."""

    def __init__(self, endpoint: IStreamClientEndpoint, kept: list[Any]) -> None:
        self._endpoint = endpoint
        self._kept = kept

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Part of IStreamClientEndpoint."""

        def keep(protocol: Any) -> Any:
            self._kept.append(protocol)
            return protocol

        protocolFactory.noisy = False
        return self._endpoint.connect(protocolFactory).addCallback(keep)


def _words(trouble: Exception) -> str:
    """What went wrong, without anything of what the error says."""
    causes = [reason.value for reason in getattr(trouble, "reasons", ())] or [trouble]
    for kinds, words in (
        ((SSL.Error, VerificationError), "TLS with it failed"),
        ((error.DNSLookupError,), "its host's name could not be looked up"),
        ((error.ConnectionRefusedError,), "the connection was refused"),
        ((error.ConnectError,), "it could not be reached"),
        ((error.ConnectionLost, error.ConnectionDone), "the connection was lost"),
    ):
        if any(isinstance(cause, kinds) for cause in causes):
            return words
    if isinstance(trouble, ResponseFailed):
        return "what it answered is no HTTP"
    return f"unexpected {type(causes[0]).__name__}"
