"""Applications: programs that hand in mail at several places, and come again whatever happens to a connection."""

from __future__ import annotations

import random
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.daemon import PATIENCE
from tests.reckoning import Handed

_FATES = ("taken", "taken", "taken", "nobody")


@dataclass
class Applications:
    """Each is a thread that goes to one of `ports`, hands in some mails, and begins again; from `with` to its end.

    pause    seconds between two mails of each
    refused  connections that nobody greeted, by what happened instead
    said     replies other than good ones, by code, behind a greeting
    lost     connections that ended without a word, behind a greeting
    places   through which port each recipient that was acknowledged came, and when
    """

    ports: Sequence[int]
    many: int = 4
    seed: int = 1
    largest: int = 8192
    most: int = 20
    pause: float = 0.0
    handed: Handed = field(default_factory=Handed)
    refused: Counter[str] = field(default_factory=Counter)
    said: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    places: dict[str, tuple[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._apply, args=(f"app-{number}", random.Random(self.seed * 1000 + number)))
            for number in range(self.many)
        ]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Hand nothing more in."""
        self._over.set()
        for each in self._threads:
            each.join(PATIENCE)

    def _apply(self, name: str, choose: random.Random) -> None:
        number = 0
        while not self._over.is_set():
            port = choose.choice(self.ports)
            try:
                client = smtplib.SMTP("127.0.0.1", port, "app.example", timeout=PATIENCE)
            except (OSError, smtplib.SMTPException) as error:
                with self.handed.changed:
                    self.refused[_short(error)] += 1
                self._over.wait(0.05)
                continue
            try:
                for _ in range(choose.randrange(self.most) + 1):
                    number += 1
                    self._hand_in(client, port, f"{name}-{number}", choose)
                    if self._over.wait(self.pause):
                        break
                client.quit()
            except smtplib.SMTPResponseException as error:
                self._heard(error.smtp_code)
            except smtplib.SMTPRecipientsRefused as error:
                self._heard(next(iter(error.recipients.values()))[0])
            except (OSError, smtplib.SMTPException):
                with self.handed.changed:
                    self.lost += 1
            finally:
                client.close()

    def _heard(self, code: int) -> None:
        with self.handed.changed:
            self.said[code] += 1
        self._over.wait(0.05)

    def _hand_in(self, client: smtplib.SMTP, port: int, name: str, choose: random.Random) -> None:
        fates = choose.choices(_FATES, k=choose.randrange(1, 4))
        self.handed.hand_in(client, name, fates, choose.randrange(self.largest))
        now = time.monotonic()
        with self.handed.changed:
            for place, fate in enumerate(fates):
                self.places[f"{fate}-{place}-{name}@example.net"] = (port, now)


def _short(error: Exception) -> str:
    """What kind of refusal it is."""
    return f"{type(error).__name__} {getattr(error, 'smtp_code', getattr(error, 'errno', ''))}"
