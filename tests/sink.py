"""Sink: a provider on loopback that keeps what it is given, in TLS and with a login, and does as its script says.

Real sockets, each connection served by a thread of its own. What it says at each step of the dialogue can be scripted
("greeting", the verb of a command, or "." for the end of the content); unscripted, everybody is let in and every mail
is taken.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from base64 import b64decode
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import trustme

from tests.daemon import PATIENCE

NAME = "provider.example"
"""The name in the certificate of every sink, unless it is to be another one."""

_OFFERS = ("PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
_SENDER = re.compile(rb"FROM:<(.*?)>.*", re.IGNORECASE | re.DOTALL)
_RECIPIENT = re.compile(rb"TO:<(.*?)>.*", re.IGNORECASE | re.DOTALL)
_ID = re.compile(rb"\sid ([0-9a-f-]{36})")
_GOOD = {
    "greeting": "220 sink.example ESMTP",
    "STARTTLS": "220 2.0.0 Go ahead",
    "AUTH": "235 2.7.0 Welcome",
    "DATA": "354 Go ahead",
    "QUIT": "221 2.0.0 Bye",
}


@dataclass(frozen=True)
class Mail:
    """A mail whose end has come, with what was said to that. `content` is unstuffed."""

    sender: bytes
    recipients: tuple[bytes, ...]
    content: bytes
    reply: str
    connection: int

    @property
    def id(self) -> str:
        """The id under which mailrelay took it."""
        found = _ID.search(self.content)
        assert found is not None, self.content[:1000]
        return found[1].decode()

    @property
    def below_trace(self) -> bytes:
        """The content without the one field that mailrelay puts on top."""
        return below_trace(self.content)


def below_trace(content: bytes) -> bytes:
    """`content` without the one field that mailrelay puts on top."""
    head = re.match(rb"Received: .*\r\n(?:[ \t].*\r\n)*", content)
    assert head is not None, content[:1000]
    return content[head.end() :]


@dataclass(frozen=True)
class Says:
    """One answer: `reply` (none, if it is "") and then perhaps the end of the connection."""

    reply: str
    closes: bool = False


VANISHES = Says("", closes=True)


class Gate:
    """Connections that reach its step wait there, as long as the `with` block lasts."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.opened.set()


