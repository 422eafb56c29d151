"""The sender against real sockets: TLS that is as it should be, TLS that is not, and a server that is not ours."""

from __future__ import annotations

import hashlib
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import pytest_twisted  # type: ignore[import-untyped]
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from relay.config.values import Provider, Secret
from relay.envelope import Recipient
from relay.outcome import Delivered, Outcome, ProviderFault, Rejected, Stage, Uncertain
from relay.upstream.sender import Batch, Connection, Fault, Result, Trust, connect, endpoint, trust

reactor: Any = _reactor
T = TypeVar("T")

NAME = "smtp.test"
SECRET = "correct horse"
BODY = b"Subject: t\r\n\r\n.x\r\n"


Function = TypeVar("Function", bound=Callable[..., Any])


def with_reactor(test: Function) -> Function:
    """Let the test be a coroutine."""
    return cast(Function, pytest_twisted.ensureDeferred(test))


def fixture_with_reactor(fixture: Function) -> Function:
    """Let the fixture be an asynchronous generator."""
    return cast(Function, pytest_twisted.async_yield_fixture(fixture))


async def wait(deferred: Deferred[T]) -> T:
    """What it fires with, within 20 s."""
    return await deferred.addTimeout(20, reactor)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """The authority that providers here are certified by."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its certificate."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session")
def good(authority: trustme.CA) -> ServerTls:
    """What a provider shows that is the one it should be."""
    return server_side(authority.issue_cert(NAME))


def server_side(certificate: trustme.LeafCert) -> ServerTls:
    """A server's TLS with that certificate, and what of its chain goes with it."""
    chain = [pem.bytes() for pem in certificate.cert_chain_pems]
    return from_pem(certificate.private_key_pem.bytes(), chain)


