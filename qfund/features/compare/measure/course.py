"""One comparison from its first round to its last: what is told, kept and decided after each."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from qfund.core import machine
from qfund.core.intervals import MIN_BLOCKS, MOST_BLOCKS
from qfund.core.metrics.estimates import estimates
from qfund.core.progress import Progress, Resumable, Sharing, wants
from qfund.features.compare.measure import noise as noises
from qfund.features.compare.measure import streamed, whole
from qfund.features.compare.measure.chance import LEAST_CHANCE, chance
from qfund.features.compare.measure.files import Files
from qfund.features.compare.measure.kept import Floor, Rest
from qfund.features.compare.measure.rounds import Rounds
from qfund.features.compare.measure.runs import Outcome
from qfund.features.compare.request.decision import decide
from qfund.features.compare.request.report import NoiseRun, Report
from qfund.features.compare.request.simultaneous import comparisons
from qfund.features.compare.request.spec import NOISE, Spec
from qfund.models.cache import model_cache
from qfund.models.comparison.positions import Candidate
from qfund.models.inputs import Prepared
from qfund.models.opened import Opened
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS

#: A model of as many weights waits for its noise: what is known after the first round is told before.
_LARGE = 100_000_000
#: Bytes of a model that is compared in less time than it takes to look at all that is mapped here.
_TINY = 1 << 20


@dataclass(slots=True)
class Course:
    """
    Attributes:
        reported: the report of what there is, given the outcome, this, and whether it goes on.
        noise: of the reference, as far as it is known.
    """

    spec: Spec
    opened: Opened
    files: Files
    prepared: Prepared
    progress: Progress
    reported: Callable[[Outcome, "Course", bool], Report]
    noise: tuple[NoiseRun, ...] = ()
    rounds: Rounds = field(init=False)
    _rest: Rest = field(init=False)
    _floor: Floor = field(init=False)
    _varied: tuple[noises.Noise, ...] = ()

    def run(self, sizes: Mapping[str, int]) -> Outcome:
        """Streamed where that can be done, whole where not.

        Raises:
            QfundError: anything that is wrong with the checkpoint or the input.
        """
        spec, found, task, batches = self.spec, self.opened.as_read, self.opened.task, self.prepared.batches
        machine.give_back()  # what reading the text took, and starting
        if sum(tensor.bytes for tensor in found.tensors.values()) > _TINY:
            machine.leave_files()
        self._rest = Rest(spec, found, self.files, batches)
        after = self._after if isinstance(self.progress, Sharing) or self.races else None
        begun = self._rest.begun() if self._goes_on else None
        self.rounds = Rounds(batches, spec.candidates, after, begun)
        self.rounds.remembered, self.rounds.kept = self._goes_on, self._keeps
        if any(PRECISIONS[name].family == STORED for name in spec.precisions):
            why = "what is quantised already is loaded as its library does it"
        else:
            now = self._noise_to_measure()
            answer = streamed.streamed_or_why_not(
                spec, found, self.files, task, self.rounds, now, model_cache().budget, self.progress
            )
            if isinstance(answer, Outcome):
                self._take_noise(answer)
                self._noise_alone()
                return answer
            why = answer
        self._varied = ()
        cache = model_cache()
        return whole.measure_whole(spec, found, self.files, task, self.rounds, sizes, cache, why, self.progress)

    @property
    def _keeps(self) -> bool:
        return isinstance(self.progress, Resumable)

    @property
    def _goes_on(self) -> bool:
        """Whether what was kept before is used."""
        return isinstance(self.progress, Resumable) and not self.progress.fresh

    @property
    def races(self) -> bool:
        """Whether candidates leave when they are decided. Several texts count the same, so none may be left out: all
        are read before anything is."""
        return self.spec.until is not None and len(set(self.prepared.texts_of_chunks)) < 2

    def _after(self, rounds: Rounds, outcome: Outcome) -> Collection[str]:
        """Tell and keep what there is; the candidates that leave."""
        going_on = rounds.done < len(rounds.batches)
        self._take_noise(outcome)
        looked_at = rounds.running if rounds.chunks(rounds.done) >= MIN_BLOCKS else []
        for name in looked_at:
            rounds.looks[name] = rounds.looks.get(name, 0) + 1
        if going_on and wants(self.progress) and isinstance(self.progress, Sharing):
            self.progress.so_far(self.reported(outcome, self, True))
        self._noise_alone()
        leaving: list[str] = []
        if going_on and looked_at and self.races:
            leaving = self._leaving(self.reported(outcome, self, True))
        if self._keeps:
            self._rest.keep(outcome.gathered, self.spec.candidates, outcome.runs, rounds.at(leaving))
        machine.give_back()
        return leaving

    def _leaving(self, report: Report) -> list[str]:
        """Those of the running candidates that are decided, and those that the rest would hardly decide."""
        assert self.spec.until is not None
        rounds, leaving = self.rounds, []
        read = rounds.chunks(rounds.done) / rounds.chunks()
        for row in decide(report, self.spec.until):
            if row.precision not in rounds.running:
                continue
            if row.state == "inconclusive":
                looks = rounds.looks[row.precision]
                every = looks, looks + rounds.looks_after(rounds.done)
                now, end = (comparisons(len(report.results), count, rounds.planned) for count in every)
                if chance(row.findings, read, now, end, min(MOST_BLOCKS, rounds.chunks())) >= LEAST_CHANCE:
                    continue
                rounds.open.append(row.precision)
            leaving.append(row.precision)
        return leaving

    def _noise_to_measure(self) -> tuple[noises.Noise, ...]:
        """What is to be run together with the first round; of a large model that has several, after it."""
        if NOISE in self.spec.without:
            return ()
        batches, file = self.prepared.batches, self.files.get(self.spec.reference)
        found = self.opened.as_read
        self._varied = noises.ways(self.spec.reference, found, batches, file.checkpoint if file else None)
        few = batches[: max((row.way.batches or 0 for row in self._varied), default=0)]
        read = (file.checkpoint if file else None) or found
        self._floor = Floor(self.spec, read, few, [row.name for row in self._varied])
        kept = self._floor.get() if self._goes_on else None
        if kept is not None:
            self.noise, self._varied = kept, ()
        large = sum(tensor.elements for tensor in found.tensors.values()) > _LARGE
        # The first batches must be in one round with the reference, whose difference from itself it is.
        together = not self.rounds.done and len(few) <= self.rounds.end and (not large or self.rounds.single)
        return self._varied if together else ()

    def _take_noise(self, outcome: Outcome) -> None:
        """Of a walk in which it was measured."""
        if outcome.noise and self._varied:
            candidates = outcome.gathered.comparison.candidates
            self.noise = tuple(_noise_run(row, candidates[row.way.name], self.prepared) for row in outcome.noise)
            if self._keeps:
                self._floor.put(self.noise)
        if outcome.noise:
            self._varied = ()

    def _noise_alone(self) -> None:
        """Where it waited."""
        if not self._varied:
            return
        started, done = time.perf_counter(), self.rounds.done / len(self.prepared.batches)
        self.progress("measuring what the reference differs from itself by", done)
        batches = self.prepared.batches[: max(row.way.batches or 0 for row in self._varied)]
        budget = model_cache().budget
        found = streamed.measure_noise(
            self.spec, self.opened.as_read, self.files, self.opened.task, batches, self._varied, budget
        )
        if found:
            self._take_noise(found)
        self._varied = ()
        self.rounds.noise += time.perf_counter() - started
        self.rounds.spent += time.perf_counter() - started


def _noise_run(row: noises.Noise, candidate: Candidate, prepared: Prepared) -> NoiseRun:
    positions = candidate.positions()
    vectors = (positions.mean_abs, positions.hidden_mean_abs)
    count = next((len(vector) for vector in vectors if vector is not None), 0)
    return NoiseRun(row.name, row.meaning, count, estimates(positions, prepared.texts_of_chunks))
