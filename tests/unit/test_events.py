"""The events: their names, levels and fields, and Twisted's own words among them."""

from __future__ import annotations

import errno
import inspect
import re
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure

from relay.envelope import Envelope, Recipient
from relay.events import Entry, Events, take_over, take_over_python, twisted_observer
from relay.log import json_line, text_line
from relay.reply import Reply

NOW = 1700000000.25
TO = ["b@example.net"]
TAKEN = Reply(250, "2.0.0", ("Ok: queued",))
LATER = Reply(451, "4.7.1", ("Greylisted,", "try\x1b again"))


class Lines(list[Entry]):
    """A sink that keeps what it gets."""

    write = list.append


def said(say: Callable[[Events], object]) -> Entry:
    """The one line that `say` makes."""
    lines = Lines()
    say(Events(lines, lambda: NOW))
    [line] = lines
    return line


def mail(recipients: int) -> Envelope:
    """A mail to so many."""
    to = tuple(Recipient(f"r{number}@example.net") for number in range(recipients))
    return Envelope(1, "uuid", "app@example.com", to, NOW, 4096, client="127.0.0.1")


def trouble() -> Failure:
    """A failure with a traceback, and a secret in a variable."""
    password = "hunter2"
    try:
        raise ValueError("it broke" if password else "")
    except ValueError:
        return Failure()


EXAMPLES: dict[str, Callable[[Events], object]] = {
    "started": lambda events: events.started(version="1.2", instance="app1", smtp=["127.0.0.1:2525"], http=[]),
    "reloaded": lambda events: events.reloaded("spool.directory needs a restart"),
    "stopping": lambda events: events.stopping(),
    "stopped": lambda events: events.stopped(),
    "received": lambda events: events.received(mail(1)),
    "refused": lambda events: events.refused(reason="size", reply=LATER, client="127.0.0.1"),
    "delivered": lambda events: events.delivered("uuid", TO, "primary", TAKEN, 0.01234),
    "deferred": lambda events: events.deferred("uuid", TO, "primary", LATER, 0.01234),
    "rejected": lambda events: events.rejected("uuid", TO, "primary", LATER, 0.01234),
    "uncertain": lambda events: events.uncertain("uuid", TO, "primary", LATER, 0.01234),
    "bounced": lambda events: events.bounced("uuid", TO, "primary", "550 No", "other"),
    "expired": lambda events: events.expired("uuid", TO, "primary", "451 Later", "other"),
    "held": lambda events: events.held("uuid", TO, "uncertain three times"),
    "released": lambda events: events.released("uuid", TO),
    "deleted": lambda events: events.deleted("uuid", TO),
    "finished": lambda events: events.finished("uuid", "delivered", 1.23456),
    "provider_down": lambda events: events.provider_down("primary", "connection refused"),
    "provider_up": lambda events: events.provider_up("primary"),
    "provider_paused": lambda events: events.provider_paused("primary", "550 Account suspended"),
    "alert": lambda events: events.alert("backlog", "120 messages wait"),
    "alert_cleared": lambda events: events.alert_cleared("backlog", "12 messages wait"),
    "warning": lambda events: events.warning("the file system counts no inodes"),
    "error": lambda events: events.error("unexpected", trouble()),
}


def documented() -> dict[str, tuple[str, list[str]]]:
    """Level and fields of each event in docs/reference/log-events.md."""
    text = (Path(__file__).parents[2] / "docs/reference/log-events.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (info|warning|error) \| ([^|]*) \|", text, re.MULTILINE)
    return {event: (level, re.findall(r"`(\w+)`", fields)) for event, level, fields in rows}


def test_the_list_is_closed() -> None:
    """Every method of Events is an event, has its example here and its row in the reference; nothing else has."""
    methods = {name for name, _ in inspect.getmembers(Events, inspect.isfunction) if not name.startswith("_")}

    assert methods - {"follow", "leave"} == set(EXAMPLES) == set(documented())


@pytest.mark.parametrize("event", EXAMPLES)
def test_a_line(event: str) -> None:
    """Time, level and event first, then exactly the fields that the reference names, in both forms."""
    line = said(EXAMPLES[event])
    level, fields = documented()[event]

    assert line["time"] == "2023-11-14T22:13:20.250Z"
    assert line["level"] == level
    assert line["event"] == event
    assert list(line) == ["time", "level", "event", *fields]
    assert json_line(line).count(b"\n") == text_line(line).count(b"\n") == 1
    assert b"\x1b" not in text_line(line)


def test_a_mail_to_many() -> None:
    """At most three are named, all are counted."""
    line = said(lambda events: events.received(mail(1000)))

    assert line["to"] == ["r0@example.net", "r1@example.net", "r2@example.net"]
    assert line["recipients"] == 1000
    assert (line["from"], line["size"], line["client"]) == ("app@example.com", 4096, "127.0.0.1")


