"""What differs between two runs of one version, masked; and when two texts are the same."""

import difflib
import json
import math
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

#: Measured anew by every run, or the machine's: by the name of the field in a document.
FIELDS = {"created", "seconds", "forward_seconds", "latency", "largest_gap", "baseline", "samples", "costs"}
#: The machine and the versions on it.
FIELDS |= {"versions", "python", "platform", "cpu", "qfund", "version"}
#: Read from memory while it was measured: their structure is kept.
SAMPLED = {"sampled", "needs", "inference", "device_peak"}

#: Lists without a number that is measured: where they are long, their digest will do.
NAMED = {"tensors", "converted_modules", "left_modules", "modules", "vocabulary", "pieces", "notes"}
_LONG = 3000  # characters

_TEXTS = (
    (r"Measured on .*? UTC in [^·]*·", "Measured on <when> ·"),
    (r"qfund [\d.]+ · torch .*?, \d+ cores?, ", "<versions>, "),
    (r"\b(qfund|torch|torchao|transformers|bitsandbytes|safetensors|tokenizers|numpy) \d[\w.+]*", r"\1 <version>"),
    (r"no measurable difference \(× [\d.,e−-]+ ± [\d.,e−-]+\)", "× <time>"),
    (r"(?<!\()(?<!perplexity )× [\d.,e−-]+ ± [\d.,e−-]+", "× <time>"),
    (r"(?<![\w.])(?:[\d.,]+ (?:h|min) )?[\d.,]+ (?:µs|ms|s|min|h)\b", "<time>"),
    (r"(?<![\w.])[\d.,]+ (?:second|minute|hour)s?\b", "<time>"),
    (r"\b0x[0-9a-f]{6,}\b", "<address>"),
)
_BUSY = ("nothing was seen for", "to its swap meanwhile")
_NUMBER = re.compile(r"[-−+]?\d[\d,]*(?:\.\d+)?(?:e[-−+]?\d+)?", re.IGNORECASE)
_RELATIVE, _ABSOLUTE = 1e-3, 1e-7  # probabilities are printed with four digits


def document(value: Any) -> Any:
    """A document of ``--json`` without what every run measures anew."""
    if isinstance(value, Mapping):
        return {name: _field(name, found) for name, found in value.items()}
    if isinstance(value, list):
        return _summed(value) or [document(each) for each in value]
    return value


def _summed(value: list[Any]) -> str | None:
    """Of many numbers how many they are, their sum and their digest."""
    text = json.dumps(value)
    if len(text) < _LONG or re.search(r'["{]', text):
        return None
    numbers = [float(each) for each in re.findall(r"-?\d[-+.e\d]*", text)]
    return f"{len(numbers)} numbers, sum {math.fsum(numbers)!r}, sha256 {sha256(text.encode()).hexdigest()}"


def _field(name: str, value: Any) -> Any:
    if value is None or (name == "note" and any(sign in value for sign in _BUSY)):
        return None
    if name in NAMED and len(text := json.dumps(value)) > _LONG:
        return f"{len(value)} rows, digest {sha256(text.encode()).hexdigest()}"
    if name in SAMPLED:
        return _structure(value)
    return f"<{name}>" if name in FIELDS else document(value)


def _structure(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _structure(found) for name, found in value.items()}
    if isinstance(value, list):
        every = [_structure(each) for each in value]
        return every[:1] if every[:1] == ["<measured>"] else every
    return value if isinstance(value, str | None) else "<measured>"


def laid_out(value: Any, indent: str = "") -> str:
    """JSON in lines that a difference can be read in."""
    short = json.dumps(value, ensure_ascii=False)
    if len(short) + len(indent) <= 200 or not isinstance(value, dict | list):
        return short
    inner = indent + " "
    if isinstance(value, dict):
        rows = [f"{json.dumps(name)}: {laid_out(found, inner)}" for name, found in value.items()]
        return "{\n" + ",\n".join(inner + row for row in rows) + f"\n{indent}}}"
    if not any(isinstance(each, dict | list) for each in value):
        return short
    return "[\n" + ",\n".join(inner + laid_out(each, inner) for each in value) + f"\n{indent}]"


