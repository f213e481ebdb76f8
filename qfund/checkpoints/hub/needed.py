"""Which files of a repository are needed, of all that may lie there."""

import re
from collections.abc import Mapping

from qfund.checkpoints.recognition import INDEX, WEIGHTS
from qfund.core.errors import OutOfBudget
from qfund.core.units import bytes_text

#: Settings; a tokenizer whole or in parts; what a processor is told; steps of sentence-transformers. Files of other
#: tools, and texts that are none of a tokenizer's parts, stay where they are.
_BESIDE = re.compile(
    r"(\w+_)?config(_\w+)?\.json|tokenizer\.json|tekken\.json|special_tokens_map\.json|added_tokens\.json|chat_template\.(json|jinja)|"
    r"vocab[\w-]*\.(json|txt|bpe)|merges\.txt|dict\.txt|bpe\.codes|normalizer\.json|[\w.-]+\.(model|spm|tokenizer)|modules\.json"
)
#: Of such files together: the largest tokenizers take some tens of MB.
MOST_BESIDE = 256 * 1024**2
_STEP = re.compile(r"\d\w*/(config\.json|\w+\.safetensors)")


def of_model(repository: str, files: Mapping[str, int], shards: Mapping[str, int]) -> dict[str, int]:
    """The files with their sizes: ``shards``, what is read beside them, and the steps of sentence-transformers.

    Raises:
        OutOfBudget: what is beside the weights takes more than ``MOST_BESIDE``.
    """
    beside = {name: size for name, size in files.items() if _BESIDE.fullmatch(name) or name == INDEX}
    if (total := sum(beside.values())) > MOST_BESIDE:
        raise OutOfBudget(
            f"Settings and tokenizer of {repository} take {bytes_text(total)}; at most {bytes_text(MOST_BESIDE)} are "
            "fetched.",
            "Choose a repository that holds one model and its tokenizer.",
        )
    steps = {name: size for name, size in files.items() if _STEP.fullmatch(name)}
    return {**beside, **steps, **shards}


def shards_of(weights: Mapping[str, int], index: Mapping[str, str] | None) -> dict[str, int]:
    """Of a repository's safetensors those that its model is read from: one file, those of the index, or, of formats
    that have neither, all but a copy in one piece."""
    if WEIGHTS in weights:
        return {WEIGHTS: weights[WEIGHTS]}
    if index is not None:
        return {name: weights[name] for name in sorted(set(index.values())) if name in weights}
    return {name: size for name, size in weights.items() if "consolidated" not in name}
