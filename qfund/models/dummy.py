"""The lesson's toy model, as a transformers model like any other: ``DummyModel`` of ``models/dummy``."""

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class DummyConfig(PretrainedConfig):
    model_type = "qfund-dummy"

    def __init__(self, vocab_size: int = 2, max_position_embeddings: int = 2, **kwargs: Any) -> None:
        self.vocab_size = vocab_size
        self.max_position_embeddings = max_position_embeddings
        super().__init__(**kwargs)


class DummyModel(PreTrainedModel):
    """Embedding → linear → layer norm → linear → layer norm → linear, every width 2.

    ``input_ids`` [batch, positions] of 0 and 1 → logits [batch, positions, 2]. There is no attention: a position's
    logits depend on its token alone.
    """

    config_class = DummyConfig

    def __init__(self, config: DummyConfig) -> None:
        super().__init__(config)
        width = config.vocab_size
        # The order of creation is the lesson's: it decides which random numbers each layer draws.
        self.token_embedding = nn.Embedding(width, width)
        self.linear_1 = nn.Linear(width, width)
        self.layernorm_1 = nn.LayerNorm(width)
        self.linear_2 = nn.Linear(width, width)
        self.layernorm_2 = nn.LayerNorm(width)
        self.head = nn.Linear(width, width)
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        """Keep what the layers drew themselves, as the lesson does."""

    def get_input_embeddings(self) -> nn.Module:
        return self.token_embedding

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, input_ids: torch.Tensor, **_: Any) -> CausalLMOutput:
        hidden = self.token_embedding(input_ids)
        hidden = self.layernorm_1(self.linear_1(hidden))
        hidden = self.layernorm_2(self.linear_2(hidden))
        return CausalLMOutput(logits=self.head(hidden))


AutoConfig.register(DummyConfig.model_type, DummyConfig, exist_ok=True)
AutoModelForCausalLM.register(DummyConfig, DummyModel, exist_ok=True)
