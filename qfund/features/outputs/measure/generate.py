"""The measure ``generate``: every precision goes on with the same prompts, token by token beside the reference."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from qfund.core.errors import InvalidInput, UnsupportedModel
from qfund.core.progress import Progress, Streaming
from qfund.features.outputs.request.generation import (
    SCHEMA,
    Candidate,
    Continuation,
    Divergence,
    Example,
    Generation,
    GenerationRequest,
    checked,
)
from qfund.inputs import conversations, prompts
from qfund.models import configs, environment, inputs
from qfund.models.comparison.likely import most_likely
from qfund.models.comparison.positions import TOP
from qfund.models.decoding import writing
from qfund.models.decoding.reading import must_cache
from qfund.models.inputs import chat
from qfund.models.loading import LoadedModel
from qfund.models.opened import Opened, opened
from qfund.precisions.caches import kv_of, weights_of
from qfund.precisions.files import label_of, row_of

_WRITERS = ("causal language model", "sequence-to-sequence model")
#: A text is decoded as a whole from this many tokens before its end: what a token adds depends on those near it.
_WINDOW = 16


def generate(request: GenerationRequest, progress: Progress = lambda phase, share: None) -> Generation:
    """Let the reference and every candidate go on with every prompt.

    Raises:
        UnsupportedModel: a head that writes no text, or a folder without a tokenizer.
        InvalidInput: a prompt that is empty or leaves no room in the model's context.
        QfundError: anything else that is wrong with the request or the model.
    """
    started = time.perf_counter()
    request = checked(request)
    names = (request.reference, *request.weights)
    opening = opened(request, names, request.also, progress)
    if opening.task.name not in _WRITERS:
        raise UnsupportedModel(
            f"{opening.found.architecture} ({opening.task.name}) has no head that writes text.",
            "Choose a causal or sequence-to-sequence language model, or look at this one's classes or embeddings.",
        )
    if request.kv:
        must_cache(opening.found, opening.task)
    asked, notes = _prepare(request, opening)
    opening.size(names)
    run = _Run(request, opening, asked, progress)
    for group in opening.groups(request.reference, _in_order(request)):
        run.group(group)
    return Generation(
        schema=SCHEMA,
        request=request,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment.describe(opening.found.id, opening.revision),
        architecture=opening.found.architecture,
        task=opening.task.name,
        examples=tuple(prompt.example(request.candidates) for prompt in asked),
        notes=(*notes, *opening.notes_of_files, *dict.fromkeys(run.notes)),
        seconds=time.perf_counter() - started,
    )


def _in_order(request: GenerationRequest) -> list[str]:
    """What runs the same weights with another cache after one another."""
    weights = dict.fromkeys((request.reference, *request.weights))
    return [name for own in weights for name in request.candidates if weights_of(name) == own]


@dataclass(slots=True)
class _Prompt:
    """A prompt, and what has been written after it."""

    number: int
    text: str
    ids: list[int]
    start: int | None
    limit: int
    tokenizer: Any
    reference: Continuation | None = None
    candidates: dict[str, Candidate] = field(default_factory=dict)

    def example(self, names: Sequence[str]) -> Example:
        assert self.reference is not None
        ordered = {name: self.candidates[name] for name in names}
        return Example(self.text, len(self.ids), self.limit, self.reference, ordered)


def _prepare(request: GenerationRequest, opening: Opened) -> tuple[list[_Prompt], list[str]]:
    """The prompts as tokens, with what room there is for each, and what is to be said of that."""
    reader = inputs.reader(opening.found)
    writes_on = opening.task.name == "causal language model"
    start = None if writes_on else inputs.decoder_start(opening.found)
    texts = request.prompts if request.prompts is not None else prompts.of(opening.source)
    found: list[_Prompt] = []
    shortened: list[int] = []
    for number, text in enumerate(texts, 1):
        which = f"Prompt {number} of {len(texts)}" if len(texts) > 1 else "The prompt"
        ids = chat.prompt_ids(reader, conversations.of_prompt(text, which), which) if request.chat else reader.ids(text)
        taken = len(ids) if writes_on else 1  # an encoder has its own positions, and the decoder one for its start
        room = request.max_new_tokens
        if reader.longest is not None:
            if (len(ids) >= reader.longest and writes_on) or len(ids) > reader.longest:
                raise InvalidInput(
                    f"{which} is {len(ids):,} tokens long; this model reads at most {reader.longest:,}"
                    f"{', with what it writes' * writes_on}.",
                    "Shorten it.",
                )
            room = min(room, reader.longest - taken)
        if room < request.max_new_tokens:
            shortened.append(room)
        found.append(_Prompt(number, text, ids, start, room, reader.tokenizer))
    notes = []
    if shortened:
        of = f"{len(shortened)} of {len(texts)} prompts" if len(texts) > 1 else "the prompt"
        least = (
            f"{min(shortened):,}" if min(shortened) == max(shortened) else f"{min(shortened):,} to {max(shortened):,}"
        )
        tokens = f"{least} new token{'s' * (max(shortened) > 1)}"
        notes.append(
            f"The context of {reader.longest:,} tokens leaves room for {tokens} after {of}, not "
            f"{request.max_new_tokens:,}."
        )
    if request.chat:
        notes.append("Prompts are messages, written by the checkpoint's own chat template; only answers are compared.")
    elif any(text != text.rstrip(" ") for text in texts) and writes_on:
        notes.append("A prompt ends in a space: most tokens begin with theirs, so that the model may stumble.")
    return found, notes


class _Run:
    """All prompts in all precisions, one group of models in memory after the other."""

    def __init__(self, request: GenerationRequest, opening: Opened, asked: list[_Prompt], progress: Progress) -> None:
        self.request, self.opening, self.asked, self.progress = request, opening, asked, progress
        configs.generation(opening.found.folder)  # what is wrong with it is said before a weight is read
        self.notes: list[str] = []
        self._grouped = self.opening.groups(request.reference, _in_order(request))
        self._all = sum((1 + len(group)) for group in self._grouped) * sum(prompt.limit for prompt in asked)
        self._done = 0.0

    def group(self, names: Sequence[str]) -> None:
        def step(phase: str) -> None:
            self.progress(phase, self._done / self._all)

        with self.opening.loaded([self.request.reference, *names], step) as models:
            self.notes += writing.ignored(getattr(models[0].model, "generation_config", None))
            for prompt in self.asked:
                self._prompt(prompt, names, models)

    def _prompt(self, prompt: _Prompt, names: Sequence[str], models: Sequence[LoadedModel]) -> None:
        shown: dict[str, str] = {}
        reference = self._write(prompt, self.request.reference, models[0], None, shown)
        if prompt.reference is None:  # again beside every group, always the same
            prompt.reference = reference.continuation()
        for name, model in zip(names, models[1:], strict=True):
            text = self._write(prompt, name, model, reference, shown)
            noise = sum(text.noises) / len(text.noises) if text.noises else None
            prompt.candidates[name] = Candidate(text.continuation(), text.divergence, noise)

    def _write(
        self, prompt: _Prompt, name: str, model: LoadedModel, reference: "_Text | None", shown: dict[str, str]
    ) -> "_Text":
        row, kv = row_of(name), kv_of(name)
        which = f", prompt {prompt.number} of {len(self.asked)}" if len(self.asked) > 1 else ""
        text = _Text(self.request, prompt, reference)
        begun = self._done

        def report(written: str, count: int) -> None:
            self.progress(f"writing in {label_of(name)}{which}", (begun + count) / self._all)
            if isinstance(self.progress, Streaming):
                shown[name] = written
                self.progress.show(shown)

        report("", 0)
        writer = writing.Writer(model.model, row, prompt.ids, prompt.start, prompt.limit, kv)
        text.write(writer, report)
        self._done = begun + prompt.limit
        return text


class _Text:
    """One continuation in one precision; a reference keeps its scores for candidates to be compared with."""

    def __init__(self, request: GenerationRequest, prompt: _Prompt, reference: "_Text | None") -> None:
        self._request, self._prompt, self._reference = request, prompt, reference
        self.tokens: list[int] = []
        self.pieces: list[str] = []
        self.probabilities: list[float] = []
        self.scores: list[Tensor] = []
        self.noises: list[float] = []
        self.divergence: Divergence | None = None
        self.ended = "limit"

    def continuation(self) -> Continuation:
        shares = tuple(float(f"{share:.4g}") for share in self.probabilities)
        return Continuation(tuple(self.tokens), tuple(self.pieces), shares, self.ended)

    def write(self, writer: writing.Writer, report: Callable[[str, int], None]) -> None:
        text = ""
        for step in range(self._prompt.limit):
            scores = self._drawn(writer.scores(), step)
            if scores.isnan().any() or (scores == torch.inf).any() or (scores == -torch.inf).all():
                self.ended = "not finite"
                self._diverged(step, scores, None)
                return
            token = int(scores.argmax())
            self._diverged(step, scores, token)
            if self._reference is None:
                self.scores.append(scores)
            self.tokens.append(token)
            self.probabilities.append(float(scores.double().softmax(-1)[token]))
            self.pieces.append(self._piece(token in writer.ends))
            text += self.pieces[-1]
            report(text, step + 1)
            if token in writer.ends:
                self.ended = "end"
                return
            if any(stop in text for stop in self._request.stop):
                self.ended = "stop"
                return
            if step + 1 < self._prompt.limit:
                writer.take(token)

    def _drawn(self, scores: Tensor, step: int) -> Tensor:
        """Scores whose largest is to be taken: with a temperature, the Gumbel-max trick, which draws from the softmax.
        The noise is that of this prompt and step in every precision."""
        if not self._request.temperature:
            return scores
        seed = (self._request.seed * 1_000_003 + self._prompt.number) * 1_000_003 + step
        generator = torch.Generator().manual_seed(seed % 2**63)
        uniform = torch.rand(len(scores), generator=generator, dtype=torch.float64).clamp_(1e-300)
        noise = -(-uniform.log()).log()
        return (scores.double() / self._request.temperature + noise.to(scores.device)).float()

    def _diverged(self, step: int, scores: Tensor, token: int | None) -> None:
        """Compare with the reference at this step, up to the first token that differs."""
        reference = self._reference
        if reference is None or self.divergence is not None or step >= len(reference.tokens):
            return
        wanted = reference.scores[step].double()
        own = reference.tokens[step]
        if token is None:
            top = _top(wanted)
            self.divergence = Divergence(
                step, self._named(top), _shares(wanted, top), (), (0, None), None, None, None, None
            )
            return
        exact = scores.double()
        finite = exact.isfinite() & wanted.isfinite()
        noise = 2**0.5 * float((exact - wanted)[finite].std(correction=0))
        self.noises.append(noise)
        if token == own:
            return
        best = wanted.topk(min(2, len(wanted))).values
        gap = float(wanted[own] - wanted[token])
        top = list(dict.fromkeys([*_top(wanted), *_top(exact)]))
        self.divergence = Divergence(
            step=step,
            pieces=self._named(top),
            reference=_shares(wanted, top),
            candidate=_shares(exact, top),
            chosen=(top.index(own), top.index(token)),
            gap=gap,
            top_gap=float(best[0] - best[-1]),
            moved=gap + float(exact[token] - exact[own]),
            noise=noise,
        )

    def _named(self, tokens: list[int]) -> tuple[str, ...]:
        """Each token as text by itself."""
        tokenizer = self._prompt.tokenizer
        return tuple(tokenizer.decode([token]) or str(tokenizer.convert_ids_to_tokens(token)) for token in tokens)

    def _piece(self, ends: bool) -> str:
        """What the last token adds to the text: nothing where it ends it or leaves a character incomplete."""
        if ends:
            return ""
        decode = self._prompt.tokenizer.decode
        # After the prompt's last tokens, so that a tokenizer that drops a leading space does not drop this one.
        before = [*(self._prompt.ids if self._prompt.start is None else []), *self.tokens[:-1]][-_WINDOW:]
        # Begin where the last incomplete character began, so that it is shown with the token that completes it.
        held = 0
        while held < len(self.pieces) and self.pieces[-1 - held] == "":
            held += 1
        old = before[: len(before) - held]
        whole, known = decode([*before, self.tokens[-1]]), decode(old)
        added: str = whole[len(known) :] if whole.startswith(known) else decode([self.tokens[-1]])
        return "" if added.endswith("\ufffd") else added


def _shares(scores: Tensor, tokens: list[int]) -> tuple[float, ...]:
    """The probabilities of these tokens."""
    return tuple(float(f"{share:.4g}") for share in scores.softmax(-1)[tokens].tolist())


def _top(logits: Tensor) -> list[int]:
    """Numbers of the TOP largest of a vector, equal ones in their order."""
    found: list[int] = most_likely(logits[None])[1][0, :TOP].tolist()
    return found
