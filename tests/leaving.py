"""Leaving: mail put into a drop folder by a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relay.drop.form import Head, checksum, dump

CONTENT = b"From: a@example.com\r\nSubject: left\r\n\r\nHello.\r\n"


def octets(content: bytes = CONTENT, *to: str, sender: str = "a@example.com", **more: Any) -> bytes:
    """A whole file; `more` are other values of its first line."""
    head = Head(sender, to or ("b@example.net",), "", "", "", len(content), checksum(content))
    return dump(head._replace(**more)) + content


def leave(folder: Path, name: str = "1.mail", content: bytes = CONTENT, *to: str, **more: Any) -> Path:
    """A file in `folder`."""
    file = folder / name
    file.write_bytes(octets(content, *to, **more))
    return file
