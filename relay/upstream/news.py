"""News: what pools tell about their providers, for the log."""

from __future__ import annotations

from typing import Protocol


class News(Protocol):
    """What a pool tells about its provider, for the log."""

    def provider_down(self, provider: str, error: str) -> None:
        """No mail goes there until a probe succeeds."""

    def provider_up(self, provider: str) -> None:
        """It takes mail again."""