def from_pem(key: bytes, chain: list[bytes]) -> ServerTls:
    own, *more = [x509.load_pem_x509_certificate(pem) for pem in chain]
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(own)
    context.use_privatekey(cast(Any, serialization.load_pem_private_key(key, None)))
    for certificate in more:
        context.add_extra_chain_cert(certificate)
    return ServerTls(context)


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """A server's side of TLS."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """Part of IOpenSSLServerConnectionCreator."""
        return SSL.Connection(self._context)


@dataclass
class Script:
    """What a provider says to each verb, by default all that is good; `heard` is what it was told, TLS marked."""

    tls: ServerTls | None = None
    implicit: bool = False
    greeting: bytes = b"220 smtp.test ESMTP\r\n"
    ehlo: bytes = b"250-smtp.test\r\n250-PIPELINING\r\n250 STARTTLS\r\n"
    ehlo_inside: bytes = b"250-smtp.test\r\n250-PIPELINING\r\n250 AUTH PLAIN LOGIN\r\n"
    starttls: bytes = b"220 Go ahead\r\n"
    auth: bytes = b"235 2.7.0 Welcome\r\n"
    data: bytes = b"354 Go\r\n"
    dot: bytes = b"250 2.0.0 Queued\r\n"
    hangs_up_at: bytes = b""
    raw: bytes | None = None
    heard: list[bytes] = field(default_factory=list)
    mails: list[bytes] = field(default_factory=list)
    servers: list[Server] = field(default_factory=list)

    def inside(self) -> list[bytes]:
        """The verbs that came inside TLS."""
        return [line.removeprefix(b"(TLS) ").split()[0] for line in self.heard if line.startswith(b"(TLS) ")]

    def in_clear(self) -> list[bytes]:
        """The verbs that did not."""
        return [line.split()[0] for line in self.heard if not line.startswith(b"(TLS) ")]


class Server(Protocol):
    """Plays a Script."""

    transport: Any

    def __init__(self, script: Script) -> None:
        self.script = script
        self.secure = script.implicit
        self.waiting = b""
        self.content: bytes | None = None
        script.servers.append(self)

    def connectionMade(self) -> None:
        """Greet, or say something raw and be done."""
        if self.script.raw is None:
            self.transport.write(self.script.greeting)

    def dataReceived(self, data: bytes) -> None:
        """Answer."""
        if self.script.raw is not None:
            self.transport.write(self.script.raw)
            return
        self.waiting += data
        while self._content() if self.content is not None else self._line():
            pass

    def connectionLost(self, reason: object = None) -> None:
        """It is no longer there to be closed."""
        self.script.servers.remove(self)

    def _content(self) -> bool:
        mail, end, rest = self.waiting.partition(b"\r\n.\r\n")
        if end:
            self.script.mails.append(mail + b"\r\n")
            self.waiting, self.content = rest, None
            self._say(b".", self.script.dot)
        return bool(end)

    def _line(self) -> bool:
        line, end, rest = self.waiting.partition(b"\r\n")
        if not end:
            return False
        self.waiting = rest
        self.script.heard.append((b"(TLS) " if self.secure else b"") + line)
        verb = line.split()[0].upper()
        script = self.script
        said = {
            b"EHLO": script.ehlo_inside if self.secure else script.ehlo,
            b"STARTTLS": script.starttls,
            b"AUTH": script.auth,
            b"DATA": script.data,
            b"QUIT": b"221 Bye\r\n",
        }.get(verb, b"250 Ok\r\n")
        self._say(verb, said)
        if verb == b"STARTTLS" and said.startswith(b"220") and script.tls is not None:
            self.secure = True
            self.transport.startTLS(script.tls)
        if verb == b"DATA" and said.startswith(b"354"):
            self.content = b""
        return True

    def _say(self, verb: bytes, said: bytes) -> None:
        self.transport.write(said)
        if verb == self.script.hangs_up_at:
            self.transport.loseConnection()


Listen = Callable[[Script], int]


@fixture_with_reactor
async def listen() -> AsyncIterator[Listen]:
    """Opens a server that plays a script, on a port of its own."""
    ports: list[Any] = []
    scripts: list[Script] = []

    def opens(script: Script) -> int:
        factory: Any = Factory.forProtocol(cast(Any, lambda: Server(script)))
        factory.noisy = False
        if script.implicit:
            factory = TLSMemoryBIOFactory(cast(Any, script.tls), False, factory)
        ports.append(reactor.listenTCP(0, factory, interface="127.0.0.1"))
        scripts.append(script)
        return int(ports[-1].getHost().port)

    yield opens
    for port in ports:
        await wait(port.stopListening())
    for server in [server for script in scripts for server in script.servers]:
        server.transport.abortConnection()
    await wait(deferLater(reactor, 0, lambda: None))


def provider_at(port: int, ca_file: Path | None, **more: Any) -> Provider:
    account = Provider(
        host="127.0.0.1",
        name="primary",
        port=port,
        tls="starttls",
        username="user1",
        password=Secret(SECRET),
        ca_file=ca_file,
        server_name=NAME,
        timeout=5.0,
    )
    return evolve(account, **more)


def opening(provider: Provider, known: Trust | None = None) -> Deferred[Connection]:
    return connect(reactor, provider, "app1.test", endpoint(reactor, provider), known or trust(provider))


async def opens_and_quits(connecting: Deferred[Connection]) -> None:
    connection = await wait(connecting)
    await wait(connection.quit())


async def fault_of(provider: Provider) -> Fault:
    with pytest.raises(Fault) as caught:
        await wait(opening(provider))
    assert SECRET not in str(caught.value)
    return caught.value


async def mail(connection: Connection, body: bytes = BODY) -> Result:
    batch = Batch("a@example.com", (Recipient("b@example.net"),), b"Head: 1\r\n", body, 9 + len(body))
    return await wait(connection.deliver(batch))


def kind(result: Result) -> type[Outcome]:
    [outcome] = result.outcomes
    return type(outcome)


# As it should be


@pytest.mark.parametrize("implicit", [False, True])
@with_reactor
async def test_mail_through_tls(implicit: bool, listen: Listen, ca_file: Path, good: ServerTls) -> None:
    """STARTTLS and implicit TLS: the login and all that follows are inside; the certificate's end is known."""
    script = Script(good, implicit=implicit)
    provider = provider_at(listen(script), ca_file, tls="implicit" if implicit else "starttls")
    connection = await wait(opening(provider))
    assert kind(await mail(connection)) is Delivered
    assert kind(await mail(connection)) is Delivered
    await wait(connection.quit())
    assert script.in_clear() == ([] if implicit else [b"EHLO", b"STARTTLS"])
    assert script.inside() == [b"EHLO", b"AUTH", *[b"MAIL", b"RCPT", b"DATA"] * 2, b"QUIT"]
    assert script.mails == [b"Head: 1\r\n" + BODY.replace(b".x", b"..x")] * 2
    assert connection.certificate_ends is not None
    assert connection.certificate_ends > datetime.now(UTC).timestamp()
    assert b"AUTH PLAIN " + b64encode(b"\0user1\0correct horse") in script.heard[-8]


