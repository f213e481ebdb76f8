"""Transformers without what it imports and hardly ever uses: a compiler, an optimiser, other libraries.

``transformers.modeling_utils`` takes with it torch's compiler (and with that sympy and the distributed tensors), scipy,
torchao and accelerate: most of the time that a process takes to start, for names that few models ever call. While it is
imported here, those libraries are stood in for by modules that give a ``Name`` for whatever is asked of them; a name
that is used imports its library then, and acts as the real thing. Afterwards nobody who imports them finds a stand-in.

Only in qfund's own processes, the command and the worker: who imports qfund into a programme of his own gets
transformers as it is.
"""

import functools
import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

#: Stood in for where they are installed and nobody has imported them.
LIBRARIES = ("torch._dynamo", "torchao", "accelerate", "scipy")
#: What imports them.
IMPORTERS = ("transformers.modeling_utils", "transformers.masking_utils", "transformers.generation.utils")
#: Of the environment of a process that is one of several.
_RANKS = {"RANK", "LOCAL_RANK", "WORLD_SIZE"}


class Name:
    """Something of a library that is not imported yet. A call, an attribute, ``isinstance``, a subclass imports it."""

    def __init__(self, module: str, name: str) -> None:
        self._where = module, name

    def __call__(self, *args: Any, **named: Any) -> Any:
        if isinstance(sys.modules.get(self._where[0]), StandIn):
            if args and isinstance(args[0], FunctionType):
                return _decorated(self, args[0], lambda: self._real(*args, **named))
            if not args or args[0] is None:
                return lambda function: _decorated(self, function, lambda: self._real(*args, **named)(function))
        return self._real(*args, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __instancecheck__(self, value: object) -> bool:
        return isinstance(value, self._real)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._real,)

    @property
    def _real(self) -> Any:
        module, name = self._where
        if isinstance(sys.modules.get(module), StandIn):
            _leave()  # it is used already while everything is imported
        return getattr(importlib.import_module(module), name)


def _decorated(decorator: Name, function: FunctionType, make: Callable[[], Any]) -> FunctionType:
    """What a compiler shall do with a function, which counts from when there is a compiler."""
    module, _ = decorator._where
    made = functools.cache(make)

    @functools.wraps(function)
    def late(*args: Any, **named: Any) -> Any:
        there = module in sys.modules and not isinstance(sys.modules[module], StandIn)
        return (made() if there else function)(*args, **named)

    assert isinstance(late, FunctionType)
    return late


class StandIn(ModuleType):
    """A module in the place of one that is not imported yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            return Name(self.__name__, name)
        return getattr(importlib.import_module(self.__name__), name)


class _Finder(MetaPathFinder, Loader):
    def __init__(self, libraries: Sequence[str]) -> None:
        self._below = tuple(f"{library}." for library in libraries)

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if f"{fullname}.".startswith(self._below) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing in it."""


def own_process() -> bool:
    """Whether this is the command or the worker, and not somebody else's programme."""
    module = getattr(sys.modules.get("__main__"), "__spec__", None)
    return "qfund.cli" in sys.modules or (module is not None and module.name == "qfund.engine.worker")


def import_transformers() -> None:
    """Import what every model needs of it; where that was done before, nothing."""
    if IMPORTERS[0] in sys.modules:
        return
    import torch.distributed  # whole, before a part of it is stood in for
    import transformers.utils

    if not _RANKS & os.environ.keys() and not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        for module in (transformers.utils, transformers.utils.import_utils):  # as with a torch that was built without
            vars(module)["is_torch_distributed_available"] = lambda: False
    libraries = [name for name in LIBRARIES if name not in sys.modules and find_spec(name) is not None]
    sys.meta_path.insert(0, _Finder(libraries))
    scanner = vars(transformers.utils.import_utils)
    scan = scanner["define_import_structure"]
    scanner["define_import_structure"] = functools.partial(_scanned, scan)
    try:
        for name in IMPORTERS:
            importlib.import_module(name)
    except Exception:  # a transformers that uses one of them as no stand-in can be used: everything is imported then
        _leave()
        for name in IMPORTERS:
            importlib.import_module(name)
    finally:
        scanner["define_import_structure"] = scan
        _leave()
    _hide_later()


def _scanned(scan: Callable[..., Any], path: str, prefix: str | None = None) -> Any:
    """What ``scan`` finds. Transformers reads its thousand files once for itself and once for its models; the second
    time it is taken from what the first one found, which is remembered."""
    models = Path(path).parent
    if prefix is not None or models.name != "models":
        return scan(path, prefix)
    found = {
        needs: {name.removeprefix("models."): names for name, names in modules.items() if name.startswith("models.")}
        for needs, modules in scan(models, prefix="models").items()
    }
    return {needs: modules for needs, modules in found.items() if modules}


def _hide_later() -> None:
    """Torch hides functions of its own from its compiler, which each of them imports when it is called first: more than
    a second for who builds a model on the meta device. Here they are hidden once there is a compiler."""
    import torch._compile

    hiding = torch._compile._disable_dynamo(lambda: None).__code__
    for found in gc.get_objects():
        if type(found) is FunctionType and found.__code__ is hiding:
            cells = dict(zip(hiding.co_freevars, (cell.cell_contents for cell in found.__closure__ or ()), strict=True))
            vars(cells["fn"]).setdefault("__dynamo_disable", _hidden_later(cells["fn"], cells["recursive"]))


def _hidden_later(function: FunctionType, recursive: bool) -> FunctionType:
    hide = Name("torch._dynamo", "disable")
    return _decorated(hide, function, lambda: hide._real(function, recursive, wrapping=False))


def import_the_rest() -> None:
    """What was put off too: before memory or time is measured that an import would be part of."""
    for name in LIBRARIES:
        if find_spec(name) is not None:
            importlib.import_module(name)


def _leave() -> None:
    """Take all stand-ins out of where imports look."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    for name, module in list(sys.modules.items()):
        if isinstance(module, StandIn):
            del sys.modules[name]
            parent, _, key = name.rpartition(".")
            if vars(sys.modules.get(parent, module)).get(key) is module:
                delattr(sys.modules[parent], key)
