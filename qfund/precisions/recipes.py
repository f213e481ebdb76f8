"""Recipe files: a precision for each module of a model, which stands among the candidates like a quantised file."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from qfund.core.errors import InvalidSpec, ModelNotFound
from qfund.core.names import look_up
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS

#: Bytes of a file: a model of 100,000 modules has fewer.
LARGEST = 16 * 2**20


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """
    Attributes:
        reference: the cast in which everything stays that is not named.
        modules: name of a module and of its row, in the file's order; without those that stay in the reference.
        id: of the content, however the file is laid out.
    """

    reference: str
    modules: tuple[tuple[str, str], ...]
    id: str


def is_recipe(path: Path) -> bool:
    return path.suffix == ".json"


def read(path: Path) -> RecipeFile:
    """The file that ``qfund recipe --save`` writes, or one by hand: ``{"reference": …, "modules": {module: row}}``.

    Raises:
        ModelNotFound: it cannot be read.
        InvalidSpec: it is no recipe, or names a row that no module can be taken in beside the reference.
        UnknownName: a row that there is not.
    """
    form = 'A recipe is {"reference": "fp32", "modules": {"model.layers.0.mlp.up_proj": "int4", …}}.'
    try:
        if path.stat().st_size > LARGEST:
            raise InvalidSpec(f"{path.name} is too large for a recipe ({path.stat().st_size:,} bytes).", form)
        found = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ModelNotFound(f"{path.name} cannot be read: {error.strerror or error}.", "Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidSpec(f"{path.name} is no recipe: it is not JSON.", form) from error
    reference = found.get("reference", "fp32") if isinstance(found, dict) else None
    modules = found.get("modules") if isinstance(found, dict) else None
    if not isinstance(reference, str) or not isinstance(modules, dict) or not modules:
        raise InvalidSpec(f"{path.name} is no recipe: it names no modules with their precisions.", form)
    base = look_up(PRECISIONS, reference, "precision")
    if base.quantizer or base.family == STORED or base.autocast:
        raise InvalidSpec(f"{path.name} leaves the rest in {base.label}.", "Name a float as its reference: fp32, bf16.")
    for module, name in modules.items():
        if not isinstance(name, str):
            raise InvalidSpec(f"{path.name} names no precision for {module}.", form)
        row = look_up(PRECISIONS, name, "precision")
        if name != reference and (row.quantizer is None or row.product or row.dtype != base.dtype):
            why = "rounds what goes in too" if row.product else f"does not leave the rest in {base.label}"
            raise InvalidSpec(
                f"{path.name} takes {module} in {row.label}, which {why}: such a mix is no candidate.",
                f"Choose a row that converts weights alone, on {base.label} (`qfund ls precisions`).",
            )
    kept = tuple((module, name) for module, name in modules.items() if name != reference)
    if not kept:
        raise InvalidSpec(f"{path.name} takes every module in {base.label}.", f"Name {reference} itself instead.")
    content = json.dumps([reference, sorted(kept)])
    return RecipeFile(reference, kept, f"sha256:{sha256(content.encode()).hexdigest()}")