@with_reactor
async def test_the_name_that_is_asked_for(listen: Listen, ca_file: Path, good: ServerTls) -> None:
    """SNI is `server_name`, else the host without its final dot; that is also the name that is checked."""
    script = Script(good)
    port = listen(script)
    named = provider_at(port, ca_file)
    dotted = provider_at(port, ca_file, host="smtp.test.", server_name="")
    for provider in (named, dotted):
        way = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        connection = await wait(connect(reactor, provider, "app1.test", way, trust(provider)))
        assert script.servers[-1].transport.getHandle().get_servername() == b"smtp.test"
        await wait(connection.quit())


@with_reactor
async def test_a_host_that_is_an_address(listen: Listen, ca_file: Path, authority: trustme.CA) -> None:
    """Its certificate names the address."""
    options = server_side(authority.issue_cert("127.0.0.1"))
    provider = provider_at(listen(Script(options)), ca_file, server_name="")
    await opens_and_quits(opening(provider))
    assert "is for smtp.test, not for 127.0.0.1" in str(
        await fault_of(
            provider_at(listen(Script(server_side(authority.issue_cert(NAME)))), ca_file, server_name=""),
        )
    )


@with_reactor
async def test_every_address_is_tried(listen: Listen) -> None:
    """`localhost` is ::1 as well, where nobody listens."""
    script = Script(ehlo_inside=b"", ehlo=b"250 smtp.test\r\n")
    provider = Provider(host="localhost", name="local", port=listen(script), tls="none", timeout=5.0)
    connection = await wait(opening(provider))
    assert kind(await mail(connection)) is Delivered
    await wait(connection.quit())


@with_reactor
async def test_a_large_mail(listen: Listen, ca_file: Path, good: ServerTls) -> None:
    """Three million octets arrive as they were, through TLS."""
    script = Script(good)
    connection = await wait(opening(provider_at(listen(script), ca_file)))
    body = b"".join(b".%07d" % number + b"x" * 90 + b"\r\n" for number in range(30_000))
    assert kind(await mail(connection, body)) is Delivered
    await wait(connection.quit())
    [received] = script.mails
    unstuffed = received.replace(b"\r\n..", b"\r\n.").removeprefix(b"Head: 1\r\n")
    assert hashlib.sha256(unstuffed).digest() == hashlib.sha256(body).digest()


