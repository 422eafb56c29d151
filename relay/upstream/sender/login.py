"""Login: the AUTH dialogue (RFC 4954), with PLAIN (RFC 4616), LOGIN and CRAM-MD5 (RFC 2195).

It knows no network. The answers to challenges are Twisted's. Nothing here shows the password: it is asked for when it
is needed, and `censored` takes out of the provider's words what it says back of ours.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence

from twisted.mail.smtp import CramMD5ClientAuthenticator, LOGINAuthenticator, PLAINAuthenticator

from relay.config.secret import Secret
from relay.reply import Reply

ORDER = ("PLAIN", "LOGIN", "CRAM-MD5")
"""As mechanisms are tried inside TLS; outside of it CRAM-MD5 at least does not show the password."""

LONGEST_LINE = 512
"""Octets of a command line, its end included (RFC 5321, 4.5.3.1.4)."""

_ANSWERS = {"PLAIN": 1, "LOGIN": 2, "CRAM-MD5": 1}
_PLAIN_ANSWER = 2  # Twisted's other form names the user twice, as whom to act too
_ENOUGH_TO_KNOW = 8


class Login:
    """One try to log in, which may go over several mechanisms.

    mechanism  the one that is being tried, or "" before the first
    """

    def __init__(self, username: str, password: Secret, mechanisms: Sequence[str]) -> None:
        self.mechanism = ""
        self._username = username.encode()
        self._password = password
        self._mechanisms = list(mechanisms)
        self._answer: Callable[[bytes, bytes], bytes] = _answer_of("PLAIN", b"")
        self._asked = 0
        self._said: list[str] = []

    def begin(self) -> bytes | None:
        """The command for the next mechanism, without its line end; None if none is left."""
        if not self._mechanisms:
            return None
        self.mechanism = self._mechanisms.pop(0)
        self._answer = _answer_of(self.mechanism, self._username)
        self._asked = 0
        command = b"AUTH " + self.mechanism.encode()
        if self.mechanism != "PLAIN":
            return command
        with_answer = command + b" " + self._encoded(b"")
        return with_answer if len(with_answer) + 2 <= LONGEST_LINE else command

    def answer(self, reply: Reply) -> bytes | None:
        """The line that answers a 334; None if the mechanism has no answer to it."""
        self._asked += 1
        if self._asked > _ANSWERS[self.mechanism]:
            return None
        challenge = b""
        if self.mechanism == "CRAM-MD5":
            try:
                challenge = b64decode("".join(reply.lines), validate=True)
            except (binascii.Error, ValueError):
                return None
        # The prompts of LOGIN are words for people, and differ; those of PLAIN are to be empty, and are not always.
        return self._encoded(challenge)

    def gives_way(self, reply: Reply) -> bool:
        """Whether `reply` refuses the mechanism alone, so that the next one may be tried."""
        return reply.code == 504 or (reply.code != 535 and reply.enhanced in ("5.5.4", "5.7.4"))

    def censored(self, reply: Reply) -> Reply:
        """The same without what it says back of what we said."""
        return Reply(reply.code, reply.enhanced, tuple([self._censored(line) for line in reply.lines]))

    def _censored(self, line: str) -> str:
        password = self._password.reveal()
        for said in self._said:
            # A server that quotes a line may well cut it.
            at = line.find(said[:_ENOUGH_TO_KNOW])
            if at >= 0:
                line = f"{line[:at]}…"
        return line.replace(password, "…") if password else line

    def _encoded(self, challenge: bytes) -> bytes:
        answer = b64encode(self._answer(self._password.reveal().encode(), challenge))
        self._said.append(answer.decode())
        return answer


def _answer_of(mechanism: str, username: bytes) -> Callable[[bytes, bytes], bytes]:
    """What makes a mechanism's answer of the password and the challenge."""
    if mechanism == "PLAIN":
        plain = PLAINAuthenticator(username)
        return lambda password, _: bytes(plain.challengeResponse(password, _PLAIN_ANSWER))
    if mechanism == "LOGIN":
        login = LOGINAuthenticator(username)
        return lambda password, challenge: bytes(login.challengeResponse(password, challenge))
    cram = CramMD5ClientAuthenticator(username)
    return lambda password, challenge: bytes(cram.challengeResponse(password, challenge))


def order(offered: Sequence[str], wanted: str, secure: bool) -> list[str]:
    """Which of the mechanisms a provider offers are tried, the first one first.

    wanted  the one that the configuration names, or ""
    secure  whether the dialogue is inside TLS
    """
    if wanted:
        return [wanted] if wanted in offered else []
    known = [mechanism for mechanism in ORDER if mechanism in offered]
    return known if secure else known[::-1]
