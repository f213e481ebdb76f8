"""What the page shows as the command line and as the Python call that ask for the same."""

import shlex
from collections.abc import Iterator

from qfund.features.compare.request.decision import Margin
from qfund.features.compare.request.spec import Spec
from qfund.inputs.texts import ALL

#: Stands for the folder that holds the files of a comparison of several texts.
FOLDER = "FOLDER"


def shell(spec: Spec, margin: Margin | None = None) -> str:
    """``qfund compare pydoc-llama --reference fp32 --precision bf16 int8 --max-tokens 16384``."""
    words = ["qfund", "compare", spec.model, "--reference", spec.reference]
    words += ["--precision", *spec.precisions] if spec.precisions else []
    words += [word for file in spec.files for word in ("--file", file)]
    words += ["--kv", *spec.kv] if spec.kv else []
    words += ["--imatrix", spec.imatrix] if spec.imatrix else []
    words += ["--without", *spec.without] if spec.without else []
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
    if spec.until is not None:
        words.append("--until-decided")
        words += _margins(spec.until)
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


def _margins(until: Margin) -> Iterator[str]:
    """Where they are not the usual ones; what asks for nothing accepts all."""
    shares = {"perplexity": 100.0, "tokens": 100.0, "cosine": 1.0}
    for name, times in shares.items():
        value = getattr(until, name)
        if value != getattr(Margin(), name):
            yield f"--margin-{name}"
            yield f"{100 if value is None and times > 1 else 2 if value is None else times * value:.6g}"


def python(spec: Spec) -> str:
    """A call of ``qfund.compare``."""
    arguments = [repr(spec.model), f"precisions={list(spec.precisions)!r}", f"reference={spec.reference!r}"]
    arguments.append(f"max_tokens={spec.max_tokens}")
    for name in ("context", "stride", "revision", "text"):
        value = getattr(spec, name)
        if value is not None:
            arguments.append(f"{name}={value!r}")
    if spec.until is not None:
        arguments.append(f"until=qfund.{spec.until!r}")
    if spec.also:
        arguments.append(f"also={list(spec.also)!r}")
    if spec.libraries:
        arguments.append("libraries=True")
    if spec.files:
        arguments.append(f"files={list(spec.files)!r}")
    if spec.kv:
        arguments.append(f"kv={list(spec.kv)!r}")
    if spec.imatrix:
        arguments.append(f"imatrix={spec.imatrix!r}")
    if spec.without:
        arguments.append(f"without={list(spec.without)!r}")
    if spec.scoring != ALL:
        arguments.append(f"scoring={spec.scoring!r}")
    if spec.texts:
        files = f'{{path.name: path.read_text("utf-8-sig") for path in Path({FOLDER!r}).iterdir()}}'
        imports = "from pathlib import Path\n\nimport qfund"
        return f"{imports}\n\nreport = qfund.compare({', '.join([*arguments, f'texts={files}'])})\n"
    return f"import qfund\n\nreport = qfund.compare({', '.join(arguments)})\n"