@with_reactor
async def test_the_certificates_are_read_once(
    listen: Listen, good: ServerTls, authority: trustme.CA, tmp_path: Path
) -> None:
    """Each connection uses what was read when the provider was configured."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    provider = provider_at(listen(Script(good)), path)
    known = trust(provider)
    path.unlink()
    for _ in range(2):
        await opens_and_quits(opening(provider, known))
    with pytest.raises(OSError, match=r"ca\.pem"):
        trust(provider)
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n")
    with pytest.raises(ValueError, match=r"ca\.pem holds no certificates in PEM form"):
        trust(provider)


# Certificates that are not

NOW = datetime.now(UTC)
Issue = Callable[[trustme.CA], ServerTls]


def nameless(authority: trustme.CA) -> ServerTls:
    """Signed by the authority, for nobody: it has no subjectAltName."""
    signer = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).subject
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = certify(NAME, key, issuer, signer)
    return from_pem(pem_of(key), [certificate.public_bytes(serialization.Encoding.PEM)])


def certify(
    name: str, key: Any, issuer: x509.Name, signer: Any, *, ca: bool = False, names: tuple[str, ...] = (), days: int = 9
) -> x509.Certificate:
    """A certificate that ends in so many days."""
    end = NOW + timedelta(days=days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=90))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def pem_of(key: Any) -> bytes:
    octets: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return octets


def self_signed(_: trustme.CA) -> ServerTls:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    certificate = certify(NAME, key, issuer, key, names=(NAME,))
    return from_pem(pem_of(key), [certificate.public_bytes(serialization.Encoding.PEM)])


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize(
    ("issue", "words"),
    [
        (lambda ca: server_side(ca.issue_cert("other.test")), "the certificate is for other.test, not for smtp.test"),
        (lambda ca: server_side(ca.issue_cert("*.smtp.test")), "the certificate is for *.smtp.test, not for smtp.test"),
        (
            lambda ca: server_side(ca.issue_cert(NAME, not_after=NOW - timedelta(days=1))),
            f"the certificate has expired, on {NOW - timedelta(days=1):%Y-%m-%d}",
        ),
        (
            lambda ca: server_side(ca.issue_cert(NAME, not_before=NOW + timedelta(days=1))),
            "the certificate is not valid yet",
        ),
        (lambda _: server_side(trustme.CA().issue_cert(NAME)), "signed by an authority that is not among the trusted"),
        (self_signed, "the certificate is signed by itself, and is not among the trusted ones (ca_file names others)"),
        (nameless, "the certificate is for no name, not for smtp.test"),
    ],
)
@with_reactor
async def test_a_certificate_that_is_not_the_providers(
    tls: str, issue: Issue, words: str, listen: Listen, ca_file: Path, authority: trustme.CA
) -> None:
    """A fault that says why, in plain words; nothing is said inside, and in clear no more than STARTTLS."""
    script = Script(issue(authority), implicit=tls == "implicit")
    fault = await fault_of(provider_at(listen(script), ca_file, tls=tls))
    assert words in str(fault)
    assert str(fault).startswith("TLS failed: ")
    assert fault.stage is Stage.TLS
    assert not fault.outcome.auth
    assert script.in_clear() == ([] if script.implicit else [b"EHLO", b"STARTTLS"])
    assert script.inside() == []


@with_reactor
async def test_a_needless_certificate_that_expired(listen: Listen, tmp_path: Path) -> None:
    """A chain with the cross signature of a root that is no more is good, if another path leads to one that is."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("old", "root", "middle", "leaf")}
    names = {name: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in keys}
    old = certify("old", keys["old"], names["old"], keys["old"], ca=True, days=-1)
    root = certify("root", keys["root"], names["root"], keys["root"], ca=True)
    crossed = certify("root", keys["root"], names["old"], keys["old"], ca=True, days=-1)
    middle = certify("middle", keys["middle"], names["root"], keys["root"], ca=True)
    leaf = certify("leaf", keys["leaf"], names["middle"], keys["middle"], names=(NAME,))
    old_pem, root_pem, *chain = [
        certificate.public_bytes(serialization.Encoding.PEM) for certificate in (old, root, leaf, middle, crossed)
    ]
    script = Script(from_pem(pem_of(keys["leaf"]), chain))
    port = listen(script)
    for trusted in (root_pem, root_pem + old_pem, old_pem + root_pem):
        path = tmp_path / "roots.pem"
        path.write_bytes(trusted)
        connection = await wait(opening(provider_at(port, path)))
        assert connection.certificate_ends == leaf.not_valid_after_utc.timestamp()
        await wait(connection.quit())
    path.write_bytes(old_pem)
    assert "has expired" in str(await fault_of(provider_at(port, path)))


# Handshakes that come to nothing

SERVER_HELLO_1_1 = bytes.fromhex("160302002a020000260302") + b"\x11" * 32 + bytes.fromhex("00002f00")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (bytes.fromhex("15030200020246"), "TLS 1.2 is the lowest"),
        (SERVER_HELLO_1_1, "TLS 1.2 is the lowest"),
        (bytes.fromhex("15030300020228"), "the provider refused"),
        (bytes.fromhex("15030300020270"), "the provider does not know the name"),
        (b"220 smtp.test ESMTP\r\n", "what answers there speaks no TLS"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers there speaks no TLS"),
    ],
)
@with_reactor
async def test_a_handshake_that_fails(raw: bytes, words: str, listen: Listen, ca_file: Path) -> None:
    """The words say what people can do something about, the old versions of TLS first of all."""
    fault = await fault_of(provider_at(listen(Script(raw=raw)), ca_file, tls="implicit"))
    assert words in str(fault)
    assert fault.stage is Stage.TLS


