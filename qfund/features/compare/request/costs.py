"""What the time of a comparison went into, from which that of the next one is told before it begins."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of one comparison on one machine.

    Attributes:
        cpu, threads, device: where.
        parameters, vocabulary: of the model.
        context: tokens of a chunk.
        opening: what no token costs: checkpoint, tokenizer, frames, and the report.
        forward: precision → seconds that a token takes in its forward.
        reading: of one walk over the weights, for all of so many ``ways`` (candidates and the reference) together:
            reading, converting, quantising.
        comparing: seconds that a token of one candidate takes beside its forward: the statistics.
        noise: seconds that each of the tokens took that the reference's noise was measured on; 0 where it was known.
    """

    cpu: str
    threads: int
    device: str
    parameters: int
    vocabulary: int
    context: int
    opening: float
    forward: dict[str, float]
    reading: float
    ways: int
    comparing: float
    noise: float = 0.0
