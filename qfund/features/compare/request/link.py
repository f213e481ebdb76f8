"""A ``Spec`` as the query of a link, and back."""

from collections.abc import Iterable, Mapping
from dataclasses import astuple, replace

from qfund.core.errors import InvalidSpec, QfundError
from qfund.core.parameters import number
from qfund.core.units import parse_count
from qfund.features.compare.request.decision import Margin
from qfund.features.compare.request.spec import Spec, checked
from qfund.inputs.texts import ALL, NamedText
from qfund.precisions.request import ALSO, reference_of
from qfund.precisions.table import PRECISIONS

#: Version of the link format (the parameter ``v``).
LINK_VERSION = 1

# The link: short names, candidates as repeats of ``p``, texts as repeats of ``file`` (names) and of ``content``.
# Every parameter is written but those that came later, which are written where they are not what they were before.
_NUMBERS = {"tokens": "max_tokens", "context": "context"}
_STRINGS = {"model": "model", "ref": "reference", "text": "text", "rev": "revision"}
QUERY_NAMES = frozenset(
    {
        "v",
        "p",
        "also",
        "libraries",
        "stride",
        "scoring",
        "file",
        "content",
        "until",
        "quantized",
        "kv",
        "imatrix",
        "without",
    }.union(_NUMBERS, _STRINGS)
)


def to_query(spec: Spec) -> dict[str, list[str]]:
    """Query parameters that name every part of the comparison.

    A part that is None is written as an empty value, but for ``text``: absent is None, empty is an empty text.
    """
    query: dict[str, list[str]] = {"v": [str(LINK_VERSION)]}
    for short, name in (_STRINGS | _NUMBERS).items():
        value = getattr(spec, name)
        if value is not None:
            query[short] = [str(value)]
        elif short != "text":
            query[short] = [""]
    query["p"] = list(spec.precisions) or [""]
    if spec.also:
        query["also"] = list(spec.also)
    if spec.libraries:
        query["libraries"] = ["1"]
    if spec.stride is not None:
        query["stride"] = [str(spec.stride)]
    if spec.scoring != ALL:
        query["scoring"] = [spec.scoring]
    if spec.until is not None:
        query["until"] = [",".join("" if part is None else repr(part) for part in astuple(spec.until))]
    if spec.files:
        query["quantized"] = list(spec.files)
    if spec.kv:
        query["kv"] = list(spec.kv)
    if spec.imatrix:
        query["imatrix"] = [spec.imatrix]
    if spec.without:
        query["without"] = list(spec.without)
    if spec.texts:
        query["file"] = [named.name for named in spec.texts]
        query["content"] = [named.text for named in spec.texts]
    return query


def from_query(query: Mapping[str, Iterable[str]], default: Spec) -> tuple[Spec, list[str]]:
    """The comparison that a link asks for, and a sentence for each thing in it that had to be ignored.

    A part that is absent or unreadable is taken from ``default``.
    """
    problems: list[str] = []
    given = {key: list(values) for key, values in query.items()}
    unknown = sorted(set(given) - QUERY_NAMES)
    if unknown:
        problems.append(f"Ignored unknown link parameter{'s' * (len(unknown) > 1)}: {', '.join(unknown)}.")
    version = (given.get("v") or [str(LINK_VERSION)])[-1]
    if version != str(LINK_VERSION):
        problems.append(f"The link has version {version!r}; this qfund reads version {LINK_VERSION} and did its best.")
    spec = default
    if "p" in given:  # a link that names precisions names everything: what it does not say is as it always was
        spec = replace(spec, stride=None, scoring=ALL, texts=(), until=None, files=(), kv=(), imatrix=None, without=())
    elif given.get("text"):
        spec = replace(spec, texts=())
    if files := [file for file in given.get("quantized", ()) if file]:
        spec, problem = _with(spec, "files", tuple(dict.fromkeys(files)), "quantized")
        problems += problem
    if caches := [kv for kv in given.get("kv", ()) if kv]:
        spec, problem = _with(spec, "kv", tuple(caches), "kv")
        problems += problem
    for short, name in _STRINGS.items():
        if given.get(short):
            value = given[short][-1]
            spec, problem = _with(spec, name, value if value or short == "text" else None, short)
            problems += problem
    for short, name in _NUMBERS.items():
        if given.get(short):
            value = given[short][-1]
            if value == "" and name == "context":
                spec = replace(spec, context=None)
            else:
                spec, problem = _with_number(spec, name, value, short)
                problems += problem
    if given.get("stride"):
        spec, problem = _with_number(spec, "stride", given["stride"][-1], "stride")
        problems += problem
    if given.get("scoring"):
        spec, problem = _with(spec, "scoring", given["scoring"][-1], "scoring")
        problems += problem
    if given.get("until"):
        spec, problem = _with_until(spec, given["until"][-1])
        problems += problem
    if given.get("file") or given.get("content"):
        spec, problem = _with_texts(spec, given.get("file", []), given.get("content", []), "text" in given)
        problems += problem
    if "p" in given:
        known = tuple(name for name in given["p"] if name in PRECISIONS)
        ignored = [name for name in given["p"] if name and name not in PRECISIONS]
        if ignored:
            problems.append(f"Ignored unknown precision {', '.join(repr(name[:40]) for name in ignored)} in the link.")
        candidates = known if known or spec.files or spec.kv else default.precisions
        try:
            reference = reference_of(spec.reference if given.get("ref") else None, candidates)
        except InvalidSpec as error:
            problems.append(f"Ignored ref={spec.reference!r} in the link: {error.message}")
            reference = reference_of(None, candidates)
        changed, problem = _with(replace(spec, reference=reference), "precisions", candidates, "p")
        problems += problem
        spec = spec if problem else changed
    if importance := [file for file in given.get("imatrix", ()) if file]:
        spec, problem = _with(spec, "imatrix", importance[-1], "imatrix")
        problems += problem
    if "also" in given or "p" in given:  # a link that names precisions and no ``also`` asks for none
        also = [name for name in given.get("also", ()) if name]
        if ignored := [name for name in also if name not in ALSO]:
            problems.append(f"Ignored unknown {', '.join(repr(name[:40]) for name in ignored)} of also= in the link.")
        spec = replace(spec, also=tuple(name for name in ALSO if name in also))
    for name in filter(None, given.get("without", ())):
        spec, problem = _with(spec, "without", (*spec.without, name), "without")
        problems += problem
    if "libraries" in given or "p" in given:
        spec = replace(spec, libraries=(given.get("libraries") or ["0"])[-1] == "1")
    return spec, problems


