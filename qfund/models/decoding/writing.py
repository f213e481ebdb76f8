"""Text written token by token, with a cache, as transformers' ``generate`` writes it without drawing.

A loop of our own because every step's logits are looked at in several precisions while they are made, and none of them
is kept longer than that. Tests hold it to ``generate(do_sample=False, num_beams=1)``, token for token.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation import logits_process as processors

from qfund.core.errors import UnsupportedModel
from qfund.models.decoding.cache import rounding
from qfund.models.decoding.reading import in_turns
from qfund.models.forward import arithmetic, explained
from qfund.precisions.caches import kept, parts, waits
from qfund.precisions.precision import Precision


class Writer:
    """One text under way in one model. ``scores`` says what could come next, ``take`` what does.

    Args:
        ids: [tokens] of the prompt, which an encoder reads where there is one.
        start: the token that a decoder starts with; None where the prompt itself is gone on with.
        limit: new tokens at most.
        kv: how keys and values are rounded where they are written (``precisions.caches``); None as they are computed.

    Raises:
        UnsupportedModel: a cache that cannot be rounded, named.
    """

    def __init__(
        self,
        model: Any,
        row: Precision,
        ids: Sequence[int],
        start: int | None,
        limit: int,
        kv: str | None = None,
    ) -> None:
        self._model, self._row = model, row
        self._accepted = inspect.signature(model.forward).parameters
        prompt = torch.tensor([list(ids)], device=model.device)
        self._settings: GenerationConfig = getattr(model, "generation_config", None) or GenerationConfig()
        self._fixed: dict[str, Any] = {}
        self._ids = prompt
        if start is not None:
            named = self._settings.decoder_start_token_id
            self._ids = torch.tensor([[named if isinstance(named, int) else start]], device=model.device)
            self._fixed = self._encoded(prompt)
        self._first, self._waits = (kept(kv)[0], waits(kv)) if kv else (0, 0)
        self._cache: Any = rounding(model.config, *parts(kv), self._first, self._waits) if kv else None
        self._new = self._ids  # what the model has not read yet
        begin = self._ids.shape[1]
        self._processors = _processors(self._settings, begin, begin + limit, model.device)
        self.ends = frozenset(_as_list(self._settings.eos_token_id))

    def _encoded(self, prompt: Tensor) -> dict[str, Any]:
        """What an encoder makes of the prompt, once."""
        mask = torch.ones_like(prompt)
        read = self._run(self._model.get_encoder(), {"input_ids": prompt, "attention_mask": mask})
        return {"encoder_outputs": read, "attention_mask": mask}

    def scores(self) -> Tensor:
        """[vocabulary] in float32, after what the checkpoint's own settings change (suppressed tokens become −∞)."""
        decodes = bool(self._fixed)
        arguments = dict(self._fixed)
        if self._new.shape[1] > 1:
            self._read_ahead()
        arguments["decoder_input_ids" if decodes else "input_ids"] = self._new
        if not decodes and "attention_mask" in self._accepted:
            arguments["attention_mask"] = torch.ones_like(self._ids)
        if "logits_to_keep" in self._accepted:
            arguments["logits_to_keep"] = 1
        if "use_cache" in self._accepted:
            arguments["use_cache"] = True
        if self._cache is not None:
            arguments["past_key_values"] = self._cache
        output = self._run(self._model, arguments)
        if not isinstance(getattr(output, "logits", None), Tensor):
            raise UnsupportedModel(
                f"{type(self._model).__name__} gives no logits, so there is nothing to choose from.",
                "Choose another model.",
            )
        self._cache = getattr(output, "past_key_values", None)
        logits = output.logits[:, -1].to(torch.float32, copy=True)
        ids: Any = self._ids
        with _explained("tokens, penalties"):
            found: Tensor = self._processors(ids, logits)[0]
        return found

    def _read_ahead(self) -> None:
        """All but the last tokens of a prompt, as many at a time as wait to be rounded together."""
        prompt, pieces = self._new, in_turns(self._new.shape[1], self._first, self._waits)
        for begin, end in pieces[:-1]:
            arguments = {"input_ids": prompt[:, begin:end], "past_key_values": self._cache, "use_cache": True}
            if "attention_mask" in self._accepted:
                arguments["attention_mask"] = torch.ones_like(self._ids[:, :end])
            self._run(self._model, arguments)
        self._new = prompt[:, pieces[-1][0] :]

    def take(self, token: int) -> None:
        """Go on with this token."""
        taken = torch.tensor([[token]], device=self._ids.device)
        self._ids = torch.cat([self._ids, taken], 1)
        # A model that gave no cache (a state space, the lesson's) reads everything anew.
        self._new = self._ids if self._cache is None else taken

    @torch.inference_mode()
    def _run(self, module: Any, arguments: dict[str, Any]) -> Any:
        with explained(self._model, self._row, "write"), arithmetic(self._row):
            return module(**arguments)


