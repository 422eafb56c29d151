"""Commands: what may be asked of the daemon, by name, and what it answers.

    status          done: the object of /health
    queue list      {"mail": …} for each; done: {"mails": n}
    queue show      the same for ids; done names those that are missing
    queue why       {"why": [sentences], "mail": …} for each
    queue retry, hold, release, delete   done: what came of it
    queue export    {"octets": base64} in pieces, for one id
    send-test       {"step": sentence} as they come; done: {"id": …, "result": …}

Mails are selected as in `relay.delivery.selection`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import asdict

from relay.control.channel import Answer, Command, CommandFailed, Request
from relay.control.trial import Trial
from relay.delivery.operator import Operator, Order
from relay.delivery.reasons import Reasons
from relay.delivery.selection import BadSelection, Selection
from relay.delivery.view import View
from relay.http.figures import Health, document
from relay.spool.spool import Mail, Spool

_PIECE = 48 * 1024

Done = Mapping[str, object]


class Commands:
    """See the module's docstring. `seconds` takes a time on the spool's scale to one since the epoch."""

    def __init__(
        self,
        spool: Spool,
        operator: Operator,
        reasons: Reasons,
        trial: Trial,
        health: Callable[[], Health],
        seconds: Callable[[float], float],
    ) -> None:
        self._spool = spool
        self._operator = operator
        self._reasons = reasons
        self._trial = trial
        self._health = health
        self._seconds = seconds

    def table(self) -> dict[str, Command]:
        """All of them, by name."""
        changes = {f"queue {order.value}": self._changing(order) for order in Order}
        return {
            "status": self._status,
            "queue list": self._list,
            "queue show": self._list,
            "queue why": self._why,
            **changes,
            "queue export": self._export,
            "send-test": self._trial.command,
        }

    async def _status(self, _: Request, __: Answer) -> Done:
        return document(self._health())

    async def _list(self, request: Request, answer: Answer) -> Done:
        mails = 0

        async def act(_: Mail, seen: View) -> None:
            nonlocal mails
            mails += 1
            await answer.say({"mail": seen.document(self._seconds)})

        missing = await self._operator.visit(_selection(request), act)
        return {"mails": mails, "missing": missing}

    async def _why(self, request: Request, answer: Answer) -> Done:
        mails = 0

        async def act(_: Mail, seen: View) -> None:
            nonlocal mails
            mails += 1
            await answer.say({"why": self._reasons.sentences(seen), "mail": seen.document(self._seconds)})

        missing = await self._operator.visit(_selection(request), act)
        return {"mails": mails, "missing": missing}

    def _changing(self, order: Order) -> Command:
        async def change(request: Request, answer: Answer) -> Done:
            selection = _selection(request)
            if not selection.is_said:
                raise CommandFailed("nothing is selected: name mails by their ids, or say which (all: every one)")
            return asdict(await self._operator.change(order, selection, answer.pulse))

        return change

    async def _export(self, request: Request, answer: Answer) -> Done:
        selection = _selection(request)
        if len(selection.ids) != 1:
            raise CommandFailed("one mail is exported at a time")
        mail = await self._spool.find(selection.ids[0])
        if mail is None:
            return {"mails": 0, "missing": list(selection.ids)}
        body = await self._spool.body(mail)
        await answer.say({"octets": b64encode(mail.head).decode()})
        if isinstance(body, bytes):
            for start in range(0, len(body), _PIECE):
                await answer.say({"octets": b64encode(body[start : start + _PIECE]).decode()})
        else:
            try:
                while piece := await body.read(_PIECE):
                    await answer.say({"octets": b64encode(piece).decode()})
            finally:
                body.close()
        return {"mails": 1, "missing": []}


def _selection(request: Request) -> Selection:
    try:
        return Selection.read(request)
    except BadSelection as error:
        raise CommandFailed(str(error)) from None
