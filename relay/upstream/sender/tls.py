"""TLS: whom a provider's certificate is checked against, and what is said of a handshake that failed.

Twisted makes the context (TLS 1.2 or later, SNI). The name in the certificate is checked here, once the handshake is
complete and before an octet is said inside: Twisted's own check lets a certificate pass that holds no name at all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.config.values import Provider

_NAMES_SHOWN = 3

_COMPLAINTS = {
    9: "is not valid yet",
    10: "has expired",
    18: "is signed by itself, and is not among the trusted ones (ca_file names others)",
    19: "ends in a root that is not among the trusted ones (ca_file names others)",
    2: "is signed by an authority that is not among the trusted ones (ca_file names others)",
    20: "is signed by an authority that is not among the trusted ones (ca_file names others)",
    21: "is signed by an authority that is not among the trusted ones (ca_file names others)",
    23: "was revoked",
    26: "is not for servers",
    66: "has a key that is too weak",
    67: "has an authority with a key that is too weak",
    68: "has a signature that is too weak",
}
"""X509_V_ERR_…, from openssl/x509_vfy.h."""

_ERRORS = (
    ("protocol version", "no common version of the protocol: TLS 1.2 is the lowest that is used here"),
    ("unsupported protocol", "no common version of the protocol: TLS 1.2 is the lowest that is used here"),
    ("version too low", "no common version of the protocol: TLS 1.2 is the lowest that is used here"),
    ("wrong version number", "what answers there speaks no TLS"),
    ("packet length too long", "what answers there speaks no TLS"),
    ("http request", "what answers there speaks no TLS"),
    ("handshake failure", "the provider refused, perhaps for want of a common cipher"),
    ("unrecognized name", "the provider does not know the name"),
    ("no shared cipher", "there is no common cipher"),
)
"""A part of OpenSSL's words, and ours."""


class Trust:
    """How a provider is recognized: the name in its certificate and the roots below which that may be.

    Reads the roots, so make one where a disk may be waited for, and keep it: one is enough for every connection.
    Raises OSError or ValueError with words for people where `ca_file` cannot be used.
    """

    def __init__(self, name: str, ca_file: Path | None) -> None:
        self.name = name
        roots = platformTrust() if ca_file is None else trustRootFromCertificates(_certificates(ca_file))
        self._creator = optionsForClientTLS(name, trustRoot=roots)
        # The first connection makes the context, which is what reads; this one goes nowhere.
        nowhere = TLSMemoryBIOFactory(self._creator, True, Factory(), clock=Clock())
        self.connection(TLSMemoryBIOProtocol(nowhere, Protocol(), False))

    def connection(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A connection that checks chains by OpenSSL, and no name."""
        return self._creator.clientConnectionForTLS(protocol)


def trust(provider: Provider) -> Trust | None:
    """The provider's Trust (see there), or None where no TLS is configured."""
    if provider.tls == "none":
        return None
    return Trust(provider.server_name or provider.host.removesuffix("."), provider.ca_file)


@implementer(IOpenSSLClientConnectionCreator)
class Handshake:
    """One connection's, from its beginning to the certificate that came of it."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._connection: SSL.Connection | None = None
        self._complaint = ""

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Part of IOpenSSLClientConnectionCreator."""
        self._connection = connection = self._trust.connection(tlsProtocol)
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._chain_checked)
        return connection

    def _chain_checked(self, _: SSL.Connection, certificate: X509, error: int, depth: int, good: int) -> bool:
        """OpenSSL has looked at one certificate of the chain."""
        if not good:
            which = "the certificate" if depth == 0 else f"a certificate of the chain ({_subject(certificate)})"
            said = _COMPLAINTS.get(error, f"is not good (X509_V_ERR {error})")
            until = certificate.to_cryptography().not_valid_after_utc
            self._complaint = f"{which} {said}" + (f", on {until:%Y-%m-%d}" if error == 10 else "")
        return bool(good)

    def complete(self) -> float:
        """Check the name, now that the handshake is complete; when the certificate ends, in seconds since the epoch.

        Raises ValueError with words for people.
        """
        connection, self._connection = self._connection, None  # which refers to us
        assert connection is not None
        name = self._trust.name
        check: Callable[[SSL.Connection, str], None] = verify_hostname
        if isIPAddress(name) or isIPv6Address(name):
            check = verify_ip_address
        certificate = connection.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            raise ValueError("the provider showed no certificate")
        try:
            check(connection, name)
        except (CertificateError, VerificationError):
            raise ValueError(f"the certificate is for {_names(certificate)}, not for {name}") from None
        return certificate.not_valid_after_utc.timestamp()

    def failed(self, reason: Failure) -> str:
        """Words for a handshake that ended in `reason`."""
        if self._complaint:
            return self._complaint
        if reason.check(ConnectionDone, ConnectionLost):
            return "the connection was closed in its midst"
        said = _openssl_words(reason)
        return next((words for part, words in _ERRORS if part in said), said)


def _openssl_words(reason: Failure) -> str:
    """What OpenSSL says, in lower case."""
    error = reason.value
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list) and error.args[0]:
        return str(error.args[0][-1][-1]).lower()
    return reason.getErrorMessage().lower()


def _certificates(path: Path) -> list[Certificate]:
    """Every certificate in a PEM file."""
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        raise ValueError(f"{path} holds no certificates in PEM form, or a damaged one") from None
    return [Certificate(X509.from_cryptography(certificate)) for certificate in found]


def _subject(certificate: X509) -> str:
    return certificate.to_cryptography().subject.rfc4514_string()


def _names(certificate: x509.Certificate) -> str:
    """The names that a certificate is for."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return "no name"
    names = [str(name.value) for name in alternatives]
    return ", ".join(names[:_NAMES_SHOWN]) + (" and others" if len(names) > _NAMES_SHOWN else "") or "no name"