class Sink:
    """See the module's docstring. It listens from the beginning of a `with` block to its end, or to `stop`.

    tls     "none", "starttls" (offered and demanded) or "implicit"
    login   user and password, "" for none; then AUTH is offered and demanded
    mails   what it was given, in order, also what it refused at the end
    clear   every octet that came outside of TLS, of all connections
    reached how often each step was reached
    judge   asked where nothing is scripted, with the step and what stands behind the verb: what to say, or "": as usual
    """

    def __init__(
        self,
        name: str = "sink",
        *,
        tls: str = "none",
        authority: trustme.CA | None = None,
        certified: str = NAME,
        login: tuple[str, str] | None = None,
        offers: Collection[str] = _OFFERS,
    ) -> None:
        self.name = name
        self.tls = tls
        self.login = login
        self.offers = offers
        self.strips: set[str] = set()
        self.mails: list[Mail] = []
        self.clear = bytearray()
        self.reached: Counter[str] = Counter()
        self.judge: Callable[[str, bytes], str] = lambda _step, _argument: ""
        self.changed = threading.Condition()
        self._authority = authority
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if authority is not None:
            authority.issue_cert(certified).configure_cert(self._context)
        self._script: defaultdict[str, deque[Says]] = defaultdict(deque)
        self._always: dict[str, Says] = {}
        self._gates: dict[str, Gate] = {}
        self._port = 0
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._sockets: set[socket.socket] = set()
        self._connections = 0

    @property
    def port(self) -> int:
        """Where it listens, or did."""
        return self._port

    def says(self, step: str, reply: str, *, closes: bool = False, times: int = 1) -> None:
        """The next `times` that `step` is reached, say this; "" is nothing."""
        self._script[step].extend([Says(reply, closes)] * times)

    def always(self, step: str, reply: str, *, closes: bool = False) -> None:
        """From now on say this at `step`, where nothing else is scripted."""
        self._always[step] = Says(reply, closes)

    def usual(self, step: str) -> None:
        """Take `always` back."""
        self._always.pop(step, None)

    def gate(self, step: str) -> Gate:
        """Keep everybody waiting before the answer at `step`."""
        self._gates[step] = gate = Gate()
        return gate

    def table(self, **keys: object) -> dict[str, object]:
        """The [[provider]] that leads here; `keys` are more of it, or others."""
        table: dict[str, object] = {"name": self.name, "host": "127.0.0.1", "port": self.port, "tls": self.tls}
        if self.tls != "none":
            table["server_name"] = NAME
        if self.login is not None:
            table["username"], table["password"] = self.login
        return table | keys

    def write_authority(self, path: Path) -> str:
        """A file with the root of its certificate."""
        assert self._authority is not None
        self._authority.cert_pem.write_to_path(str(path))
        return str(path)

    def wait_for(self, mails: int, within: float = PATIENCE) -> list[Mail]:
        """The mails, once there are so many."""
        with self.changed:
            there = self.changed.wait_for(lambda: len(self.mails) >= mails, within)
        assert there, f"{len(self.mails)} mails came to {self.name}, not {mails}"
        return list(self.mails)

    def wait_until_reached(self, step: str, times: int = 1, within: float = PATIENCE) -> None:
        """Wait until `step` was reached so often."""
        with self.changed:
            there = self.changed.wait_for(lambda: self.reached[step] >= times, within)
        assert there, f"{step} was reached {self.reached[step]} times at {self.name}, not {times}"

    def start(self) -> None:
        """Listen, where it did before if it did."""
        self._listener = listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._port = listener.getsockname()[1]
        self._begin(self._accept, listener)

    def stop(self) -> None:
        """Listen no more, and end every connection."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
        for gate in self._gates.values():
            gate.opened.set()
        with self.changed:
            for each in self._sockets:
                with suppress(OSError):  # it has ended by itself
                    each.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(PATIENCE)
        self._threads.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _begin(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connections += 1
                self._begin(self._serve, connection, self._connections)

    def _serve(self, connection: socket.socket, number: int) -> None:
        with self.changed:
            self._sockets.add(connection)
        try:
            _Dialogue(self, connection, number, self._context).hold()
        except (OSError, EOFError):
            return
        finally:
            with self.changed:
                self._sockets.discard(connection)
            connection.close()

    # For the dialogues, each in its own thread

    def answer(self, step: str, argument: bytes = b"") -> Says:
        """What is to be said at a step that was reached just now."""
        with self.changed:
            self.reached[step] += 1
            self.changed.notify_all()
            gate = self._gates.get(step)
        if gate is not None:
            gate.opened.wait(PATIENCE)
        script = self._script[step]
        if script:
            return script.popleft()
        usual = self._always.get(step) or Says(_GOOD.get(step, "250 2.0.0 Ok"))
        judged = self.judge(step, argument)
        return Says(judged) if judged else usual

    def keep(self, mail: Mail) -> None:
        """A mail's end has come, and the answer is decided."""
        with self.changed:
            self.mails.append(mail)
            self.changed.notify_all()


