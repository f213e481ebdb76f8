"""Names of quantised files beside those of precisions: what stands for a file wherever a candidate is named."""

import re
from collections.abc import Sequence
from dataclasses import replace

from qfund.core.errors import InvalidSpec
from qfund.precisions.caches import kv_of, title, weights_of
from qfund.precisions.precision import FILE, Precision
from qfund.precisions.table import PRECISIONS, precision

_PREFIX = "file:"
#: ``owner/name@revision:path``, a file or (without the path) a whole repository of the Hub.
HUB_FILE = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w./-]+?))?(:(?P<path>[\w./ -]+))?")
MOST_FILES = 32


def is_file(name: str) -> bool:
    """Whether a candidate's name is that of a file."""
    return name.startswith(_PREFIX)


def file_names(files: Sequence[str]) -> dict[str, str]:
    """Name among the candidates → file as it was given: its last part, and what tells it from the others before.

    Raises:
        InvalidSpec: one is named twice, has no name, or there are too many.
    """
    if len(files) > MOST_FILES:
        raise InvalidSpec(f"{len(files)} quantised files are named.", f"Name at most {MOST_FILES}.")
    parts: dict[str, list[str]] = {}
    for file in files:
        shown = [part for part in re.split(r"[/\\\\:]", file) if part not in ("", ".")]
        if not shown or "\0" in file or len(file) > 1024:
            raise InvalidSpec("A quantised file has no name.", "Give its path, or owner/name:file of the Hub.")
        if file in parts:
            raise InvalidSpec(f"{file} is named twice.", "Name each quantised file once.")
        parts[file] = shown
    found: dict[str, str] = {}
    for file, shown in parts.items():
        others = [other for name, other in parts.items() if name != file]
        count = next((n for n in range(1, len(shown)) if all(o[-n:] != shown[-n:] for o in others)), len(shown))
        found[_PREFIX + "/".join(shown[-count:])] = file
    if len(found) < len(parts):
        raise InvalidSpec("Two quantised files cannot be told apart by name.", "Name each once.")
    return found


def row_of(name: str) -> Precision:
    """A row of the table, or what stands for a file: its weights as they are decoded, run in FP32. Of a candidate with
    a rounded cache that of its weights.

    Raises:
        UnknownName: neither.
    """
    name = weights_of(name)
    if not is_file(name):
        return precision(name)
    return replace(
        PRECISIONS["fp32"],
        name=name,
        label=label_of(name),
        family=FILE,
        meaning="A quantised file beside its original: the numbers that its codes stand for.",
        arithmetic="the file's weights, decoded, in fp32",
        sqnr_floor=0.0,
        granularity="as in the file",
        storage="as in the file",
    )


def family_of(name: str) -> str:
    """Of a precision or a file; empty for what this version does not know (an older report)."""
    name = weights_of(name)
    return FILE if is_file(name) else PRECISIONS[name].family if name in PRECISIONS else ""


def label_of(name: str) -> str:
    """What a person reads for a candidate: ``INT4``, ``INT4, KV q8_0``, the name of a file; a precision that this
    version's table lacks (of an older report) by its name."""
    if (kv := kv_of(name)) is not None:
        said = title(kv)
        return f"{label_of(weights_of(name))}, {said if said.startswith('K ') else f'KV {said}'}"
    if name in PRECISIONS:
        return PRECISIONS[name].label
    return name.removeprefix(_PREFIX).removesuffix(".gguf").removesuffix(".json")
