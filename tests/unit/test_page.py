"""The page: the figures in people's words, and a provider's words harmless."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from relay.http import page
from relay.http.figures import Alert, Connections, Failure, Health, Provider, ProviderState, Queue, Spool, Totals
from relay.http.page import COLUMNS, FAILURES, NOTHING, duration, headline, html, size, view

NOW = 1700000000.0
NASTY = '550 <script>alert("1")</script> & \x1b[31m\u202e <b@example.net>'
UP = Provider("primary", ProviderState.UP, Connections(2, 1, 10), None, NOW - 3)
HEALTH = Health(
    "1.2",
    "app1",
    90000,
    True,
    Totals(1234, 1, 1300, 617.5),
    Queue(1, 2, 3, 4, 61),
    [UP],
    Spool("sqlite", True, 5 << 30),
)


def words(text: str) -> str:
    """What a browser shows of the page `text`, without its tags and with single blanks."""
    return " ".join(unescape(re.sub("<[^>]*>", " ", text)).split())


def test_a_daemon_that_is_well() -> None:
    """Everything is said without a script."""
    said = words(html(view(HEALTH, [], NOW)).decode())

    assert "Oldest waiting mail 1 min 1 s ok Mail is taken, and every provider is up." in said
    assert "As of 2023-11-14 22:13:20 UTC" in said
    assert "Waiting 10 Ready 1 Being sent 2 Deferred 3 Held 4" in said
    assert "Since the start, 1 d 1 h ago" in said
    assert "Finished 1,235 Delivered 1,234 Failed 1 Recipients 1,300 Mean time 500 ms" in said
    assert "primary up 2 busy, 1 idle of 10 3.0 s ago –" in said
    assert said.count("None") == 2
    assert "Version 1.2 · spool sqlite, 5.0 GiB free" in said


def test_an_empty_daemon() -> None:
    """What there is none of is said, and is no zero that means something else."""
    texts = view(replace(HEALTH, queue=Queue(), totals=Totals(), spool=Spool("sqlite", False, 10)), [], NOW).texts

    assert texts["oldest"] == "none waits"
    assert texts["mean"] == "–"
    assert texts["headline"].endswith("No mail has come yet since the start.")
    assert texts["spool"] == "sqlite, 10 B free, cannot be written"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Mail is taken, and every provider is up."),
        ({"taking": False}, "No mail can be taken now."),
        ({"providers": []}, "No provider is up: what was taken waits."),
        (
            {"providers": [replace(UP, state=ProviderState.PROBING, since=NOW)]},
            "No provider is up: what was taken waits. primary has been down since 2023-11-14 22:13:20 UTC.",
        ),
        ({"providers": [UP, replace(UP, name="b", state=ProviderState.PAUSED, since=None)]}, "b is paused."),
        ({"alerts": [Alert("disk", NOW, "full")]}, "Alert: disk."),
        (
            {"taking": False, "alerts": [Alert("disk", NOW, "full"), Alert("backlog", NOW, "many")]},
            "No mail can be taken now. Alerts: disk, backlog.",
        ),
        ({"alerts": [Alert(name, NOW, "") for name in "abcdef"]}, "Alerts: a, b, c, d, 2 more."),
    ],
)
def test_a_headline(changes: dict[str, object], said: str) -> None:
    """The status in a sentence or two, the worst first."""
    assert headline(replace(HEALTH, **changes)) == said  # type: ignore[arg-type]


def test_words_that_would_be_markup() -> None:
    """A reply, a name, a message: text, whatever is in it; no address, no control character."""
    health = replace(
        HEALTH,
        instance=NASTY,
        providers=[replace(UP, name=NASTY, last_error=NASTY)],
        alerts=[Alert(NASTY, NOW, NASTY)],
    )
    text = html(view(health, [Failure(NOW, "uuid", NASTY, "rejected", NASTY)], NOW)).decode()

    assert "<script>alert" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert 'alert("1")' not in text
    assert '550 <script>alert("1")</script> & \\x1b[31m\\x202e <[address]>' in words(text)


def test_the_newest_failures() -> None:
    """Time, mail, provider, outcome, reply; the state gives the row its colour."""
    [row] = view(HEALTH, [Failure(NOW, "uuid", "primary", "deferred", "451 4.7.1 Greylisted")], NOW).rows["failures"]

    assert row == ["deferred", "2023-11-14 22:13:20 UTC", "uuid", "primary", "deferred", "451 4.7.1 Greylisted"]


def test_failures_that_are_alike() -> None:
    """They are one row, with the newest mail and how many there are; others keep their place behind it."""
    said = ["451 <a@example.net> later", "550 no", "451 <b@example.net> later", "451 <a@example.net> later"]
    failures = [Failure(NOW - age, f"uuid{age}", "primary", "deferred", reply) for age, reply in enumerate(said)]
    first, second = view(HEALTH, failures, NOW).rows["failures"]
    many = [replace(failures[0], reply=f"{number}") for number in range(FAILURES + 1)]

    assert first[2:] == [
        "uuid0",
        "primary",
        "deferred",
        "451 <[address]> later (and 2 more alike since 22:13:17 UTC)",
    ]
    assert second[2:] == ["uuid1", "primary", "deferred", "550 no"]
    assert [row[-1] for row in view(HEALTH, many, NOW).rows["failures"]] == [str(each) for each in range(FAILURES)]


def test_script_style_and_page_fit_together() -> None:
    """Each text and each table of the view has its element, and nothing on the page is inline or from elsewhere."""
    text = html(view(HEALTH, [], NOW)).decode()
    shown = view(HEALTH, [], NOW)

    for name in (*shown.texts, *shown.rows):
        assert len(re.findall(rf'id="{name}"', text)) == 1
    assert set(shown.rows) == set(COLUMNS) == set(NOTHING)
    for columns in COLUMNS.values():
        assert re.sub(r' class="\w+"', "", "".join(f'<th scope="col">{column}</th>' for column in columns)) in re.sub(
            r' class="\w+"', "", text
        )
    assert "style=" not in text
    assert not re.search(r"\son\w+=", text)
    assert re.findall(r"<script\b[^>]*>(.*?)</script>", text, re.DOTALL) == ["", ""]
    assert "//" not in text.replace("http://www.w3.org", "")


def test_the_first_hour() -> None:
    """The plots begin with the daemon, and the page says so as long as one of them could look broken."""
    assert "since the start at 22:12:45 UTC" in view(replace(HEALTH, uptime_seconds=35), [], NOW).texts["history"]
    assert view(replace(HEALTH, uptime_seconds=3600), [], NOW).texts["history"] == ""


def test_since_when() -> None:
    """A state has its age, and so has an error: one that is over looks like no new one."""
    down = replace(UP, state=ProviderState.DOWN, since=NOW - 60, last_error="connection refused", error_at=NOW - 4)
    [row] = view(replace(HEALTH, providers=[down]), [], NOW).rows["providers"]

    assert row[2] == "down for 1 min 0 s"
    assert row[5] == "4.0 s ago: connection refused"


@pytest.mark.parametrize("script", ["page.js", "plots.js", "uplot/uPlot.iife.min.js"])
def test_the_scripts_know_no_markup(script: str) -> None:
    """They set text alone, so that what a provider says can become nothing else."""
    code = (Path(page.__file__).parent / script).read_text("utf-8").replace("https://github.com/leeoniya/uPlot", "")

    for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval", "Function(", "http"):
        assert word not in code


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 ms"), (0.0005, "0 ms"), (1, "1.0 s"), (10, "10 s"), (60, "1 min"), (3661, "1 h 1 min"), (86400, "1 d")],
)
def test_a_duration(seconds: float, said: str) -> None:
    """In the two largest units."""
    assert duration(seconds).removesuffix(" 0 s").removesuffix(" 0 h") == said


@pytest.mark.parametrize(
    ("octets", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 40, "3.0 TiB"), (5 << 50, "5120.0 TiB")],
)
def test_a_size(octets: int, said: str) -> None:
    """In the largest unit there is."""
    assert size(octets) == said
