"""Where a result was measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a report was measured: versions by package, Python, CPU or GPU by name, threads used, and which model.

    ``model_id`` is ``sha256:…`` of the files, or ``stat:…`` for very large ones; ``revision`` is the Hub's commit.
    """

    versions: dict[str, str]
    python: str
    platform: str
    device: str
    cpu: str
    threads: int
    model_id: str
    revision: str | None = None
