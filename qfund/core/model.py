"""Facts about a model."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """``task`` is a name of ``qfund.models.tasks.TASKS``; ``parameters`` counts tied weights once.

    ``vocabulary`` is how many tokens it chooses among, 0 where it chooses none or that is not known.
    """

    architecture: str
    task: str
    parameters: int
    checkpoint_dtypes: dict[str, int] = field(default_factory=dict)
    vocabulary: int = 0