def placed(text: str, folders: Mapping[str, str]) -> str:
    """A text without places of this machine."""
    for folder, name in folders.items():
        text = text.replace(folder, name)
    return text


def momentary(text: str) -> str:
    """A page without what this machine has and takes just now: its free memory, and how long it would measure."""
    text = re.sub(r"(?<![\w.])[\d.,]+ (?:second|minute|hour)s?\b", "<time>", text)
    text = re.sub(r"(?<=✓ )[\d.,]+ [KMGT]iB", "<room>", text)
    return re.sub(r"[\d.,\\]+[ \u00a0][KMGT]iB(?=[ \u00a0](?:to spare|free))", "<room>", text)


def loading(text: str) -> str:
    """What was measured while loading, without amounts of memory and without what a busy machine makes of them."""
    text = re.sub(r"(?<![\w.])[\d.,]+ (?:[KMG]i)?B\b", "<size>", text)
    lines = [line for line in text.splitlines() if not any(sign in line for sign in _BUSY)]
    if not any(line == "{" for line in lines):  # a table is as wide as its times
        lines = [re.sub(" +", " ", line).strip() for line in lines]
    return re.sub("\n{3,}", "\n\n", "\n".join(lines))


def words(text: str) -> str:
    """A text for people without the times and versions of a run."""
    lines = []
    timed = "Forward ÷" in text or "Time ÷" in text  # a table whose columns are as wide as its times
    for line in text.splitlines():
        masked = line
        for pattern, instead in _TEXTS:
            masked = re.sub(pattern, instead, masked)
        lines.append(
            line.rstrip() if masked == line and not timed else re.sub(" +", " ", masked).strip()
        )  # columns shift
    return "\n".join(lines)


def difference(recorded: str, found: str, same_machine: bool) -> str:
    """What differs, in lines; empty where nothing does.

    On the machine that recorded, every character counts. On others, numbers of documents may differ in their last
    digits, those in words and pictures at all.
    """
    if recorded == found or (not same_machine and _alike(recorded, found)):
        return ""
    lines = difflib.unified_diff(recorded.splitlines(), found.splitlines(), "recorded", "found", lineterm="", n=1)
    return "\n".join(line[:400] for line in list(lines)[:60])


def _alike(recorded: str, found: str) -> bool:
    if "\n{" not in recorded:  # no document
        return _letters(recorded) == _letters(found)
    recorded, found = _quiet(recorded), _quiet(found)
    if _skeleton(recorded) != _skeleton(found):
        return False
    pairs = zip(_NUMBER.findall(recorded), _NUMBER.findall(found), strict=True)
    return all(one == other or _close(one, other) for one, other in pairs)


def _quiet(text: str) -> str:
    """A document without what the reference differs from itself, which is nothing but last digits, and digests."""
    text = re.sub(r'\n( *)"noise": \[.*?\n\1\]', "", text, flags=re.DOTALL)
    return re.sub(r'"noise": [-+.e\d]+|sha256 [0-9a-f]+', "", text)


def _skeleton(document: str) -> str:
    return re.sub(r"\s+", "", _NUMBER.sub("#", document))


def _letters(text: str) -> str:
    """Words without numbers, and without what is said in a number's place where noise hides it."""
    text = re.sub(r"sha256 [0-9a-f]+|no measurable difference|\d[\d.,]*(?:e[-−+]?\d+)?|\bto\b|\bnone of\b", " ", text)
    return " ".join(word for word in re.findall(r"[^\W\d_]+", text) if word not in ("nat", "logit", "dB", "e"))


def _close(one: str, other: str) -> bool:
    try:
        return math.isclose(float(one), float(other), rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    except ValueError:
        return False
