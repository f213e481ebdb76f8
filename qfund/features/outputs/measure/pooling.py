"""Hidden states of one text → its vector: by a pooling that was asked for, or as the checkpoint says of itself."""

import math
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from qfund.checkpoints import sentences
from qfund.checkpoints.sentences import DENSE, LAYER_NORM, MODES, SentenceModel, Step
from qfund.core.errors import CorruptCheckpoint, UnsafeCheckpoint, UnsupportedModel
from qfund.features.outputs.request.embeddings import POOLINGS
from qfund.models import inputs
from qfund.models.forward import run
from qfund.precisions.precision import Precision

_MODES: dict[str, Callable[[Tensor], Tensor]] = {
    "cls": lambda states: states[0],
    "max": lambda states: states.max(0).values,
    "mean": lambda states: states.mean(0),
    "mean_sqrt_len_tokens": lambda states: states.sum(0) / math.sqrt(len(states)),
    "weightedmean": lambda states: _weights(states) @ states / _weights(states).sum(),
    "lasttoken": lambda states: states[-1],
}
_ASKED = {"mean": "mean", "first": "cls", "last": "lasttoken"}
_ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid", "LeakyReLU", "Mish", "ELU", "Softsign")


def _weights(states: Tensor) -> Tensor:
    return torch.arange(1, len(states) + 1, dtype=states.dtype, device=states.device)


class Pool:
    """A model and one text → [features]. ``prompts``: batch → tokens at its start that are left out of the pooling."""

    def __init__(self, architecture: str, encoder: bool, how: str, own: SentenceModel | None) -> None:
        self._architecture, self._encoder = architecture, encoder
        self._how = how if own is None else ""
        self._modes = (_ASKED.get(how, ""),) if own is None else own.modes
        self._after = [_step(step) for step in own.steps] if own else []
        self.prompts: dict[int, int] = {}

    def __call__(self, model: Any, batch: inputs.Batch, row: Precision) -> Tensor:
        # Without the head, which would only cost time; of an encoder and a decoder, the encoder has read the text.
        output = run(model.get_encoder() if self._encoder else model.base_model, batch, row)
        if self._how == "pooler":
            pooled = getattr(output, "pooler_output", None)
            if not isinstance(pooled, Tensor):
                raise UnsupportedModel(f"{self._architecture} has no pooler.", "Choose another pooling: mean.")
            return pooled[0]
        states = getattr(output, "last_hidden_state", None)
        if not isinstance(states, Tensor):
            raise UnsupportedModel(f"{self._architecture} gives no hidden states.", "Choose another model.")
        tokens = states[0].double()[self.prompts.get(id(batch), 0) :]
        vector = torch.cat([_MODES[mode](tokens) for mode in self._modes])
        for step in self._after:
            vector = step(vector)
        return vector


def described(how: str, own: SentenceModel | None) -> str:
    """How vectors come about, in a sentence's words."""
    if own is None:
        return POOLINGS[how]
    said = [" joined to ".join(MODES[mode] for mode in own.modes)]
    dense = [step for step in own.steps if step.kind != sentences.NORMALIZE]
    said += ["through the folder's own layers in FP32"] if dense else []
    said += ["scaled to length 1"] if len(dense) < len(own.steps) else []
    return ", ".join([*said, "as the checkpoint's folder says"])


def _step(step: Step) -> Callable[[Tensor], Tensor]:
    """In double precision, of weights as they are stored.

    Raises:
        UnsafeCheckpoint: they are pickled.
        CorruptCheckpoint: they are not those of such a step.
        UnsupportedModel: an activation that is none of torch's usual ones.
    """
    if step.kind == sentences.NORMALIZE:
        return lambda vector: nn.functional.normalize(vector, dim=-1)
    again = "Save the folder again with a newer sentence-transformers, or choose a pooling of your own: --pooling mean."
    path = step.folder / "model.safetensors"
    if not path.is_file():
        raise UnsafeCheckpoint(f"{step.folder} holds no {path.name}; pickled weights are not read.", again)
    prefix = "linear" if step.kind == DENSE else "norm"
    try:
        held = {name: tensor.double() for name, tensor in load_file(path).items()}
        weight, bias = held[f"{prefix}.weight"], held.get(f"{prefix}.bias")
    except Exception as error:  # safetensors raises its own kind
        raise CorruptCheckpoint(f"{path} holds no weights of a {step.kind}: {error}.", again) from error
    if step.kind == LAYER_NORM:
        return lambda vector: nn.functional.layer_norm(vector, weight.shape, weight, bias)
    name = step.activation.rpartition(".")[2]
    if name not in _ACTIVATIONS:
        raise UnsupportedModel(f"{step.folder} has the activation {name[:40]!r}.", again)
    activation: nn.Module = getattr(nn, name)()

    def dense(vector: Tensor) -> Tensor:
        if vector.shape[0] != weight.shape[-1]:
            raise CorruptCheckpoint(f"{step.folder} takes {weight.shape[-1]} features, not {vector.shape[0]}.", again)
        found: Tensor = activation(nn.functional.linear(vector.cpu(), weight, bias))
        return found

    return dense
