"""What a page shows as the command lines and as the Python call that ask for the same."""

import shlex

from qfund.budgets import GPUS
from qfund.spec import ALL, Spec
from qfund.ui.memory_link import Asked
from qfund.ui.outputs_link import Asked as Outputs

#: Stands for the folder that holds the files of a comparison of several texts.
FOLDER = "FOLDER"


def shell(spec: Spec) -> str:
    """``qfund compare pydoc-llama --reference fp32 --precision bf16 int8 --max-tokens 16384``."""
    words = ["qfund", "compare", spec.model, "--reference", spec.reference, "--precision", *spec.precisions]
    words += ["--max-tokens", str(spec.max_tokens)]
    if spec.context is not None:
        words += ["--context", str(spec.context)]
    if spec.stride is not None:
        words += ["--stride", str(spec.stride)]
    if spec.scoring != ALL:
        words += ["--scoring", spec.scoring]
    if spec.revision is not None:
        words += ["--revision", spec.revision]
    if spec.also:
        words += ["--also", *spec.also]
    if spec.libraries:
        words.append("--libraries")
    if spec.texts:
        words += ["--text-folder", FOLDER]
    if spec.text is not None:
        words.append(f"--text={spec.text}")  # with "=", so that a text may begin with a hyphen
    return shlex.join(words)


def python(spec: Spec) -> str:
    """A call of ``qfund.compare``."""
    arguments = [repr(spec.model), f"precisions={list(spec.precisions)!r}", f"reference={spec.reference!r}"]
    arguments.append(f"max_tokens={spec.max_tokens}")
    for name in ("context", "stride", "revision", "text"):
        value = getattr(spec, name)
        if value is not None:
            arguments.append(f"{name}={value!r}")
    if spec.also:
        arguments.append(f"also={list(spec.also)!r}")
    if spec.libraries:
        arguments.append("libraries=True")
    if spec.scoring != ALL:
        arguments.append(f"scoring={spec.scoring!r}")
    if spec.texts:
        files = f'{{path.name: path.read_text("utf-8") for path in Path({FOLDER!r}).iterdir()}}'
        imports = "from pathlib import Path\n\nimport qfund"
        return f"{imports}\n\nreport = qfund.compare({', '.join([*arguments, f'texts={files}'])})\n"
    return f"import qfund\n\nreport = qfund.compare({', '.join(arguments)})\n"


def memory(asked: Asked) -> list[str]:
    """``qfund plan …``, ``qfund fits …`` and ``qfund load-peak …`` of the page Memory."""
    of = ["--revision", asked.revision] if asked.revision else []
    also = ["--also", *asked.also] if asked.also else []
    precisions = ["--precision", *asked.precisions]
    work = ["--gpu" if asked.budget in GPUS else "--budget", asked.budget]
    work += ["--context", str(asked.context), "--batch", str(asked.batch), *(["--kv", asked.kv] if asked.kv else [])]
    return [
        shlex.join(["qfund", "plan", asked.model, *precisions, *also, *of]),
        shlex.join(["qfund", "fits", asked.model, *work, *precisions, *also, *of]),
        shlex.join(["qfund", "load-peak", asked.model, "--precision", asked.load, *of]),
    ]


def outputs(asked: Outputs) -> str:
    """``qfund generate …``, ``classify …`` or ``embed …`` of the view that is open."""
    command = {"text": "generate", "classes": "classify", "embeddings": "embed"}[asked.view]
    said = ["qfund", command, asked.model, "--reference", asked.reference, "--precision", *asked.precisions]
    said += ["--also", *asked.also] if asked.also else []
    said += ["--revision", asked.revision] if asked.revision else []
    # With "=", so that a text may begin with a hyphen.
    if asked.view == "text":
        said += ["--max-new-tokens", str(asked.new_tokens)]
        said += ["--temperature", f"{asked.temperature:g}", "--seed", str(asked.seed)] if asked.temperature else []
        said += [f"--stop={text}" for text in asked.stop]
        said += [f"--prompt={text}" for text in asked.prompts or ()]
    elif asked.view == "classes":
        said += [f"--text={text}" for text in asked.texts]
    else:
        said += [f"--query={asked.query}", "--pooling", asked.pooling, *(f"--text={text}" for text in asked.sentences)]
    return shlex.join(said)
