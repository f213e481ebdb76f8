"""How a comparison goes through its input: in rounds of batches, each a walk over the weights, so that something is
known after the first and whatever stops it loses one round.

A round takes half as many batches as all before it: a verdict is looked at when the tokens have grown by half
(``request.simultaneous`` allows for the looks), and however long the text is, its weights are read a few times only.
What a round takes depends on nothing that was timed, so that the same is told, and the same candidates leave, on every
machine.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence

from qfund.core.intervals import MIN_BLOCKS
from qfund.core.progress import Progress
from qfund.features.compare.measure.gathered import Gathered
from qfund.features.compare.measure.kept import Begun, Place
from qfund.features.compare.measure.runs import Earlier, Outcome, Run, joined
from qfund.features.compare.request.simultaneous import GROWTH, LOOKS
from qfund.models.inputs import Batch
from qfund.models.tasks import Task

#: Told of what there is after each round; gives the candidates that leave.
After = Callable[["Rounds", Outcome], Collection[str]]


class Rounds:
    """One attempt to go through an input; another one begins where the last did.

    Attributes:
        done: batches that were taken, ``begun`` of them by somebody before; ``running`` are the candidates that go on,
            and ``left`` says after how many of them each of the others was decided.
        looks: how often it was looked at whether a candidate shall go on, of ``planned`` times, as far as was known at
            the start; ``open`` are those that left undecided, since the rest would hardly decide.
        reading: seconds that went into reading weights, in so many ``walks`` over them; ``comparing`` those of the
            statistics, ``noise`` those of the reference's noise, ``spent`` all of them and forwards.
        size: of the batches that models in memory take, once it is chosen; whether one is ``remembered`` that was
            measured before, and a new one is ``kept``.
    """

    def __init__(
        self, batches: Sequence[Batch], names: Sequence[str], after: After | None = None, begun: Begun | None = None
    ) -> None:
        """``after`` None takes everything in one round."""
        self.batches, self.names, self._after, self._begun = batches, names, after, begun
        self.remembered = self.kept = False
        self.begin()

    def begin(self) -> None:
        """At the start, or where somebody stopped."""
        start = Place(0, {}, {}, max(LOOKS, self.looks_after(0)), ())
        at = self._begun.at if self._begun else start
        self.done = self.begun = at.done
        self.left, self.looks, self.planned, self.open = dict(at.left), dict(at.looks), at.planned, list(at.open)
        self.running = [name for name in self.names if name not in self.left]
        self.reading, self.comparing, self.noise, self.spent, self.walks = 0.0, 0.0, 0.0, 0.0, 0
        self.size = at.size

    def at_once(self) -> None:
        """All of it, from the start, and in one round."""
        self._after = self._begun = None
        self.begin()

    def at(self, leaving: Collection[str]) -> Place:
        """Where it is, once these have left."""
        left = self.left | dict.fromkeys(leaving, self.done)
        return Place(self.done, left, dict(self.looks), self.planned, tuple(self.open), self.size)

    def gathered(self, task: Task, more: Sequence[str] = (), without: Sequence[str] = ()) -> Gathered:
        """What was gathered before, to be gone on with."""
        found = Gathered(task, self.batches, self.names, more, without)
        if self._begun:
            self._begun.into(found)
        return found

    def run(self, name: str, now: Run) -> Run:
        """With what was known of it before."""
        earlier: Earlier | None = self._begun.runs.get(name) if self._begun else None
        return joined(earlier, now) if earlier else now

    @property
    def single(self) -> bool:
        """Whether one round takes all."""
        return self.end == len(self.batches)

    def __iter__(self) -> Iterator[slice]:
        """The batches of each round; ``over`` is to be called after each."""
        while self.done < len(self.batches) and (self.running or not self.names):
            yield slice(self.done, self.end)

    def over(self, outcome: Outcome, seconds: float = 0.0, comparing: float = 0.0, running: float = 0.0) -> None:
        """The round has taken so many seconds, of which so many for statistics and in forwards."""
        self.done = self.end
        reading = seconds - comparing - running
        self.spent += seconds
        self.reading, self.comparing, self.walks = self.reading + reading, self.comparing + comparing, self.walks + 1
        if self._after:
            self.left |= dict.fromkeys(self._after(self, outcome), self.done)
            self.running = [name for name in self.running if name not in self.left]

    def progress(self, whole: Progress, before: float = 0.0, part: float = 1.0) -> Progress:
        """Of the round that comes next, or a ``part`` of it after what came ``before``, as a part of the whole."""
        first, end, total = self.done, self.end, len(self.batches)

        def told(phase: str, share: float) -> None:
            whole(phase, (first + (before + part * share) * (end - first)) / total)

        return told

    @property
    def end(self) -> int:
        """Batches that will have been taken after the next round."""
        return self._end(self.done)

    def _end(self, done: int) -> int:
        total = len(self.batches)
        if self._after is None:
            return total
        enough = _enough(self.batches)
        if done < enough:  # something to look at soon, and then an interval
            return min(1 if enough > 2 and not done else enough, total)
        return min(math.ceil(GROWTH * done), total)

    def chunks(self, batches: int | None = None) -> int:
        """In so many batches; None for all."""
        return sum(len(batch.chunks) for batch in self.batches[:batches])

    def looks_after(self, done: int) -> int:
        """How often it will be looked at who goes on, after so many batches and until the last."""
        looks = 0
        while self._after and done < len(self.batches):
            done = self._end(done)
            looks += self.chunks(done) >= MIN_BLOCKS
        return looks


def _enough(batches: Sequence[Batch]) -> int:
    """How many of the first batches have as many chunks as an interval takes."""
    chunks = 0
    for number, batch in enumerate(batches, 1):
        chunks += len(batch.chunks)
        if chunks >= MIN_BLOCKS:
            return number
    return len(batches)
