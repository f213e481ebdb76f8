"""Convert named modules of a model with a library, check that each one changed, and say what was left and why."""

import inspect
import re
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers.pytorch_utils import Conv1D

from qfund.core.errors import NothingConverted
from qfund.core.tensors import LeftModule


def multiplies_only(module: nn.Module) -> bool:
    """Whether its forward does no more than multiply and add the bias; Falcon's own Linear does not either."""
    kind = type(module)
    if kind.forward in (nn.Linear.forward, Conv1D.forward):
        return True
    return (kind.__module__, kind.__name__) == ("transformers.models.falcon.modeling_falcon", "FalconLinear")


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a library did to a model.

    Attributes:
        converted: names of modules whose weight is now stored by the library.
        left: modules that were asked for and stayed as they were.
        problem: sentences about what is wrong with converted weights, and so with outputs; None if nothing is.
    """

    converted: tuple[str, ...]
    left: tuple[LeftModule, ...]
    problem: str | None


class Converter(ABC):
    """One precision of one library.

    Attributes:
        library: its name.
        keeps_dtype: a converted weight still claims a float dtype, so code that asks for it goes on working.
        decodes: weights become floats before they are multiplied, rather than being multiplied as integers.
    """

    library: str
    keeps_dtype: bool
    decodes: bool = True

    @abstractmethod
    def unfit(self, module: nn.Linear) -> str | None:
        """Why the library cannot convert this module, if that can be known before; libraries often skip in silence."""

    @abstractmethod
    def quantize(self, module: nn.Linear) -> nn.Module:
        """The converted module: the same one or another."""

    @abstractmethod
    def converted(self, module: nn.Module) -> bool:
        """Whether the library stores the weight of this module."""

    @abstractmethod
    def values(self, module: nn.Module) -> Tensor:
        """The weight [out, in] that a converted module multiplies by."""

    def fault(self, module: nn.Module, weight: Tensor) -> str | None:
        """What is wrong with a converted module, whose weight was this, as the predicate of a sentence."""
        if self.values(module).isfinite().all():
            return None
        why = ", as a row of zeros has scale 0 and 0 / 0 is NaN" if (weight == 0).all(1).any() else ""
        return f"made weights that are not finite{why}"

    @torch.no_grad()
    def apply(self, model: nn.Module, modules: Sequence[str]) -> Conversion:
        """Convert those modules in place, on the device where they are.

        GPT-2's Conv1D is first replaced by the Linear with the transposed weight, which torchao would skip in silence;
        Falcon's own Linear by the plain one, whose product is torch's.

        Raises:
            NothingConverted: every module stayed as it was; the reasons are in the message.
        """
        with torch.inference_mode(False):  # tensors born in inference mode cannot be moved or saved later
            return self._apply(model, modules)

    def _apply(self, model: nn.Module, modules: Sequence[str]) -> Conversion:
        uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
        named = multiplied(model), frozenset[str]() if self.keeps_dtype else _named(model, r"(\w+)\.weight\.dtype\b")
        converted: list[str] = []
        left: list[LeftModule] = []
        faults: dict[str, list[str]] = {}
        for name in modules:
            module = model.get_submodule(name)
            why = _why_not(module, uses) or _read_elsewhere(name.rpartition(".")[2], *named)
            if why is None:
                linear = as_linear(module)
                weight = linear.weight.detach()
                outcome = self.unfit(linear) or self._convert(model, name, linear)
                if isinstance(outcome, str):
                    why = outcome
                else:
                    converted.append(name)
                    if fault := self.fault(outcome, weight):
                        faults.setdefault(fault, []).append(name)
            if why is not None:
                left.append(LeftModule(name, type(module).__name__, why))
        if not converted:
            reasons = "; ".join(sorted({row.why for row in left})) or "no module was named"
            raise NothingConverted(
                f"{self.library} converted nothing in {type(model).__name__}: {reasons}.", "Choose another precision."
            )
        return Conversion(tuple(converted), tuple(left), self._problem(faults))

    def _convert(self, model: nn.Module, name: str, linear: nn.Linear) -> nn.Module | str:
        """Convert one module and put it in its place: what it is now, or why the library would not."""
        try:
            found = self.quantize(linear)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # libraries refuse shapes and dtypes with whatever comes to hand, also assertions
            return f"{self.library} raised {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        if not self.converted(found):
            return f"{self.library} left it as it was, without a word"
        found.eval().requires_grad_(False)
        if found is not model.get_submodule(name):
            model.set_submodule(name, found)
        return found

    def _problem(self, faults: dict[str, list[str]]) -> str | None:
        sentences = [f"{self.library} {fault}: {_some(names)}." for fault, names in faults.items()]
        return " ".join(sentences) or None


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def multiplied(model: nn.Module) -> frozenset[str]:
    """Names of parts by whose weight the model's own code multiplies itself, without calling the part."""
    return _named(model, r"(\w+)\.weight\s*@") | _named(model, r"@\s*(?:\w+\.)*(\w+)\.weight\b(?!\.)")


def _named(model: nn.Module, pattern: str) -> frozenset[str]:
    """What a pattern finds in the source files of all classes in a model, but torch's."""
    files = {type(module).__module__ for module in model.modules()}
    return frozenset[str]().union(*(_found(file, pattern) for file in files if file.partition(".")[0] != "torch"))


@cache
def _found(name: str, pattern: str) -> frozenset[str]:
    try:
        return frozenset(re.findall(pattern, inspect.getsource(sys.modules[name])))
    except (OSError, TypeError, KeyError):  # no file, as for a class made in a session
        return frozenset()


def _read_elsewhere(key: str, multiplied: Collection[str], asked: Collection[str]) -> str | None:
    """Mamba multiplies by ``dt_proj.weight`` itself; T5 casts its activations to ``wo.weight.dtype``."""
    if key in multiplied:
        return "the model's own code multiplies by its weight, without calling it"
    return "the model's own code asks for its dtype, which would be the stored one" if key in asked else None


def _why_not(module: nn.Module, uses: Counter[int]) -> str | None:
    if not isinstance(module, nn.Linear | Conv1D):
        return "these libraries convert Linear layers only"
    if isinstance(module, NonDynamicallyQuantizableLinear):
        return "its parent multiplies with its weight itself"
    if not multiplies_only(module):
        return f"{type(module).__name__} does more than multiply"
    if type(module._parameters.get("weight")) is not nn.Parameter or type(module.weight.data) is not Tensor:
        return "already converted"
    if uses[id(module.weight)] > 1:
        return "shares its weight with another module, which would become a second copy"
    return None


def as_linear(module: nn.Module) -> nn.Linear:
    """The plain Linear that computes the same: the module itself, or a new one with the same bias."""
    if isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward:
        return module
    assert isinstance(module, nn.Linear | Conv1D)
    weight = module.weight.detach()
    if isinstance(module, Conv1D):
        weight = weight.T.contiguous()
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=module.bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    linear.bias = module.bias
    return linear
