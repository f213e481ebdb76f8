"""``qfund generate``: the same prompts in every precision, and where the texts part."""

from argparse import Namespace
from pathlib import Path

from qfund.commandline import measuring, texts
from qfund.commandline.options import FILE, KV, beside, count, names, reference
from qfund.commandline.table import Command, Option
from qfund.commandline.tables import aligned
from qfund.core.errors import InvalidInput
from qfund.core.units import number_text
from qfund.drawing.numbers import interval_text
from qfund.drawing.phrases import label
from qfund.features.outputs import words
from qfund.features.outputs.request import generation
from qfund.features.outputs.request.generation import (
    DEFAULT_NEW_TOKENS,
    DEFAULT_PRECISIONS,
    Generation,
    GenerationRequest,
)
from qfund.inputs import conversations

_WORST = 3  # examples of many prompts that are printed


def _run(options: Namespace) -> None:
    given = texts.given(options.prompt, options.prompts_file)
    if options.conversations is not None:
        found = conversations.of_file(texts.read(options.conversations))
        given = (*(given or ()), *map(conversations.written, found))
    if options.prompts_file is not None and not given:
        raise InvalidInput(f"There is no prompt in {options.prompts_file}.", "Write one prompt a line.")
    asked = GenerationRequest(
        model=options.model,
        reference=reference(options),
        # Beside files, the usual candidates are not meant unless they are named.
        precisions=names(options.precision) or (() if options.file else DEFAULT_PRECISIONS),
        prompts=given,
        max_new_tokens=options.max_new_tokens,
        stop=tuple(options.stop),
        temperature=options.temperature,
        seed=options.seed,
        also=names(options.also),
        revision=options.revision,
        chat=options.chat or options.conversations is not None,
        kv=names(options.kv),
        files=tuple(options.file),
    )
    measuring.put(measuring.stored(asked, options), options, text, generation.to_json)


COMMAND = Command(
    run=_run,
    rows=(
        *beside((), otherwise=" ".join(DEFAULT_PRECISIONS)),
        FILE,
        KV,
        Option("--prompt", "go on with this text; can be given again (default: the project's)", "T", again=True),
        Option(
            "--prompts-file",
            "prompts of a UTF-8 file, one a line, or between lines that are ---; - for standard input",
            "F",
            Path,
        ),
        Option(
            "--max-new-tokens",
            f"write at most N tokens after each prompt (default: {DEFAULT_NEW_TOKENS})",
            "N",
            count,
            DEFAULT_NEW_TOKENS,
        ),
        Option("--stop", "end a text where it has written this; can be given again", "T", default=[], again=True),
        Option(
            "--temperature",
            "draw tokens at this temperature, with the same random numbers in every precision (default: 0, the "
            "likeliest token)",
            "X",
            float,
            0.0,
        ),
        Option(
            "--chat",
            "prompts are a user's messages: write them as the checkpoint's own chat template does, and compare answers",
            flag=True,
        ),
        Option(
            "--conversations",
            "as --chat, of the conversations in this JSON file: a list of lists of messages, each with a role and "
            "content; answers at their ends are left out",
            "F",
            Path,
        ),
        Option("--seed", "of the random numbers (default: 0)", "N", int, 0),
    ),
    examples=(
        'qfund generate pydoc-llama --precision bf16 int4 --prompt "def open_url(url):"',
        "qfund generate ./my-model --file ./my-model-Q4_K_M.gguf",
    ),
)


def text(found: Generation) -> str:
    """The statistics of many prompts and the worst of them, or all texts of a few."""
    request = found.request
    lines = [f"{request.model}, {found.architecture}. {words.how_written(found)}", *found.notes, ""]
    if len(found.examples) > 1:
        lines += [*_statistics(found), ""]
    lines += [f"{label(name)}: {words.candidate(found, name)}" for name in request.candidates]
    if len(found.examples) <= _WORST:
        for number in range(len(found.examples)):
            lines += ["", *_texts(found, number)]
    else:
        for name in request.candidates:
            worst = [n for n in generation.worst_first(found, name) if found.examples[n].candidates[name].divergence]
            lines += ["", f"{label(name)}, the worst:"] if worst else []
            for number in worst[:_WORST]:
                row = found.examples[number].candidates[name].divergence
                assert row is not None
                prompt = words.visible(found.examples[number].prompt)
                lines += [f"  {number + 1}. {prompt}", f"     {words.divergence(row, request.reference, name)}"]
    return "\n".join(lines)


def _statistics(found: Generation) -> list[str]:
    head = ["precision", "same tokens", "never diverge (%)", "divergent tokens (%)", "ties", "damage", "logit noise"]
    rows = []
    for name in found.request.candidates:
        row = generation.statistics(found, name)
        if row is not None:
            ties = row.kinds.get(generation.TIED, 0)
            texts = [interval_text("", one) for one in (row.same, row.never, row.divergent)]
            noise = "-" if row.noise is None else number_text(row.noise)
            rows.append([name, *texts, str(ties), str(row.damaged), noise])
    return aligned([head, *rows])


def _texts(found: Generation, number: int) -> list[str]:
    """Every text after one prompt, with a mark where it parts from the reference's."""
    example, reference = found.examples[number], found.request.reference
    lines = [f"Prompt {number + 1}: {words.visible(example.prompt)}"]
    width = max(len(label(name)) for name in (reference, *found.request.candidates))
    lines.append(f"  {label(reference):{width}}  {words.visible(example.reference.text)}")
    for name in found.request.candidates:
        candidate = example.candidates[name]
        pieces, same = candidate.written.pieces, candidate.same
        marked = (
            "".join(pieces) if candidate.divergence is None else f"{''.join(pieces[:same])}▶{''.join(pieces[same:])}"
        )
        lines.append(f"  {label(name):{width}}  {words.visible(marked)}")
        if candidate.divergence is not None:
            lines.append(f"  {'':{width}}  {words.divergence(candidate.divergence, reference, name)}")
    return lines
