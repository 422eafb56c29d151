"""Checksum: what a mail was when it was acknowledged, in 32 bits (CRC-32 as in ISO-HDLC, zlib's)."""

from __future__ import annotations

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
    text = (
        f"{body_size:d} {body_crc:d} {envelope.key:d} {float(envelope.received_at)!r} {envelope.size:d} "
        f"{envelope.eight_bit:d} {envelope.report:d} {envelope.uuid}\0{envelope.sender}\0{envelope.ret}\0"
        f"{envelope.envid}\0{envelope.client}"
    )
    for recipient in envelope.recipients:
        notify = notify_text(recipient)
        text += f"\0{recipient.address}\0{'-' if notify is None else notify}\0{recipient.orcpt}"
    return crc32(head, crc32(text.encode()))
