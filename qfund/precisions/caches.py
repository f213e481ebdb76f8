"""How keys and values are cached: the formats, and names of precisions together with a cache. No torch."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from qfund.core.errors import InvalidSpec, UsageError
from qfund.core.names import look_up


@dataclass(frozen=True, slots=True)
class KvFormat:
    """How keys and values are cached.

    Attributes:
        bits: per element.
        group: how many elements share ``group_bytes`` of scale and zero-point; None for none.
        tensor_bytes: of the scale that a whole tensor (a layer's keys, or its values) has.
    """

    name: str
    bits: int
    meaning: str
    group: int | None = None
    group_bytes: int = 0
    tensor_bytes: int = 0

    def bytes(self, elements: int) -> int:
        """Of one tensor with so many elements."""
        groups = -(-elements // self.group) if self.group else 0
        return -(-elements * self.bits // 8) + groups * self.group_bytes + (self.tensor_bytes if elements else 0)


# Groups of 64 with two 16-bit numbers are transformers' QuantizedCache (quanto, HQQ); llama.cpp's q8_0 and q4_0 (groups
# of 32 with one) come to the same 8.5 and 4.5 bits. fp8 is its Fp8QuantizedLayer: one fp32 scale a tensor.
_GROUPED = "groups of 64 with a scale and a zero-point of 16 bits each"
KV_FORMATS: dict[str, KvFormat] = {
    row.name: row
    for row in (
        KvFormat("fp64", 64, "as computed in fp64"),
        KvFormat("fp32", 32, "as computed in fp32"),
        KvFormat("bf16", 16, "as computed in bf16"),
        KvFormat("fp16", 16, "as computed in fp16"),
        KvFormat("fp8", 8, "8-bit floats, one fp32 scale a layer for keys and one for values", tensor_bytes=4),
        KvFormat("int8", 8, f"8-bit integers, {_GROUPED}: 8.5 bits", group=64, group_bytes=4),
        KvFormat("int4", 4, f"4-bit integers, {_GROUPED}: 4.5 bits", group=64, group_bytes=4),
        KvFormat("q8_0", 8, "llama.cpp's blocks of 32 with a scale of 16 bits: 8.5 bits", group=32, group_bytes=2),
        KvFormat("q4_0", 4, "llama.cpp's blocks of 32 with a scale of 16 bits: 4.5 bits", group=32, group_bytes=2),
        KvFormat(
            "int4_kivi",
            4,
            "4-bit integers as KIVI groups them, keys by 32 tokens of a channel, values by 32 channels of a token, "
            "with a scale and a zero-point of 16 bits each: 5 bits",
            group=32,
            group_bytes=4,
        ),
    )
}
#: What ``kv`` may name.
KV_CHOICES = ("fp32", "bf16", "fp16", "fp8", "int8", "int4", "q8_0", "q4_0", "int4_kivi")
#: Tokens that keys of ``PER_CHANNEL`` wait for: those of a channel are grouped along the text.
PER_CHANNEL, GROUP = "int4_kivi", 32
_ALIASES = {"fp8_e4m3": "fp8", "kivi": "int4_kivi"}
#: Between the name of a precision (or of a file) and that of a cache.
_WITH = "+kv:"
#: What may follow the name of a cache: how many first and recent tokens stay as computed.
_KEPT = re.compile(r"(?P<formats>.*?)(:first(?P<first>\d{1,9}))?(:window(?P<window>\d{1,9}))?", re.DOTALL)
MOST_KEPT = 65_536


#: Caches of one request: each is another row for every candidate.
MOST_CACHES = 16


def checked_kv(kv: Iterable[str]) -> tuple[str, ...]:
    """In their canonical form, each once.

    Raises:
        UnknownName: a format that cannot be chosen.
        InvalidSpec: too many.
    """
    found = tuple(dict.fromkeys(map(canonical_kv, kv)))
    if len(found) > MOST_CACHES:
        raise InvalidSpec(f"{len(found)} KV precisions are named.", f"Name at most {MOST_CACHES}.")
    return found


def parts(kv: str) -> tuple[str, str]:
    """How keys and values are cached: ``"q8_0/q4_0"`` → ``("q8_0", "q4_0")``."""
    keys, _, values = _read(kv)[0].partition("/")
    return keys, values or keys


def kept(kv: str) -> tuple[int, int]:
    """How many first and recent tokens stay as computed: ``"q8_0:first4:window64"`` → ``(4, 64)``."""
    return _read(kv)[1:]


def keeping(kv: str, first: int, window: int) -> str:
    """The same cache that keeps so many first and recent tokens, where its name says no others."""
    formats, *own = _read(kv)
    numbers = zip(("first", "window"), own, (first, window), strict=True)
    return formats + "".join(f":{name}{mine or given}" for name, mine, given in numbers if mine or given)


def _read(kv: str) -> tuple[str, int, int]:
    """Formats, first and recent tokens of a name."""
    found = _KEPT.fullmatch(kv)
    assert found is not None  # it matches whatever there is
    return found["formats"], int(found["first"] or 0), int(found["window"] or 0)


def canonical_kv(kv: str) -> str:
    """``"FP8_E4M3/ q8_0"`` → ``"fp8/q8_0"``; one name where keys and values are cached alike; ``:first4`` and
    ``:window64`` behind it where they keep any.

    Raises:
        UnknownName: a format that cannot be chosen.
        InvalidSpec: more tokens kept than any context has.
    """
    table = {name: KV_FORMATS[name] for name in KV_CHOICES}
    formats, first, window = _read(kv.strip().lower())
    names = [_ALIASES.get(name.strip(), name.strip()) for name in formats.split("/", 1)]
    for name in names:
        look_up(table, name, "KV precision")
    for what, value in (("first", first), ("window", window)):
        if value > MOST_KEPT:
            raise InvalidSpec(f"{what} is {value:,}.", f"Give a number of tokens from 0 to {MOST_KEPT:,}.")
    return keeping("/".join(dict.fromkeys(names)), first, window)


def known_kv(names: Iterable[str]) -> tuple[tuple[str, ...], list[str]]:
    """Names of caches in their canonical form, each once, and those that are none."""
    good: list[str] = []
    bad: list[str] = []
    for name in names:
        try:
            good.append(canonical_kv(name))
        except UsageError:
            bad.append(name)
    return tuple(dict.fromkeys(good)), bad


def crossed(reference: str, names: Iterable[str], kv: Iterable[str]) -> tuple[str, ...]:
    """The candidates of these names, and then, for each cache, the same and the reference with that."""
    plain = tuple(names)
    return (*plain, *(with_cache(name, cache) for cache in kv for name in dict.fromkeys((reference, *plain))))


def title(kv: str) -> str:
    """``"q8_0/q4_0"`` → ``"K q8_0, V q4_0"``; ``"q8_0:first4:window64"`` → ``"q8_0 but first 4, last 64"``."""
    (keys, values), (first, window) = parts(kv), kept(kv)
    but = ", ".join(f"{what} {count}" for what, count in (("first", first), ("last", window)) if count)
    return (keys if keys == values else f"K {keys}, V {values}") + (f" but {but}" if but else "")


def waits(kv: str, window: int = 0) -> int:
    """Tokens that stay as computed until there are so many: the window that its name or else the request asks for, or a
    group's worth where keys are grouped along the text."""
    window = kept(kv)[1] or window
    return max(window, GROUP) if parts(kv)[0] == PER_CHANNEL else window


def must_round(kv: Iterable[str], longest: int) -> None:
    """
    Raises:
        InvalidSpec: a cache that keeps all tokens of the longest context as computed.
    """
    for name in kv:
        if any(kept(name)) and sum(kept(name)) >= longest:
            raise InvalidSpec(
                f"first + window is {sum(kept(name)):,}, and no context is longer than {longest:,} tokens: nothing "
                "would be rounded.",
                "Keep fewer tokens as computed, or give a longer context.",
            )


def with_cache(candidate: str, kv: str) -> str:
    """The name of a candidate whose keys and values are cached so: ``"int4+kv:q8_0"``."""
    return f"{candidate}{_WITH}{kv}"


def kv_of(name: str) -> str | None:
    """How a candidate of this name caches; None as it computes."""
    return name.rpartition(_WITH)[2] if _WITH in name else None


def weights_of(name: str) -> str:
    """The name of the same candidate whose cache is left as it is computed."""
    return name.rpartition(_WITH)[0] if _WITH in name else name