def test_a_reply_is_quoted_as_people_quote_it() -> None:
    """Code, enhanced code and words on one line; seconds to the millisecond."""
    line = said(EXAMPLES["deferred"])

    assert line["reply"] == r"451 4.7.1 Greylisted, try\x1b again"
    assert line["seconds"] == 0.012


def test_an_error_with_a_traceback() -> None:
    """Where it happened, and no variable's value."""
    line = said(EXAMPLES["error"])

    assert "ValueError: it broke" in str(line["traceback"])
    assert "hunter2" not in str(line["traceback"]).replace('password = "hunter2"', "")


def test_an_error_without_one_and_with_fields() -> None:
    """Fields may follow."""
    line = said(lambda events: events.error("lost", id="uuid"))

    assert line == {"time": line["time"], "level": "error", "event": "error", "message": "lost", "id": "uuid"}


def heard(say: Callable[[Logger], object]) -> list[Entry]:
    """What becomes of what Twisted's code logs."""
    lines = Lines()
    publisher = LogPublisher(twisted_observer(Events(lines, lambda: NOW)))
    say(Logger("twisted.internet", observer=publisher))
    return lines


def test_twisted_says_how_it_is() -> None:
    """Ports that listen and factories that start are no news."""
    assert heard(lambda log: log.debug("a session")) == []
    assert heard(lambda log: log.info("Starting factory {factory}", factory=1)) == []


def test_twisted_warns() -> None:
    """A warning of Twisted's or of Python's is one line."""
    [line] = heard(lambda log: log.warn("{what} is deprecated", what="it"))

    assert (line["event"], line["message"]) == ("warning", "it is deprecated")


def test_what_a_program_writes_to_standard_error() -> None:
    """Twistd turns it into log events at error level; a line each."""
    [line] = heard(lambda log: log.emit(LogLevel.error, "{log_io}", log_io="Exception ignored in: {}"))

    assert (line["event"], line["message"]) == ("error", "Exception ignored in: {}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Unhandled error in Deferred:", "Unhandled error in Deferred: ValueError: it broke"),
        ("", "ValueError: it broke"),
    ],
)
def test_an_exception_that_nobody_caught(text: str, message: str) -> None:
    """An error with its traceback, on one line."""
    [line] = heard(lambda log: log.failure(text, trouble()))

    assert (line["event"], line["message"]) == ("error", message)
    assert "in trouble" in str(line["traceback"])
    assert json_line(line).count(b"\n") == 1


def test_a_failure_of_no_exception() -> None:
    """An exception without words is named."""
    [line] = heard(lambda log: log.failure("", Failure(KeyError())))

    assert line["message"] == "KeyError"


def test_a_failure_that_was_only_noted() -> None:
    """With a failure it is an error, whatever level Twisted gave it."""
    [line] = heard(lambda log: log.failure("noted", trouble(), level=LogLevel.info))

    assert line["level"] == "error"


def test_no_file_descriptor_left() -> None:
    """A warning: nothing in the program is to be mended."""
    lacking = Failure(OSError(errno.EMFILE, "Too many open files", "/dev/null"))
    [line] = heard(lambda log: log.failure("Could not reserve one.", lacking))

    assert (line["event"], "traceback" in line) == ("warning", False)
    assert line["message"] == "Could not reserve one.: OSError: [Errno 24] Too many open files: '/dev/null'"


def test_the_only_one_that_hears() -> None:
    """Another observer, such as twistd's that writes to standard output and waits, hears nothing any more."""
    lines, others = Lines(), list[LogEvent]()
    publisher = LogPublisher(cast(ILogObserver, others.append), cast(ILogObserver, others.append))
    take_over(publisher, Events(lines, lambda: NOW))
    Logger("twisted.internet", observer=publisher).warn("a warning")

    assert others == []
    assert [line["message"] for line in lines] == ["a warning"]


class _Unraisable:
    def __del__(self) -> None:
        raise ValueError("in a finalizer")


def test_what_the_interpreter_has_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be text on file descriptor 2 is a line like any other."""
    for module, name in ((threading, "excepthook"), (sys, "unraisablehook"), (warnings, "showwarning")):
        monkeypatch.setattr(module, name, getattr(module, name))
    lines = Lines()
    take_over_python(Events(lines, lambda: NOW))

    thread = threading.Thread(target=lambda: 1 // 0, name="worker")
    thread.start()
    thread.join()
    _Unraisable()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        take_over_python(Events(lines, lambda: NOW))
        warnings.warn("odd", UserWarning, stacklevel=1)

    ended, not_raised, warned = lines
    assert ended["level"] == not_raised["level"] == "error"
    assert ended["message"] == "the thread worker ended"
    assert "ZeroDivisionError" in str(ended["traceback"])
    assert "in a finalizer" in str(not_raised["traceback"])
    assert "UserWarning: odd" in str(warned["message"])
