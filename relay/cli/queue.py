"""`mailrelay queue …`: look at the mail that waits, and decide about it.

Answers are printed as they come, however many mails there are.
"""

from __future__ import annotations

import json
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from relay.cli.configuration import config_option
from relay.cli.daemon import FAILED, Asking
from relay.cli.status import seconds
from relay.cli.terminal import columns, complain, paragraphs, row, say, write
from relay.delivery.selection import STATES
from relay.phrases import many, span

F = TypeVar("F", bound=Callable[..., object])

_WIDTHS = (36, 8, 6, 6)
_PAST = {"retry": "to be tried again", "hold": "held", "release": "released", "delete": "deleted"}

Selected = Mapping[str, Any]

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_ids = click.argument("ids", nargs=-1, metavar="[ID]...")


def _selectors(command: F) -> F:
    """The options that select mails; together they must all hold."""
    for option in (
        click.option("--state", type=click.Choice(STATES), help="In that state."),
        click.option("--provider", metavar="NAME", help="Which that provider answered last, or is to get alone."),
        click.option("--recipient", metavar="ADDRESS", help="To that recipient (and only that one); * is anything."),
        click.option("--sender", metavar="ADDRESS", help="From that sender; * is anything, <> the null sender."),
        click.option("--all", "everything", is_flag=True, help="Every mail that waits."),
    ):
        command = option(command)
    return command


@click.group()
def queue() -> None:
    """Look at the mail that waits, and decide about it."""


@queue.command("list")
@config_option
@_selectors
@_json_option
def list_(path: Path | None, as_json: bool, everything: bool, **selected: Any) -> None:
    """List the mails that wait, the oldest first."""
    del everything  # what else
    asking = Asking(path, "queue list", **selected)
    if as_json:
        _print_array(piece["mail"] for piece in asking)
        return
    room = columns(sys.stdout)
    header = row(("ID", "STATE", "AGE", "SIZE", "FROM -> TO"), _WIDTHS, room)
    for piece in asking:
        for text in (*header, *cells(piece["mail"], room, time.time())):
            say(text)
        header = []
    if header:
        say("The queue is empty." if not any(selected.values()) else "No mail that waits is such.")


@queue.command()
@config_option
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@_json_option
def show(path: Path | None, ids: Sequence[str], as_json: bool) -> None:
    """Show mails with each of their recipients."""
    asking = Asking(path, "queue show", ids=list(ids))
    if as_json:
        _print_one_or_array(ids, (piece["mail"] for piece in asking))
    else:
        for piece in asking:
            for text in description(piece["mail"], columns(sys.stdout), time.time()):
                say(text)
    _end(asking)


@queue.command()
@config_option
@_ids
@_selectors
@_json_option
def why(path: Path | None, ids: Sequence[str], as_json: bool, everything: bool, **selected: Any) -> None:
    """Say in plain sentences what mails wait for."""
    _need(ids, everything, selected)
    asking = Asking(path, "queue why", ids=list(ids), **selected)
    if as_json:
        _print_one_or_array(ids, ({**piece["mail"], "why": piece["why"]} for piece in asking))
    else:
        for piece in asking:
            for text in paragraphs(piece["why"], columns(sys.stdout)):
                say(text)
    _end(asking)


def _changing(name: str, text: str) -> None:
    """One of the commands that change something."""

    @queue.command(name, help=text)
    @config_option
    @_ids
    @_selectors
    @_json_option
    def change(path: Path | None, ids: Sequence[str], as_json: bool, everything: bool, **selected: Any) -> None:
        _need(ids, everything, selected)
        asking = Asking(path, f"queue {name}", ids=list(ids), all=everything, **selected)
        done = asking.all()
        if as_json:
            say(json.dumps(done))
        else:
            what = f" ({many(done['recipients'], 'recipient')})" if done["mails"] else ""
            say(f"{many(done['mails'], 'mail')} {_PAST[name]}{what}")
            if done["spared"]:
                say(f"{many(done['spared'], 'mail')} left alone: damaged, so that only the id deletes it")
        for cause in done["failed"]:
            complain(f"Error: not written down: {cause}")
        if done["busy"]:
            complain(f"Error: {many(done['busy'], 'mail')} left alone: a transaction is under way, try again")
        _end(asking)


