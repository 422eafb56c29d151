"""What the command line of sendmail(1) asks for."""

from __future__ import annotations

import shlex

import pytest

from relay.sendmail.arguments import DIALOGUE, FLUSH, LIST, MAIL, Arguments, UsageError, parse


def parsed(line: str) -> Arguments:
    """What a line of a shell asks for."""
    return parse([word.encode("utf-8", "surrogateescape") for word in shlex.split(line)])


def test_how_cron_calls_it() -> None:
    """Its options are taken; -B and -oem say nothing here."""
    asked = parsed("-i -FCronDaemon -B8BITMIME -oem root")

    assert (asked.mode, asked.recipients, asked.from_header) == (MAIL, (b"root",), False)
    assert (asked.dot_ends, asked.full_name, asked.sender) == (False, b"CronDaemon", None)


@pytest.mark.parametrize("line", ["-t -i", "-ti", "-it", "-t -oi", "-toi", "-oi -t --", "-t -o i"])
def test_the_header_names_the_recipients(line: str) -> None:
    """-t, with -i in all the ways to write it."""
    asked = parsed(line)

    assert (asked.from_header, asked.dot_ends, asked.recipients) == (True, False, ())


@pytest.mark.parametrize("line", ["-t", "-t -oem", "-t -odi", "-vtU"])
def test_a_line_of_one_dot_ends_the_mail(line: str) -> None:
    """Where nobody says -i."""
    assert parsed(line).dot_ends


@pytest.mark.parametrize(
    ("line", "sender"),
    [
        ("-f me@example.com b@x", b"me@example.com"),
        ("-fme@example.com b@x", b"me@example.com"),
        ("-rme@example.com b@x", b"me@example.com"),
        ("b@x -f me@example.com", b"me@example.com"),
        ("-f '<me@example.com>' b@x", b"me@example.com"),
        ("-f '' b@x", b""),
        ("-f '<>' b@x", b""),
        ("b@x", None),
    ],
)
def test_the_sender(line: str, sender: bytes | None) -> None:
    """Its value beside it or behind; "" is the null sender."""
    assert parsed(line).sender == sender


def test_what_is_taken_and_ignored() -> None:
    """Options with a value take it along, so that it is no recipient."""
    asked = parsed("-B 7BIT -O DeliveryMode=b -L tag -h 5 -X /dev/null -v -U -G -n b@x -om")

    assert asked.recipients == (b"b@x",)


def test_what_looks_like_an_option_behind_two_dashes() -> None:
    """It is a recipient."""
    assert parsed("-i -- -oX@example.net").recipients == (b"-oX@example.net",)


def test_the_parameters_of_reports() -> None:
    """As SMTP has them."""
    asked = parsed("-N success,delay -R hdrs -V 'a b+c=é' b@x")

    assert (asked.notify, asked.ret, asked.envid) == ("SUCCESS,DELAY", "HDRS", "a+20b+2Bc+3D+C3+A9")


@pytest.mark.parametrize(
    ("line", "mode"), [("-bm b@x", MAIL), ("-bs", DIALOGUE), ("-bp", LIST), ("-q", FLUSH), ("-q15m", FLUSH)]
)
def test_what_is_to_be_done(line: str, mode: str) -> None:
    """-b and a letter, or -q with anything behind it."""
    assert parsed(line).mode == mode


@pytest.mark.parametrize(
    "line",
    [
        "",
        "-i",
        "-bd",
        "-bi",
        "-b",
        "-f",
        "-Z b@x",
        "-N always b@x",
        "-N never,success b@x",
        "-R all b@x",
        "-V '' b@x",
        f"-V {'x' * 101} b@x",
        "-bp b@x",
        "-bs b@x",
        "-f 'a\nb' b@x",
        "-f 'a\x01b' b@x",
        "--help",
    ],
)
def test_what_makes_no_sense(line: str) -> None:
    """Each is told, and nothing is done."""
    with pytest.raises(UsageError):
        parsed(line)
