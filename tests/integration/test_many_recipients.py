"""One mail to a thousand recipients, some refused, some deferred, some cut off in the middle: each comes to one end."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from tests.reckoning import reported
from tests.running import Running, configure, letter, soon
from tests.sink import VANISHES, Says, Sink

KINDS = ("taken", "taken", "nobody", "later")
CUTS = 5


class Choosy(Sink):
    """Refuses who is named so, defers others twice, and goes away in the middle of every seventh transaction."""

    def __init__(self) -> None:
        super().__init__("sink")
        self.asked: Counter[bytes] = Counter()
        self.cuts = 0

    def answer(self, step: str, argument: bytes = b"") -> Says:
        """See Sink."""
        usual = super().answer(step, argument)
        if step == "RCPT" and b"<nobody" in argument:
            return Says("550 5.1.1 No such user")
        if step == "RCPT" and b"<later" in argument:
            self.asked[argument] += 1
            return usual if self.asked[argument] > 2 else Says("450 4.2.1 Later")
        if step == "DATA" and self.reached["DATA"] % 7 == 3 and self.cuts < CUTS:
            self.cuts += 1
            return VANISHES
        return usual


def results(relay: Running, uuid: str) -> list[str]:
    """What its log calls the end of a mail."""
    lines = [json.loads(line) for line in relay.errors if '"event":"finished"' in line]
    return [line["result"] for line in lines if line["id"] == uuid]


def test_a_thousand_recipients(tmp_path: Path) -> None:
    """Each of those who exist gets it once, and the sender hears once of each of those who do not."""
    to = [f"{KINDS[number % 4]}-{number}@example.net" for number in range(1000)]
    with Choosy() as sink:
        configure(
            tmp_path,
            [sink.table()],
            {
                "delivery": {"batch_delay": "10ms", "probe": "200ms"},
                "retry": {"interval": "1s"},
                "bounce": {"per_hour": 1000},
            },
        )
        with Running(tmp_path) as relay, relay.client() as client:
            assert client.sendmail("a@example.com", to, letter("newsletter")) == {}
            uuid = relay.event("received")["id"]
            soon(lambda: relay.health()["queue"]["total"] == 0, "everybody has come to an end")
            soon(lambda: results(relay, uuid), "the log says so")
            ends = results(relay, uuid)

    mails = [mail for mail in sink.mails if mail.reply.startswith("2")]
    given = Counter(each.decode() for mail in mails if mail.sender for each in mail.recipients)
    told = Counter(each for mail in mails if not mail.sender for each in reported(mail))
    assert ends == ["bounced"]
    assert given == Counter(each for each in to if not each.startswith("nobody"))
    assert told == Counter(each for each in to if each.startswith("nobody"))
    assert sink.cuts == CUTS