_changing("retry", "Try deferred mails now, and providers that are down; --provider also one that is paused.")
_changing("hold", "Hold mails: they are not sent until they are released.")
_changing("release", "Release mails that are held; they are sent at once.")
_changing("delete", "Delete mails. Nobody is told.")


@queue.command()
@config_option
@click.argument("uuid", metavar="ID")
def export(path: Path | None, uuid: str) -> None:
    """Write a mail to standard output, as a provider would get it."""
    asking = Asking(path, "queue export", ids=[uuid])
    for piece in asking:
        sys.stdout.buffer.write(b64decode(piece["octets"]))
    sys.stdout.buffer.flush()
    _end(asking)


def _need(ids: Sequence[str], everything: bool, selected: Selected) -> None:
    """Something must be selected, and by more than what a script's variable is if it was never set."""
    for name, value in selected.items():
        if value == "":
            raise click.UsageError(f"--{name} needs a value" + (" (<> is the null sender)" if name == "sender" else ""))
    if not ids and not everything and not any(value is not None for value in selected.values()):
        raise click.UsageError("name mails by their ids, or select them (--all: every one)")


def _end(asking: Asking) -> None:
    """Exit as it must be where something is missing, failed or was left alone."""
    done = asking.done
    for uuid in done.get("missing", ()):
        complain(f"Error: {uuid} is not in the queue")
    if done.get("missing") or done.get("failed") or done.get("busy"):
        sys.exit(FAILED)


def _print_array(things: Iterable[object]) -> None:
    """A JSON array, one element a line, as they come."""
    before = "["
    for thing in things:
        write(f"{before}{json.dumps(thing)}")
        before = ",\n"
    write("[]\n" if before == "[" else "]\n")


def _print_one_or_array(ids: Sequence[str], things: Iterator[object]) -> None:
    """One object for one id, where there is one; else an array."""
    if len(ids) != 1:
        _print_array(things)
        return
    for thing in things:
        say(json.dumps(thing))


def cells(mail: Mapping[str, Any], room: int | None, now: float) -> list[str]:
    """A mail as a row of a table."""
    people = mail["recipients"]
    others = f" +{len(people) - 1}" if len(people) > 1 else ""
    whose = f"{mail['sender'] or '<>'} -> {people[0]['address']}{others}"
    age = span(now - seconds(mail["received_at"])).replace(" ", "").replace("min", "m")
    return row((mail["id"], mail["state"], _first_unit(age), size(mail["size"]), whose), _WIDTHS, room)


def _first_unit(age: str) -> str:
    """A short form of a span: its larger unit."""
    end = next((place for place, character in enumerate(age, 1) if character.isalpha()), len(age))
    return age[:end]


def size(octets: int) -> str:
    """Octets in few characters.

    >>> size(512), size(2048), size(3_000_000)
    ('512', '2K', '2.9M')
    """
    if octets < 1024:
        return str(octets)
    if octets < 1024 * 1024:
        return f"{octets / 1024:.0f}K"
    return f"{octets / 1024 / 1024:.1f}M"


def description(mail: Mapping[str, Any], room: int | None, now: float) -> list[str]:
    """A mail with all of its recipients."""
    age = span(now - seconds(mail["received_at"]))
    texts = [
        f"{mail['id']}: {mail['state']}, from {mail['sender'] or '<>'}, {size(mail['size'])} octets, taken {age} ago"
    ]
    for recipient in mail["recipients"]:
        due = recipient["next_attempt_at"]
        parts = [
            recipient["state"],
            f"attempts {recipient['attempts']}",
            f"next in {span(seconds(due) - now)}" if due else "",
            f"{recipient['provider']}: {recipient['reply']}" if recipient["provider"] else recipient["reply"] or "",
        ]
        texts.append(f"  {recipient['address']}: {', '.join(filter(None, parts))}")
    return paragraphs(texts, room)
