"""What is meant to differ from the record, and why."""

from qfund.commandline.commands import COMMANDS

#: Differences that are meant: the case, and why. Its text stands in ``recorded/improved/``, beside the earlier one.
IMPROVED: dict[str, str] = {
    "bad-nothing": "`qfund` alone prints its help, and ends with 0",
    **dict.fromkeys(
        ("help", *(f"help-{name}" for name in COMMANDS)),
        "what the command does, its options and examples, in at most 100 columns",
    ),
    **dict.fromkeys(
        (
            "bad-caption-both",
            "bad-fits-device",
            "bad-fits-nothing",
            "bad-ls",
            "bad-margin",
            "bad-margin-word",
            "bad-no-model",
            "bad-option",
            "bad-run-port",
            "bad-subcommand",
            "bad-text-twice",
            "bad-tokens-word",
        ),
        "one sentence as of every other error, with the name that was probably meant or where to look, for a usage",
    ),
    **dict.fromkeys(
        ("compare-llama-json", "compare-blip-json"),
        "ends of intervals, from the 14th digit on: Student's t is SciPy's",
    ),
    **dict.fromkeys(
        (f"questions-{number}" for number in (4, 10, 11, 12, 13, 14, 19, 21)),
        "the code that is shown imports from where things are now",
    ),
    **dict.fromkeys(
        (
            "stored-compare-blip",
            "stored-compare-dummy",
            "stored-compare-llama",
            "compare-0",
            "compare-1",
            "compare-2",
            "compare-3",
            "compare-4",
            "compare-5",
            "compare-6",
            "compare-7",
            "guide-0",
            "guide-1",
            "precisions-0",
            "precisions-1",
            "questions-1",
            "questions-16",
        ),
        "intervals that hold in short texts too, the same in words, tables and verdicts; how many tokens there are",
    ),
    **dict.fromkeys(
        (
            "stored-classify",
            "outputs-3",
        ),
        "the largest change is a mean, and of probabilities in points",
    ),
}