@with_reactor
async def test_a_handshake_that_stalls(listen: Listen, ca_file: Path) -> None:
    """`timeout` bounds it too."""
    fault = await fault_of(provider_at(listen(Script(raw=b"")), ca_file, tls="implicit", timeout=0.2))
    assert str(fault) == "waited 0.2 s in vain for TLS"
    assert 0.2 <= fault.seconds < 2


@with_reactor
async def test_a_handshake_that_is_cut(listen: Listen, ca_file: Path) -> None:
    """So does the end of the connection."""
    script = Script(tls=None, hangs_up_at=b"STARTTLS")
    fault = await fault_of(provider_at(listen(script), ca_file))
    assert str(fault) == "TLS failed: the connection was closed in its midst"


# What was not offered, and what came too early


@pytest.mark.parametrize("ehlo", [b"250-smtp.test\r\n250 AUTH PLAIN LOGIN\r\n", b"250 smtp.test\r\n"])
@with_reactor
async def test_starttls_stripped(ehlo: bytes, listen: Listen, ca_file: Path, good: ServerTls) -> None:
    """No login and no mail in clear, ever."""
    script = Script(good, ehlo=ehlo)
    fault = await fault_of(provider_at(listen(script), ca_file))
    assert str(fault) == "STARTTLS is not offered, and in clear nothing is sent"
    assert fault.stage is Stage.TLS
    assert script.in_clear() == [b"EHLO"]


@with_reactor
async def test_starttls_refused(listen: Listen, ca_file: Path, good: ServerTls) -> None:
    """The same, with the provider's words."""
    script = Script(good, starttls=b"454 4.7.0 TLS not available\r\n")
    assert str(await fault_of(provider_at(listen(script), ca_file))) == "454 4.7.0 TLS not available"
    assert script.in_clear() == [b"EHLO", b"STARTTLS"]


@pytest.mark.parametrize("behind", [b"250-smtp.test\r\n250 AUTH PLAIN\r\n", b"2", b"\x16\x03\x03"])
@with_reactor
async def test_words_behind_the_220(behind: bytes, listen: Listen, ca_file: Path, good: ServerTls) -> None:
    """Whoever said them is not known: nothing of it counts, and no handshake begins."""
    script = Script(good, starttls=b"220 Go ahead\r\n" + behind)
    fault = await fault_of(provider_at(listen(script), ca_file))
    assert "in clear behind its 220" in str(fault)
    assert script.inside() == []


@with_reactor
async def test_auth_stripped(listen: Listen, ca_file: Path, good: ServerTls) -> None:
    """Credentials that are configured make a login mandatory; what was offered in clear does not count."""
    script = Script(
        good,
        ehlo=b"250-smtp.test\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n",
        ehlo_inside=b"250-smtp.test\r\n250 SIZE\r\n",
    )
    fault = await fault_of(provider_at(listen(script), ca_file))
    assert str(fault) == "AUTH is not offered, and without a login no mail is sent"
    assert fault.stage is Stage.AUTH
    assert b"MAIL" not in script.inside()


@with_reactor
async def test_a_login_that_is_refused(listen: Listen, ca_file: Path, good: ServerTls) -> None:
    """One try, although another mechanism is offered."""
    script = Script(good, auth=b"535 5.7.8 Bad credentials\r\n")
    fault = await fault_of(provider_at(listen(script), ca_file))
    assert fault.outcome.auth
    assert str(fault) == "535 5.7.8 Bad credentials"
    assert script.inside() == [b"EHLO", b"AUTH"]


# How it ends


@with_reactor
async def test_gone_behind_the_354(listen: Listen, ca_file: Path, good: ServerTls) -> None:
    """A provider that says 354 and leaves has no mail: its fault, and nothing uncertain."""
    script = Script(good, hangs_up_at=b"DATA")
    connection = await wait(opening(provider_at(listen(script), ca_file)))
    assert kind(await mail(connection)) is ProviderFault


