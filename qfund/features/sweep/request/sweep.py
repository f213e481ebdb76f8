"""A sweep as a value: for each model what is chosen, and the comparisons that this stands for. Each of them is an
ordinary ``Spec``, so what ``qfund compare`` has measured is found, and what a sweep measures is found there."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cache

from qfund.core.errors import InvalidSpec, QfundError
from qfund.features.compare.request import usual
from qfund.features.compare.request.margin import Margin
from qfund.features.compare.request.margin import checked as checked_margin
from qfund.features.compare.request.spec import DEFAULT_TOKENS, Spec, checked
from qfund.features.memory.request.plan import HeaderPlan, PlanRequest
from qfund.inputs.texts import ALL, NamedText
from qfund.precisions.request import reference_of
from qfund.precisions.table import PRECISIONS

#: Comparisons of one sweep.
MOST = 2000

#: Reads a checkpoint's headers, or raises a ``QfundError`` that says why not.
Headers = Callable[[PlanRequest], HeaderPlan]


@dataclass(frozen=True, slots=True)
class Input:
    """What models read: a ``text``, several ``texts`` in one comparison, or, with neither, each model's own."""

    name: str = ""
    text: str | None = None
    texts: tuple[NamedText, ...] = ()


@dataclass(frozen=True, slots=True)
class Choices:
    """What is chosen for a model, as fields of a ``Spec``; None leaves it to what is chosen for all, or to what is
    usual.

    Attributes:
        inputs: each is a comparison of its own.
        margin: parts of a ``Margin`` by name.
        until_decided: read on only until the margin decides.
    """

    model: str = ""
    revision: str | None = None
    precisions: tuple[str, ...] | None = None
    reference: str | None = None
    inputs: tuple[Input, ...] | None = None
    files: tuple[str, ...] | None = None
    margin: tuple[tuple[str, float | None], ...] | None = None
    max_tokens: int | None = None
    context: int | None = None
    stride: int | None = None
    scoring: str | None = None
    also: tuple[str, ...] | None = None
    libraries: bool | None = None
    until_decided: bool | None = None

    def beside(self, shared: "Choices") -> "Choices":
        """The same, with what is chosen for all where nothing is chosen here; of a margin part by part."""
        own = {row.name: getattr(self, row.name) for row in fields(self)}
        both = {**dict(shared.margin or ()), **dict(self.margin or ())}
        merged = {name: getattr(shared, name) if value is None else value for name, value in own.items()}
        return Choices(**merged | {"margin": tuple(both.items()) or None})

    @property
    def allowed(self) -> Margin:
        return replace(Margin(), **dict(self.margin or ()))


@dataclass(frozen=True, slots=True)
class Item:
    """One comparison of a sweep. ``name`` tells its input from others of the same model; ``headers`` are those of its
    checkpoint, from which the reference was chosen."""

    spec: Spec
    margin: Margin
    name: str = ""
    headers: HeaderPlan | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """What of a sweep cannot be done, and why."""

    model: str
    name: str
    why: str


def items(choices: Iterable[Choices], headers: Headers) -> Iterator[Item | Refused]:
    """The comparisons, each once, and what cannot be compared.

    Raises:
        InvalidSpec: there are more than ``MOST``.
    """
    seen: set[Spec] = set()
    once = cache(headers)
    for chosen in choices:
        for found in _of_model(chosen, once):
            if isinstance(found, Item):
                if found.spec in seen:
                    continue
                seen.add(found.spec)
                if len(seen) > MOST:
                    raise InvalidSpec(f"These are more than {MOST:,} comparisons.", "Make several sweeps of them.")
            yield found


def _of_model(chosen: Choices, headers: Headers) -> Iterator[Item | Refused]:
    try:
        read = headers(PlanRequest(chosen.model, revision=chosen.revision))
    except QfundError as error:
        yield Refused(chosen.model, "", str(error))
        return
    for each in chosen.inputs or (Input(),):
        try:
            margin = checked_margin(chosen.allowed)
            yield Item(checked(_spec(chosen, each, read, margin)), margin, each.name, read)
        except QfundError as error:
            yield Refused(chosen.model, each.name, str(error))


def _spec(chosen: Choices, given: Input, read: HeaderPlan, margin: Margin) -> Spec:
    reference = chosen.reference or usual.of_headers(read)
    reference = reference.lower() if reference.lower() in PRECISIONS else reference
    usual_ones = () if chosen.files else usual.candidates(reference)
    precisions = usual_ones if chosen.precisions is None else chosen.precisions
    if chosen.reference is None and set(precisions) == {usual.AS_STORED}:
        reference = reference_of(None, precisions)
    return Spec(
        model=chosen.model,
        reference=reference,
        precisions=precisions,
        text=given.text,
        max_tokens=DEFAULT_TOKENS if chosen.max_tokens is None else chosen.max_tokens,
        context=chosen.context,
        revision=chosen.revision,
        also=chosen.also or (),
        libraries=bool(chosen.libraries),
        stride=chosen.stride,
        scoring=(chosen.scoring or ALL).lower(),
        texts=given.texts,
        until=margin if chosen.until_decided else None,
        files=chosen.files or (),
    )