def _with_number(spec: Spec, name: str, value: str, short: str) -> tuple[Spec, list[str]]:
    if (found := parse_count(value)) is not None:
        return _with(spec, name, found, short)
    return spec, [f"Ignored {short}={value[:40]!r} in the link: not a number."]


def _with_until(spec: Spec, value: str) -> tuple[Spec, list[str]]:
    """The margin's parts, in their order, with commas between; an empty one asks for nothing."""
    parts = value[:200].split(",")
    try:
        if len(parts) != len(astuple(Margin())):
            raise ValueError
        until = Margin(*(float(part) if part else None for part in parts))
    except ValueError:
        return spec, [f"Ignored until={value[:40]!r} in the link: no margin."]
    return _with(spec, "until", until, "until")


def _with_texts(spec: Spec, names: list[str], contents: list[str], one: bool) -> tuple[Spec, list[str]]:
    """``one`` says whether the link holds a text without a name too."""
    if len(names) != len(contents):
        return spec, [f"Ignored file= in the link: it names {len(names)} texts and holds {len(contents)}."]
    texts = tuple(map(NamedText, names, contents))
    try:
        return checked(replace(spec, text=spec.text if one else None, texts=texts)), []
    except QfundError as error:
        return spec, [f"Ignored file= in the link: {error.message}"]


def _with(spec: Spec, name: str, value: object, short: str) -> tuple[Spec, list[str]]:
    """``spec`` with one part replaced, or as it was and a sentence that says why not."""
    if value is None and name in ("model", "reference"):
        return spec, []
    try:
        return checked(replace(spec, **{name: value})), []  # type: ignore[arg-type]
    except QfundError as error:
        return spec, [f"Ignored {short}={str(value)[:40]!r} in the link: {error.message}"]


#: Link parameter → field of ``Margin``, how often it stands there for 1, the largest and the widget's step.
MARGINS = {
    "ppl": ("perplexity", 100.0, 100.0, 0.1),
    "changed": ("tokens", 100.0, 100.0, 0.5),
    "kl": ("kl", 1.0, 100.0, 0.001),
    "cos": ("cosine", 1.0, 2.0, 0.001),
}

MARGIN_NAMES = frozenset(MARGINS)


def margin_to_query(margin: Margin, complete: bool = False) -> dict[str, list[str]]:
    """Link parameters: of what is not the default, or of everything. An empty one asks for nothing."""
    usual, query = Margin(), {}
    for name, (field, times, _, _) in MARGINS.items():
        value = getattr(margin, field)
        if complete or value != getattr(usual, field):
            query[name] = ["" if value is None else f"{times * value:.6g}"]
    return query


def margin_from_query(query: Mapping[str, list[str]]) -> tuple[Margin, list[str]]:
    """The margin that a link names, and a sentence for each part of it that had to be ignored."""
    margin, problems = Margin(), []
    for name, (field, times, most, _) in MARGINS.items():
        if name not in query:
            continue
        value = (query[name] or [""])[-1]
        found = number(value[:40], 0, most)
        if value and found is None:
            problems.append(f"Ignored {name}={value[:40]!r} in the link: no number from 0 to {most:.0f}.")
        else:
            margin = replace(margin, **{field: None if found is None else found / times})
    return margin, problems
