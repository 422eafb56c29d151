"""Reckoning: applications that hand in mail until the daemon is gone, providers with moods, and what came of it all.

Recipients have names of their own in every mail; those that begin with "nobody" do not exist anywhere.
"""

from __future__ import annotations

import email
import hashlib
import json
import random
import re
import smtplib
import subprocess
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.daemon import PATIENCE
from tests.running import TWISTD, Running, letter
from tests.sink import VANISHES, Mail, Says, Sink

_DIGEST = re.compile(rb"X-Digest: ([0-9a-f]{64})\r\n\r\n(.*)", re.DOTALL)
_FATES = ("taken", "taken", "taken", "nobody")
LARGE = 300 * 1024


class Moody(Sink):
    """A provider that fails now and then, in every way; `mood` is the share of answers that are not as usual."""

    def __init__(self, name: str, mood: float, choose: random.Random) -> None:
        super().__init__(name, offers=["PIPELINING", "SIZE", "8BITMIME"])
        self.mood = mood
        self._choose = choose
        self._dice = threading.Lock()

    def answer(self, step: str, argument: bytes = b"") -> Says:
        """See Sink."""
        usual = super().answer(step, argument)
        if step == "RCPT" and b"<nobody" in argument:
            return Says("550 5.1.1 No such user")
        with self._dice:
            bad = self._choose.random() < self.mood
            moods = {
                "greeting": [Says("421 4.3.2 Busy", closes=True), VANISHES],
                "EHLO": [VANISHES],
                "MAIL": [Says("451 4.3.0 Later"), Says("421 4.3.2 Closing", closes=True), VANISHES],
                "RCPT": [Says("450 4.2.1 Later"), Says("452 4.5.3 Too many")],
                "DATA": [Says("451 4.3.0 Later"), VANISHES],
                ".": [Says("451 4.3.0 Later"), VANISHES, Says("421 4.3.2 Closing", closes=True)],
            }
            return self._choose.choice(moods[step]) if bad and step in moods else usual


@dataclass
class Handed:
    """What applications handed in, and what they were told; `refused`: recipients of mails that were not taken."""

    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    answers: Counter[int] = field(default_factory=Counter)
    contents: set[bytes] = field(default_factory=set)
    mails: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, more: int) -> None:
        """Wait until so many more mails were acknowledged."""
        with self.changed:
            goal = self.mails + more
            there = self.changed.wait_for(lambda: self.mails >= goal, PATIENCE)
        assert there, f"{self.mails} mails were taken, not {goal}"

    def hand_in(self, client: smtplib.SMTP, name: str, fates: Sequence[str], octets: int) -> None:
        """Hand one mail in. Raises what smtplib does."""
        content = letter(name, octets)
        to = [f"{fate}-{number}-{name}@example.net" for number, fate in enumerate(fates)]
        with self.changed:
            self.contents.add(content)
        try:
            assert client.sendmail(f"from-{name}@example.com", to, content) == {}
        except smtplib.SMTPResponseException as refusal:
            with self.changed:
                self.refused.update(to)
                self.answers[refusal.smtp_code] += 1
            raise
        with self.changed:
            self.acknowledged.update(to)
            self.answers[250] += 1
            self.mails += 1
            self.changed.notify_all()

    def apply(self, relay: Running, name: str, seed: float, most: int = 1_000_000) -> None:
        """One application, until it has tried to hand in as many mails as it wants, or the daemon is gone."""
        choose = random.Random(seed)
        try:
            with relay.client() as client:
                for number in range(most):
                    octets = LARGE if choose.random() < 0.1 else choose.randrange(8192)
                    fates = choose.choices(_FATES, k=choose.randrange(1, 6))
                    with suppress(smtplib.SMTPResponseException):  # refused
                        self.hand_in(client, f"{name}-{number}", fates, octets)
        except (OSError, smtplib.SMTPException):
            return

    def applying(
        self, relay: Running, name: str, choose: random.Random, *, most: int = 1_000_000
    ) -> list[threading.Thread]:
        """Several of them, which have begun."""
        threads = [
            threading.Thread(target=self.apply, args=(relay, f"{name}-{client}", choose.random(), most))
            for client in range(4)
        ]
        for each in threads:
            each.start()
        return threads


