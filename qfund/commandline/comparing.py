"""Options of the commands that compare outputs on a text: how much of it is read, what is done to the model, and the
margin that candidates are judged by."""

from qfund.commandline.options import count, distance, share
from qfund.commandline.table import Option
from qfund.inputs.texts import ALL, ANSWERS, SCORINGS, WRITTEN


def amounts(tokens: int) -> tuple[Option, ...]:
    """Of how many ``tokens`` of a text are read unless it is said, in chunks of how many, and which are scored."""
    return (
        Option("--max-tokens", f"use at most N tokens, in a folder of each text (default: {tokens})", "N", count),
        Option("--context", "tokens per chunk (default: the model's, at most 512)", "N", count),
        Option(
            "--stride",
            "begin a chunk every N tokens; what it shares with the one before is context (default: no overlap)",
            "N",
            count,
        ),
        Option("--scoring", f"positions to score: {' or '.join(SCORINGS)} (default: {ALL})", "S", default=ALL),
    )


CHAT = (
    Option(
        "--chat",
        "the text is conversations (JSON, a list of lists of messages with a role and content), written by the "
        f"checkpoint's own chat template; answers alone are scored: --scoring {ANSWERS}",
        flag=True,
    ),
    Option(
        "--reference-answers",
        "as --chat, but the reference writes the answers itself first, greedily, and all candidates are scored on "
        f"them: --scoring {WRITTEN}",
        flag=True,
    ),
)
LIKE_LLAMA_CPP = Option(
    "--like-llama-cpp",
    "score what llama-perplexity does: --scoring second-half, and the whole text unless --max-tokens is given",
    flag=True,
)
LIBRARIES = Option(
    "--libraries",
    "run the installed libraries that implement the candidates too, and time everything in turns",
    flag=True,
)
UNTIL_DECIDED = Option(
    "--until-decided",
    "read on only for candidates of which it is not certain yet whether they are within the margin, and may become so; "
    "at most --max-tokens",
    flag=True,
)
REFERENCE = Option("--reference", "compare with this one (default: what the checkpoint is stored in)", "P")


def margins(perplexity: float, tokens: float, cosine: float) -> tuple[Option, ...]:
    """What each candidate is judged by, unless it is said: it changes no measurement."""
    return (
        _margin("perplexity", perplexity, "perplexity that is worse by at most X %"),
        _margin("tokens", tokens, "at most X % of the most likely tokens (or classes) changed"),
        Option(
            "--margin-cosine",
            f"and, of an encoder, with a mean cosine of the last hidden states of at most X below 1 (default: "
            f"{cosine:g})",
            "X",
            distance,
            cosine,
        ),
    )


def _margin(name: str, default: float, what: str) -> Option:
    said = f"call a candidate within your margin with {what} (default: {100 * default:g})"
    return Option(f"--margin-{name}", said, "X", share, default)
