"""Judge: what came of an attempt, by the rules of `judgement` and the brake of its provider, as things are now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from relay.delivery.attempts import Attempt
from relay.delivery.brakes import Brakes
from relay.delivery.judgement import GOES_ROUND, Circumstances, delivered, end_of_round, got_through, judge
from relay.delivery.settings import Settings
from relay.outcome import Delivered, Outcome
from relay.spool.spool import Standing
from relay.upstream.pool import Pool
from relay.upstream.sender import Result


class Judge:
    """It settles the recipients of attempts, or says which of them are to be tried again. `now` is the spool's."""

    def __init__(
        self,
        pools: Mapping[str, Pool],
        brakes: Brakes,
        now: Callable[[], float],
        uniform: Callable[[float, float], float],
    ) -> None:
        self._pools = pools
        self._brakes = brakes
        self._now = now
        self._uniform = uniform

    def ended(self, attempt: Attempt, result: Result, settings: Settings) -> None:
        """A transaction is over."""
        item, name = attempt.item, attempt.pool.name
        outcomes, attempt.notes = self._brakes.judge(name, item.envelope, got_through(result.outcomes))
        attempt.outcomes, attempt.trouble = outcomes, result.trouble
        before = [item.standings[number] for number in attempt.numbers]
        first = outcomes[0]
        if isinstance(first, Delivered) and outcomes.count(first) == len(outcomes):
            attempt.settled = delivered(before, first.reply, name)
        else:
            self._judge(attempt, outcomes, before, settings)

    def round_ended(self, attempt: Attempt, settings: Settings) -> None:
        """Nobody is left to be asked, since who was to be next is down: what was said is the end of the round."""
        item, case = attempt.item, self._circumstances(attempt, settings)
        ends = {number: end_of_round(item.standings[number], item.rounds, case) for number in attempt.numbers}
        attempt.settled = tuple([standing for standing in ends.values() if standing is not None])
        attempt.again = tuple([number for number, standing in ends.items() if standing is None])

    def _judge(
        self, attempt: Attempt, outcomes: Sequence[Outcome], before: Sequence[Standing], settings: Settings
    ) -> None:
        item = attempt.item
        for number, outcome in zip(attempt.numbers, outcomes, strict=True):
            if isinstance(outcome, GOES_ROUND):
                item.rounds.setdefault(number, {})[attempt.pool.name] = outcome
        judged = judge(before, outcomes, item.rounds, self._circumstances(attempt, settings))
        attempt.settled, attempt.again = judged.standings, judged.again
        if attempt.marked:
            attempt.settled += tuple([item.standings[number] for number in attempt.again])

    def _circumstances(self, attempt: Attempt, settings: Settings) -> Circumstances:
        name = attempt.pool.name
        return Circumstances(
            provider=name,
            order=list(self._pools),
            up=[other for other, pool in self._pools.items() if pool.takes_mail],
            hold_uncertain=name in settings.hold_uncertain,
            retry=settings.retry,
            age=attempt.age,
            now=self._now(),
            uniform=self._uniform,
        )
