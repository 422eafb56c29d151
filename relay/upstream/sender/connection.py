"""Connection: one that is open, and carries one transaction after another.

Replies belong to the oldest transaction that is under way; it says what to write next. Where `depth` allows, whole
transactions are written behind one whose content has left. One timer serves every deadline of RFC 5321, 4.5.3.2.

Failure: whatever happens, each Batch gets a Result. A connection that is not usable any more closes by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from relay.config.values import Provider
from relay.outcome import Stage
from relay.reply import Reply, no_reply
from relay.upstream.batch import Batch, Result
from relay.upstream.sender.content import Content, pour
from relay.upstream.sender.deadline import Deadline
from relay.upstream.sender.opening import AWAITED, Opening
from relay.upstream.sender.passage import WARM, Passage, leaves_whole, retired
from relay.upstream.sender.tls import Trust


class Connection(Opening):
    """See the module's docstring. Times are the clock's.

    carried        how many were carried to their end, whatever that was
    idle_since     when the last one ended
    waiting_since  since when a reply is due; None if none is, or the mail is still leaving
    out_of_step    whether the provider said what did not fit, left out replies, or does not know what it offers
    when_ended     called once with what was said or seen if the connection ends while nothing is under way
    """

    def __init__(
        self, provider: Provider, hostname: str, trust: Trust | None, clock: IReactorTime, *, pipelining: bool = True
    ) -> None:
        super().__init__(provider, hostname, trust, clock, pipelining=pipelining)
        self.carried = 0
        self.idle_since = 0.0
        self.out_of_step = False
        self.when_ended: Callable[[Reply], None] | None = None
        self._waiting: deque[tuple[Batch, Deferred[Result]]] = deque()
        self._running: deque[Passage] = deque()
        self._answered: list[Passage] = []
        self._held: bytes | None = None  # the content that is due, or what announces it
        self._clean = True
        self._usable = True
        self._is_over = False
        self._quitting = self._quit_said = False
        self._gone: list[Deferred[None]] = []
        self._deadline = Deadline(clock, self._passed)
        self._left = 0

    @property
    def depth(self) -> int:
        """How many transactions may be under way at once."""
        whole = self.features.pipelining and self.features.chunking
        return self.provider.pipeline_depth if whole else 1

    @property
    def busy(self) -> bool:
        """Whether a transaction is under way."""
        return bool(self._running or self._waiting)

    @property
    def waiting_since(self) -> float | None:
        """See the class."""
        running = self._running
        return self._deadline.since if running and running[0].stage is not Stage.BODY else None

    def deliver(self, batch: Batch) -> Deferred[Result]:
        """Carry one transaction; fires with its Result and never fails."""
        done: Deferred[Result] = Deferred()
        if self._is_over or self._quitting:
            done.callback(retired(batch, no_reply("the connection is closed")))
            return done
        self._waiting.append((batch, done))
        self._begin()
        return done

    def quit(self) -> Deferred[None]:
        """Say QUIT, behind what is under way, and close; fires when the connection is gone, or was before."""
        if self._is_lost:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._gone.append(gone)
        if not self._is_open:
            self.abort()
        elif not (self._is_over or self._quitting):
            self._quitting = True
            self._usable = False
            self._retire_waiting(no_reply("the connection is to end"))
            if not self._running:
                self._say_quit()
        return gone

    def abort(self) -> None:
        """End it now. A transaction whose content has left is uncertain, any other retired."""
        if self._is_lost:
            return
        self._end(no_reply("we closed the connection"), ours=True)
        self.transport.abortConnection()

    def carry(self, replies: list[Reply]) -> None:
        """Part of Opening: give each reply to the transaction that waits for it."""
        if self._quit_said:
            self.transport.loseConnection()
            return
        if not replies:
            return
        for reply in replies:
            if self._is_over:
                return
            if self._running:
                self._take(self._running[0], reply)
            else:
                self._unasked(reply)
        if not self._tlsMode:
            self._release()
        if self._running:
            self._watch()
        else:
            self._deadline.clear()
        self._settle()

    def read_all(self) -> None:
        """Part of Opening: TLS has given us everything that came with the last octets."""
        if self._held is not None:
            self._release()
            if self._running:
                self._watch()
            self._begin()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        super().connectionLost(reason)
        if self._is_open:
            self._end(no_reply(f"the connection was lost{self._while_waiting()}"), closed=True)
        gone, self._gone = self._gone, []
        for each in gone:
            each.callback(None)

    def _while_waiting(self) -> str:
        if not self._running:
            return ""
        job = self._running[0]
        return f" while waiting for {AWAITED[Stage.DOT if job.has_left(self._outflow) else job.stage]}"

    def _begin(self) -> None:
        """Begin what waits, as far as it may be begun now."""
        running = self._running
        while self._waiting and self._usable and self._may_begin():
            batch, done = self._waiting.popleft()
            behind = bool(running)
            warm = self._clean and self.carried > 1 and self.clock.seconds() - self.idle_since < WARM
            whole = behind or (warm and leaves_whole(batch, self.features))
            job = Passage(
                batch,
                self.features,
                null_sender=self.provider.null_sender,
                carried=behind or self.carried > 0,
                reset=behind or not self._clean,
                whole=whole,
            )
            job.done, job.end, job.ours, job.trouble = done, None, False, None
            octets = job.begin()
            if job.over:
                done.callback(job.result(usable=True))
                continue
            running.append(job)
            self._outflow.looks_first = whole and not behind
            written = self.write(octets)
            self._outflow.looks_first = False
            if whole:
                job.end = written
            if not behind:
                self._watch()

    def _may_begin(self) -> bool:
        running = self._running
        if not running:
            return True
        if running[-1].end is None or len(running) >= self.depth:
            return False
        batch, _ = self._waiting[0]
        return batch.in_one_piece and batch.before is None

    def _take(self, job: Passage, reply: Reply) -> None:
        """`job` is the oldest transaction, and the reply its own."""
        if job.stage is Stage.BODY and job.has_left(self._outflow):
            job.stage = Stage.DOT
        if not job.fits(reply):
            said = reply if reply.code == 0 else no_reply(f"where {AWAITED[job.stage]} was due came: {reply}")
            self.out_of_step = self.features.pipelining
            self._end(said)
            return
        octets = job.receive(reply)
        if job.over:
            self._over(job, reply)
        elif job.stage is Stage.BODY and job.end is None:
            self._held = octets
        elif octets:
            self.transport.write(octets)

    def _release(self) -> None:
        """Send the content that is due, now that all that came before it is read.

        A provider that says 354 and goes away, or refuses the mail with the same breath, surely does not have it.
        """
        octets, self._held = self._held, None
        if octets is None:
            return
        job, outflow = self._running[0], self._outflow
        if job.streams or job.batch.before is not None:
            Deferred.fromCoroutine(self._send(job, octets))
            return
        outflow.looks_first = True
        job.end = self.write(octets)
        outflow.looks_first = False

    def _over(self, job: Passage, reply: Reply) -> None:
        self._running.popleft()
        self._held = None
        self._answered.append(job)
        self._clean = job.clean
        self.out_of_step = self.out_of_step or job.misled
        if job.usable:
            self.carried += 1
        else:
            self._usable = False
        if job.cut:
            self._end(reply)
        elif self._usable or self._running:
            return
        elif self._quitting:
            self._say_quit()
        else:
            self._end(no_reply("the connection was closed behind a fault"))

    def _unasked(self, reply: Reply) -> None:
        """A reply while none is due: the provider ends the connection, or we are out of step."""
        self.out_of_step = self.features.pipelining and reply.code < 400
        self._end(reply)

    def _end(self, reply: Reply, *, closed: bool = False, ours: bool = False) -> None:
        """Nothing more is carried. `closed`: the connection is gone; `ours`: it is we who end it."""
        if self._is_over:
            return
        idle = not (self._running or self._waiting or self._answered or self._quitting)
        self._is_over = True
        self._usable = False
        first = not ours
        for job in self._running:
            if reply.code == 421:
                job.retire(reply)
            else:
                job.lose(reply, closed=closed, left=job.has_left(self._outflow), first=first)
            first = False
        self._answered.extend(self._running)
        self._running.clear()
        self._held = None
        self._deadline.stop()
        if not closed:
            self._leave()
        self._settle()
        self._retire_waiting(reply)
        if idle and self.when_ended is not None:
            self.when_ended(reply)

    def _retire_waiting(self, reply: Reply) -> None:
        waiting, self._waiting = self._waiting, deque()
        for batch, done in waiting:
            done.callback(retired(batch, reply))

    def _say_quit(self) -> None:
        """No reply is due any more; whatever comes now is the one to QUIT."""
        self._quit_said = True
        self.force_soon()
        self._say(b"QUIT")

    def _leave(self) -> None:
        """Close; what is still in our buffers is of no use to anybody."""
        if self._outflow.waiting:
            self.transport.abortConnection()
        else:
            self.close()

    def _settle(self) -> None:
        """Say what came of transactions, once all that the provider said has been read."""
        answered, self._answered = self._answered, []
        if answered:
            self.idle_since = self.clock.seconds()
        for job in answered:
            job.done.callback(job.result(usable=self._usable))
        if self._waiting and self._usable:
            self._begin()

    def _watch(self) -> None:
        """Begin to wait for what the oldest transaction needs next."""
        job = self._running[0]
        if job.stage is Stage.BODY:
            self._left = left = self._outflow.left
            if job.end is not None and left >= job.end:
                job.stage = Stage.DOT
            elif job.end is not None:
                emptied = self._outflow.emptied()
                if emptied is not None:
                    emptied.addCallback(self._emptied, job)
        self._deadline.set(job.patience(self.provider.dot_timeout))

    def _emptied(self, _: None, job: Passage) -> None:
        if self._running and self._running[0] is job and job.stage is Stage.BODY:
            self._watch()

    def _passed(self) -> None:
        """The deadline has passed."""
        job, left = self._running[0], self._outflow.left
        if job.ours or (job.stage is Stage.BODY and left > self._left):
            self._watch()
            return
        if job.heard and job.stage in (Stage.RCPT, Stage.DATA):  # it seems to have lost what came behind the first
            self.out_of_step = self.features.pipelining
        self._end(no_reply(f"waited {self._deadline.seconds:g} s in vain for {AWAITED[job.stage]}"))

    async def _send(self, job: Passage, octets: bytes) -> None:
        """Send content that has to wait for something, or is too large for one piece; `octets` come first."""
        try:
            if job.batch.before is not None:
                job.ours = True
                await job.batch.before()
                job.ours = False
            if job.over:
                return
            written = self.write(octets)
            if job.streams:
                content = Content(job.batch, raw=self.features.chunking)
                await pour(content, job, self.write, self._outflow, self._watch)
            else:
                job.end = written
                self._watch()
            self._begin()
        except Exception as trouble:
            job.trouble = trouble
            self._end(no_reply(f"trouble of our own: {trouble}"), ours=True)
