"""What rounding a module's output costs at the model's, foretold to second order from one backward pass per batch.

KL(p ‖ p′) between outputs that differ by little is ½ δᵀFδ, with Fisher's information F = E[g gᵀ] and g the gradient of
log p(t) for t drawn from p itself (S. Kullback, "Information Theory and Statistics", 1959, chapter 2.6). So tokens are
drawn from the reference's own distributions, one at each position that is compared, their log-likelihood goes backward
once, and a module whose output y moves by δy scores ½ Σ (g·δy)² over its positions: those are taken for independent of
each other, which is what lets one draw do.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qfund.core.errors import OutOfBudget, UnsupportedModel
from qfund.core.progress import Progress
from qfund.core.units import bytes_text
from qfund.features.layers.measure.opening import Opening
from qfund.models.cache import model_cache
from qfund.models.forward import arguments, arithmetic, explained
from qfund.models.inputs import Batch
from qfund.stream.borrowing import borrowed

#: Of the draws, so that a request has one answer.
SEED = 0

#: (module, precision) → nat.
Scores = dict[tuple[str, str], float]


@dataclass(slots=True)
class _Call:
    """One run of a module in the reference: what it was given, and what it gave."""

    name: str
    args: tuple[Any, ...]
    named: dict[str, Any]
    output: Tensor


def scores(opened: Opening, progress: Progress) -> Scores:
    """Of every module in every precision that converts it: the mean KL over the input's positions, in nat, that its
    rounding alone should cost.

    Raises:
        OutOfBudget: the whole model does not fit in memory in all these precisions at once.
        UnsupportedModel: its outputs are no distributions, or nothing leads back from them.
    """
    if opened.opened.task.gives == "hidden states":
        raise UnsupportedModel(
            f"{opened.opened.found.architecture} gives hidden states and no distribution over anything, so no gradient "
            "says what its outputs lose.",
            "Leave the gradients out, or choose a model with a head.",
        )
    names = [opened.reference.name, *(row.name for row in opened.rows)]
    needed, budget = sum(opened.opened.sizes[name] for name in names), model_cache().budget
    if needed > budget:
        raise OutOfBudget(
            f"Gradients take the whole model in memory in all precisions at once, {bytes_text(needed)}; this process "
            f"may hold {bytes_text(budget)}.",
            "Leave the gradients out (modules by themselves and single swaps are streamed), or name fewer precisions.",
        )
    found: Scores = {(name, row): 0.0 for row, held in opened.places.of.items() for name in held}
    positions = 0

    def step(phase: str) -> None:
        progress(phase, 0.0)

    with opened.opened.loaded(names, step) as (reference, *others):
        models = {row.name: (row, other.model) for row, other in zip(opened.rows, others, strict=True)}
        generator = torch.Generator().manual_seed(SEED)  # the processor's: the same draws on every device
        for number, batch in enumerate(opened.prepared.batches):
            progress("gradients", number / len(opened.prepared.batches))
            with explained(reference.model, opened.reference, "be led back through"), torch.inference_mode(False):
                calls, gradients, count = _backward(reference.model, opened, batch, generator)
            positions += count
            with torch.no_grad():
                for call, gradient in zip(calls, gradients, strict=True):
                    for name, (row, model) in models.items():
                        if gradient is None or (call.name, name) not in found:
                            continue
                        forward = borrowed(model.get_submodule(call.name), row, opened.reference)
                        moved = _first(forward(*call.args, **call.named)) - call.output
                        along = (moved.double() * gradient.double()).sum(-1)
                        found[call.name, name] += 0.5 * float(along.square().sum())
    return {key: value / positions for key, value in found.items()}


def _backward(
    model: Any, opened: Opening, batch: Batch, generator: torch.Generator
) -> tuple[list[_Call], tuple[Tensor | None, ...], int]:
    """A forward and its way back: every call of a module, the gradient at what it gave, and how many positions."""
    with torch.enable_grad(), arithmetic(opened.reference), _recorded(model, opened.places.every) as calls:
        logits = model(**arguments(model, batch.arguments, model.device)).logits
        if logits.dim() == 3 and batch.scored is not None:
            logits = logits[batch.scored.to(logits.device)]
        likely = logits.flatten(0, -2).float().log_softmax(-1)
        drawn = torch.multinomial(likely.detach().exp().cpu(), 1, generator=generator).to(likely.device)
        found = torch.autograd.grad(likely.gather(1, drawn).sum(), [call.output for call in calls], allow_unused=True)
    for call in calls:
        call.output = call.output.detach()
    return calls, found, len(likely)


@contextmanager
def _recorded(model: Any, names: Mapping[str, object]) -> Iterator[list[_Call]]:
    """While the block runs, calls of these modules are kept. The first outputs begin what gradients lead back to: no
    weight needs one."""
    calls: list[_Call] = []

    def hook(name: str) -> Callable[..., None]:
        def ran(module: Any, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            first = _first(output)
            if not first.requires_grad:
                first.requires_grad_()
            calls.append(_Call(name, _detached(args), _detached(named), first))

        return ran

    with ExitStack() as stack:
        for name in names:
            handle = model.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True)
            stack.callback(handle.remove)
        yield calls


def _first(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple | list) else output
    return found


def _detached(given: Any) -> Any:
    if isinstance(given, Tensor):
        return given.detach()
    if isinstance(given, tuple):
        return tuple(map(_detached, given))
    if isinstance(given, dict):
        return {name: _detached(value) for name, value in given.items()}
    return given
