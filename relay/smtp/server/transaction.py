"""Transaction: one mail from MAIL to the end of its content (RFC 5321, 3.3)."""

from __future__ import annotations

from relay.envelope import Recipient
from relay.reply import Reply
from relay.smtp.data.receive import Chunks, Content, Rules
from relay.smtp.grammar.commands import Mail
from relay.smtp.submission import Incoming, Rewriting


class Transaction:
    """What is known of it so far.

    sender      the reverse-path as it was accepted
    incoming    where its content goes, once there is some and as long as it may be taken
    chunks      not None once a BDAT came: DATA may not follow
    refusal     why its content is not taken; said at its end
    """

    __slots__ = ("_recipients", "chunks", "content", "incoming", "mail", "refusal", "sender")

    def __init__(self, mail: Mail, sender: str, rules: Rules, rewrite: Rewriting | None) -> None:
        self.mail = mail
        self.sender = sender
        self.content = Content(rules, rewrite)
        self.incoming: Incoming | None = None
        self.chunks: Chunks | None = None
        self.refusal: Reply | None = None
        self._recipients: dict[str, Recipient] = {}

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """In the order in which they came."""
        return tuple(self._recipients.values())

    def has(self, address: str) -> bool:
        """Whether `address`, compared without case, is among the recipients."""
        return address.lower() in self._recipients

    def add(self, recipient: Recipient) -> None:
        """One more."""
        self._recipients[recipient.address.lower()] = recipient

    @property
    def count(self) -> int:
        """How many recipients there are."""
        return len(self._recipients)

    def abandon(self) -> None:
        """Its content is not taken."""
        incoming, self.incoming = self.incoming, None
        if incoming is not None:
            incoming.abandon()
