"""Lists of models as people write them, read into ``Choices``: YAML, or a model a line.

    precisions: [int8, int4]          # for all; any setting of ``SETTINGS`` may stand here
    models:
      - pydoc-llama
      - owner/name@revision
      - model: ./checkpoint           # and here, for this one alone
        margin: {perplexity: 0.5}     # per cent, as on the command line
        text_file: [one.txt, two.txt]

A list of models alone will do. Every value is read as text and then as what its setting holds, so YAML's own guesses
(``no``, ``1e3``) play no part; anchors, which can make a small file a huge list, are refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qfund.checkpoints import catalog
from qfund.core.errors import InvalidSpec, QfundError
from qfund.core.names import unknown
from qfund.core.units import parse_count
from qfund.features.compare.request.margin import Margin
from qfund.features.sweep.request.sweep import MOST, Choices, Input

#: Characters of a list.
LONGEST = 500_000
#: Of what a list holds: models, a model, its settings, a setting's parts.
_DEEPEST = 5
#: Reads a text from a file that a list names.
Read = Callable[[Path], str]


def read(document: str, shared: Choices, read_text: Read | None = None) -> tuple[Choices, ...]:
    """What is chosen for each model of a list.

    Args:
        shared: what is chosen for all; the list's own settings go before it.
        read_text: None where a list may name no files.

    Raises:
        InvalidSpec: it is no list of models, too long, or a setting is not known or holds something else.
        InvalidInput: a text cannot be read.
    """
    return chosen(parsed(document), shared, read_text)


def chosen(found: Any, shared: Choices, read_text: Read | None = None) -> tuple[Choices, ...]:
    """The same of what a list holds: a list of models, or a mapping with ``models`` and settings of all. Numbers may be
    numbers. Raises as ``read``."""
    found = _plain(found)
    models = found
    if isinstance(found, dict):
        settings = {name: value for name, value in found.items() if name != "models"}
        models = found.get("models", [found] if "model" in found else None)
        if "models" in found:
            shared = _choices(settings, read_text, "for all models").beside(shared)
    if isinstance(models, str):
        models = models.split()
    if not isinstance(models, list) or not models:
        raise InvalidSpec(
            "This is no list of models.", "Write a model a line, each after a dash; see qfund sweep --help."
        )
    if len(models) > MOST:
        raise InvalidSpec(f"The list has {len(models):,} models.", f"Give at most {MOST:,}.")
    return tuple(_choices(_entry(each), read_text, "").beside(shared) for each in models)


def _plain(found: Any) -> Any:
    """With text in place of numbers, as YAML is read here."""
    if isinstance(found, dict):
        return {str(name): _plain(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [_plain(value) for value in found]
    return found if found is None or isinstance(found, str) else str(found)


def lines(document: str, shared: Choices) -> tuple[Choices, ...]:
    """The same of a model a line; blank lines and what follows a ``#`` say nothing. Raises as ``read``."""
    names = [name for line in document.splitlines() if (name := line.partition("#")[0].strip())]
    if not names or len(names) > MOST:
        raise InvalidSpec(f"The list has {len(names):,} models.", f"Give 1 to {MOST:,}, one a line.")
    return tuple(named(name).beside(shared) for name in names)


def pasted(document: str, shared: Choices) -> tuple[Choices, ...]:
    """The same of what somebody typed: a model a line, or YAML. Raises as ``read``."""
    plain = all(":" not in line and not line.lstrip().startswith(("-", "[")) for line in document.splitlines())
    return lines(document, shared) if plain else read(document, shared)


def folder(path: Path, shared: Choices) -> tuple[Choices, ...]:
    """Every checkpoint in a folder and in those inside it; not what lies within a checkpoint, nor hidden ones.

    Raises:
        InvalidSpec: there is none, or too many.
    """
    found: list[Path] = []
    for config in sorted(path.rglob("config.json")):
        inside = config.parent.relative_to(path)
        if any(part.startswith(".") for part in inside.parts) or any(each in config.parent.parents for each in found):
            continue
        found.append(config.parent)
    if not found or len(found) > MOST:
        raise InvalidSpec(f"{path} holds {len(found):,} checkpoints.", f"Name a folder of 1 to {MOST:,}.")
    return tuple(Choices(model=str(each)).beside(shared) for each in found)


def named(text: str) -> Choices:
    """``owner/name@revision`` is a revision of a Hub id; anything else is a model's name as it stands."""
    name, _, revision = text.strip().rpartition("@")
    if name.count("/") == 1 and revision and not name.startswith((".", "~", "/")) and not Path(text).exists():
        return Choices(model=name, revision=revision)
    return Choices(model=text.strip())


