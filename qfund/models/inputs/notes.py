"""How an input was read, in sentences."""

from qfund.core.errors import InvalidInput
from qfund.core.intervals import MIN_BLOCKS
from qfund.inputs.chunks import Chunking
from qfund.inputs.texts import SECOND_HALF


def truncation(lengths: list[int], most: int) -> list[str]:
    """That only the first ``most`` tokens of texts of these lengths were used, where that is so."""
    longer = [length for length in lengths if length > most]
    if len(lengths) == 1:
        return [f"The first {most:,} of {length:,} tokens were used." for length in longer]
    return [f"Of {len(longer):,} of {len(lengths):,} texts, the first {most:,} tokens were used."] if longer else []


def reading(chunking: Chunking, chunks: int, texts: int, unread: int) -> list[str]:
    """How the texts were read, in sentences."""
    notes, context = [], f"{chunking.context:,} tokens"
    what = "The text was" if texts == 1 else f"{texts:,} texts were"
    if added := len(chunking.before) + len(chunking.after):
        tokens = f"{added} special token{'s' * (added > 1)}"
        notes.append(f"The tokenizer adds {tokens} to each chunk.")
    if chunking.scoring == SECOND_HALF:
        place = ", in place of what stood there" if chunking.before else ""
        notes = [f"Each chunk begins with {plural(len(chunking.before), 'special token')}{place}."] if place else []
        notes.append(
            f"{what} read in {plural(chunks, 'whole chunk')} of {context}, each on its own; of each, the predictions "
            f"at positions {chunking.context // 2:,} to {chunking.context - 2:,} are scored, as llama.cpp does."
        )
        if unread:
            notes.append(f"{plural(unread, 'token')} at the end{'s' * (texts > 1)} filled no chunk.")
    elif chunking.overlaps:
        notes.append(
            f"{what} read in {plural(chunks, 'chunk')} of at most {context}, each {chunking.stride:,} tokens after "
            "the one before; what they share is context and scored once."
        )
    elif chunks > 1:
        notes.append(f"{what} read in {chunks} chunks of at most {context}, each on its own.")
    if chunks < MIN_BLOCKS:
        notes.append(
            f"{plural(chunks, 'chunk')} {'is' if chunks == 1 else 'are'} too few for an interval that allows for "
            f"tokens of one text depending on each other: {MIN_BLOCKS} are needed."
        )
    return notes


def too_short(chunking: Chunking, tokens: int, texts: int) -> InvalidInput:
    """No text gives a chunk; the longest has so many tokens."""
    what = (
        f"The text is {plural(tokens, 'token')} long"
        if texts == 1
        else f"No text has more than {plural(tokens, 'token')}"
    )
    if chunking.scoring == SECOND_HALF:
        return InvalidInput(
            f"{what}: no whole chunk of {chunking.context:,}, of which the second half could be scored.",
            f"Give at least {chunking.least:,} tokens, or a smaller context.",
        )
    return InvalidInput(f"{what}.", "Give at least two, so that one predicts the next.")


def left_out(names: list[str], chunking: Chunking) -> list[str]:
    """That texts of these names were too short for a chunk, where there are any."""
    if not names:
        return []
    some = f"{', '.join(names[:3])}{' …' * (len(names) > 3)}"
    return [f"{plural(len(names), 'text')} shorter than {chunking.least:,} tokens left out: {some}."]


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"
