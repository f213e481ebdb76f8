"""How much text goes through models at once: what was the fastest for these models here, as far as it was measured.

Rounds, noise and what is kept of them count in batches as ``models.inputs`` makes them. Where models stay in memory,
forwards take the same examples in other batches, which changes last bits and nothing else.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.processor import cpu_name
from qfund.features.compare.request.report import BatchFacts
from qfund.models.inputs import Batch
from qfund.models.inputs.regrouping import regrouped
from qfund.models.tasks import Task
from qfund.stream.begun import disk, place
from qfund.stream.streamed import Streamed

#: Multiples of a batch that are tried, where there is room.
TRIED = (0.25, 0.5, 1.0, 2.0)
#: Bytes that outputs of all models, and inner states of those that run, may take together.
ROOM = 64 * 1024**2
#: Vectors as wide as its hidden state that a token has while it is in a block, about.
_INNER = 20
#: What is tried takes turns, so often. A text that is not twice as long is read as usual.
_TURNS = 3
#: Another size is not worth other last bits unless it takes so much less.
_FASTER = 0.97


class Sizes:
    """
    Attributes:
        tried: how many times as long batches are that are measured, ``usual`` among them.
        chosen: the multiple that was measured to be the best; None as long as nothing is.
    """

    def __init__(
        self, walk: Streamed, found: Checkpoint, task: Task, batches: Sequence[Batch], chosen: float | None, kept: bool
    ) -> None:
        """``chosen`` is what was begun with; where nothing was, what is ``kept`` of earlier measurements counts."""
        self.walk, self.chosen = walk, chosen
        self.usual, self.tried = _possible(walk, task, batches) if walk.held else (1.0, [1.0])
        self._most, self._ratios = 0, list[dict[float, float]]()
        forms = {(*part.shape[1:],) for batch in batches for part in batch.arguments.values()}
        rows = sorted(walker.way.row.name for walker in walk.walkers if walker.way.batches is None)
        self._key = ("batches", *place(found), cpu_name(), *rows, repr(sorted(forms)), str(walk.lanes.count))
        self._long = 2 * _TURNS * self._turn <= len(batches)
        if kept and chosen is None and len(self.tried) > 1:
            self._remember()

    def parts(self, batches: Sequence[Batch], noise: int) -> Iterator[list[Batch]]:
        """What is run in turn of the batches of a round. The noise is measured on so many of the first ones, of which
        no batch reaches beyond them."""
        if not self.walk.held:
            yield list(batches)
            return
        first, rest = self._sized(batches[:noise]), batches[noise:]
        if noise:
            for walker in self.walk.walkers:
                if walker.way.batches is not None:
                    walker.way = replace(walker.way, batches=len(first))
        if turns := self._turns_in(rest):
            run, places = list(first), list[dict[float, range]]()
            for turn in range(turns):
                places.append({})
                for number, times in enumerate(self.tried):
                    start = (turn * len(self.tried) + number) * self._unit
                    part = regrouped(rest[start : start + self._unit], times)
                    places[-1][times] = range(len(run), len(run) + len(part))
                    run += part
            yield run
            self._learn(run, places)
            self._most = max(len(run[batch].chunks) for turn in places for batch in turn[self._times])
            first, rest = [], rest[turns * self._turn :]
        if left := [*first, *self._sized(rest)]:
            yield self._noted(left)

    @property
    def facts(self) -> BatchFacts | None:
        """None where it is as everywhere."""
        if not self.walk.held or not self._most or (self.walk.lanes.count < 2 and self.chosen is None):
            return None
        return BatchFacts(self._most, self.walk.lanes.count, self.chosen is not None)

    @property
    def _times(self) -> float:
        return self.usual if self.chosen is None else self.chosen

    @property
    def _unit(self) -> int:
        """Batches, as they came, that each size takes in a turn."""
        return max(2, int(max(self.tried)))

    @property
    def _turn(self) -> int:
        """Batches, as they came, of a turn."""
        return len(self.tried) * self._unit

    def _turns_in(self, batches: Sequence[Batch]) -> int:
        """How many turns are taken in these."""
        measuring = self.chosen is None and self._long and len(self.tried) > 1
        return min(_TURNS - len(self._ratios), len(batches) // self._turn) if measuring else 0

    def _sized(self, batches: Sequence[Batch]) -> list[Batch]:
        return regrouped(batches, self._times)

    def _noted(self, batches: list[Batch]) -> list[Batch]:
        self._most = max(self._most, *(len(batch.chunks) for batch in batches))  # a text's last one is shorter
        return batches

    def _learn(self, run: Sequence[Batch], turns: list[dict[float, range]]) -> None:
        """By the seconds of forwards, as a ratio within a turn: what happens beside is fair to all sizes."""
        walkers = [walker for walker in self.walk.walkers if walker.way.batches is None]

        def seconds(part: range) -> float:
            """Of a token."""
            tokens = sum(run[batch].arguments["input_ids"].numel() for batch in part)
            return sum(walker.spent[batch] for walker in walkers for batch in part) / tokens

        for turn in turns:
            usual = seconds(turn[self.usual])
            self._ratios.append({times: seconds(part) / usual for times, part in turn.items()})
        if len(self._ratios) == _TURNS:
            middle = {times: statistics.median(turn[times] for turn in self._ratios) for times in self.tried}
            best = min(middle, key=middle.__getitem__)
            self.chosen = best if middle[best] < _FASTER else self.usual

    def keep(self) -> None:
        """For whoever compares these models here again."""
        if self.chosen is not None and (kept := disk()).limit:
            kept.write(self._key, {"": torch.zeros(1)}, {"times": str(self.chosen)})

    def _remember(self) -> None:
        kept = disk()
        found = kept.read(self._key) if kept.limit else None
        self.chosen = next((times for times in self.tried if found and found[1].get("times") == str(times)), None)


def _possible(walk: Streamed, task: Task, batches: Sequence[Batch]) -> tuple[float, list[float]]:
    """The usual multiple: a lane's part of a batch, or more of a text where that takes little. And those that make
    other batches, for which there is room."""
    ids = [batch.arguments["input_ids"] for batch in batches if "input_ids" in batch.arguments]
    chunks, tokens = max(map(len, ids), default=1), max((part.numel() for part in ids), default=0)
    config = walk.walkers[0].frame.model.config.get_text_config()
    width = getattr(config, "hidden_size", 0) or 0
    outputs = getattr(config, "vocab_size", 0) if task.gives == "tokens" else width
    models = sum(walker.way.batches is None for walker in walk.walkers)
    batch = tokens * 4 * (models * outputs + walk.lanes.count * _INNER * width)
    part = max(min(TRIED), 1 / walk.lanes.count)
    usual = max((times for times in TRIED if part < times <= 1 and 0 < times * batch <= ROOM / 2), default=part)
    found = {max(2, int(chunks * usual)): usual}
    for times in TRIED:
        if int(chunks * times) >= 2 and times * batch <= ROOM:
            found.setdefault(int(chunks * times), times)
    return usual, sorted(found.values()) if chunks > 1 else [usual]
