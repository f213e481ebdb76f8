"""Stacks of matrices: parameters that a module's code multiplies by a slice at a time, as mixtures of experts do.

Nothing but the code tells them from other weights, and how a slice lies: transformers holds experts as [experts, out,
in], as [experts, in, out] or as [experts × in, out], under many names. So the forwards of the module that owns a
parameter and of the module above it are read (not run): each value that is a part or a view of a parameter is followed
to the product that it is multiplied in. What cannot be followed is no stack.
"""

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

_UNKNOWN = object()
_DEPTH = 4  # calls within calls
#: Name of a function → where among its arguments (for a method: after its own tensor) the factors stand.
_PRODUCTS = {"matmul": 0, "bmm": 0, "_grouped_mm": 0, "grouped_mm": 0, "mm": 0, "baddbmm": 1, "addmm": 1, "addbmm": 1}
#: What gives the same values in the same places, as far as this is concerned, and what gives other views of them.
_SAME = {"to", "float", "half", "bfloat16", "type", "type_as", "contiguous", "clone", "detach"}
_VIEWS = _SAME | {"view", "reshape", "transpose", "permute", "t", "chunk", "split", "unbind", "squeeze", "unsqueeze"}
_VIEWS |= {"expand", "flatten", "narrow", "select", "index_select"}


