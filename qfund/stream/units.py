"""Which modules of a model are read, run and dropped together."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from transformers.pytorch_utils import Conv1D

from qfund.precisions.quantizers.heads import output_heads

BLOCK, EMBEDDING, LAYER, HEAD = "block", "embedding", "layer", "head"
#: Single layers outside of the blocks stay in memory up to this many weights.
_SMALL = 1024**2
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, Conv1D)


@dataclass(frozen=True, slots=True)
class Unit:
    """``modules`` are the names of all that are in it; the resident one, named ``""``, holds what no other does."""

    name: str
    kind: str
    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Units:
    """``streamed`` by name, in the order of the model; ``resident`` stays from the beginning to the end."""

    streamed: dict[str, Unit]
    resident: Unit

    @property
    def head(self) -> Unit | None:
        return next((unit for unit in self.streamed.values() if unit.kind == HEAD), None)


def find(model: nn.Module, layers: bool = True) -> Units:
    """The blocks (elements of the outermost module lists), the output head, embeddings and large single layers.

    Without ``layers``, only blocks and the head: for models whose code multiplies with the weights of such layers
    itself, so that these have to stay.
    """
    names = {module: name for name, module in model.named_modules()}
    blocks = [Unit(names[block], BLOCK, _below(names[block], block)) for block in _blocks(model)]
    inside = {name for block in blocks for name in block.modules}
    found = list(blocks)
    heads = output_heads(model)
    for module, name in names.items():
        if name in inside:
            continue
        if module in heads and len(heads) == 1 and type(module) is nn.Linear:
            found.append(Unit(name, HEAD, (name,)))
        elif layers and sum(weight.numel() for weight in module.parameters(recurse=False)) > _SMALL:
            if isinstance(module, nn.Embedding):
                found.append(Unit(name, EMBEDDING, (name,)))
            elif type(module) in _LAYERS:
                found.append(Unit(name, LAYER, (name,)))
    inside |= {unit.name for unit in found}
    order = {name: place for place, name in enumerate(names.values())}
    streamed = {unit.name: unit for unit in sorted(found, key=lambda unit: order[unit.name])}
    return Units(streamed, Unit("", "resident", tuple(name for name in names.values() if name not in inside)))


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Elements of the outermost lists that have weights and a forward of their own."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            for element in child:
                if isinstance(element, nn.ModuleList | nn.ModuleDict):
                    yield from _blocks(element)
                elif next(element.parameters(), None) is not None:
                    yield element
        else:
            yield from _blocks(child)


def _below(name: str, module: nn.Module) -> tuple[str, ...]:
    return tuple(f"{name}.{inner}" if inner else name for inner, _ in module.named_modules())
