"""What all trainings share: their options, and the optimizer with its schedule."""

import argparse
import math
from pathlib import Path

import torch

WARM_UP = 100  # steps


def parser(description: str | None, out: str, **defaults: float) -> argparse.ArgumentParser:
    """``--out``, ``--minutes`` and an option for each default, of its type."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=Path(out))
    made.add_argument("--minutes", type=float, default=math.inf, help="finish the schedule by then, at the latest")
    for name, default in defaults.items():
        made.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return made


class Descent:
    """AdamW whose rate rises over ``WARM_UP`` steps and falls along a cosine to ``least`` of its peak; gradients are
    clipped to a norm of 1. Vectors (biases, norms) do not decay."""

    def __init__(self, model: torch.nn.Module, rate: float, least: float, decay: float, beta: float) -> None:
        self._parameters, self._rate, self._least = list(model.parameters()), rate, least
        matrices = [parameter for parameter in self._parameters if parameter.dim() >= 2]
        vectors = [parameter for parameter in self._parameters if parameter.dim() < 2]
        self._optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=rate,
            betas=(0.9, beta),
            fused=True,
        )
        self.steps = 0

    def step(self, loss: torch.Tensor, share: float) -> None:
        """Down the gradient of ``loss``, where ``share`` (0 to 1) of the schedule is behind."""
        cosine = self._least + (1 - self._least) * 0.5 * (1 + math.cos(math.pi * share))
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * min(1.0, (self.steps + 1) / WARM_UP) * cosine
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self.steps += 1
