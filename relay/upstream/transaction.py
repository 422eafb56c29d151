"""Transaction: one mail on its way over a connection, from MAIL to the reply behind its end (RFC 5321, 3.3).

It knows no network and no clock: octets to write come out, replies go in, and one outcome for each recipient is what
remains. Callers: the connection, which also sends a body that is too large to be handed over in one piece.
"""

from __future__ import annotations

from relay.envelope import Recipient
from relay.outcome import CannotTake, Outcome, ProviderFault, Rejected, Retired, Stage, Uncertain, classify
from relay.reply import Reply
from relay.smtp.data.send import stuffed
from relay.upstream.batch import Batch, Features
from relay.upstream.needs import NO_SMTP_UTF8, UNSOUND, in_ascii, lacking, sound

_GOOD = {Stage.MAIL: 2, Stage.RCPT: 2, Stage.DATA: 3, Stage.BODY: None, Stage.DOT: 2}


_UNKNOWN = frozenset({500, 502})
_SYNTAX = frozenset({"", "5.5.1", "5.5.2"})
"""Replies to BDAT that are about the command, and not about the mail."""


class Transaction:
    """One Batch. Write what `begin` and `receive` return; `receive` is told each reply that is due.

    begun       MAIL was accepted
    stage       what the next reply answers. BODY is left to the caller to turn into DOT once the end has left
    resetting   it is RSET that the next reply answers
    streams     the body is due, and the caller is to send it: raw behind BDAT, else stuffed and with its end
    over        nothing more is to come, and `outcomes` has no None
    heard       it has had a reply
    usable      (when over) whether the connection is in a state for another transaction
    clean       (when over) whether that one may begin with MAIL; else RSET goes first
    cut         (when over) no reply can follow: the connection is to end at once
    misled      (when over) the provider offers BDAT and does not know it
    """

    __slots__ = (
        "_accepted",
        "_asked",
        "_commands",
        "_features",
        "_hopeless",
        "_next",
        "batch",
        "begun",
        "carried",
        "clean",
        "cut",
        "heard",
        "misled",
        "outcomes",
        "over",
        "resetting",
        "stage",
        "streams",
        "usable",
        "whole",
    )

    def __init__(
        self,
        batch: Batch,
        features: Features,
        *,
        null_sender: str = "",
        carried: bool = False,
        reset: bool = False,
        whole: bool = False,
    ) -> None:
        """Prepare it.

        null_sender  stands for <> at a provider that refuses that
        carried      the connection has carried a transaction to its end before
        reset        that one left something to be cleared
        whole        everything leaves at once, behind other transactions (RFC 3030, 4.2); only what is `in_one_piece`
        """
        self.batch = batch
        self.carried = carried
        self.whole = whole
        self.resetting = reset
        self.stage = Stage.MAIL
        self.outcomes: list[Outcome | None] = [None] * len(batch.recipients)
        self.begun = self.streams = self.over = self.cut = self.heard = self.misled = False
        self.usable = self.clean = True
        self._features = features
        self._asked: list[int] = []  # numbers of the recipients that RCPT names
        self._accepted: list[int] = []
        self._hopeless = False  # every outcome is known, but replies are still due
        self._next = 0  # of _asked: whose reply is due
        self._commands = self._compose(batch.sender or null_sender)

    def begin(self) -> bytes:
        """The first octets; none, and it is over, where the provider cannot take it for any recipient."""
        if not self._asked:
            self._finish(clean=not self.resetting)
            return b""
        commands = self._commands
        if self.resetting:
            commands.insert(0, "RSET")
        if not self._features.pipelining:
            return self._say()
        if not self._features.chunking:
            commands.append("DATA")
        octets = ("\r\n".join(commands) + "\r\n").encode()
        return octets + self._chunk() if self.whole else octets

    def fits(self, reply: Reply) -> bool:
        """Whether `reply` can be meant for what is due; if not, provider and we are out of step."""
        kind = reply.code // 100
        return kind >= 4 or (kind == _GOOD[self.stage] and (kind != 3 or reply.code == 354))

    def receive(self, reply: Reply) -> bytes:
        """Take the reply that was due; what to write because of it."""
        self.heard = True
        if reply.code == 421:
            self._closing(reply)
            return b""
        if self.resetting:
            # Whether RSET worked shows at MAIL.
            self.resetting = False
            return self._say()
        if self.stage is Stage.MAIL:
            return self._mail(reply)
        if self.stage is Stage.RCPT:
            return self._rcpt(reply)
        if self.stage is Stage.DATA:
            return self._data(reply)
        self._end(reply)
        return b""

    def lose(self, reply: Reply, *, closed: bool, left: bool, first: bool) -> None:
        """No reply will come any more. `reply` says why; `closed`: because the connection ended.

        left   whether the end of the content has left
        first  whether this transaction was the one whose replies were due
        """
        if left and (self.whole or self.stage >= Stage.BODY):
            self._give_up(Uncertain(reply))
        elif first:
            outcome = classify(self.stage, reply, carried=self.carried, closed=closed)
            self._give_up(outcome or ProviderFault(reply))
        else:
            self._give_up(Retired(reply))

    def retire(self, reply: Reply) -> None:
        """It ends here, unheard, and by nobody's fault."""
        self._give_up(Retired(reply))

    def _compose(self, sender: str) -> list[str]:
        """MAIL and RCPT; settles recipients that cannot be named at this provider."""
        batch = self.batch
        lacks = lacking(batch, self._features)
        if lacks is not None:
            self._settle(CannotTake(lacks))
            return []
        commands = [self._mail_command(sender, international=False)]
        commands += [self._rcpt_command(to.address, to, international=False) for to in batch.recipients]
        for command in commands:
            if not (command.isascii() and command.isprintable()):
                return self._compose_with_care(sender)
        self._asked.extend(range(len(batch.recipients)))
        return commands

    def _compose_with_care(self, sender: str) -> list[str]:
        """The same, where something is not ASCII, or should not be there."""
        batch, with_smtp_utf8 = self.batch, self._features.smtp_utf8
        addresses: list[str | None] = [recipient.address for recipient in batch.recipients]
        international = with_smtp_utf8 and not (sender + "".join(map(str, addresses))).isascii()
        if not with_smtp_utf8:
            addresses = [in_ascii(recipient.address) for recipient in batch.recipients]
        origin = sender if with_smtp_utf8 else in_ascii(sender)
        if origin is None:
            self._settle(CannotTake(NO_SMTP_UTF8))
            return []
        commands = [self._mail_command(origin, international)]
        if not sound(commands[0]):
            self._settle(Rejected(UNSOUND, final=True))
            return []
        for number, (address, recipient) in enumerate(zip(addresses, batch.recipients, strict=True)):
            if address is None:
                self.outcomes[number] = CannotTake(NO_SMTP_UTF8)
                continue
            command = self._rcpt_command(address, recipient, international)
            if sound(command):
                self._asked.append(number)
                commands.append(command)
            else:
                self.outcomes[number] = Rejected(UNSOUND, final=True)
        return commands

    def _mail_command(self, sender: str, international: bool) -> str:
        batch, features = self.batch, self._features
        command = f"MAIL FROM:<{sender}>"
        if features.size is not None:
            command += f" SIZE={batch.size}"
        if batch.eight_bit:
            command += " BODY=8BITMIME"
        if international:
            command += " SMTPUTF8"
        if features.dsn:
            if batch.ret:
                command += f" RET={batch.ret}"
            if batch.envid:
                command += f" ENVID={batch.envid}"
        return command

    def _rcpt_command(self, address: str, recipient: Recipient, international: bool) -> str:
        command = f"RCPT TO:<{address}>"
        if self._features.dsn:
            if recipient.notify:
                command += f" NOTIFY={','.join(sorted(recipient.notify))}"
            if recipient.orcpt and (international or recipient.orcpt.isascii()):
                command += f" ORCPT={recipient.orcpt}"
        return command

    def _say(self) -> bytes:
        """The next command, where one waits for the other."""
        if self._features.pipelining:
            return b""
        command = self._commands.pop(0)
        return f"{command}\r\n".encode()

    def _mail(self, reply: Reply) -> bytes:
        outcome = classify(Stage.MAIL, reply, carried=self.carried)
        self.stage = Stage.RCPT
        if outcome is None:
            self.begun = True
            return self._say()
        self._fail(outcome)
        if not self._features.pipelining:
            self._finish(clean=True)
        return b""

    def _rcpt(self, reply: Reply) -> bytes:
        number = self._asked[self._next]
        self._next += 1
        if not self._hopeless:
            outcome = classify(Stage.RCPT, reply, carried=self.carried, taken=bool(self._accepted))
            if outcome is None:
                self._accepted.append(number)
            elif isinstance(outcome, ProviderFault | Retired):
                self._fail(outcome)
            else:
                self.outcomes[number] = outcome
        if self.over:
            return b""
        return self._say() if self._next < len(self._asked) else self._envelope_said()

    def _envelope_said(self) -> bytes:
        """Every RCPT was answered: on to the content, if anybody is to get it."""
        if self.whole:
            self.stage = Stage.BODY
            return b""
        if self._features.chunking:
            return self._content() if self._accepted else self._finish(clean=False)
        self.stage = Stage.DATA
        if self._features.pipelining:
            return b""
        return b"DATA\r\n" if self._accepted else self._finish(clean=False)

    def _data(self, reply: Reply) -> bytes:
        if reply.code == 354:
            if self._accepted:
                return self._content()
            # Nobody is to get anything: an empty mail to no recipient ends it (RFC 2920, 3.1).
            self.stage = Stage.DOT
            return b".\r\n"
        if self._accepted:
            self._fail(classify(Stage.DATA, reply, carried=self.carried) or ProviderFault(reply))
        return self._finish(clean=False)

    def _end(self, reply: Reply) -> None:
        """The reply to the content."""
        early = self.stage is Stage.BODY
        if self._accepted and not self._hopeless:
            self.misled = self._features.chunking and reply.code in _UNKNOWN and reply.enhanced in _SYNTAX
            outcome = None if self.misled else classify(self.stage, reply, carried=self.carried)
            self._fail(outcome or ProviderFault(reply))
        # What is refused while it leaves leaves on: only the end of the connection stops it.
        self.cut = self.cut or early
        self._finish(clean=reply.code // 100 == 2)

    def _content(self) -> bytes:
        """The content, if it is small, with its end; else only what announces it."""
        self.stage = Stage.BODY
        if self.batch.in_one_piece:
            return self._chunk() if self._features.chunking else stuffed(self._small())
        self.streams = True
        return self._announced() if self._features.chunking else b""

    def _chunk(self) -> bytes:
        return self._announced() + self._small()

    def _announced(self) -> bytes:
        return b"BDAT %d LAST\r\n" % self.batch.octets

    def _small(self) -> bytes:
        body = self.batch.body
        assert isinstance(body, bytes)
        return self.batch.head + body

    def _closing(self, reply: Reply) -> None:
        """421: the provider closes the connection, so nothing that is behind it will be read (RFC 5321, 3.8)."""
        stage = Stage.MAIL if self.resetting else self.stage
        self._give_up(classify(stage, reply, carried=self.carried) or ProviderFault(reply))

    def _give_up(self, outcome: Outcome) -> None:
        """Whoever has no outcome gets this one, and the connection ends."""
        self._settle(outcome)
        self.cut = True
        self.usable = False
        self._finish(clean=False)

    def _fail(self, outcome: Outcome) -> None:
        """Whoever has no outcome gets this one."""
        self._settle(outcome)
        self._hopeless = True
        if isinstance(outcome, ProviderFault | Retired | Uncertain):
            self.usable = False
            if not self.whole:
                self._finish(clean=False)

    def _settle(self, outcome: Outcome) -> None:
        self.outcomes = [known or outcome for known in self.outcomes]

    def _finish(self, *, clean: bool) -> bytes:
        self.over = True
        self.streams = False
        self.clean = clean
        self.usable = self.usable and not self.cut
        return b""