@dataclass(frozen=True, slots=True)
class Stack:
    """How a parameter lies in memory: matrices [out, in] one after the other, or [in, out] where ``transposed``."""

    outs: int
    ins: int
    transposed: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A view of a parameter."""

    parameter: int
    tensor: Tensor


def stacks(model: nn.Module, owners: Iterable[str]) -> dict[int, Stack]:
    """``id`` of a parameter → how it is stacked, for those that these modules hold themselves and that are stacks."""
    found: dict[int, set[Stack]] = {}
    for name in owners:
        owner, above = model.get_submodule(name), model.get_submodule(name.rpartition(".")[0])
        parts = {
            id(parameter): _Part(id(parameter), torch.empty(parameter.shape, device="meta"))
            for parameter in owner.parameters(recurse=False)
            if parameter.dim() >= 2
        }
        if not parts:
            continue
        reading = _Reading(parts, found)
        for module in dict.fromkeys((owner, above)):
            reading.method(module, "forward", (), {}, 0)
    return {parameter: next(iter(ways)) for parameter, ways in found.items() if len(ways) == 1}


@cache
def _code(function: Callable[..., Any]) -> ast.FunctionDef | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):  # no file, as for a class made in a session
        return None
    return tree if isinstance(tree, ast.FunctionDef) else None


class _Reading:
    """Follows the parameters ``parts`` through code; ``found`` collects the products that they are multiplied in."""

    def __init__(self, parts: Mapping[int, _Part], found: dict[int, set[Stack]]) -> None:
        self._parts, self._found = parts, found

    def method(self, module: nn.Module, name: str, args: Sequence[Any], named: Mapping[str, Any], depth: int) -> Any:
        function = inspect.unwrap(getattr(type(module), name))
        return self._function(function, (module, *args), named, depth)

    def _function(self, function: Any, args: Sequence[Any], named: Mapping[str, Any], depth: int) -> Any:
        code = _code(function) if isinstance(function, FunctionType) and depth < _DEPTH else None
        if code is None or function.__module__.partition(".")[0] == "torch":
            return _UNKNOWN
        names = [argument.arg for argument in (*code.args.posonlyargs, *code.args.args)]
        scope = _Scope(self, function.__globals__, depth, dict(zip(names, args, strict=False)) | dict(named))
        scope.run(code.body)
        return scope.result

    def held(self, parameter: Any) -> Any:
        return self._parts.get(id(parameter), _UNKNOWN)

    def multiplied(self, value: Any, outs_first: bool) -> None:
        """``outs_first``: whether the last two dimensions are [out, in], and not [in, out]."""
        if not isinstance(value, _Part) or value.tensor.dim() < 2:
            return
        rows, columns = value.tensor.shape[-2:]
        strides = value.tensor.stride()[-2:]
        parameter = self._parts[value.parameter].tensor
        alone = parameter.dim() == 2 and parameter.numel() == rows * columns  # a matrix is no stack of one
        if alone or parameter.numel() % (rows * columns) or strides not in ((columns, 1), (1, rows)):
            return
        outs, ins = (rows, columns) if outs_first else (columns, rows)
        turned = strides != (columns, 1)
        self._found.setdefault(value.parameter, set()).add(Stack(outs, ins, transposed=outs_first == turned))


class _Scope:
    """The names of one function while it is read, and what it returns."""

    def __init__(self, reading: _Reading, around: Mapping[str, Any], depth: int, names: dict[str, Any]) -> None:
        self._reading, self._around, self._depth, self._names = reading, around, depth, names
        self.result: Any = _UNKNOWN

    def run(self, statements: Iterable[ast.stmt]) -> None:
        """Every branch, and every loop once."""
        for statement in statements:
            match statement:
                case ast.Assign(targets=targets, value=value):
                    found = self.value(value)
                    for target in targets:
                        self._bind(target, found)
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    self._bind(target, self.value(value))
                case ast.For(target=target, iter=iterable):
                    self._bind(target, _first(self.value(iterable)))
                case ast.Return(value=ast.expr() as value):
                    self.result = self.value(value)
                case ast.FunctionDef():
                    continue
                case _:
                    for child in ast.iter_child_nodes(statement):
                        if isinstance(child, ast.expr):
                            self.value(child)
            for field in ("body", "orelse", "finalbody"):
                self.run(getattr(statement, field, ()))

    def _bind(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self._names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            known = isinstance(value, tuple | list) and len(value) == len(target.elts)
            for number, part in enumerate(target.elts):
                self._bind(part, value[number] if known else _UNKNOWN)

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self._names.get(name, self._around.get(name, getattr(builtins, name, _UNKNOWN)))
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return tuple(self.value(part) for part in parts)
            case ast.Attribute(value=owner, attr=name):
                return self._attribute(self.value(owner), name)
            case ast.Subscript(value=whole, slice=place):
                return _item(self.value(whole), self.value(place))
            case ast.Call():
                return self._call(node)
            case ast.BinOp(left=left, op=ast.MatMult(), right=right):
                self._reading.multiplied(self.value(left), outs_first=True)
                self._reading.multiplied(self.value(right), outs_first=False)
            case ast.UnaryOp(op=ast.USub(), operand=part):
                number = self.value(part)
                return -number if isinstance(number, int) else _UNKNOWN
            case ast.BinOp(left=left, op=op, right=right):
                return _arithmetic(op, self.value(left), self.value(right))
            case ast.IfExp(body=first, orelse=second):
                found = [self.value(first), self.value(second)]
                return next((part for part in found if isinstance(part, _Part)), _UNKNOWN)
            case ast.NamedExpr(target=target, value=inner):
                self._bind(target, self.value(inner))
                return self.value(target)
            case ast.ListComp(elt=element, generators=loops) | ast.GeneratorExp(elt=element, generators=loops):
                for loop in loops:
                    self._bind(loop.target, _first(self.value(loop.iter)))
                return (self.value(element),)
            case ast.Slice(lower=lower, upper=upper, step=step):
                ends = [part and self.value(part) for part in (lower, upper, step)]
                return _UNKNOWN if _UNKNOWN in ends else slice(*ends)
            case ast.Lambda():
                pass
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.value(child)
        return _UNKNOWN

    def _attribute(self, owner: Any, name: str) -> Any:
        if isinstance(owner, _Part):
            if name in ("T", "mT"):
                return _Part(owner.parameter, owner.tensor.mT)
            return {"data": owner, "shape": tuple(owner.tensor.shape)}.get(name, _UNKNOWN)
        if owner is _UNKNOWN:
            return _UNKNOWN
        try:
            found = getattr(owner, name, _UNKNOWN)
        except Exception:  # a property of a model's code may raise anything
            return _UNKNOWN
        return self._reading.held(found) if isinstance(found, Tensor) else found

    def _call(self, node: ast.Call) -> Any:
        method = node.func.attr if isinstance(node.func, ast.Attribute) else None
        owner = self.value(node.func.value) if isinstance(node.func, ast.Attribute) else _UNKNOWN
        called = self._attribute(owner, method) if method else self.value(node.func)
        args = [self.value(part) for part in node.args if not isinstance(part, ast.Starred)]
        named = {part.arg: self.value(part.value) for part in node.keywords if part.arg}
        name = method or (node.func.id if isinstance(node.func, ast.Name) else "")
        if callable(called) and getattr(called, "__module__", None) is None:  # torch's own, in C
            called = _UNKNOWN
        own = [owner] if isinstance(owner, _Part) or (owner is _UNKNOWN and method) else []
        if name == "linear":
            for part in (*args[1:2], named.get("weight")):
                self._reading.multiplied(part, outs_first=True)
        elif name in _PRODUCTS:
            factors = [*own, *args][_PRODUCTS[name] :]
            for number, part in enumerate(factors[:2]):
                self._reading.multiplied(part, outs_first=not number)
        elif name in _VIEWS and isinstance(held := next(iter((*own, *args)), None), _Part):
            return _viewed(held, name, args if own else args[1:], named)
        elif called is zip or called is enumerate:
            return (tuple(_first(part) for part in ((0, *args) if called is enumerate else args)),)
        elif isinstance(called, nn.Module):
            if any(isinstance(part, _Part) for part in (*args, *named.values())):
                return self._reading.method(called, "forward", args, named, self._depth + 1)
        elif isinstance(called, MethodType) and isinstance(called.__self__, nn.Module):
            return self._reading.method(called.__self__, called.__name__, args, named, self._depth + 1)
        elif any(isinstance(part, _Part) for part in (*args, *named.values())):
            return self._reading._function(called, args, named, self._depth + 1)
        return _UNKNOWN


def _viewed(part: _Part, name: str, args: Sequence[Any], named: Mapping[str, Any]) -> Any:
    """What a method of a tensor gives; unknown where its arguments are."""
    if name in _SAME:
        return part
    if name == "index_select":
        return _item(part, _UNKNOWN)
    try:
        found = getattr(part.tensor, "view" if name == "reshape" else name)(*args, **named)
    except (TypeError, RuntimeError, IndexError, ValueError):
        return _UNKNOWN
    if isinstance(found, Tensor):
        return _Part(part.parameter, found)
    return tuple(_Part(part.parameter, one) for one in found)


def _item(whole: Any, place: Any) -> Any:
    """``whole[place]``; what stands at an unknown place of a stack is taken to be one of its matrices."""
    if isinstance(whole, tuple | list):
        return whole[place] if isinstance(place, int) and -len(whole) <= place < len(whole) else _first(whole)
    if not isinstance(whole, _Part):
        return _UNKNOWN
    places = place if isinstance(place, tuple) else (place,)
    tensor = whole.tensor
    if not any(part is _UNKNOWN for part in places):
        try:
            return _Part(whole.parameter, tensor[place])
        except (TypeError, IndexError, RuntimeError):
            return _UNKNOWN
    return _Part(whole.parameter, tensor[0]) if tensor.dim() > 2 else whole


def _first(value: Any) -> Any:
    """What a loop over it gives first."""
    if isinstance(value, tuple | list):
        return value[0] if value else _UNKNOWN
    return _item(value, _UNKNOWN) if isinstance(value, _Part) else _UNKNOWN


def _arithmetic(op: ast.operator, left: Any, right: Any) -> Any:
    if not (isinstance(left, int) and isinstance(right, int)):
        return _UNKNOWN
    match op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.FloorDiv():
            return left // right if right else _UNKNOWN
    return _UNKNOWN
