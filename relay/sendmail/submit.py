"""Submit: a mail to all of its recipients, in as many transactions as it takes, or into the drop folder.

What cannot be sent now is left there; what cannot be left either is told. So the exit status never says that all is
well while somebody gets nothing, and nobody gets a mail twice because of somebody else.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.sendmail.settings import Settings
from relay.sendmail.smtp import Connection, Mail, NotNow, Refused

OK, USAGE, UNAVAILABLE, TEMPORARY, NO_PERMISSION = 0, 64, 69, 75, 77
"""Exit statuses (sysexits.h)."""


class Submission:
    """One mail on its way. `said` is what went wrong, each thing once.

    connection  to the daemon; None where there is none, and then `why` says why
    """

    def __init__(self, settings: Settings, mail: Mail, connection: Connection | None, why: str) -> None:
        self.said: list[str] = []
        self._settings = settings
        self._mail = mail
        self._connection = connection
        self._why = why
        self._taken = self._refused = self._lost = 0

    def run(self, recipients: Sequence[str]) -> int:
        """Bring it to all `recipients`; the exit status."""
        waiting = list(recipients)
        while waiting:
            some, rest = waiting[: self._settings.max_recipients], waiting[self._settings.max_recipients :]
            waiting = [*self._send(some), *rest]
        if self._taken < len(recipients) and self._taken:
            self.said.append(f"{self._taken} of {len(recipients)} recipients were taken, the others were not")
        return TEMPORARY if self._lost else UNAVAILABLE if self._refused else OK

    def _send(self, recipients: Sequence[str]) -> list[str]:
        """One transaction, or one file; the recipients who found no room in it."""
        if self._connection is None:
            self._leave(recipients)
            return []
        try:
            found = self._connection.send(self._mail, recipients)
        except NotNow as later:
            self._connection, self._why = None, str(later)
            self._leave(recipients)
            return []
        except Refused as refused:
            self._refuse(len(recipients), str(refused))
            return []
        self._taken += len(found.taken)
        for address, reply in found.refused:
            self._refuse(1, f"{shown(address)}: {reply}")
        if found.later:
            self._why = str(found.later[0][1])
            self._leave([address for address, _ in found.later])
        return found.too_many

    def _leave(self, recipients: Sequence[str]) -> None:
        from relay.sendmail.leave import fault, leave  # only where no daemon takes the mail

        wrong = fault(self._mail)
        if wrong:
            self._refuse(len(recipients), wrong)
            return
        good = [address for address in recipients if not self._is_wrong(address)]
        try:
            if good:
                leave(self._settings.drop, self._mail, good)
            self._taken += len(good)
        except OSError as error:
            self._lost += len(good)
            self._say(f"{self._why}, and nothing can be left in {self._settings.drop}: {error.strerror}")

    def _is_wrong(self, address: str) -> bool:
        from relay.sendmail.leave import fault_of_address

        wrong = fault_of_address(address)
        if wrong:
            self._refuse(1, wrong)
        return bool(wrong)

    def _refuse(self, recipients: int, why: str) -> None:
        self._refused += recipients
        self._say(why)

    def _say(self, text: str) -> None:
        if text not in self.said:
            self.said.append(text)


def shown(text: str) -> str:
    """`text` for a terminal of which nothing is known."""
    return "".join([c if " " <= c <= "~" else ascii(c)[1:-1] for c in text])
