"""A process that uses a SQLite spool, and says on its standard output what it was promised, until it is killed.

    python -m tests.contract.spool_user DIRECTORY ROUNDS [wait]

With `wait` it goes on behind `opened` once its standard input has a line for it.

Lines: `submitted KEY`, `refused KEY`, `deferred KEY DUE` once that is so; `ending KEY REPORT` before the mail KEY is
settled with a report, `ended KEY REPORT` after, `kept KEY REPORT` if that failed; `closed` at the end.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults

from relay.envelope import Envelope, Recipient
from relay.spool.spool import LARGE, Settlement, SpoolFailing, Standing, State, Submission
from relay.spool.sqlite import SqliteSpool, open_spool
from tests.contract.pump import Pump

RECIPIENTS = (Recipient("b@example.net"), Recipient("c@example.net"))


def body_of(key: int) -> bytes:
    """What the mail `key` says: it can be told from the key, and every fifth is large."""
    line = b"%020d\r\n" % key
    return line * ((LARGE // len(line) + 1) if key % 5 == 0 else 1 + key % 400)


def say(*words: object) -> None:
    """A line that is out at once."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class User:
    """What is done with one spool."""

    def __init__(self, spool: SqliteSpool, pump: Pump) -> None:
        self.spool = spool
        self.pump = pump

    def mail(self) -> Submission:
        """A new one, its body written where it is large."""
        key, uuid = self.spool.next_id()
        body = body_of(key)
        envelope = Envelope(key, uuid, "a@example.com", RECIPIENTS, time.time(), len(body))
        if len(body) <= LARGE:
            return Submission(envelope, b"", body)
        writer = self.spool.new_body()
        writer.write(body[:1000])
        writer.write(body[1000:])
        submission = Submission(envelope, b"", writer)
        try:
            self.pump.wait(writer.finish(uuid))
        except SpoolFailing:
            say("refused", key)
            return self.mail()
        return submission

    def submit(self, submission: Submission) -> Deferred[bool]:
        """Whether it is durable now."""
        key = submission.envelope.key

        def refused(failure: object) -> bool:
            say("refused", key)
            if not isinstance(submission.body, bytes):
                submission.body.abandon()
            return False

        def submitted(_: None) -> bool:
            say("submitted", key)
            return True

        return self.spool.submit(submission).addCallbacks(submitted, refused)

    def round(self) -> None:
        """Some new mails at once; one of them is put off, and one ends with a report."""
        mails = [self.mail() for _ in range(6)]
        taken = self.pump.wait(gatherResults([self.submit(mail) for mail in mails]))
        durable = [mail for mail, was_taken in zip(mails, taken, strict=True) if was_taken]
        if len(durable) < 2:
            return
        first, last = durable[0].envelope, durable[-1].envelope
        due = time.time()
        standing = Standing(1, RECIPIENTS[1], State.DEFERRED, 1, due, "p", reply="450 Later")
        report = self.mail()
        while not isinstance(report.body, bytes):
            report.body.abandon()
            report = self.mail()
        say("ending", last.key, report.envelope.key)
        deferred = self.spool.settle(Settlement(first.key, first.uuid, [standing]))
        deferred.addCallbacks(lambda _: say("deferred", first.key, due), lambda _: None)
        ended = self.spool.settle(Settlement(last.key, last.uuid, (), (report,), finished=True))
        ended.addCallbacks(
            lambda _: say("ended", last.key, report.envelope.key), lambda _: say("kept", last.key, report.envelope.key)
        )
        self.pump.wait(gatherResults([deferred, ended]))


def main(directory: str, rounds: str, wait: str = "") -> None:
    """Use the spool for so many rounds."""
    pump, started = Pump(), time.time()
    # A clock that stands makes keys that follow one another, so that every two rounds have a large body.
    spool = open_spool(Path(directory), reactor=pump, now=lambda: started, random_bits=random.getrandbits, min_free=0)
    user = User(spool, pump)
    say("opened")
    if wait:
        sys.stdin.readline()
    for _ in range(int(rounds)):
        user.round()
    pump.wait(spool.close())
    say("closed")


if __name__ == "__main__":
    main(*sys.argv[1:])
