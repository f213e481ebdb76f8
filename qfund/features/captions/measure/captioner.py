"""A vision-to-text model as a function: pictures in, greedy captions and their logits out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import GenerationConfig

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import UnsupportedModel
from qfund.models import configs, forward, inputs
from qfund.models.forward import arithmetic, explained
from qfund.models.tasks import read_config, task_of
from qfund.precisions.precision import Precision

_BATCH_VALUES = 2 * 1024**2  # pixel values of one batch
_BATCH_LOGITS = 32 * 1024**2  # elements of one batch's logits


@dataclass(frozen=True, slots=True)
class Made:
    """A caption as it was made: token ids with the end token, if that came; and the probability of each.

    A probability is NaN where the logits were not finite.
    """

    ids: list[int]
    probabilities: list[float]
    ended: bool


class Captioner:
    """How the captioner of a checkpoint is asked; the models come with every call, one in each precision.

    Attributes:
        longest: tokens that a caption may have.

    Raises:
        UnsupportedModel: the checkpoint is no captioner, or its tokenizer or image processor cannot be used.
    """

    def __init__(self, checkpoint: Checkpoint, wanted: int) -> None:
        task = task_of(checkpoint)
        if task.name != "vision-to-text model":
            raise UnsupportedModel(
                f"{checkpoint.folder.name} is a {task.name} and captions no pictures.",
                "Choose shapes-blip, or another BLIP or vision encoder with a text decoder.",
            )
        self._checkpoint, self._config = checkpoint, read_config(checkpoint)
        self.tokenizer = inputs.open_tokenizer(checkpoint)
        self._is_blip = checkpoint.architecture == "BlipForConditionalGeneration"
        if self._is_blip:
            text = self._config.text_config
            self._start, ends, pad = text.bos_token_id, [text.sep_token_id], text.pad_token_id
        else:
            decoder, generation = self._config.decoder, _generation_config(checkpoint)
            self._start = inputs.decoder_start(checkpoint, self._config)
            ends = _first_named("eos_token_id", generation, self._config, decoder)
            pad = next(iter(_first_named("pad_token_id", generation, self._config, decoder)), None)
        self._ends = [token for token in ends if isinstance(token, int)]
        self._pad = pad if isinstance(pad, int) else self._ends[0] if self._ends else 0
        # The token that starts a caption takes a position too; the last one that is made takes none.
        self.longest = min([wanted, *inputs.position_limits(self._config)])

    def pixel_values(self, images: Sequence[Image.Image]) -> Tensor:
        """[pictures, channels, height, width]."""
        return inputs.pixel_values(self._checkpoint, images, self._config)[0]

    def batching(self, image: Image.Image) -> tuple[int, str]:
        """How many pictures make a batch, and in words how they are made ready."""
        values, said = inputs.pixel_values(self._checkpoint, [image], self._config)
        logits = self.longest * (self._config.get_text_config(decoder=True).vocab_size or 1)
        return max(1, min(32, _BATCH_VALUES // values.numel(), _BATCH_LOGITS // logits)), said

    @torch.inference_mode()
    def generate(self, model: Any, row: Precision, values: Tensor) -> list[Made]:
        """One greedy caption a picture: the likeliest token each time, with none of the checkpoint's own settings
        (beams, penalties).

        Raises:
            UnsupportedModel: the model cannot be run in this precision.
        """
        with self._plainly(model) as settings, explained(model, row), arithmetic(row):
            found = model.generate(
                pixel_values=values.to(model.device, model.dtype),
                return_dict_in_generate=True,
                output_logits=True,
                **settings,
            )
        ids = found.sequences[:, -len(found.logits) :]
        # Step by step: logits of all steps in double precision would be many.
        steps = [step.double().softmax(-1).gather(-1, ids[:, i, None]) for i, step in enumerate(found.logits)]
        chances = torch.cat(steps, 1)
        return [self._cut(*pair) for pair in zip(ids.tolist(), chances.tolist(), strict=True)]

    def _cut(self, ids: list[int], chances: list[float]) -> Made:
        end = next((place for place, token in enumerate(ids) if token in self._ends), None)
        length = len(ids) if end is None else end + 1
        return Made(ids[:length], chances[:length], end is not None)

    def logits_along(self, model: Any, row: Precision, values: Tensor, captions: Sequence[Made]) -> Tensor:
        """[all tokens of the captions, vocabulary]: what the model says at each place when it is given these captions.

        Raises:
            UnsupportedModel: the model cannot be run in this precision.
        """
        lengths = [len(caption.ids) for caption in captions]
        # Padded on the right, where no earlier position sees it.
        rows = [[self._start, *made.ids[:-1]] + [self._pad] * (max(lengths) - len(made.ids)) for made in captions]
        name = "input_ids" if self._is_blip else "decoder_input_ids"
        batch = inputs.Batch({"pixel_values": values, name: torch.tensor(rows)})
        with explained(model, row):
            logits: Tensor = forward.run(model, batch, row).logits
        return torch.cat([row_logits[:length] for row_logits, length in zip(logits, lengths, strict=True)])

    @contextmanager
    def _plainly(self, model: Any) -> Iterator[dict[str, Any]]:
        """Put the checkpoint's own settings of ``generate`` aside; gives what is passed instead."""
        owner = model.text_decoder if self._is_blip else model
        before = owner.generation_config
        owner.generation_config = GenerationConfig(
            bos_token_id=self._start, eos_token_id=self._ends or None, pad_token_id=self._pad
        )
        passed = {} if self._is_blip else {"decoder_start_token_id": self._start}
        try:
            yield {"max_new_tokens": self.longest, "do_sample": False, "num_beams": 1, **passed}
        finally:
            owner.generation_config = before


def _generation_config(checkpoint: Checkpoint) -> GenerationConfig:
    return configs.generation(checkpoint.folder)


def _first_named(name: str, *owners: Any) -> list[Any]:
    for owner in owners:
        value = getattr(owner, name, None)
        if value is not None:
            return value if isinstance(value, list) else [value]
    return []