@dataclass(frozen=True)
class Reckoning:
    """What came of it.

    bounced    recipients whose sender was told of them, or will be by a report that is held
    held       recipients that wait for a person
    guarded    those of them that were under way when the daemon died, three times
    lost       recipients that were acknowledged, and are neither delivered, nor bounced, nor held
    copies     transactions with somebody who had that mail already
    uncertain  transactions whose dot was not answered
    torn       mails that are not what was handed in
    wrong      recipients that bounced and should not have
    ghosts     recipients of mails that were refused, to whom they were delivered all the same
    answers    what applications were told, a code for each mail
    """

    acknowledged: int
    delivered: int
    bounced: int
    held: int
    guarded: int
    lost: frozenset[str]
    copies: int
    uncertain: int
    torn: int
    wrong: frozenset[str]
    ghosts: frozenset[str]
    answers: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, handed: Handed, sinks: Sequence[Sink], held: Mapping[str, str]) -> Reckoning:
        """Compare what was acknowledged with what came."""
        kept = [mail for sink in sinks for mail in sink.mails if not mail.reply.startswith(("4", "5"))]
        mails = [mail for mail in kept if mail.sender]
        seen: Counter[tuple[str, bytes]] = Counter()
        copies = 0
        for mail in kept:
            names = [(identity(mail), to) for to in mail.recipients]
            copies += any(seen[name] for name in names)
            seen.update(names)
        delivered = {to.decode() for mail in mails for to in mail.recipients}
        bounced = {to for mail in kept if not mail.sender for to in reported(mail)}
        bounced |= {to for to in handed.acknowledged if to.startswith("nobody") and sender_of(to) in held}
        return cls(
            len(handed.acknowledged),
            len(delivered & handed.acknowledged),
            len(bounced),
            len(held),
            sum(reply.startswith("suspected") for reply in held.values()),
            frozenset(handed.acknowledged - delivered - bounced - held.keys()),
            copies,
            sum(not mail.reply for sink in sinks for mail in sink.mails),
            sum(not sound(mail) or mail.below_trace not in handed.contents for mail in mails),
            frozenset(to for to in bounced if not to.startswith("nobody")),
            frozenset((delivered | bounced) & handed.refused),
            tuple(sorted(handed.answers.items())),
        )


def identity(mail: Mail) -> str:
    """What only this mail has; a report quotes the id of another one."""
    if mail.sender:
        return mail.id
    return str(email.message_from_bytes(mail.content)["Message-ID"])


def sender_of(recipient: str) -> str:
    """Who is told of that recipient."""
    name = recipient.partition("@")[0].split("-", 2)[2]
    return f"from-{name}@example.com"


def sound(mail: Mail) -> bool:
    """Whether the digest in its header is that of its text."""
    found = _DIGEST.search(mail.content)
    return found is not None and hashlib.sha256(found[2]).hexdigest().encode() == found[1]


def reported(mail: Mail) -> list[str]:
    """The recipients of whom a report says that they could not be reached."""
    parts = email.message_from_bytes(mail.content).walk()
    statuses = [part for part in parts if part.get_content_type() == "message/delivery-status"]
    return [
        part["Final-Recipient"].split(";")[1].strip()
        for status in statuses
        for part in status.walk()
        if part["Action"] == "failed"
    ]


def held(folder: Path) -> dict[str, str]:
    """The recipients that are held, as `mailrelay queue list` says, and why."""
    command: list[str | Path] = [TWISTD.with_name("mailrelay"), "queue", "list", "--json", "--state", "held"]
    listed = subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=PATIENCE)
    return {
        recipient["address"]: recipient["reply"]
        for mail in json.loads(listed.stdout)
        for recipient in mail["recipients"]
        if recipient["state"] == "held"
    }


def is_settled(relay: Running) -> bool:
    """Whether nothing waits but what is held."""
    queue = relay.health()["queue"]
    return bool(queue["total"] == queue["held"])
