"""Checksum: what a mail was when it was acknowledged, in 32 bits (CRC-32 as in ISO-HDLC, zlib's)."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from relay.envelope import Envelope, Recipient


def notify_text(recipient: Recipient) -> str | None:
    """RFC 3461's NOTIFY as one text in a fixed order, or None."""
    return None if recipient.notify is None else ",".join(sorted(recipient.notify))


def notify_set(text: str | None) -> frozenset[str] | None:
    """The reverse of notify_text."""
    return None if text is None else frozenset(text.split(",") if text else ())


def checksum(envelope: Envelope, head: bytes, body_size: int, body_crc: int) -> int:
    """The CRC-32 of all of a mail that never changes; the body enters by its size and its own CRC-32.

    Raises ValueError for text that is no UTF-8 and TypeError for a field that is not of its type.
    """
    numbers = (
        f"{envelope.key:d} {envelope.received_at:.6f} {envelope.size:d} {envelope.eight_bit:d} {envelope.report:d}"
    )
    fields = [numbers, envelope.uuid, envelope.sender, envelope.ret, envelope.envid, envelope.client]
    fields.extend(_recipients(envelope.recipients))
    body = f"{body_size:d} {body_crc:d}\0".encode()
    return crc32(head, crc32("\0".join(fields).encode(), crc32(body)))


def _recipients(recipients: Iterable[Recipient]) -> Iterable[str]:
    for recipient in recipients:
        yield recipient.address
        notify = notify_text(recipient)
        yield "-" if notify is None else notify
        yield recipient.orcpt
