"""Fields: the header of a mail as it passes (RFC 5322, 2.2): some fields are dropped, From: may be rewritten.

Content comes in any pieces, its lines ended by CRLF, and goes on octet for octet but for those fields. The header ends
at the first empty line, or before the first line that can be no part of it. No more is held back than the beginning of
one line, or a From: that may have to be rewritten.
"""

from __future__ import annotations

import re

from relay.smtp.submission import Rewriting

FROM_LIMIT = 16 * 1024
"""Octets of From: that are looked at in one mail. What is longer passes as it is: others are waiting."""

# A line whose colon does not come within what RFC 5322 (2.1.1) allows a line is no field.
_WINDOW = 998
_NAME = rb"([!-9;-~]{1,900})[ \t]{0,90}:"
_FIELD = re.compile(_NAME)
_FIELDS = re.compile(rb"\n" + _NAME)
_FIELD_ENDS = re.compile(rb"\n[^ \t]")


class Fields:
    """Edits one header; `drop` are names of fields in lower case. What `rewrite` replaces stays as X-Original-From:.

    done         whether the header has ended: what follows goes on without a look
    has_header   whether what went on begins with a field or an empty line
    received     how many Received: fields there were
    """

    __slots__ = (
        "_drop",
        "_from_left",
        "_held",
        "_is_from",
        "_keep",
        "_midline",
        "_rewrite",
        "_touched",
        "done",
        "has_date",
        "has_header",
        "has_message_id",
        "received",
    )

    def __init__(self, drop: frozenset[bytes], rewrite: Rewriting | None = None) -> None:
        self._drop = drop
        self._rewrite = rewrite
        self._touched = drop if rewrite is None else drop | {b"from"}
        self._held = b""
        self._keep: bool | None = None  # the last field; None before the first
        self._is_from = False  # whether a From: begins that may have to be rewritten
        self._from_left = FROM_LIMIT
        self._midline = False
        self.done = False
        self.has_header = False
        self.has_date = False
        self.has_message_id = False
        self.received = 0

    def edit(self, octets: bytes) -> bytes:
        """What of `octets` goes on now."""
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
            if self._is_from:
                self._is_from = False
                next_line = _FIELD_ENDS.search(octets, at, at + self._from_left + 1)
                if next_line is not None:
                    end = next_line.end() - 1
                    kept.append(self._rewritten(octets[at:end]))
                    at = end
                    continue
                if len(octets) - at <= self._from_left:
                    self._held = octets[at:]
                    break
            end = octets.find(b"\n", at) + 1
            self._midline = not end
            if self._keep:
                kept.append(octets[at : end or None])
            at = end or len(octets)
        return b"".join(kept)

    def end(self) -> bytes:
        """The content has ended, with a line's end: what goes on of what was held back."""
        held, self._held = self._held, b""
        return self._rewritten(held) if held else b""

    def _ordinary(self, octets: bytes) -> bool:
        """Whether a whole header of nothing but fields is there and all stay as they are; notes them if so."""
        end = octets.find(b"\r\n\r\n")
        if end < 0 or octets[:1] in (b" ", b"\t"):
            return False
        header = b"\n" + octets[: end + 2].lower()
        names = _FIELDS.findall(header)
        lines = header.count(b"\n") - header.count(b"\n ") - header.count(b"\n\t") - 1
        if len(names) != lines or not self._touched.isdisjoint(names):
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
            self._is_from = name == b"from" and self._rewrite is not None
        self.received += name == b"received"

    def _rewritten(self, field: bytes) -> bytes:
        """A whole From: as it goes on, and behind it what it was."""
        self._from_left -= len(field)
        new = self._rewrite(field) if self._rewrite is not None else None
        return field if new is None else new + b"X-Original-" + field
