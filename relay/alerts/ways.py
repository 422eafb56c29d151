"""Ways: how people are told of alerts besides the log, as the configuration says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from relay.alerts.letter import Carrier, Letterhead, Letters
from relay.alerts.outbox import Outbox
from relay.alerts.webhook import Webhook
from relay.config.values import Config


def ways(
    config: Config,
    carriers: Callable[[], Iterable[Carrier]],
    reactor: Any,
    wall: Callable[[], float],
    random_bits: Callable[[int], int],
    warn: Callable[[str], None],
) -> list[Outbox]:
    """An outbox for each way there is; see Webhook and Letters for the arguments. Waits for a disk."""
    alerts, found = config.alerts, []
    if alerts.webhook:
        try:
            found.append(Outbox(Webhook(alerts.webhook, config.instance, reactor, reactor, warn).carry, warn))
        except ValueError as error:
            warn(str(error))
    if alerts.mail_to:
        letterhead = Letterhead(config.hostname, config.instance, alerts.mail_from, alerts.mail_to)
        found.append(Outbox(Letters(letterhead, carriers, reactor, wall, random_bits, warn).carry, warn))
    return found
