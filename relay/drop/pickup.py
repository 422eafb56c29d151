"""Pickup: takes the mail that was left in the drop folder, at the start and every few seconds.

Each goes the way of a mail that came by SMTP, but that the rate limit does not count it: whoever may write a file needs
no socket to fill the disk. The commit that makes it durable also notes the file's name and inode, so that a kill before
the file is removed takes none twice; the note goes when the file has.

Failure: what cannot be made durable stays in the folder, and is tried again. What nobody would take is set aside.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from urllib.parse import quote_from_bytes, unquote_to_bytes

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from relay.drop.folder import Folder, Leaf, Oddity
from relay.drop.form import Malformed
from relay.envelope import Recipient
from relay.events import Events
from relay.intake import Intake
from relay.reply import Reply
from relay.smtp.data.receive import TOO_LARGE, Chunks, Content
from relay.smtp.grammar import parameters, paths
from relay.smtp.grammar.parameters import ParameterError
from relay.smtp.grammar.paths import PathError
from relay.smtp.server.policy import Policy
from relay.smtp.submission import Refused, Session
from relay.spool.background import Background
from relay.spool.spool import Spool, SpoolError

INTERVAL = 5.0
"""Seconds between two looks."""

AT_ONCE = 64
"""Files that are taken together, so that their mails share a commit and their names a sync."""

TOLD = 20
"""Files that one look tells of, each by a line; whoever may write there could fill the log else."""

_PIECE = 256 * 1024


class Pickup:
    """Empties `folder`. `place` names the folder among all that share the spool; `policy` may change at any time."""

    def __init__(
        self,
        folder: Folder,
        place: str,
        policy: Policy,
        intake: Intake,
        spool: Spool,
        threads: Background,
        clock: IReactorTime,
        events: Events,
    ) -> None:
        self.policy = policy
        self._folder = folder
        self._place = place
        self._intake = intake
        self._spool = spool
        self._threads = threads
        self._events = events
        self._taken: dict[str, tuple[str, int]] = {}  # origin to file, of what is durable and not removed yet
        self._recovered = False
        self._told = 0
        self._stopping = False
        self._calls = LoopingCall(lambda: Deferred.fromCoroutine(self._sweep()).addErrback(self._trouble))
        self._calls.clock = clock
        self._ended: Deferred[LoopingCall] | None = None

    def start(self) -> None:
        """Look now, and then every INTERVAL seconds."""
        self._ended = self._calls.start(INTERVAL)

    async def stop(self) -> None:
        """Take nothing more; returns once what was begun is over."""
        self._stopping = True
        if self._ended is not None:
            self._calls.stop()
            await self._ended
            await self._threads.call(self._folder.close)

    def _trouble(self, failure: Failure) -> None:
        if failure.check(OSError, SpoolError):
            self._events.error(f"the drop folder could not be emptied, and is looked at again: {failure.value}")
        else:
            self._events.error("the drop folder could not be emptied, and is looked at again", failure)

    async def _sweep(self) -> None:
        """Take what is there, as long as mail may be taken at all."""
        if not await self._threads.call(self._folder.mine):
            return
        if not self._recovered:
            for origin in await self._spool.origins(self._place):
                self._taken[origin] = _file(origin.removeprefix(self._place))
            self._recovered = True
        self._told = 0
        await self._forget()
        names = await self._threads.call(self._folder.names)
        for start in range(0, len(names), AT_ONCE):
            if self._stopping or not self._intake.taking:
                return
            leaves, oddities = await self._threads.call(self._folder.open, names[start : start + AT_ONCE])
            self._tell(oddities)
            await gatherResults([Deferred.fromCoroutine(self._take(leaf)) for leaf in leaves])
            await self._forget()
        if self._told > TOLD:
            self._events.warning(f"{self._told - TOLD} more files in the drop folder are not taken or were set aside")

    async def _forget(self) -> None:
        """Remove the files of what is durable, and then the notes of them."""
        if self._taken:
            await self._threads.call(self._folder.remove, list(self._taken.values()))
            origins = list(self._taken)
            await self._spool.forget(origins)
            for origin in origins:
                del self._taken[origin]

    async def _take(self, leaf: Leaf) -> None:
        """One mail, from its file into the spool."""
        origin = f"{self._place}{leaf.inode} {quote_from_bytes(os.fsencode(leaf.name))}"
        try:
            await self._hand_in(leaf, origin)
            self._taken[origin] = (leaf.name, leaf.inode)
        except Refused as refused:
            if refused.reply.code >= 500:
                self._intake.refused(f"uid:{leaf.owner}", refused.reply, refused.reason)
                aside = await self._threads.call(self._folder.set_aside, leaf.name)
                self._tell([Oddity(leaf.name, str(refused.reply), aside)])
        except Malformed as error:
            self._tell(await self._threads.call(self._folder.doubt, leaf.name, str(error)))
        except OSError as error:
            self._events.error(f"a file in the drop folder cannot be read: {error.strerror}", file=leaf.name)
        finally:
            leaf.close()

    async def _hand_in(self, leaf: Leaf, origin: str) -> None:
        """Raises Refused, Malformed or OSError."""
        head = leaf.head
        author, recipients, ret, envid = self._envelope(leaf)
        sender = self._intake.policy.rules.sender(author)
        content, chunks = Content(self.policy.rules, self._intake.rewriting(author, sender)), Chunks()
        if not content.grow(head.size):
            raise Refused(TOO_LARGE, "size")
        session = Session(f"uid:{leaf.owner}", "localhost", "local")
        arrival = self._intake.begin(session, sender, recipients, ret, envid)
        arrival.origin, arrival.at = origin, leaf.at
        try:
            while piece := await self._threads.call(leaf.read, _PIECE):
                octets = content.edit(chunks.feed(piece))
                room = arrival.write(octets) if octets else None
                if room is not None:
                    await room
            octets = content.edit(chunks.end()) + content.end()
            if octets:
                arrival.write(octets)
        except BaseException:
            arrival.abandon()
            raise
        await arrival.finish(content.findings)

    def _envelope(self, leaf: Leaf) -> tuple[str, tuple[Recipient, ...], str, str]:
        """Reverse-path, recipients, RET and ENVID, in the words of SMTP and by its rules. Raises Refused."""
        head, rules = leaf.head, self._intake.policy.rules
        try:
            notify = parameters.notify(head.notify) if head.notify else None
            recipients: dict[str, Recipient] = {}
            for text in head.recipients:
                address = self._complete(paths.parse(_octets(text)))
                recipients.setdefault(address.lower(), Recipient(address, notify))
            author = rules.complete(paths.parse(_octets(head.sender)))
            ret = parameters.ret(head.ret) if head.ret else ""
            envid = parameters.envid(head.envid) if head.envid else ""
        except (PathError, ParameterError) as error:
            raise Refused(Reply(501, "5.5.2", (str(error),)), "syntax") from None
        if "" in recipients:
            raise Refused(Reply(501, "5.1.3", ("a recipient has an address",)), "syntax")
        return author, tuple(recipients.values()), ret, envid

    def _complete(self, address: str) -> str:
        return (
            self.policy.postmaster if address.lower() == "postmaster" else self._intake.policy.rules.complete(address)
        )

    def _tell(self, oddities: Iterable[Oddity]) -> None:
        for oddity in oddities:
            self._told += 1
            if self._told <= TOLD:
                fate = "was set aside" if oddity.aside else "is not taken"
                self._events.warning(f"a file in the drop folder {fate}: {oddity.why}", file=oddity.name)


def _file(note: str) -> tuple[str, int]:
    """Name and inode of a file, as they are written in an origin."""
    inode, _, name = note.partition(" ")
    return os.fsdecode(unquote_to_bytes(name)), int(inode)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
