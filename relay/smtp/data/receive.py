r"""Receive: a mail's content as it arrives, by DATA (RFC 5321, 4.1.1.4 and 4.5.2) or by BDAT (RFC 3030).

`Dots` and `Chunks` find in the octets of a connection what belongs to a mail, `Content` checks and edits it. What
comes out depends on the octets alone, never on how they were cut into pieces, and no more is held back than the few
octets that can be judged only with their successors. Nothing here works line by line.

Failure: content that is refused is read to its end all the same. `Content.end` says why, and which of several reasons
is said depends on the content, not on which of them was seen first.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import IncrementalNewlineDecoder

from relay.reply import Reply
from relay.smtp.data.fields import Fields
from relay.smtp.submission import Findings, Refused, Rewriting

LINE_LIMIT = 1024 * 1024
"""Octets of a line of content without its end. RFC 5321 (4.5.3.1.6) promises 998; programs write longer ones."""
RECEIVED_LIMIT = 100
"""Received: fields of a mail that is not yet thought to go in circles (RFC 5321, 6.3)."""

TOO_LARGE = Reply(552, "5.3.4", ("the message is larger than is taken here",))
NUL = Reply(550, "5.6.0", ("the message holds a NUL octet",))
BARE = Reply(550, "5.6.0", ("a line of the message ends in CR or LF alone: lines end in CRLF",))
LONG_LINE = Reply(554, "5.6.0", (f"a line of the message is longer than {LINE_LIMIT} octets",))
LOOP = Reply(554, "5.4.6", (f"more than {RECEIVED_LIMIT} Received: fields: this mail goes in circles",))

_CRLF = b"\r\n"
_ENDS = "\r\n"
_END = b"\r\n.\r\n"
_DOT = b"\r\n."
_UNDECIDED = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r", b"")


@dataclass(frozen=True, slots=True)
class Rules:
    """What content is held to: its largest size in octets, and names of fields, in lower case, that are dropped."""

    max_size: int
    reject_bare_newlines: bool = False
    drop: frozenset[bytes] = frozenset()


class Dots:
    r"""What follows a 354: content, dots before its dots, and a line of one dot for its end.

    Only CRLF "." CRLF ends it, and only behind a CRLF as it was sent is a dot taken away. What `feed` gives ends
    neither with a CR whose LF is still to come nor in the middle of anything else that cannot be judged yet.
    """

    __slots__ = ("_begun", "_held")

    def __init__(self) -> None:
        self._held = _CRLF  # that of the DATA command, which is no content
        self._begun = False

    def feed(self, octets: bytes) -> tuple[bytes, bytes | None]:
        r"""The content in `octets`, and what follows its end; None where the end is not there.

        >>> Dots().feed(b"..x\r\n.\r\nQUIT\r\n")
        (b'.x\r\n', b'QUIT\r\n')
        """
        if self._held:
            octets = self._held + octets
        dot = octets.find(_DOT)
        if dot >= 0 and octets.startswith(_END, dot):
            return self._first(octets[: dot + 2]), octets[dot + len(_END) :]
        end = octets.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            return self._first(octets[: end + 2].replace(_DOT, _CRLF)), octets[end + len(_END) :]
        self._held = next(undecided for undecided in _UNDECIDED if octets.endswith(undecided))
        content = octets[: len(octets) - len(self._held)]
        return self._first(content if dot < 0 else content.replace(_DOT, _CRLF)), None

    def _first(self, content: bytes) -> bytes:
        """`content`, but for the CRLF that goes before all of it."""
        if self._begun or not content:
            return content
        self._begun = True
        return content[2:]


class Chunks:
    """The content of BDAT's chunks: as it is, but that a CR at the end of a piece waits for its LF."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, octets: bytes) -> bytes:
        """The content in `octets` that can be judged."""
        octets = self._held + octets
        self._held = b"\r" if octets.endswith(b"\r") else b""
        return octets[:-1] if self._held else octets

    def end(self) -> bytes:
        """What was left at the end of the last chunk."""
        return self._held


