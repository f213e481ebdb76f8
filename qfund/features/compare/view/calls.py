"""What the page shows as the command line and as the Python call that ask for the same."""

import shlex

from qfund.features.compare.request.decision import Margin
from qfund.features.compare.request.spec import Spec
from qfund.inputs.texts import ALL

#: Stands for the folder that holds the files of a comparison of several texts.
FOLDER = "FOLDER"


def shell(spec: Spec, margin: Margin | None = None) -> str:
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
    usual, margin = Margin(), margin or Margin()
    for name, times in (("perplexity", 100), ("tokens", 100), ("cosine", 1)):
        value = getattr(margin, name)
        if value != getattr(usual, name):
            # What is asked for nothing is asked for the most that it could be.
            words += [f"--margin-{name}", f"{times * value:.6g}" if value is not None else "100" if times > 1 else "2"]
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
        files = f'{{path.name: path.read_text("utf-8-sig") for path in Path({FOLDER!r}).iterdir()}}'
        imports = "from pathlib import Path\n\nimport qfund"
        return f"{imports}\n\nreport = qfund.compare({', '.join([*arguments, f'texts={files}'])})\n"
    return f"import qfund\n\nreport = qfund.compare({', '.join(arguments)})\n"
