"""What every backend of the spool keeps: inherit from SpoolContract and give it a `bench`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, gatherResults

from relay.envelope import Envelope, Recipient, key_of
from relay.spool.spool import (
    LARGE,
    LEFT_UNDER_WAY,
    UNDER_WAY,
    BodyWriter,
    Held,
    Mail,
    Settlement,
    Spool,
    SpoolFailing,
    Standing,
    State,
    Submission,
    Tally,
)
from tests.contract.pump import Pump


@dataclass
class Bench:
    """A place for one spool, which is opened, closed and opened again.

    start  opens the spool that lies there, given a clock and an empty place's number
    """

    start: Callable[[Pump, Callable[[], float], int], Spool]
    pump: Pump = field(default_factory=Pump)
    time: float = 1_700_000_000.0
    place: int = 0
    in_use: Spool | None = None

    @property
    def spool(self) -> Spool:
        """The one that is in use."""
        assert self.in_use is not None
        return self.in_use

    def open(self) -> Spool:
        """The spool, as it lies there."""
        self.close()
        self.in_use = self.start(self.pump, lambda: self.time, self.place)
        return self.in_use

    def close(self) -> None:
        """End its use, if it is in use."""
        spool, self.in_use = self.in_use, None
        if spool is not None:
            self.pump.wait(spool.close())

    def elsewhere(self) -> Spool:
        """An empty spool in another place."""
        self.close()
        self.place += 1
        return self.open()

    def mail(
        self, *people: str, body: bytes | BodyWriter = b"Hello.\r\n", sender: str = "a@example.com", **more: Any
    ) -> Submission:
        """A new mail to `people`."""
        key, uuid = self.spool.next_id()
        recipients = tuple([Recipient(address) for address in people or ("b@example.net",)])
        size = len(body) if isinstance(body, bytes) else body.size
        return Submission(
            Envelope(key, uuid, sender, recipients, self.time, size + 16, **more), b"Received: us\r\n\r\n", body
        )

    def submit(self, *people: str, **more: Any) -> Submission:
        """A new mail to `people` that is durable."""
        submission = self.mail(*people, **more)
        self.pump.wait(self.spool.submit(submission))
        return submission

    def large(self, octets: int, pieces: int = 16) -> tuple[BodyWriter, bytes]:
        """A large body as it comes in, not finished yet, and what it holds."""
        body = os.urandom(octets)
        writer = self.spool.new_body()
        step = octets // pieces + 1
        for start in range(0, octets, step):
            pause = writer.write(body[start : start + step])
            if pause is not None:
                self.pump.wait(pause)
        return writer, body

    def submit_large(self, octets: int = LARGE + 1) -> tuple[Submission, bytes]:
        """A durable mail with a large body, and that body."""
        writer, body = self.large(octets)
        submission = self.mail(body=writer)
        self.pump.wait(writer.finish(submission.envelope.uuid))
        self.pump.wait(self.spool.submit(submission))
        return submission, body

    def settle(self, submission: Submission, *standings: Standing, reports: Sequence[Submission] = ()) -> None:
        """Write down `standings`; none: the mail has ended."""
        envelope = submission.envelope
        self.pump.wait(
            self.spool.settle(Settlement(envelope.key, envelope.uuid, standings, reports, finished=not standings))
        )

    def defer(self, submission: Submission, due: float, number: int = 0) -> None:
        """Put one recipient off until `due`."""
        recipient = submission.envelope.recipients[number]
        self.settle(submission, Standing(number, recipient, State.DEFERRED, 1, due, "p", reply="450 4.2.1 Later"))

    def ready(self, after: int = 0, limit: int = 100) -> list[Mail]:
        """See Spool.ready_after."""
        return self.pump.wait(self.spool.ready_after(after, limit))

    def due(self, now: float, limit: int = 100) -> list[Mail]:
        """See Spool.due."""
        return self.pump.wait(self.spool.due(now, limit))

    def page(self, after: int = 0, limit: int = 100) -> list[Mail]:
        """See Spool.page."""
        return self.pump.wait(self.spool.page(after, limit))

    def find(self, submission: Submission) -> Mail | None:
        """See Spool.find."""
        return self.pump.wait(self.spool.find(submission.envelope.uuid))

    def body(self, mail: Mail) -> bytes:
        """The whole body of a mail, whatever it stands in."""
        body = self.pump.wait(self.spool.body(mail))
        if isinstance(body, bytes):
            return body
        octets = b""
        while piece := self.pump.wait(body.read(50_000)):
            octets += piece
        assert len(octets) == body.size
        body.close()
        body.close()
        return octets


def keys(mails: Sequence[Mail | Submission]) -> list[int]:
    """Their keys."""
    return [mail.envelope.key for mail in mails]


def of(mail: Mail | None) -> Mail:
    """A mail that is there."""
    assert mail is not None
    return mail


STEPS = ("submit", "large", "move", "end", "restart")


class SpoolContract:
    """One test for each thing that `relay.spool.spool` promises."""

    def test_a_mail_is_there_after_a_restart(self, bench: Bench) -> None:
        """What was acknowledged comes back with every octet and every field."""
        bench.open()
        key, uuid = bench.spool.next_id()
        people = (
            Recipient("b@example.net"),
            Recipient("ü@example.net", frozenset({"FAILURE", "DELAY"}), "rfc822;b+2Bc@example.net"),
            Recipient('"a b"@[127.0.0.1]', frozenset({"NEVER"})),
        )
        envelope = Envelope(
            key, uuid, "", people, bench.time + 0.123456, 300, True, "HDRS", "QQ+2B314", "127.0.0.1", True
        )
        body = bytes(range(256))
        bench.pump.wait(bench.spool.submit(Submission(envelope, b"Received: \xff\r\n", body)))

        bench.open()

        (mail,) = bench.ready()
        standings = tuple([Standing(number, recipient) for number, recipient in enumerate(people)])
        assert mail == Mail(envelope, b"Received: \xff\r\n", body, standings)

    def test_ids_grow(self, bench: Bench) -> None:
        """Each key is above all before, with a clock that stands still and after a restart; a uuid carries its key."""
        bench.open()
        ids = [bench.spool.next_id() for _ in range(3)]
        submission = bench.submit()
        bench.time -= 3600
        bench.open()
        ids += [(submission.envelope.key, submission.envelope.uuid), bench.spool.next_id()]

        assert [key for key, _ in ids] == sorted({key for key, _ in ids})
        assert [key_of(uuid) for _, uuid in ids] == [key for key, _ in ids]

    def test_many_at_once(self, bench: Bench) -> None:
        """Those submitted in one order become durable in that order, and all of them do."""
        bench.open()
        submissions = [bench.mail(body=b"%d\r\n" % number) for number in range(700)]
        order: list[int] = []

        def durable(_: None, key: int) -> None:
            order.append(key)

        asked = [
            bench.spool.submit(submission).addCallback(durable, submission.envelope.key) for submission in submissions
        ]
        bench.pump.wait(gatherResults(asked))

        assert order == keys(submissions)
        assert [mail.body for mail in bench.ready(limit=1000)] == [submission.body for submission in submissions]

    def test_ready_mail_is_found_by_key(self, bench: Bench) -> None:
        """Above the cursor, in order, no more than the limit."""
        bench.open()
        submissions = [bench.submit() for _ in range(5)]
        bench.defer(submissions[3], bench.time)

        assert keys(bench.ready(limit=2)) == keys(submissions[:2])
        assert keys(bench.ready(after=submissions[1].envelope.key)) == keys([submissions[2], submissions[4]])
        assert bench.ready(after=submissions[4].envelope.key) == []
        assert bench.ready(limit=0) == []

    def test_a_recipient_of_its_own(self, bench: Bench) -> None:
        """Each recipient moves alone, and all that is said of it stands there after a restart."""
        bench.open()
        submission = bench.submit("b@example.net", "c@example.net", "d@example.net")
        one, two, three = submission.envelope.recipients
        changed = (
            Standing(1, two, State.DEFERRED, 3, bench.time + 0.5, "primary", True, 2, True, "450 4.2.0 Später"),
            Standing(2, three, State.DELIVERED, 1, 0.0, "primary", reply="250 2.0.0 Ok"),
        )
        bench.settle(submission, *changed)
        bench.open()

        expected = (Standing(0, one), *changed)
        assert of(bench.find(submission)).standings == expected
        assert [mail.standings for mail in bench.ready()] == [expected]
        assert [mail.standings for mail in bench.due(bench.time + 1)] == [expected]

    def test_deferred_mail_is_found_when_it_is_due(self, bench: Bench) -> None:
        """Not before; the longest due first; a mail counts once, however many of its recipients are due."""
        bench.open()
        first, second, third = (bench.submit("b@example.net", "c@example.net") for _ in range(3))
        for number in (0, 1):
            bench.defer(first, bench.time + 20, number)
            bench.defer(second, bench.time + 10 + number, number)
        bench.defer(third, bench.time + 30)

        assert bench.due(bench.time + 9.9) == []
        assert keys(bench.due(bench.time + 10)) == keys([second])
        assert keys(bench.due(bench.time + 40)) == keys([second, first, third])
        assert keys(bench.due(bench.time + 40, limit=2)) == keys([second, first])
        assert bench.due(bench.time + 40, limit=0) == []
        assert [mail.body for mail in bench.due(bench.time + 40)] == [b"Hello.\r\n"] * 3
        assert bench.pump.wait(bench.spool.next_due(0.0)) == bench.time + 10
        assert bench.pump.wait(bench.spool.next_due(bench.time + 20)) == bench.time + 30
        assert bench.pump.wait(bench.spool.next_due(bench.time + 30)) is None

    def test_held_mail_waits_for_a_person(self, bench: Bench) -> None:
        """It is shown, not handed out; released, it is found by a cursor that begins below it."""
        bench.open()
        submission = bench.submit()
        bench.submit()
        (recipient,) = submission.envelope.recipients
        bench.settle(submission, Standing(0, recipient, State.HELD, 3, reply="poison"))

        assert submission.envelope.key not in keys(bench.ready() + bench.due(bench.time * 2))
        assert of(bench.find(submission)).standings[0].reply == "poison"

        bench.settle(submission, Standing(0, recipient, State.READY, 3))

        assert submission.envelope.key in keys(bench.ready())

    def test_why_mail_is_held(self, bench: Bench) -> None:
        """Each mail counts once for each reason, whatever its other recipients do, and no more once it is released."""
        bench.open()
        submission = bench.submit("one@example.net", "two@example.net", "three@example.net")
        other = bench.submit()
        one, two, three = submission.envelope.recipients
        bench.settle(
            submission,
            Standing(0, one, State.HELD, 3, reply="uncertain: 250 is late"),
            Standing(1, two, State.HELD, 3, reply="uncertain: the connection was lost"),
            Standing(2, three, State.DEFERRED, 1, bench.time + 10, reply="uncertain: not held"),
        )
        bench.settle(other, Standing(0, other.envelope.recipients[0], State.HELD, 3, reply="quarantine: its body"))

        assert bench.pump.wait(bench.spool.held()) == Held(quarantine=1, uncertain=1)

        bench.close()
        bench.open()

        assert bench.pump.wait(bench.spool.held()) == Held(quarantine=1, uncertain=1)

        bench.settle(other)
        bench.settle(submission, Standing(0, one, State.READY, 3, reply="uncertain: 250 is late"))

        assert bench.pump.wait(bench.spool.held()) == Held(quarantine=0, uncertain=1)

        bench.settle(submission, Standing(1, two, State.HELD, 3, reply="by command"))

        assert bench.pump.wait(bench.spool.held()) == Held()

    def test_a_final_dot_was_under_way_at_a_crash(self, bench: Bench) -> None:
        """Till then the mail is held for no reason that counts; from the next start on for being uncertain."""
        bench.open()
        submission = bench.submit()
        bench.settle(submission, Standing(0, submission.envelope.recipients[0], State.HELD, reply=UNDER_WAY))

        assert bench.pump.wait(bench.spool.held()) == Held()

        bench.close()
        bench.open()

        assert bench.pump.wait(bench.spool.held()) == Held(uncertain=1)
        assert of(bench.find(submission)).standings[0].reply == LEFT_UNDER_WAY

    def test_a_mail_ends(self, bench: Bench) -> None:
        """With `finished` it is gone from everywhere, also when it is said for the second time."""
        bench.open()
        submission, other = bench.submit("b@example.net", "c@example.net"), bench.submit()
        bench.defer(submission, bench.time)
        bench.settle(submission)
        bench.settle(submission)
        bench.open()

        assert keys(bench.page()) == keys(bench.ready()) == keys([other])
        assert bench.due(bench.time + 1) == []
        assert bench.find(submission) is None

    def test_a_report_stands_in_the_same_commit(self, bench: Bench) -> None:
        """When the mail has ended its report is there; a report that cannot be written leaves the mail as it was."""
        bench.open()
        submission = bench.submit()
        report = bench.mail("a@example.com", sender="", report=True)
        twice = Settlement(submission.envelope.key, submission.envelope.uuid, (), (report, report), finished=True)

        with pytest.raises(SpoolFailing):
            bench.pump.wait(bench.spool.settle(twice))
        assert keys(bench.page()) == keys([submission])

        bench.settle(submission, reports=[report])
        assert [mail.envelope for mail in bench.page()] == [report.envelope]

    def test_one_that_cannot_be_written_fails_alone(self, bench: Bench) -> None:
        """A write that is wrong in itself takes none of its group with it."""
        bench.open()
        good, other = bench.mail(), bench.mail()
        outcomes: list[bool] = []
        for submission in (good, good, other):
            asked: Deferred[None] = bench.spool.submit(submission)
            asked.addCallbacks(
                lambda _: outcomes.append(True), lambda failure: outcomes.append(not failure.check(SpoolFailing))
            )
        bench.pump.until(lambda: len(outcomes) == 3)

        assert sorted(outcomes) == [False, True, True]
        assert keys(bench.page()) == keys([good, other])

    def test_the_last_word_counts(self, bench: Bench) -> None:
        """Of two settlements for one recipient that are asked for at once the second stands."""
        bench.open()
        submission = bench.submit()
        (recipient,) = submission.envelope.recipients
        envelope = submission.envelope
        bench.pump.wait(
            gatherResults(
                [
                    bench.spool.settle(
                        Settlement(envelope.key, envelope.uuid, [Standing(0, recipient, State.HELD, reply=reply)])
                    )
                    for reply in ("first", "second")
                ]
            )
        )

        assert of(bench.find(submission)).standings[0].reply == "second"

    def test_small_bodies(self, bench: Bench) -> None:
        """Whole with what is to be delivered, not with what is only shown; asked for alone they come too."""
        bench.open()
        for body in (b"", b"\x00\xff" * 500, b"x" * LARGE):
            submission = bench.submit(body=body)
            mail = of(bench.find(submission))

            assert mail.body is None
            assert bench.body(mail) == body
            assert bench.ready(after=submission.envelope.key - 1)[0].body == body
        assert [mail.body for mail in bench.page()] == [None] * 3

    def test_many_bodies_stay_within_bounds(self, bench: Bench) -> None:
        """An answer holds some megabytes of bodies at most; those left out are read alone."""
        bench.open()
        submissions = [bench.submit(body=bytes([number]) * LARGE) for number in range(40)]
        mails = bench.ready()

        assert keys(mails) == keys(submissions)
        assert sum(len(mail.body or b"") for mail in mails) <= 8 * 1024 * 1024
        assert bench.body(mails[-1]) == submissions[-1].body

    def test_large_bodies(self, bench: Bench) -> None:
        """They come in and go out in pieces, and are there after a restart."""
        bench.open()
        submission, body = bench.submit_large(3 * 1024 * 1024)
        bench.open()
        (mail,) = bench.ready()

        assert mail.envelope == submission.envelope
        assert mail.body is None
        assert bench.body(mail) == body

        bench.settle(submission)
        assert bench.page() == []

    def test_a_writer_asks_for_a_pause(self, bench: Bench) -> None:
        """What comes faster than the disk takes it is not kept in memory without bound."""
        bench.open()
        writer = bench.spool.new_body()
        pauses = [writer.write(b"x" * 300_000) for _ in range(20)]
        assert any(pause is not None for pause in pauses)
        for pause in pauses:
            if pause is not None:
                bench.pump.wait(pause)
        submission = bench.mail(body=writer)
        bench.pump.wait(writer.finish(submission.envelope.uuid))
        bench.pump.wait(bench.spool.submit(submission))

        assert bench.body(of(bench.find(submission))) == b"x" * 6_000_000

    def test_bodies_that_are_given_up(self, bench: Bench) -> None:
        """At any time, more than once: a mail that was not submitted is not there."""
        bench.open()
        early, _ = bench.large(LARGE + 1)
        early.abandon()
        early.abandon()
        never = bench.spool.new_body()
        never.abandon()
        late, _ = bench.large(LARGE + 1)
        bench.pump.wait(late.finish(bench.spool.next_id()[1]))
        late.abandon()
        submission, body = bench.submit_large()

        assert keys(bench.page()) == keys([submission])
        assert bench.body(of(bench.find(submission))) == body

    def test_an_origin_is_known_until_it_is_forgotten(self, bench: Bench) -> None:
        """It is durable with its mail, outlives that, and is found by how it begins."""
        bench.open()
        submission = replace(bench.mail(), origin="drop/a 17 ü")
        other = replace(bench.mail(), origin="drop/b 17")
        bench.pump.wait(gatherResults([bench.spool.submit(submission), bench.spool.submit(other)]))
        bench.settle(submission)

        spool = bench.open()

        assert bench.pump.wait(spool.origins("drop/a")) == ["drop/a 17 ü"]
        found = bench.pump.wait(spool.origins("drop/"))
        assert sorted(found) == ["drop/a 17 ü", "drop/b 17"]
        bench.pump.wait(spool.forget(["drop/a 17 ü", "drop/never"]))
        assert bench.pump.wait(bench.open().origins("drop/")) == ["drop/b 17"]

    def test_finding_by_id(self, bench: Bench) -> None:
        """None for what is no id of ours, for another's, and for one that was never given."""
        bench.open()
        submission = bench.submit()
        uuid = submission.envelope.uuid
        last = "1" if uuid[-1] != "1" else "2"

        assert of(bench.pump.wait(bench.spool.find(uuid.upper()))).envelope == submission.envelope
        for other in ("", "x", uuid[:-1] + last, "ffffffff-ffff-7fff-bfff-ffffffffffff", bench.spool.next_id()[1]):
            assert bench.pump.wait(bench.spool.find(other)) is None

    def test_paging(self, bench: Bench) -> None:
        """Every mail in whatever state, once, by key."""
        bench.open()
        submissions = [bench.submit() for _ in range(5)]
        (recipient,) = submissions[0].envelope.recipients
        bench.settle(submissions[0], Standing(0, recipient, State.HELD))
        bench.defer(submissions[1], bench.time)
        seen: list[int] = []
        while mails := bench.page(after=seen[-1] if seen else 0, limit=2):
            assert len(mails) <= 2
            seen += keys(mails)

        assert seen == keys(submissions)

    def test_the_start_counts(self, bench: Bench) -> None:
        """Each mail once: READY before DEFERRED before HELD."""
        bench.open()
        assert bench.spool.tally == Tally()
        people = ("b@example.net", "c@example.net", "d@example.net")
        submissions = [bench.submit(*people) for _ in range(6)]
        states = ["012", "112", "123", "234", "203", "112"]
        for submission, each in zip(submissions, states, strict=True):
            standings = [
                Standing(number, recipient, State(int(each[number])), due=bench.time if each[number] == "1" else 0.0)
                for number, recipient in enumerate(submission.envelope.recipients)
            ]
            bench.settle(submission, *standings)
        bench.open()

        assert bench.spool.tally == Tally(ready=2, deferred=3, held=1)

    def test_the_oldest_mail(self, bench: Bench) -> None:
        """When the first of those that are READY or DEFERRED was received: over all that can happen to it."""
        bench.open()
        assert bench.spool.oldest is None
        submissions = []
        times = []
        for _ in range(4):
            bench.time += 60
            times.append(bench.time)
            submissions.append(bench.submit())
        assert bench.spool.oldest == times[0]

        bench.settle(submissions[0])
        assert bench.spool.oldest == times[1]
        bench.settle(submissions[2])
        assert bench.spool.oldest == times[1]
        (recipient,) = submissions[1].envelope.recipients
        bench.settle(submissions[1], Standing(0, recipient, State.HELD))
        assert bench.spool.oldest == times[3]
        bench.defer(submissions[3], bench.time)
        assert bench.spool.oldest == times[3]
        bench.settle(submissions[1], Standing(0, recipient))
        assert bench.spool.oldest == times[1]
        bench.open()
        assert bench.spool.oldest == times[1]
        bench.settle(submissions[1])
        bench.settle(submissions[3])
        assert bench.spool.oldest is None

    def test_the_oldest_mail_is_no_report_that_was_put_off(self, bench: Bench) -> None:
        """Nobody waits for it before it is due. Once it has been tried it counts as any other."""
        bench.open()
        report = replace(bench.mail(sender="", report=True), due=bench.time + 3600.0)
        bench.pump.wait(bench.spool.submit(report))
        assert bench.spool.oldest is None
        bench.time += 60
        mail = bench.submit()
        assert bench.spool.oldest == bench.time
        bench.open()
        assert bench.spool.oldest == bench.time
        bench.settle(mail)
        assert bench.spool.oldest is None
        bench.defer(report, bench.time)
        assert bench.spool.oldest == report.envelope.received_at

    def test_a_thousand_recipients(self, bench: Bench) -> None:
        """They are one mail."""
        bench.open()
        submission = bench.submit(*[f"r{number}@example.net" for number in range(1000)])
        recipients = submission.envelope.recipients
        bench.settle(
            submission,
            *[Standing(number, recipients[number], State.DEFERRED, 1, bench.time) for number in range(0, 1000, 2)],
        )

        assert keys(bench.ready()) == keys(bench.due(bench.time)) == keys([submission])
        assert [standing.state for standing in of(bench.find(submission)).standings] == [1, 0] * 500
        bench.settle(submission)
        assert bench.page() == []

    def test_text_that_is_no_text(self, bench: Bench) -> None:
        """What cannot be written fails at its own cost: nothing is there then, and the next one is taken."""
        bench.open()
        with pytest.raises(SpoolFailing):
            bench.submit(sender="\ud800@example.com")
        with pytest.raises(SpoolFailing):
            bench.settle(bench.mail(), reports=[bench.mail("\ud800@example.com")])
        submission = bench.submit()
        bench.settle(submission, Standing(0, submission.envelope.recipients[0], State.HELD, reply="\ud800"))

        assert [mail.standings[0].reply for mail in bench.page()] == ["?"]

    def test_health(self, bench: Bench) -> None:
        """What the disk has and whether it takes anything, from the start."""
        health = bench.open().health

        assert health.writable
        assert 0 < health.free_bytes <= health.total_bytes
        assert 0 <= health.free_inodes <= health.all_inodes
        assert health.checked_at == bench.time

    def test_the_end(self, bench: Bench) -> None:
        """What was asked for before is done; what is asked for after fails."""
        spool = bench.open()
        submissions = [bench.mail() for _ in range(300)]
        asked = gatherResults([spool.submit(submission) for submission in submissions])
        closed = spool.close()
        refused = spool.submit(submissions[0])
        bench.pump.wait(asked)
        bench.pump.wait(closed)
        bench.in_use = None
        with pytest.raises(SpoolFailing):
            bench.pump.wait(refused)
        with pytest.raises(SpoolFailing):
            bench.pump.wait(spool.page(0, 1))

        bench.open()
        assert keys(bench.ready(limit=1000)) == keys(submissions)

    def test_any_story(self, bench: Bench) -> None:
        """Whatever happens in whatever order, every question is answered as by a list that is kept beside."""

        # Made anew each time: pytest-twisted wraps what hypothesis runs, and could not do that twice.
        @settings(max_examples=25, deadline=None)
        @given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9))))
        def told(steps: list[tuple[str, int]]) -> None:
            _tell(bench, steps)

        told()


