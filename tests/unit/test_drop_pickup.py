"""How the mail in the drop folder gets into the spool."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relay.addresses import Rules as AddressRules
from relay.drop.folder import PATIENCE, Folder
from relay.drop.pickup import AT_ONCE, INTERVAL, TOLD, Pickup
from relay.events import Events
from relay.intake import Intake
from relay.intake import Policy as IntakePolicy
from relay.limits import Window
from relay.log import timestamp
from relay.metrics import Metrics
from relay.smtp.data.receive import Rules
from relay.smtp.server.policy import Policy
from relay.spool.background import Background
from relay.spool.spool import LARGE, SpoolFailing, SpoolFull, Submission
from tests.contract.pump import Pump
from tests.leaving import CONTENT, leave
from tests.memory_spool import MemorySpool

NOW = 1_700_000_000.0
POLICY = Policy(
    hostname="relay.example",
    domain="example.com",
    postmaster="boss@example.com",
    rules=Rules(2 * LARGE, drop=frozenset({b"bcc"})),
    max_recipients=2,
    max_connections=1,
    idle_timeout=300.0,
)


class Scene:
    """A drop folder, a spool, and what stands between."""

    def __init__(self, root: Path) -> None:
        self.path = root / "drop"
        self.damaged = root / "spool" / "damaged"
        self.damaged.parent.mkdir()
        self.clock = Clock()
        self.pump = Pump()
        self.spool = MemorySpool(self.clock.seconds)
        self.added: list[Submission] = []
        self.lines: list[dict[str, object]] = []
        self.write = self.lines.append
        self.open()

    def open(self) -> None:
        """A daemon comes up."""
        events = Events(self, lambda: NOW)
        rules = AddressRules("example.com", {"root": ["ops@example.net"]}, {"a@example.com": "noreply@example.com"})
        self.intake = Intake(
            IntakePolicy("relay.example", rules, 0, "client"),
            self.spool,
            Window(1, 60.0),
            self.added.append,
            self.clock.seconds,
            lambda: NOW,
            events,
            Metrics("0"),
        )
        self.threads = Background(self.pump, 1, "drop")
        self.pickup = Pickup(
            Folder(self.path, self.damaged, lambda: NOW),
            "place ",
            POLICY,
            self.intake,
            self.spool,
            self.threads,
            self.clock,
            events,
        )

    def look(self) -> None:
        """Look once, until all is done."""
        self.pump.wait(Deferred.fromCoroutine(self.pickup._sweep()))

    def leave(self, name: str = "1.mail", content: bytes = CONTENT, *to: str, **more: object) -> Path:
        """A mail that was just left."""
        file = leave(self.path, name, content, *to, **more)
        os.utime(file, (NOW, NOW))
        return file

    @property
    def left(self) -> list[str]:
        """What still lies in the folder."""
        return sorted(file.name for file in self.path.iterdir())

    def said(self, event: str) -> list[dict[str, object]]:
        """Lines of the log."""
        return [line for line in self.lines if line["event"] == event]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A daemon with an empty folder."""
    scene = Scene(tmp_path)
    yield scene
    scene.threads.close()


def test_a_mail_is_taken(scene: Scene) -> None:
    """By the rules for addresses, with its owner in trace and log; then its file is gone."""
    scene.leave("1.mail", CONTENT, "root", "B@example.net", "b@example.net", "Postmaster", ret="HDRS", notify="NEVER")

    scene.look()

    [submission] = scene.added
    envelope = submission.envelope
    assert envelope.sender == "noreply@example.com"
    assert [each.address for each in envelope.recipients] == ["ops@example.net", "B@example.net", "boss@example.com"]
    assert {each.notify for each in envelope.recipients} == {frozenset({"NEVER"})}
    assert (envelope.ret, envelope.client) == ("HDRS", f"uid:{os.getuid()}")
    assert submission.body == b"From: noreply@example.com\r\nX-Original-" + CONTENT
    assert submission.head.startswith(
        b"Received: from localhost (uid:%d)\r\n by relay.example with local" % os.getuid()
    )
    assert scene.said("received")[0]["client"] == f"uid:{os.getuid()}"
    assert scene.left == []
    assert scene.spool.known_origins == set()


def test_a_mail_without_a_date(scene: Scene) -> None:
    """It gets that on which it was left."""
    file = scene.leave("1.mail", b"From: a@example.com\r\n\r\nx\r\n")
    os.utime(file, (NOW - 86400, NOW - 86400))

    scene.look()

    assert b"Date: Mon, 13 Nov 2023" in scene.added[0].head
    assert timestamp(NOW - 86400).startswith("2023-11-13")


