"""Fields: the header of a mail as it passes (RFC 5322, 2.2): some fields are dropped, some only noted.

Content comes in any pieces, its lines ended by CRLF, and goes on octet for octet but for the fields that are dropped.
The header ends at the first empty line, or before the first line that can be no part of it. No more is held back than
the beginning of one line.
"""

from __future__ import annotations

import re

# A line whose colon does not come within what RFC 5322 (2.1.1) allows a line is no field.
_WINDOW = 998
_NAME = rb"([!-9;-~]{1,900})[ \t]{0,90}:"
_FIELD = re.compile(_NAME)
_FIELDS = re.compile(rb"\n" + _NAME)


class Fields:
    """Edits one header; `drop` are names of fields in lower case.

    done         whether the header has ended: what follows goes on without a look
    has_header   whether what went on begins with a field or an empty line
    received     how many Received: fields there were
    """

    __slots__ = ("_drop", "_held", "_keep", "_midline", "done", "has_date", "has_header", "has_message_id", "received")

    def __init__(self, drop: frozenset[bytes]) -> None:
        self._drop = drop
        self._held = b""
        self._keep: bool | None = None  # the last field; None before the first
        self._midline = False
        self.done = False
        self.has_header = False
        self.has_date = False
        self.has_message_id = False
        self.received = 0

    def edit(self, octets: bytes) -> bytes:
        """What of `octets` goes on now. Content that ends with a line end leaves nothing behind."""
        if self.done or (self._keep is None and not self._held and self._ordinary(octets)):
            return octets
        octets = self._held + octets
        self._held = b""
        kept: list[bytes] = []
        at = 0
        while at < len(octets):
            if not (self._midline or self._judge(octets[at : at + _WINDOW])):
                self._held = octets[at:]
                break
            if self.done:
                kept.append(octets[at:])
                break
            end = octets.find(b"\n", at) + 1
            self._midline = not end
            if self._keep:
                kept.append(octets[at : end or None])
            at = end or len(octets)
        return b"".join(kept)

    def _ordinary(self, octets: bytes) -> bool:
        """Whether a whole header of nothing but fields is there and all are kept; notes them if so."""
        end = octets.find(b"\r\n\r\n")
        if end < 0 or octets[:1] in (b" ", b"\t"):
            return False
        header = b"\n" + octets[: end + 2].lower()
        names = _FIELDS.findall(header)
        lines = header.count(b"\n") - header.count(b"\n ") - header.count(b"\n\t") - 1
        if len(names) != lines or not self._drop.isdisjoint(names):
            return False
        self.done = self.has_header = True
        self.has_date = b"date" in names
        self.has_message_id = b"message-id" in names
        self.received = names.count(b"received")
        return True

    def _judge(self, line: bytes) -> bool:
        """Judge the line that begins so: a field, more of the one before, or the end. False: too little is there."""
        field = _FIELD.match(line)
        if field is not None:
            self._note(field[1].lower())
        elif line[:1] in (b" ", b"\t"):
            self.done = self._keep is None
        elif line[:2] == b"\r\n":
            self.done = self.has_header = True
        elif len(line) == _WINDOW or b"\n" in line:
            self.done = True
        else:
            return False
        return True

    def _note(self, name: bytes) -> None:
        """A field begins."""
        self._keep = name not in self._drop
        if self._keep:
            self.has_header = True
            self.has_date |= name == b"date"
            self.has_message_id |= name == b"message-id"
        self.received += name == b"received"