def parsed(document: str) -> Any:
    """What a list of YAML holds, every value a text. Raises ``InvalidSpec``."""
    import yaml  # slow to import; not for a list that is a model a line

    if len(document) > LONGEST:
        raise InvalidSpec(f"The list has {len(document):,} characters.", f"Give at most {LONGEST:,}.")

    loader, depth = getattr(yaml, "CBaseLoader", yaml.BaseLoader), 0
    try:
        for event in yaml.parse(document, Loader=loader):  # as it is read: what is refused is not read to its end
            if isinstance(event, yaml.AliasEvent):
                raise InvalidSpec("The list holds an alias of YAML (*name).", "Write it out.")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise InvalidSpec("The list holds lists in lists in lists.", "Write a model a line, each after a dash.")
        return yaml.load(document, Loader=loader)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise InvalidSpec(f"The list is no YAML: {said[:200]}.", "Write a model a line, each after a dash.") from error
    except (RecursionError, ValueError) as error:
        raise InvalidSpec("The list cannot be read.", "Write a model a line, each after a dash.") from error


def _entry(each: object) -> Mapping[str, object]:
    if isinstance(each, dict):
        if not str(each.get("model") or "").strip():
            raise InvalidSpec("An entry of the list names no model.", "Give each a model: …")
        return each
    if not isinstance(each, str) or not each.strip():
        raise InvalidSpec(f"{str(each)[:60]!r} is no model.", "Name it, or write model: and its settings.")
    return {"model": each}


def _choices(given: Mapping[str, object], read_text: Read | None, where: str) -> Choices:
    whose = where or f"of {str(given.get('model'))[:60]}"
    settings = {key: value for key, value in given.items() if key not in ("text", "text_file")}
    chosen = Choices()
    if isinstance(name := settings.pop("model", ""), str) and name:
        chosen = named(name)
    for key, value in settings.items():
        if key not in SETTINGS:
            raise unknown((*SETTINGS, "text", "text_file"), str(key)[:40], "setting")
        field, reads = SETTINGS[key]
        try:
            chosen = replace(chosen, **{field: reads(value)})
        except (ValueError, TypeError, LookupError) as error:
            raise InvalidSpec(f"{key} {whose} is {str(value)[:60]!r}.", f"Give {_EXPECTED[reads]}.") from error
    inputs = [Input(_excerpt(text), text) for text in _several(given.get("text", []))]
    for path in _several(given.get("text_file", [])):
        if read_text is None:
            raise InvalidSpec("A list on a page names no files of texts.", "Write the text itself, or use qfund sweep.")
        inputs.append(Input(Path(path).name, read_text(Path(path))))
    return replace(chosen, inputs=tuple(inputs)) if inputs else chosen


def _excerpt(text: str) -> str:
    return " ".join(text.split())[:40]


def _one(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value.strip()


def _several(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidSpec(f"{str(value)[:60]!r} is no text, and no list of texts.", "Give one, or a list.")
    return tuple(value)


def _names(value: object) -> tuple[str, ...]:
    """``int8 int4`` and ``int8,int4`` are two."""
    parts = value if isinstance(value, list) else [value]
    return tuple(name.lower() for part in parts for name in _one(part).replace(",", " ").split())


def _listed(value: object) -> tuple[str, ...]:
    return tuple(_one(part) for part in (value if isinstance(value, list) else [value]))


def _count(value: object) -> int:
    if (found := parse_count(_one(value))) is None:
        raise ValueError
    return found


def _whether(value: object) -> bool:
    return {"true": True, "yes": True, "false": False, "no": False}[_one(value).lower()]


def _margin(value: object) -> tuple[tuple[str, float | None], ...]:
    if not isinstance(value, dict) or not value.keys() <= set(Margin.__slots__):
        raise ValueError
    return tuple((name, _part(name, _one(part))) for name, part in value.items())


def _part(name: str, text: str) -> float | None:
    if text.lower() in ("any", "none"):
        return None
    number = float(text.removesuffix("%"))
    return number / 100 if name in ("perplexity", "tokens") else number


#: A setting of a list → the field of ``Choices`` that it is, and what reads it; ``text`` and ``text_file`` besides.
SETTINGS: dict[str, tuple[str, Callable[[object], Any]]] = {
    "revision": ("revision", _one),
    "precisions": ("precisions", _names),
    "precision": ("precisions", _names),
    "reference": ("reference", _one),
    "files": ("files", _listed),
    "file": ("files", _listed),
    "margin": ("margin", _margin),
    "max_tokens": ("max_tokens", _count),
    "context": ("context", _count),
    "stride": ("stride", _count),
    "scoring": ("scoring", _one),
    "also": ("also", _names),
    "libraries": ("libraries", _whether),
    "until_decided": ("until_decided", _whether),
}
_EXPECTED: dict[Callable[[object], Any], str] = {
    _one: "a name",
    _names: "names, in a list or with blanks between",
    _listed: "a path, or a list of paths",
    _margin: f"some of {', '.join(Margin.__slots__)}, each with a number",
    _count: "a whole number such as 8192 or 8k",
    _whether: "true or false",
}


def is_checkpoint(name: str) -> bool:
    """Whether it is a model, and no list or folder of several."""
    path = catalog.path_of(name)
    try:
        if name in catalog.CATALOG or not path.is_dir() or (path / "config.json").is_file():
            return True
        return catalog.locate(name).folder != path.resolve()  # sentence-transformers keep theirs in a folder inside
    except (OSError, QfundError):
        return True