def test_a_large_mail(scene: Scene) -> None:
    """It is streamed, edited on the way."""
    body = b"From: a@example.com\r\nBcc: x@example.net\r\n\r\n" + b"0123456789abcd\r\n" * (LARGE // 16 + 1)
    scene.leave("1.mail", body)

    scene.look()

    [mail] = scene.spool.mails.values()
    assert mail.body == b"From: noreply@example.com\r\nX-Original-" + body.replace(b"Bcc: x@example.net\r\n", b"")
    assert scene.left == []


def test_many(scene: Scene) -> None:
    """All of them, in their order, whatever the rate limit says."""
    for number in range(AT_ONCE + 3):
        scene.leave(f"{number:04}.mail", CONTENT, f"r{number}@example.net")

    scene.look()

    assert [each.envelope.recipients[0].address for each in scene.added] == [
        f"r{number}@example.net" for number in range(AT_ONCE + 3)
    ]
    assert scene.left == []


def test_now_and_every_few_seconds(scene: Scene) -> None:
    """It looks when it starts, and then by the clock; nothing begins after the stop."""
    scene.leave("1.mail")
    scene.pickup.start()
    scene.pump.until(lambda: not scene.left and not scene.spool.known_origins)

    scene.leave("2.mail")
    scene.clock.advance(INTERVAL)
    scene.pump.until(lambda: not scene.left and not scene.spool.known_origins)
    scene.pump.wait(Deferred.fromCoroutine(scene.pickup.stop()))

    assert len(scene.added) == 2
    assert scene.clock.getDelayedCalls() == []


@pytest.mark.parametrize("trouble", [SpoolFailing("no disk"), SpoolFull("no room")])
def test_a_spool_that_fails(scene: Scene, trouble: SpoolFailing) -> None:
    """The mail stays, and is taken later, once."""
    scene.leave("1.mail")
    scene.spool.refuse = trouble
    scene.look()
    assert (scene.left, scene.added) == (["1.mail"], [])

    scene.spool.refuse = None
    scene.look()

    assert (scene.left, len(scene.added)) == ([], 1)


def test_killed_before_the_file_is_removed(scene: Scene) -> None:
    """The next start knows that it was taken, and only removes it; a new file of that name is taken."""
    inode = scene.leave("1 ü.mail").stat().st_ino
    scene.spool.known_origins.add(f"place {inode} 1%20%C3%BC.mail")
    scene.spool.known_origins.add("place 17 gone.mail")

    scene.look()

    assert (scene.left, scene.added, scene.spool.known_origins) == ([], [], set())
    scene.leave("1 ü.mail")
    scene.look()
    assert len(scene.added) == 1


def test_a_file_that_cannot_be_removed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mail is not taken twice."""
    scene.leave("1.mail")
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", _refuse)
        with pytest.raises(OSError, match="not now"):
            scene.look()
        with pytest.raises(OSError, match="not now"):
            scene.look()
    assert (scene.left, len(scene.added), len(scene.spool.known_origins)) == (["1.mail"], 1, 1)

    scene.look()

    assert (scene.left, len(scene.added), scene.spool.known_origins) == ([], 1, set())


def _refuse(*_: object, **__: object) -> None:
    raise OSError(5, "not now")


@pytest.mark.parametrize(
    ("content", "more", "reason"),
    [
        (b"x" * (2 * LARGE + 1), {}, "size"),
        (b"From: a@x.example\r\n\r\na\0b\r\n", {}, "content"),
        (b"Received: x\r\n" * 101 + b"\r\n", {}, "loop"),
        (CONTENT, {"sender": "two words"}, "syntax"),
        (CONTENT, {"sender": "\udcff@example.com"}, "syntax"),
        (CONTENT, {"recipients": ["b@example.net", "a@b@c"]}, "syntax"),
        (CONTENT, {"recipients": [""]}, "syntax"),
        (CONTENT, {"recipients": ["b@example.net>\r\nRCPT TO:<c@example.net"]}, "syntax"),
        (CONTENT, {"ret": "ALL"}, "syntax"),
        (CONTENT, {"envid": "a b"}, "syntax"),
        (CONTENT, {"notify": "ALWAYS"}, "syntax"),
    ],
)
def test_what_nobody_would_take(scene: Scene, content: bytes, more: dict[str, object], reason: str) -> None:
    """It is set aside at once and counted as refused; nothing of it goes out."""
    scene.leave("1.mail", content, **more)

    scene.look()

    assert (scene.left, scene.added) == ([], [])
    assert len(list(scene.damaged.iterdir())) == 1
    assert [line["reason"] for line in scene.said("refused")] == [reason]
    assert scene.said("warning")[0]["file"] == "1.mail"


def test_half_a_mail(scene: Scene) -> None:
    """Never delivered; left alone, and set aside after an hour."""
    file = scene.leave("1.mail", crc32=1)
    scene.look()
    scene.look()
    assert (scene.left, scene.added) == (["1.mail"], [])

    os.utime(file, (NOW - PATIENCE - 1, NOW - PATIENCE - 1))
    scene.look()

    assert (scene.left, scene.added) == ([], [])
    assert len(list(scene.damaged.iterdir())) == 1
    assert len(scene.said("warning")) == 2


def test_a_flood_of_nonsense(scene: Scene) -> None:
    """It does not fill the log, and keeps no mail waiting."""
    for number in range(TOLD + 50):
        (scene.path / f"{number:04}").touch()
    scene.leave("z.mail")

    scene.look()

    assert len(scene.said("warning")) == TOLD + 1
    assert "50 more" in str(scene.said("warning")[-1]["message"])
    assert len(scene.added) == 1