class _Dialogue:
    """One connection."""

    def __init__(self, sink: Sink, connection: socket.socket, number: int, context: ssl.SSLContext) -> None:
        self._sink = sink
        self._connection = connection
        self._stream: IO[bytes] = connection.makefile("rb")
        self._number = number
        self._context = context
        self._secure = False
        self._known = sink.login is None
        self._sender = b""
        self._recipients: list[bytes] = []
        self._begun = False
        self._chunks = b""

    def hold(self) -> None:
        """The whole dialogue. Raises OSError or EOFError at its end, or returns."""
        try:
            if self._sink.tls == "implicit":
                self._begin_tls()
            self._step("greeting")
            while self._command():
                pass
        finally:
            self._stream.close()
            if self._secure:
                self._connection.close()

    def _begin_tls(self) -> None:
        self._stream.close()
        self._connection = self._context.wrap_socket(self._connection.dup(), server_side=True)
        self._stream = self._connection.makefile("rb")
        self._secure = True

    def _line(self) -> bytes:
        line = self._stream.readline()
        if not self._secure:
            self._sink.clear += line
        if not line.endswith(b"\n"):
            raise EOFError
        return line

    def _say(self, says: Says) -> str:
        if says.reply:
            self._connection.sendall(f"{says.reply}\r\n".encode())
        if says.closes:
            raise EOFError
        return says.reply

    def _step(self, step: str, argument: bytes = b"") -> str:
        return self._say(self._sink.answer(step, argument))

    def _command(self) -> bool:
        verb, _, argument = self._line().rstrip(b"\r\n").partition(b" ")
        step = verb.decode("latin-1").upper()
        sink = self._sink
        if step in ("EHLO", "HELO"):
            self._hello()
        elif step == "STARTTLS":
            if self._step(step).startswith("220"):
                self._begin_tls()
        elif step == "QUIT":
            self._step(step)
            return False
        elif sink.tls != "none" and not self._secure and "STARTTLS" not in sink.strips:
            self._say(Says("530 5.7.0 STARTTLS first"))
        elif step == "AUTH":
            self._auth(argument.split())
        elif not self._known and "AUTH" not in sink.strips:
            self._say(Says("530 5.7.0 AUTH first"))
        else:
            self._mail(step, argument)
        return True

    def _hello(self) -> None:
        sink = self._sink
        offers = ["sink.example", *sink.offers]
        if sink.tls == "starttls" and not self._secure:
            offers.append("STARTTLS")
        if sink.login is not None:
            offers.append("AUTH PLAIN LOGIN")
        offers = [offer for offer in offers if offer.split()[0] not in sink.strips]
        says = sink.answer("EHLO")
        if says.reply.startswith("250"):
            lines = [f"250{'-' if number < len(offers) else ' '}{offer}" for number, offer in enumerate(offers, 1)]
            says = Says("\r\n".join(lines), says.closes)
        self._say(says)

    def _auth(self, words: list[bytes]) -> None:
        if words[0].upper() == b"PLAIN":
            answer = words[1] if len(words) > 1 else self._asked("334 ")
            _, user, password = b64decode(answer).split(b"\0")
        else:
            user, password = b64decode(self._asked("334 VXNlcm5hbWU6")), b64decode(self._asked("334 UGFzc3dvcmQ6"))
        says = self._sink.answer("AUTH")
        if (user.decode(), password.decode()) != self._sink.login:
            says = Says("535 5.7.8 Not you")
        self._known = self._say(says).startswith("235")

    def _asked(self, question: str) -> bytes:
        self._say(Says(question))
        return self._line().strip()

    def _mail(self, step: str, argument: bytes) -> None:
        if step == "BDAT":
            self._chunk(argument.split())
            return
        if step == "DATA" and not self._recipients:
            self._say(Says("554 5.5.1 No valid recipients"))
            return
        if step == "RCPT" and not self._begun:
            self._say(Says("503 5.5.1 MAIL first"))
            return
        good = self._step(step, argument)[:1] in ("2", "3")
        if step == "MAIL":
            found = _SENDER.fullmatch(argument)
            self._sender, self._recipients, self._begun = found[1] if found else argument, [], good
        elif step == "RCPT" and good:
            found = _RECIPIENT.fullmatch(argument)
            self._recipients.append(found[1] if found else argument)
        elif step == "DATA" and good:
            self._end(self._content())

    def _content(self) -> bytes:
        lines: list[bytes] = []
        fresh = True
        while (line := self._line()) != b".\r\n" or not fresh:
            lines.append(line[1:] if fresh and line.startswith(b".") else line)
            fresh = line.endswith(b"\r\n")
        return b"".join(lines)

    def _chunk(self, words: list[bytes]) -> None:
        size = int(words[0])
        octets = self._stream.read(size)
        if len(octets) < size:
            raise EOFError
        self._chunks += octets
        if len(words) == 1:
            self._step("BDAT")
            return
        content, self._chunks = self._chunks, b""
        self._end(content)

    def _end(self, content: bytes) -> None:
        says = self._sink.answer(".")
        mail = Mail(self._sender, tuple(self._recipients), content, says.reply, self._number)
        self._sink.keep(mail)
        self._say(says)