def greedy(model: Any, row: Precision, ids: Sequence[int], limit: int) -> list[int]:
    """The tokens that a causal model goes on with, the end token too; fewer where its scores are not finite."""
    writer, found = Writer(model, row, ids, None, limit), list[int]()
    while len(found) < limit:
        scores = writer.scores()
        if scores.isnan().any() or (scores == torch.inf).any() or (scores == -torch.inf).all():
            break
        found.append(int(scores.argmax()))
        if found[-1] in writer.ends:
            break
        writer.take(found[-1])
    return found


def _as_list(value: Any) -> list[int]:
    return [] if value is None else value if isinstance(value, list) else [int(value)]


#: What a checkpoint's generation config may ask of every step, in the order in which transformers does it: a field, and
#: what makes the processor of its value, the length of the prompt, the longest text and the end tokens.
_Made = Callable[[Any, int, int, list[int], Any], Any]
_SETTINGS: tuple[tuple[str, _Made], ...] = (
    ("repetition_penalty", lambda value, *_: processors.RepetitionPenaltyLogitsProcessor(value)),
    ("no_repeat_ngram_size", lambda value, *_: processors.NoRepeatNGramLogitsProcessor(value)),
    (
        "bad_words_ids",
        lambda value, _begin, _most, ends, _on: processors.NoBadWordsLogitsProcessor(value, ends or None),
    ),
    (
        "min_length",
        lambda value, _begin, _most, ends, on: (
            processors.MinLengthLogitsProcessor(value, ends, device=on) if ends else None
        ),
    ),
    (
        "min_new_tokens",
        lambda value, begin, _most, ends, on: (
            processors.MinNewTokensLengthLogitsProcessor(begin, value, ends, device=on) if ends else None
        ),
    ),
    ("forced_bos_token_id", lambda value, *_: processors.ForcedBOSTokenLogitsProcessor(value)),
    (
        "forced_eos_token_id",
        lambda value, _begin, most, _ends, on: processors.ForcedEOSTokenLogitsProcessor(most, value, device=on),
    ),
    ("suppress_tokens", lambda value, _b, _m, _e, on: processors.SuppressTokensLogitsProcessor(value, device=on)),
)
_NEUTRAL: tuple[Any, ...] = (None, 0, 1.0, [])


def _processors(settings: GenerationConfig, begin: int, most: int, device: Any) -> LogitsProcessorList:
    ends = _as_list(settings.eos_token_id)
    found = LogitsProcessorList()
    for name, make in _SETTINGS:
        value = getattr(settings, name, None)
        # A token id may be 0.
        if value is None or (not name.endswith("_id") and value in _NEUTRAL):
            continue
        with _explained(f"{name} = {repr(value)[:100]}"):
            processor = make(value, begin, most, ends, device)
        if processor is not None:
            found.append(processor)
    if settings.begin_suppress_tokens:
        first = begin + (begin <= 1 and settings.forced_bos_token_id is not None)
        with _explained("begin_suppress_tokens"):
            found.append(
                processors.SuppressTokensAtBeginLogitsProcessor(settings.begin_suppress_tokens, first, device=device)
            )
    return found


@contextmanager
def _explained(setting: str) -> Iterator[None]:
    """Processors raise whatever they raise for a setting that makes no sense."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise UnsupportedModel(
            f"The checkpoint's settings for generation make no sense ({setting}): {error}", "Check its config files."
        ) from error


def ignored(settings: GenerationConfig | None) -> list[str]:
    """What a checkpoint asks for that is no part of plain greedy decoding, in words."""
    said = []
    if settings is not None and (settings.num_beams or 1) > 1:
        said.append(
            f"The checkpoint asks for a search with {settings.num_beams} beams; here texts are written greedily."
        )
    others = ("encoder_repetition_penalty", "encoder_no_repeat_ngram_size", "sequence_bias", "guidance_scale")
    unused = [name for name in others if getattr(settings, name, None) not in _NEUTRAL]
    return said + [f"The checkpoint's {name} is not used." for name in unused]
