"""Which mail is in memory, and when the rest comes in."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relay.envelope import Envelope, Recipient
from relay.schedule import SWEEP, Item, Schedule
from relay.spool.spool import Mail, SpoolFailing, State, Submission, Tally
from tests.memory_spool import MemorySpool


class House:
    """A schedule over a spool in memory; `tried` is what it handed out."""

    def __init__(self, limit: int = 10, spool: MemorySpool | None = None) -> None:
        self.clock = Clock()
        self.spool = spool or MemorySpool(self.clock.seconds)
        self.tried: list[tuple[Item, list[int]]] = []
        self.troubles: list[str] = []
        self.up = True
        self.schedule = Schedule(
            self.spool,
            self.clock,
            self.clock.seconds,
            limit,
            lambda item, numbers: self.tried.append((item, numbers)),
            self.troubles.append,
            lambda: self.up,
        )

    def work(self, item: Item) -> None:
        """What is handed out takes a millisecond."""
        self.tried.append((item, []))
        self.clock.rightNow += 0.001

    def submission(self) -> Submission:
        """A new mail, durable."""
        key, uuid = self.spool.next_id()
        envelope = Envelope(key, uuid, "a@example.com", (Recipient("b@example.net"),), self.clock.seconds(), 3)
        submission = Submission(envelope, b"", b"x\r\n")
        self.spool.submit(submission)
        return submission

    def settle(self, item: Item, state: State, due: float = 0.0) -> None:
        """Its only recipient comes to stand so; what delivery does after a transaction."""
        item.standings[0] = replace(item.standings[0], state=state, due=due)
        mail = self.spool.mails[item.envelope.key]
        self.spool.mails[item.envelope.key] = replace(mail, standings=tuple(item.standings))
        if not state.waiting:
            del self.spool.mails[item.envelope.key]
        item.queued.discard(0)
        if state is State.DEFERRED:
            self.schedule.due_at(due)
        self.schedule.show(item)

    def deliver(self, done: int = 0) -> int:
        """All that is handed out, but for the first `done`, is delivered; how many that are with these."""
        while done < len(self.tried):
            self.settle(self.tried[done][0], State.DELIVERED)
            done += 1
        return done


def test_a_new_mail_is_tried_at_once() -> None:
    """What is durable and finds room is handed out with its body, without a look into the spool."""
    house = House()
    house.schedule.start()

    house.schedule.add(house.submission())

    [(item, numbers)] = house.tried
    assert (item.body, numbers, house.spool.reads) == (b"x\r\n", [0], 0)
    assert house.schedule.counts == {"ready": 1, "active": 0, "deferred": 0, "held": 0}


def test_no_more_in_memory_than_the_limit() -> None:
    """The third waits in the spool, and comes in once there is room."""
    house = House(limit=2)
    house.schedule.start()
    for _ in range(3):
        house.schedule.add(house.submission())

    assert len(house.tried) == 2
    assert house.schedule.counts["ready"] == 3

    house.settle(house.tried[0][0], State.DELIVERED)

    assert [item.envelope.key for item, _ in house.tried] == sorted(item.envelope.key for item, _ in house.tried)
    assert len(house.tried) == 3
    assert house.schedule.waiting == 2


def test_a_mail_that_became_durable_late() -> None:
    """A large body may be written after later mail: its lower key is found all the same."""
    house = House(limit=1)
    house.schedule.start()
    early = house.submission()
    house.schedule.add(house.submission())

    house.schedule.add(early)
    house.settle(house.tried[0][0], State.DELIVERED)

    assert [item.envelope.key for item, _ in house.tried][1:] == [early.envelope.key]


def test_mail_that_comes_while_the_spool_is_read() -> None:
    """What becomes durable between a read and its answer is found by the next one, and nothing between is skipped."""
    house = House(limit=2)
    house.schedule.start()
    submissions = [house.submission() for _ in range(4)]
    for submission in submissions[:3]:
        house.schedule.add(submission)
    read = house.spool.ready_after
    answers: list[tuple[Deferred[list[Mail]], list[Mail]]] = []

    def slowly(key: int, limit: int) -> Deferred[list[Mail]]:
        answer: Deferred[list[Mail]] = Deferred()
        read(key, limit).addCallback(lambda mails: answers.append((answer, mails)))
        return answer

    house.spool.ready_after = slowly  # type: ignore[method-assign]
    house.settle(house.tried[0][0], State.DELIVERED)
    house.settle(house.tried[1][0], State.DELIVERED)
    house.schedule.add(submissions[3])
    while answers:
        answer, mails = answers.pop(0)
        answer.callback(mails)

    assert [item.envelope.key for item, _ in house.tried] == [each.envelope.key for each in submissions]


def test_deferred_and_due() -> None:
    """One timer wakes it: neither earlier nor later."""
    house = House()
    house.schedule.start()
    house.schedule.add(house.submission())
    house.settle(house.tried[0][0], State.DEFERRED, due=60.0)
    assert house.schedule.counts["deferred"] == 1
    assert not house.schedule.items

    house.clock.advance(59.9)
    assert len(house.tried) == 1
    house.clock.advance(0.2)

    assert len(house.tried) == 2
    assert house.schedule.counts == {"ready": 1, "active": 0, "deferred": 0, "held": 0}


def test_the_earliest_of_many_is_first() -> None:
    """The timer follows the earliest due time, in whatever order they are said."""
    house = House()
    house.schedule.start()
    for due in (300.0, 100.0, 200.0):
        house.schedule.add(house.submission())
        house.settle(house.tried[-1][0], State.DEFERRED, due=due)
    house.tried.clear()

    for moment in (100.5, 200.5, 300.5):
        house.clock.advance(moment - house.clock.seconds())

    assert [item.standings[0].due for item, _ in house.tried] == [100.0, 200.0, 300.0]


def test_what_waited_at_the_start() -> None:
    """READY mail and mail that is due are taken up; what is due later is waited for."""
    before = House()
    ready, due, later = (before.submission() for _ in range(3))
    for submission, moment in ((due, -1.0), (later, 50.0)):
        mail = before.spool.mails[submission.envelope.key]
        standing = replace(mail.standings[0], state=State.DEFERRED, due=moment)
        before.spool.mails[submission.envelope.key] = replace(mail, standings=(standing,))
    before.spool.tally = Tally(ready=1, deferred=2)

    house = House(spool=before.spool)
    house.schedule.start()

    assert {item.envelope.key for item, _ in house.tried} == {ready.envelope.key, due.envelope.key}
    house.clock.advance(51.0)
    assert house.tried[-1][0].envelope.key == later.envelope.key
    assert house.schedule.counts == {"ready": 3, "active": 0, "deferred": 0, "held": 0}


def test_a_spool_that_cannot_be_read() -> None:
    """It is asked again at the next sweep, and nothing is forgotten."""
    house = House()
    house.submission()
    house.spool.tally = Tally(ready=1)
    broken = House(spool=house.spool)

    def cannot(*_: object) -> None:
        raise SpoolFailing("no")

    broken.spool.ready_after = cannot  # type: ignore[method-assign, assignment]
    broken.schedule.start()
    assert broken.troubles
    assert not broken.tried

    del broken.spool.ready_after
    broken.clock.advance(SWEEP)

    assert len(broken.tried) == 1


def test_what_left_while_it_was_read() -> None:
    """A mail that ended between the read and its answer is not taken up again."""
    house = House(limit=2)
    house.schedule.start()
    for _ in range(3):
        house.schedule.add(house.submission())
    house.settle(house.tried[0][0], State.DEFERRED, due=10.0)
    assert len(house.tried) == 3

    house.spool.tells_at_once = False
    house.settle(house.tried[1][0], State.DEFERRED, due=10.0)
    house.clock.advance(10.0)
    for item, _ in house.tried[:2]:
        house.schedule.resume(house.schedule.check_out(house.spool.mails[item.envelope.key]), [0])
        house.settle(item, State.DELIVERED)
    house.spool.tells_at_once = True
    house.spool.tell()

    assert len(house.tried) == 5


def test_some_left_while_others_of_the_same_mail_were_read() -> None:
    """One recipient was deferred before a crash and another one never tried: both are, whatever is read first."""
    house = House()
    key, uuid = house.spool.next_id()
    to = (Recipient("b@example.net"), Recipient("c@example.net"))
    house.spool.submit(Submission(Envelope(key, uuid, "a@example.com", to, 0.0, 3), b"", b"x\r\n"))
    mail = house.spool.mails[key]
    first = replace(mail.standings[0], state=State.DEFERRED, attempts=1)
    house.spool.mails[key] = replace(mail, standings=(first, mail.standings[1]))
    house.spool.tally = Tally(1, 0, 0)

    def end(item: Item, numbers: list[int]) -> None:
        house.tried.append((item, numbers))
        if numbers == [0]:
            house.spool.tells_at_once = False
            ended.append(item)

    ended: list[Item] = []
    house.schedule = Schedule(
        house.spool, house.clock, house.clock.seconds, 10, end, house.troubles.append, lambda: True
    )
    house.schedule._due_waiting = True
    house.schedule.start()
    house.spool.tell()  # when the next one is due; what is READY has been read
    house.settle(ended[0], State.BOUNCED)
    house.spool.mails[key] = replace(mail, standings=tuple(ended[0].standings))
    house.spool.tells_at_once = True
    house.spool.tell()

    assert [numbers for _, numbers in house.tried] == [[0], [1]]


def test_another_recipient_is_due_later() -> None:
    """A mail that is READY for one recipient counts as that alone; another one is tried when it is due all the same."""
    house = House()
    key, uuid = house.spool.next_id()
    to = (Recipient("b@example.net"), Recipient("c@example.net"))
    house.spool.submit(Submission(Envelope(key, uuid, "a@example.com", to, 0.0, 3), b"", b"x\r\n"))
    mail = house.spool.mails[key]
    later = replace(mail.standings[1], state=State.DEFERRED, attempts=1, due=10.0)
    house.spool.mails[key] = replace(mail, standings=(mail.standings[0], later))
    house.spool.tally = Tally(1, 0, 0)
    house.schedule = Schedule(
        house.spool,
        house.clock,
        house.clock.seconds,
        10,
        lambda item, numbers: house.tried.append((item, numbers)),
        house.troubles.append,
        lambda: True,
    )
    house.schedule.start()
    house.clock.advance(10.0)

    assert [numbers for _, numbers in house.tried] == [[0], [1]]


def test_many_at_once_give_way() -> None:
    """Others have their turn every 5 ms; what is changed meanwhile is not handed out as it was read."""
    house = House(limit=100)
    for _ in range(60):
        house.submission()
    house.spool.tally = Tally(60, 0, 0)
    house.schedule = Schedule(
        house.spool,
        house.clock,
        house.clock.seconds,
        100,
        lambda item, _: house.work(item),
        house.troubles.append,
        lambda: True,
    )
    *_, last = house.spool.mails.values()

    house.schedule.start()
    assert len(house.tried) in (5, 6)
    item = house.schedule.check_out(last)
    house.settle(item, State.HELD)
    for _ in range(15):
        house.clock.advance(0)

    assert len({item.envelope.key for item, _ in house.tried}) == len(house.tried) == 59
    assert last.envelope.key not in house.schedule.items


def test_due_while_new_mail_is_read() -> None:
    """It comes in as soon as that read is over, and not at the next sweep."""
    house = House(limit=2)
    house.schedule.start()
    for _ in range(3):
        house.schedule.add(house.submission())
    house.settle(house.tried[0][0], State.DEFERRED, due=10.0)
    house.spool.tells_at_once = False
    house.settle(house.tried[1][0], State.DELIVERED)
    house.schedule.add(house.submission())
    house.schedule.add(house.submission())
    house.settle(house.tried[2][0], State.DELIVERED)

    house.clock.advance(10.0)
    house.spool.tells_at_once = True
    house.spool.tell()

    assert house.tried[0][0].envelope in [item.envelope for item, _ in house.tried[3:]]


def test_found_before_it_was_announced() -> None:
    """A read that was under way may find a mail before its own commit is told: it is handed out once."""
    house = House()
    house.schedule.start()
    house.schedule._behind = True
    submission = house.submission()
    house.schedule.refill()
    assert len(house.tried) == 1

    house.schedule.add(submission)

    assert len(house.tried) == 1
    assert len(house.schedule.items) == 1


def test_put_off_for_no_time_while_it_was_read() -> None:
    """What is due again at once, and left memory while it was read, is read once more, and that is all."""
    house = House(limit=2)
    house.schedule.start()
    for _ in range(2):
        house.schedule.add(house.submission())
    house.settle(house.tried[0][0], State.DEFERRED, due=1.0)
    house.spool.tells_at_once = False
    house.clock.advance(1.0)
    house.settle(house.tried[1][0], State.DEFERRED, due=1.0)
    house.spool.tells_at_once = True
    house.spool.tell()
    house.clock.advance(0.1)

    assert len(house.tried) == 4


def test_new_mail_while_many_are_due() -> None:
    """Half of the room is for what was never tried."""
    house = House(limit=4)
    house.schedule.start()
    for _ in range(4):
        house.schedule.add(house.submission())
    old = house.tried[:]
    for item, _ in old:
        house.settle(item, State.DEFERRED, due=10.0)
    for _ in range(4):
        house.schedule.add(house.submission())
    new = [house.submission() for _ in range(4)]
    for submission in new:
        house.schedule.add(submission)
    house.clock.advance(10.0)

    for item, _ in house.tried[4:8]:
        house.settle(item, State.DELIVERED)

    handed = [item.envelope for item, _ in house.tried[8:]]
    assert new[0].envelope in handed
    assert any(item.envelope in handed for item, _ in old)


def test_what_flows_is_no_backlog() -> None:
    """A mail that was never tried counts from the second look on; a deferred one at once, also while it is tried."""
    house = House()
    house.schedule.start()
    for _ in range(3):
        house.schedule.add(house.submission())
    house.settle(house.tried[0][0], State.DEFERRED, due=62.0)

    house.clock.advance(1.0)
    assert house.schedule.backlog() == 1

    house.settle(house.tried[1][0], State.DELIVERED)
    house.clock.advance(59.0)
    house.schedule.add(house.submission())
    house.clock.advance(1.0)
    assert house.schedule.backlog() == 2

    house.clock.advance(60.0)
    assert house.schedule.counts["deferred"] == 0
    assert house.schedule.backlog() == 3


def test_the_backlog_of_what_is_not_in_memory() -> None:
    """Mail that had no room since the last look is new, whatever came into memory meanwhile; all before it waits."""
    house = House(limit=2)
    house.schedule.start()
    for _ in range(5):
        house.schedule.add(house.submission())
    house.clock.advance(1.0)
    assert house.schedule.backlog() == 0

    house.clock.advance(60.0)
    for _ in range(4):
        house.schedule.add(house.submission())
    assert house.schedule.backlog() == 5

    house.clock.advance(60.0)
    for item, _ in list(house.tried):
        house.settle(item, State.DELIVERED)
    waiting = house.schedule.waiting
    house.schedule.add(house.submission())
    assert house.schedule.backlog() == waiting


def test_the_backlog_at_the_start() -> None:
    """Mail from before the start counts at the first look."""
    before = House()
    before.submission()
    before.spool.tally = Tally(ready=1)

    house = House(spool=before.spool)
    house.clock.advance(60.0)
    house.schedule.start()

    assert house.schedule.backlog() == 1


def test_fresh_mail_does_not_wait_for_a_backlog() -> None:
    """While mail waits in the spool a quarter of the room is for what comes, which is handed out with its body."""
    house = House(limit=8)
    house.schedule.start()
    for _ in range(20):
        house.schedule.add(house.submission())
    for item, _ in house.tried[:8]:
        house.settle(item, State.DELIVERED)
    old = len(house.tried)

    new = [house.submission() for _ in range(3)]
    for submission in new:
        house.schedule.add(submission)

    fresh = [item for item, _ in house.tried[old:]]
    assert [item.envelope for item in fresh] == [submission.envelope for submission in new[:2]]
    assert all(item.fresh and item.body for item in fresh)
    assert len(house.schedule.items) == 8
    assert house.schedule.waiting == 15


def test_what_came_last_while_no_provider_took_mail_is_fresh() -> None:
    """Once one does: it waits for none of what came long before it. Each is handed out once."""
    house = House(limit=8)
    house.schedule.start()
    house.up = False
    came = [house.submission() for _ in range(20)]
    for submission in came:
        house.schedule.add(submission)
    assert len(house.tried) == 6
    assert not any(item.fresh for item, _ in house.tried)

    house.up = True
    house.schedule.refill()

    fresh = [item for item, _ in house.tried[6:]]
    assert [item.envelope for item in fresh] == [submission.envelope for submission in came[-2:]]
    assert all(item.fresh for item in fresh)
    assert house.deliver() == 20
    assert house.schedule.waiting == 0


def test_a_backlog_does_not_wait_for_fresh_mail() -> None:
    """However much comes, what has waited gets its share of the room, and each mail is handed out once."""
    house = House(limit=8)
    house.schedule.start()
    for _ in range(20):
        house.schedule.add(house.submission())
    done = 0
    while done < 60:
        for item, _ in house.tried[done : done + 2]:
            house.settle(item, State.DELIVERED)
            done += 1
            house.schedule.add(house.submission())

    keys = [item.envelope.key for item, _ in house.tried]
    assert len(set(keys)) == len(keys)
    waited = [item for item, _ in house.tried[8:60] if not item.fresh]
    assert len(waited) >= 30
    assert house.deliver(done) == 80
    assert house.schedule.waiting == 0


def test_fresh_mail_does_not_wait_for_what_was_released() -> None:
    """Much that is released at once leaves the same quarter of the room to what comes."""
    before = House()
    for _ in range(20):
        key = before.submission().envelope.key
        mail = before.spool.mails[key]
        before.spool.mails[key] = replace(mail, standings=(replace(mail.standings[0], state=State.HELD),))
    before.spool.tally = before.spool.count()
    house = House(limit=8, spool=before.spool)
    house.schedule.start()
    for key, mail in list(house.spool.mails.items()):
        item = house.schedule.check_out(mail)
        item.standings[0] = replace(item.standings[0], state=State.READY)
        house.spool.mails[key] = replace(mail, standings=tuple(item.standings))
        house.schedule.resume(item, [0])
    assert len(house.tried) == 6

    new = house.submission()
    house.schedule.add(new)

    assert house.tried[-1][0].envelope == new.envelope
    assert house.deliver() == 21
    assert house.schedule.waiting == 0