def _tell(bench: Bench, steps: list[tuple[str, int]]) -> None:
    bench.elsewhere()
    told: dict[int, tuple[Submission, list[Standing]]] = {}
    for step, number in steps:
        mine = list(told)[number % len(told)] if told else 0
        if step == "submit":
            submission = bench.submit(*[f"r{each}@example.net" for each in range(number % 3 + 1)])
            told[submission.envelope.key] = submission, list(_fresh(submission))
        elif step == "large":
            submission, _ = bench.submit_large()
            told[submission.envelope.key] = submission, list(_fresh(submission))
        elif step == "move" and mine:
            submission, standings = told[mine]
            place = number % len(standings)
            state = State(number % 7)
            standings[place] = replace(
                standings[place], state=state, due=float(number) if state is State.DEFERRED else 0.0, reply=step
            )
            bench.settle(submission, standings[place])
        elif step == "end" and mine:
            bench.settle(told.pop(mine)[0])
        elif step == "restart":
            bench.open()
        _agree(bench, told)


def _fresh(submission: Submission) -> list[Standing]:
    return [Standing(number, recipient) for number, recipient in enumerate(submission.envelope.recipients)]


def _agree(bench: Bench, told: dict[int, tuple[Submission, list[Standing]]]) -> None:
    def those(state: State) -> list[int]:
        return [key for key, (_, standings) in told.items() if any(each.state is state for each in standings)]

    waiting = [key for key in told if key in those(State.READY) + those(State.DEFERRED)]
    due = {key: min(each.due for each in told[key][1] if each.state is State.DEFERRED) for key in those(State.DEFERRED)}
    assert keys(bench.ready()) == those(State.READY)
    assert sorted(keys(bench.due(100.0))) == sorted(due)
    assert [due[key] for key in keys(bench.due(100.0))] == sorted(due.values())
    assert {mail.envelope.key: list(mail.standings) for mail in bench.page()} == {
        key: standings for key, (_, standings) in told.items()
    }
    assert bench.spool.oldest == (bench.time if waiting else None)
    assert bench.pump.wait(bench.spool.next_due(0.5)) == min((time for time in _dues(told) if time > 0.5), default=None)


def _dues(told: dict[int, tuple[Submission, list[Standing]]]) -> list[float]:
    return [each.due for _, standings in told.values() for each in standings if each.state is State.DEFERRED]
