"""`mailrelay queue move`: the mail of one spool goes over into another one, while no daemon has the old one."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import click

from relay.cli.configuration import config_option, read
from relay.cli.terminal import complain, say
from relay.config import Config, ConfigErrors, load
from relay.phrases import many
from relay.spool.spool import Spool, SpoolError

FAILED = 1


@click.command("move")
@config_option
@click.option(
    "--to",
    "other",
    metavar="F",
    type=click.Path(path_type=Path),
    required=True,
    help="The configuration whose [spool] the mail goes to; its instances may run.",
)
def move(path: Path | None, other: Path) -> None:
    """Move all mail that waits from the spool of one configuration to that of another.

    The daemon of the first one must be stopped. Whatever interrupts this: run it again.
    """
    try:
        old, new = read(path), load(other, os.environ)
    except ConfigErrors as errors:
        for line in str(errors).splitlines():
            complain(line)
        sys.exit(FAILED)
    if _place(old) == _place(new):
        complain("Error: both configurations have the same spool")
        sys.exit(FAILED)
    _run(old, new)


def _place(config: Config) -> object:
    spool = config.spool
    return spool.directory if spool.backend == "sqlite" else spool.dsn.reveal()


def _name(config: Config) -> str:
    """What tells a spool from those of other hosts and folders."""
    return f"{config.hostname}:{config.spool.directory}"


def _run(old: Config, new: Config) -> None:
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    work: Any = reactor
    results: list[int | Failure] = []
    work.callWhenRunning(
        lambda: Deferred.fromCoroutine(_moved(old, new, work)).addBoth(results.append).addBoth(lambda _: work.stop())
    )
    work.run()
    if not results:
        sys.exit(FAILED)  # somebody has pressed Ctrl-C
    [result] = results
    if isinstance(result, Failure):
        if not result.check(SpoolError):
            result.raiseException()
        complain(f"Error: {result.value}")
        complain("What has not gone over is where it was: run the same command again.")
        result = FAILED
    sys.exit(result)


async def _moved(old: Config, new: Config, reactor: Any) -> int:
    """The exit status, once all is closed again. Raises SpoolError."""
    from relay.move import Move

    source = _opened(old, old, reactor)
    try:
        target = _opened(new, old, reactor)
        try:
            moved = await Move(source, target, _name(old)).run()
        finally:
            await target.close()
    finally:
        await source.close()
    say(f"{many(moved.mails, 'mail')} moved")
    if moved.damaged:
        complain(f"Error: damaged, and left where they are: {', '.join(moved.damaged)}")
    if moved.busy:
        complain(f"Error: another instance has them, stop it: {', '.join(moved.busy)}")
    return FAILED if moved.damaged or moved.busy else 0


def _opened(config: Config, old: Config, reactor: Any) -> Spool:
    """The spool of a configuration. One in PostgreSQL uses no folder of its own here: it would belong to us."""
    bits = random.SystemRandom().getrandbits
    if config.spool.backend == "postgresql":
        from relay.spool.postgresql import open_spool as open_postgresql

        directory = old.spool.directory
        return open_postgresql(
            config.spool.dsn, directory, name="queue move", reactor=reactor, now=time.time, random_bits=bits
        )
    from relay.spool.sqlite import open_spool

    return open_spool(
        config.spool.directory, reactor=reactor, now=time.time, random_bits=bits, min_free=config.spool.min_free
    )