def _ends_in_crlf(octets: bytes) -> bool:
    r"""Whether each line that ends does so in CRLF: no CR or LF stands alone. What tells in one pass is the decoder.

    >>> _ends_in_crlf(b"a\r\nb"), _ends_in_crlf(b"a\r\nb\n"), _ends_in_crlf(b"a\rb\r\n")
    (True, False, False)
    """
    lines = IncrementalNewlineDecoder(None, translate=False)
    lines.decode(octets.decode("latin-1"), final=True)
    return lines.newlines in (_ENDS, None)


class Content:
    """One mail's content: its lines ended by CRLF whatever ended them, its header edited, its faults noted."""

    __slots__ = ("_bare", "_eight_bit", "_fields", "_line", "_long_line", "_nul", "_rules", "_size")

    def __init__(self, rules: Rules, rewrite: Rewriting | None = None) -> None:
        self._rules = rules
        self._fields = Fields(rules.drop, rewrite)
        self._size = 0
        self._line = 0  # octets of the line that has not ended
        self._nul = False
        self._bare = False
        self._long_line = False
        self._eight_bit = False

    def grow(self, octets: int) -> bool:
        """So many octets came, unstuffed, or are announced. Whether the size is still within the limit."""
        self._size += octets
        return self._size <= self._rules.max_size

    @property
    def refused(self) -> bool:
        """Whether it is clear by now that this content is not taken: nothing of it goes on any more."""
        return (
            self._size > self._rules.max_size
            or self._nul
            or self._bare
            or self._long_line
            or self._fields.received > RECEIVED_LIMIT
        )

    def edit(self, octets: bytes) -> bytes:
        """What goes on of `octets`, which `grow` knows of. Their last one is no CR whose LF may be still to come."""
        if self._size > self._rules.max_size:
            return b""
        if b"\0" in octets or not _ends_in_crlf(octets):
            octets = self._mend(octets)
        if self._line + len(octets) > LINE_LIMIT:
            self._measure(octets)
        last = octets.rfind(b"\n")
        self._line = len(octets) - 1 - last if last >= 0 else self._line + len(octets)
        if not self._fields.done:
            octets = self._fields.edit(octets)
        self._eight_bit = self._eight_bit or not octets.isascii()
        return b"" if self.refused else octets

    def end(self) -> bytes:
        """The content is over: what goes on behind all before. Raises Refused."""
        rest = self.edit(_CRLF) if self._line else b""  # only BDAT can end in the middle of a line
        if self._size > self._rules.max_size:
            raise Refused(TOO_LARGE, "size")
        if self._nul:
            raise Refused(NUL, "content")
        if self._bare:
            raise Refused(BARE, "content")
        if self._long_line:
            raise Refused(LONG_LINE, "content")
        if self._fields.received > RECEIVED_LIMIT:
            raise Refused(LOOP, "loop")
        last = self._fields.end()
        self._eight_bit = self._eight_bit or not last.isascii()
        return rest + last

    @property
    def findings(self) -> Findings:
        """What the head on top must know, once the content is over."""
        fields = self._fields
        return Findings(fields.has_header, fields.has_date, fields.has_message_id, self._eight_bit)

    def _mend(self, octets: bytes) -> bytes:
        """`octets` with every lone CR or LF made a CRLF; notes those and NULs."""
        self._nul = self._nul or b"\0" in octets
        mended = octets.replace(_CRLF, b"\n").replace(b"\r", b"\n").replace(b"\n", _CRLF)
        if self._rules.reject_bare_newlines and mended != octets:
            self._bare = True
        return mended

    def _measure(self, octets: bytes) -> None:
        """Look for a line that is too long, in strides from the last line end within one's reach to the next."""
        start = -self._line
        while len(octets) - start > LINE_LIMIT:
            end = octets.rfind(b"\n", max(start, 0), start + LINE_LIMIT + 2)
            if end < 0:
                self._long_line = True
                return
            start = end + 1
