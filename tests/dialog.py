r"""Dialog: SMTP dialogues as text files, one behaviour each, in tests/dialogs.

    # What it shows, and why (RFC).
    policy: max_recipients=2            how the server differs from tests.taking.POLICY
    C: MAIL FROM:<a@example.com>        a line of the client; CRLF is added
    C> RSET\n                           octets of the client, and no more than these
    S: 250 2.1.0                        a reply begins so (of one with several lines: its last)
    closed                              the server ends the connection here
    wait 300                            so many seconds pass
    mail a@example.com -> b@example.net c@example.net     what was taken, in order, with the octets of its
    | Subject: x                        content below it; without any, they are not looked at
    refused size                        what was reported, in order
    repeat 20 … end                     the lines between stand there so many times

In the client's octets `\r`, `\n`, `\0`, `\xNN`, `\\` mean what they mean in Python, and `{x*3}` is `xxx`. Lines of the
client that no reply stands between leave in one segment. A file whose name begins with `early_` is about what is sent
before it is asked for: it makes no sense octet by octet.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

DIRECTORY = Path(__file__).parent / "dialogs"

_REPEAT = re.compile(r"\{(.+?)\*(\d+)\}")
_BLOCK = re.compile(r"^repeat (\d+)\n(.*?)^end\n", re.DOTALL | re.MULTILINE)


@dataclass
class Turn:
    """What the client sends at once (or for how long nobody does anything), and what it hears then."""

    sends: bytes = b""
    waits: float = 0.0
    hears: list[str] = field(default_factory=list)
    closes: bool = False

    @property
    def waits_for_reply(self) -> bool:
        """Whether nothing may be sent behind it before the reply has come (RFC 2920, 3.1)."""
        last = self.sends.rstrip(b" \t\r\n").rpartition(b"\n")[2].upper()
        return last.startswith((b"EHLO", b"HELO")) or last == b"DATA"


@dataclass
class Mail:
    """What is to be taken. `content` is None where it is not looked at."""

    sender: str
    recipients: list[str]
    content: bytes | None = None


@dataclass
class Dialog:
    """One file."""

    name: str
    turns: list[Turn]
    mails: list[Mail]
    refusals: list[str]
    policy: dict[str, object]

    @property
    def is_early(self) -> bool:
        """Whether it is about what is sent before it is asked for."""
        return self.name.startswith("early_")

    @property
    def has_waits(self) -> bool:
        """Whether time must pass."""
        return any(turn.waits for turn in self.turns)

    def pipelined(self) -> list[Turn]:
        """The same turns with those joined between which a client need not wait."""
        joined: list[Turn] = []
        for turn in self.turns:
            last = joined[-1] if joined else None
            if last is None or not last.sends or not turn.sends or last.closes or last.waits_for_reply:
                joined.append(Turn(turn.sends, turn.waits, list(turn.hears), turn.closes))
            else:
                last.sends += turn.sends
                last.hears += turn.hears
                last.closes = turn.closes
        return joined


def octets(text: str) -> bytes:
    """What the client's side of a file means."""
    text = _REPEAT.sub(lambda match: match[1] * int(match[2]), text)
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")


def read(path: Path) -> Dialog:
    """The dialogue in a file."""
    dialog = Dialog(path.stem, [Turn()], [], [], {})
    text = _BLOCK.sub(lambda match: match[2] * int(match[1]), path.read_text("utf-8"))
    for line in text.split("\n"):
        word, _, rest = line.partition(" ")
        if word and not line.startswith("#"):
            try:
                _WORDS[word](dialog, rest)
            except (KeyError, ValueError, IndexError) as error:
                raise ValueError(f"{path}: {line!r} is not understood") from error
    return dialog


def _sends(dialog: Dialog, sends: bytes) -> None:
    turn = dialog.turns[-1]
    if turn.sends and not turn.hears:
        turn.sends += sends
    else:
        dialog.turns.append(Turn(sends))


def _closed(dialog: Dialog, _: str) -> None:
    dialog.turns[-1].closes = True


def _policy(dialog: Dialog, rest: str) -> None:
    for word in rest.split():
        name, _, value = word.partition("=")
        dialog.policy[name] = int(value) if value.isdigit() else value == "true" or value


def _mail(dialog: Dialog, rest: str) -> None:
    sender, arrow, recipients = rest.partition("-> ")
    if not arrow:
        raise ValueError(rest)
    dialog.mails.append(Mail(sender.strip(), recipients.split()))


def _content(dialog: Dialog, rest: str) -> None:
    mail = dialog.mails[-1]
    mail.content = (mail.content or b"") + octets(rest) + b"\r\n"


_WORDS: dict[str, Callable[[Dialog, str], None]] = {
    "C:": lambda dialog, rest: _sends(dialog, octets(rest) + b"\r\n"),
    "C>": lambda dialog, rest: _sends(dialog, octets(rest)),
    "S:": lambda dialog, rest: dialog.turns[-1].hears.append(rest),
    "closed": _closed,
    "wait": lambda dialog, rest: dialog.turns.append(Turn(waits=float(rest))),
    "policy:": _policy,
    "mail": _mail,
    "|": _content,
    "refused": lambda dialog, rest: dialog.refusals.append(rest),
}

DIALOGS = [read(path) for path in sorted(DIRECTORY.glob("*.smtp"))]
