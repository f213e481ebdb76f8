"""Every stack of experts in transformers is found by what its code multiplies, and lies as its class says."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import PretrainedConfig

from qfund.precisions.quantizers.plan import plan_conversion, stacked
from qfund.precisions.quantizers.stacks import Stack, stacks

MODELS = Path(transformers.__file__).parent / "models"
#: Its weights are lists of modules, one an expert; or they have two dimensions, and are multiplied by the class above.
NO_STACK = {"DbrxExperts", "DbrxExpertGLU"}


def expert_classes() -> Iterator[tuple[str, str]]:
    """Module and class of everything with experts in its name that makes parameters of its own."""
    for file in sorted(MODELS.glob("*/modeling_*.py")):
        code = file.read_text("utf-8")
        for node in ast.parse(code).body if "Expert" in code else ():  # a parse of all takes seconds of every start
            if isinstance(node, ast.ClassDef) and "Expert" in node.name and "nn.Parameter" in ast.unparse(node):
                yield f"transformers.models.{file.parent.name}.{file.stem}", node.name


CLASSES = [pair for pair in expert_classes() if pair[1] not in NO_STACK]


def test_there_are_as_many_as_this_version_has() -> None:
    assert len(CLASSES) >= 70
    names = {name for _, name in CLASSES}
    assert names >= {"Llama4TextExperts", "JetMoeParallelExperts", "MixtralExperts", "InklingSharedExperts"}


def made(module: str, name: str) -> nn.Module:
    """One of them without weights, in the sizes of the first configuration that it takes."""
    class_: Any = getattr(importlib.import_module(module), name)
    if "num_experts" in inspect.signature(class_).parameters:
        with torch.device("meta"):
            return class_(4, 24, 40)  # type: ignore[no-any-return]
    configurations = importlib.import_module(module.replace(".modeling_", ".configuration_"))
    kinds = [kind for kind in vars(configurations).values() if isinstance(kind, type)]
    for kind in kinds:
        if issubclass(kind, PretrainedConfig) and kind.__module__ == configurations.__name__:
            try:
                config: Any = kind()
                config.allow_global_per_layer_attribute_access = True
                for setting in ("num_experts", "n_routed_experts", "moe_intermediate_size", "moe_num_experts"):
                    if getattr(config, setting, 4) is None:  # only mixtures of experts have it
                        setattr(config, setting, 4)
                sizes = {"intermediate_size": 24} if "intermediate_size" in inspect.signature(class_).parameters else {}
                with torch.device("meta"):
                    return class_(config, **sizes)  # type: ignore[no-any-return]
            except (AttributeError, TypeError, ValueError, KeyError):
                continue
    raise AssertionError(f"no configuration makes a {name}")


@pytest.mark.parametrize(("module", "name"), CLASSES, ids=[name for _, name in CLASSES])
def test_every_stack_of_experts_is_found(module: str, name: str) -> None:
    experts = made(module, name)
    matrices = {key: parameter for key, parameter in experts.named_parameters(recurse=False) if parameter.dim() == 3}
    assert matrices
    found = stacks(experts, [""])
    for key, parameter in matrices.items():
        _, rows, columns = parameter.shape
        stack = found[id(parameter)]
        assert {stack.outs, stack.ins} == {rows, columns}
        assert (stack.outs, stack.ins) == ((columns, rows) if stack.transposed else (rows, columns))
        if hasattr(experts, "is_transposed"):  # transformers' own word, where there is one
            assert stack.transposed == experts.is_transposed, key


@pytest.mark.parametrize("shape", [(3, 5, 4), (15, 4)])
def test_a_stack_reads_as_its_matrices_below_each_other(shape: tuple[int, ...]) -> None:
    weight = torch.arange(60.0).reshape(shape)
    straight, turned = stacked(Stack(5, 4, False)), stacked(Stack(4, 5, True))
    matrices = weight.reshape(3, 5, 4)
    assert torch.equal(straight.flat(weight), torch.cat(list(matrices)))
    assert torch.equal(turned.flat(weight), torch.cat([matrix.T for matrix in matrices]))
    for view in (straight, turned):
        assert torch.equal(view.unflat(view.flat(weight), weight.shape), weight)


class Block(nn.Module):
    """What is no stack: a table that is looked up, a plain matrix, and one that is multiplied both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(3, 4, 4))
        self.router = nn.Parameter(torch.zeros(3, 4))
        self.both = nn.Parameter(torch.zeros(3, 4, 4))

    def forward(self, x: torch.Tensor, place: int) -> torch.Tensor:
        chosen = nn.functional.linear(x, self.router) + self.table[place]
        return chosen @ self.both[place] + nn.functional.linear(x, self.both[place])


def test_what_is_no_stack_stays_and_is_named() -> None:
    plan = plan_conversion(nn.Sequential(Block(), nn.Linear(4, 4)))
    assert plan.converted == ("1",)
    assert [row.name for row in plan.left] == ["0"]


def test_a_stack_of_output_heads_is_a_head() -> None:
    """Csm has a head for each codebook in one parameter."""
    config: Any = transformers.CsmConfig()
    config.num_hidden_layers = config.depth_decoder_config.num_hidden_layers = 1
    with torch.device("meta"):
        model = transformers.CsmForConditionalGeneration(config)
    head = "depth_decoder.codebooks_head"
    assert head in {row.name for row in plan_conversion(model).left}
    assert head in plan_conversion(model, also=("head",)).converted