@with_reactor
async def test_gone_behind_the_dot(listen: Listen, ca_file: Path, good: ServerTls) -> None:
    """One that took it all and leaves without a word has it, or not."""
    script = Script(good, dot=b"", hangs_up_at=b".")
    connection = await wait(opening(provider_at(listen(script), ca_file)))
    assert kind(await mail(connection)) is Uncertain


@pytest.mark.parametrize("size", [1_000, 5_000_000])
@with_reactor
async def test_refused_and_gone(size: int, listen: Listen, ca_file: Path, good: ServerTls) -> None:
    """A refusal counts also if the connection ends with it, be it in the midst of a mail."""
    early = size > 1_000
    script = Script(
        good, data=b"354 Go\r\n" + (b"552 5.3.4 Too big\r\n" if early else b""), dot=b"552 5.3.4 Too big\r\n"
    )
    script.hangs_up_at = b"DATA" if early else b"."
    connection = await wait(opening(provider_at(listen(script), ca_file)))
    result = await mail(connection, b"x" * size)
    assert kind(result) is Rejected
    assert result.usable != early


@pytest.mark.parametrize("politely", [False, True])
@with_reactor
async def test_gone_while_idle(politely: bool, listen: Listen, ca_file: Path, good: ServerTls) -> None:
    """With or without close_notify: the pool is told, and that is all."""
    script = Script(good)
    connection = await wait(opening(provider_at(listen(script), ca_file)))
    assert kind(await mail(connection)) is Delivered
    ended: Deferred[object] = Deferred()
    connection.when_ended = ended.callback
    transport = script.servers[0].transport
    if politely:
        transport.loseConnection()
    else:
        transport.getHandle()
        transport.protocol.transport.loseConnection()
    assert str(await wait(ended)) == "the connection was lost"


@with_reactor
async def test_rubbish_behind_quit(listen: Listen, ca_file: Path, good: ServerTls) -> None:
    """Nobody reads it."""
    script = Script(good)
    connection = await wait(opening(provider_at(listen(script), ca_file)))
    gone = connection.quit()
    script.servers[0].transport.write(b"\x00\x00\x00\x1a\x00\x00\x00")
    await wait(gone)


# A server that is not ours


class Kept:
    """aiosmtpd's handler: keeps mails."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], bytes]] = []

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        """Part of aiosmtpd's."""
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        return "250 2.0.0 Kept"


@pytest.mark.parametrize("auth", ["", "PLAIN", "LOGIN"])
@with_reactor
async def test_aiosmtpd(auth: str, authority: trustme.CA, ca_file: Path) -> None:
    """Several mails over STARTTLS and each mechanism, with dots, 8-bit octets and a refused recipient."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)

    def authenticate(server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"user1", SECRET.encode())
        return AuthResult(success=good, handled=False)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = Kept()
    controller = Controller(
        kept,
        hostname="127.0.0.1",
        port=port,
        tls_context=context,
        require_starttls=True,
        authenticator=authenticate,
        auth_required=True,
        enable_SMTPUTF8=True,
    )
    controller.start()
    try:
        connection = await wait(opening(provider_at(port, ca_file, auth=auth)))
        assert connection.mechanism == (auth or "PLAIN")
        body = "Subject: t\r\n\r\n.\r\n..x\r\nü\r\n".encode()
        recipients = (Recipient("b@example.net"), Recipient("ü@example.net"))
        batch = Batch("a@example.com", recipients, b"Head: 1\r\n", body, 9 + len(body), eight_bit=True)
        for _ in range(2):
            result = await wait(connection.deliver(batch))
            assert [type(outcome) for outcome in result.outcomes] == [Delivered, Delivered]
        await wait(connection.quit())
        assert kept.mails == [("a@example.com", ["b@example.net", "ü@example.net"], b"Head: 1\r\n" + body)] * 2
        fault = await fault_of(provider_at(port, ca_file, auth=auth, password=Secret("wrong")))
        assert fault.outcome.auth
    finally:
        controller.stop()
