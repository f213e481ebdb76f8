"""The lines that load a model in a precision, by each library that really has it: the same format, or a note on what is
other. A library that only has something of a similar name is left out."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qfund.checkpoints import catalog
from qfund.checkpoints.wild.table import FORMATS
from qfund.precisions.backends.table import implementations
from qfund.precisions.caches import weights_of
from qfund.precisions.files import HUB_FILE
from qfund.precisions.precision import CAST, GGUF, STORED, Precision
from qfund.precisions.table import PRECISIONS


@dataclass(frozen=True, slots=True)
class Lines:
    """``code`` in a ``language`` (``python``, ``bash``) for one ``library``; ``note`` says what is other than here."""

    library: str
    language: str
    code: str
    note: str = ""


#: Name of a task → transformers' class for it; an encoder has the plain one.
_CLASSES = {
    "causal language model": "AutoModelForCausalLM",
    "masked language model": "AutoModelForMaskedLM",
    "sequence-to-sequence model": "AutoModelForSeq2SeqLM",
    "sequence classifier": "AutoModelForSequenceClassification",
    "token classifier": "AutoModelForTokenClassification",
    "image classifier": "AutoModelForImageClassification",
    "vision-to-text model": "AutoModelForImageTextToText",
}
_GENERATES = "causal language model"
#: Casts by the name that llama.cpp's converter has for them, and those that vLLM loads in.
_GGUF = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_VLLM = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

_ROUNDS = "Its kernels round the inputs of products too: the row “weights and inputs” is what it then gives."

_INTX = "IntxWeightOnlyConfig(torch.{}, PerGroup({}))"
#: Precision → torchao's configuration, and what its code imports. Prototypes are left out.
_TORCHAO = {
    "int8": ("Int8WeightOnlyConfig()", "Int8WeightOnlyConfig"),
    "int8_g32": ("Int8WeightOnlyConfig(granularity=PerGroup(32))", "Int8WeightOnlyConfig, PerGroup"),
    "int8_dynamic": ("Int8DynamicActivationInt8WeightConfig()", "Int8DynamicActivationInt8WeightConfig"),
    **{
        name: (_INTX.format(bits, group), "IntxWeightOnlyConfig, PerGroup")
        for name, bits, group in (
            *((f"int{bits}", f"int{bits}", 32) for bits in (2, 3, 4, 5, 6)),
            *((f"int4_g{group}", "int4", group) for group in (64, 128)),
        )
    },
    "int4_asym": (
        "IntxWeightOnlyConfig(torch.int4, PerGroup(32), MappingType.ASYMMETRIC)",
        "IntxWeightOnlyConfig, MappingType, PerGroup",
    ),
    "int4_dynamic": (
        "Int8DynamicActivationIntxWeightConfig(torch.int4, PerGroup(32))",
        "Int8DynamicActivationIntxWeightConfig, PerGroup",
    ),
    "fp8_e4m3": ("Float8WeightOnlyConfig()", "Float8WeightOnlyConfig"),
    "fp8_e5m2": ("Float8WeightOnlyConfig(torch.float8_e5m2)", "Float8WeightOnlyConfig"),
    "fp8_dynamic": (
        "Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())",
        "Float8DynamicActivationFloat8WeightConfig, PerRow",
    ),
}
_BITSANDBYTES = {
    "int8_dynamic": "load_in_8bit=True, llm_int8_threshold=0.0",
    "nf4": 'load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.{}',
    "fp4": 'load_in_4bit=True, bnb_4bit_quant_type="fp4", bnb_4bit_compute_dtype=torch.{}',
}


def lines(model: str, revision: str | None, task: str, precision: str, imatrix: str | None = None) -> list[Lines]:
    """For each library that has the format; empty where none has it.

    Args:
        task: name of ``qfund.models.tasks.TASKS``.
        imatrix: the importance matrix that types of GGUF files are made with.
    """
    row = PRECISIONS.get(weights_of(precision))
    if row is None:
        return []
    path = f"models/{model}" if model in catalog.CATALOG else model
    load = _Load(path, revision, _CLASSES.get(task, "AutoModel"), row)
    if row.family == GGUF:
        return list(load.gguf(task, imatrix))
    return [*load.plain(task), *load.torchao(), *load.bitsandbytes()]


def of_file(file: str, kind: str, task: str) -> list[Lines]:
    """What runs a quantised file that is there already: ``file`` as it was given, ``kind`` a row of
    ``checkpoints.wild.table.FORMATS``."""
    hub = None if file.startswith((".", "~")) or catalog.path_of(file).exists() else HUB_FILE.fullmatch(file)
    hub = None if hub and kind == "gguf" and not hub["path"] else hub
    name = _CLASSES.get(task, "AutoModel")
    where, inside, revision = (hub["repository"], hub["path"], hub["revision"]) if hub else (file, None, None)
    if kind == "gguf":
        folder, inside = (where, inside) if hub else (str(Path(file).parent), Path(file).name)
        given = ["-hf", where, "-hff", inside or ""] if hub else ["-m", file]
        found = (
            [Lines("llama.cpp", "bash", shlex.join(["llama-server", *given]), _ROUNDS)] if task == _GENERATES else []
        )
        return [*found, _from_gguf(name, folder, str(inside), revision)]
    if kind == "mlx":
        return [Lines("MLX", "bash", shlex.join(["mlx_lm.server", "--model", where]), "On Apple silicon.")]
    if kind not in FORMATS:
        return []
    arguments = [repr(where), *([f"revision={revision!r}"] if revision else [])]
    code = f"from transformers import {name}\n\nmodel = {name}.from_pretrained({', '.join(arguments)})"
    found = [Lines("transformers", "python", code, f"With the packages that {FORMATS[kind].label} needs.")]
    if task == _GENERATES:
        serve = ["vllm", "serve", where, *(["--revision", revision] if revision else [])]
        found.append(Lines("vLLM", "bash", shlex.join(serve), "Where vLLM knows the format and the architecture."))
    return found


def _from_gguf(name: str, folder: str, file: str, revision: str | None = None) -> Lines:
    arguments = [repr(folder), f"gguf_file={file!r}", *([f"revision={revision!r}"] if revision else [])]
    code = f"from transformers import {name}\n\nmodel = {name}.from_pretrained({', '.join(arguments)})"
    return Lines("transformers", "python", code, "Decodes the file: its numbers, as wide floats in memory.")


@dataclass(frozen=True, slots=True)
class _Load:
    path: str
    revision: str | None
    name: str  # of transformers' class
    row: Precision

    @property
    def own(self) -> str:
        """The name of the format, whatever the rest of the model is in."""
        return self.row.variant_of or self.row.name

    def gguf(self, task: str, imatrix: str | None) -> Iterator[Lines]:
        """Made by llama-quantize, run by llama.cpp or decoded by transformers."""
        if task != _GENERATES or self.revision is not None:
            return
        label = PRECISIONS[self.own].label
        kind = label.removesuffix(" mix")
        file = f"model-{kind}.gguf"
        convert = ["python", "convert_hf_to_gguf.py", self.path, "--outtype", "f32", "--outfile", "model-f32.gguf"]
        # A row named as a mix is what llama-quantize makes of that name; the others are every matrix in one type.
        pure = [] if label.endswith((" mix", "_M", "_S")) else ["--pure"]
        weights = ["--imatrix", imatrix] if imatrix else []
        make = ["llama-quantize", *pure, *weights, "model-f32.gguf", file, kind]
        run = ["llama-server", "-m", file]
        note = "Where llama.cpp knows the architecture; the converter reads a folder. " + _ROUNDS
        yield Lines("llama.cpp", "bash", "\n".join(map(shlex.join, (convert, make, run))), note)
        if not self.row.as_run:
            yield _from_gguf(self.name, ".", file)

    def plain(self, task: str) -> Iterator[Lines]:
        if self.row.family == STORED:
            yield Lines("transformers", "python", self._python("", "", torch=False))
        if self.row.family != CAST or self.row.device is not None:
            return
        yield Lines("transformers", "python", self._python("", f"dtype=torch.{self.row.dtype}"))
        if task != _GENERATES:
            return
        if self.row.name in _GGUF and self.revision is None:
            kind = _GGUF[self.row.name]
            convert = shlex.join(
                ["python", "convert_hf_to_gguf.py", self.path, "--outtype", kind, "--outfile", f"model-{kind}.gguf"]
            )
            note = "Where llama.cpp knows the architecture; the converter reads a folder, and keeps norms in F32."
            yield Lines("llama.cpp", "bash", f"{convert}\nllama-server -m model-{kind}.gguf", note)
        if self.row.name in _VLLM:
            revision = ["--revision", self.revision] if self.revision else []
            serve = ["vllm", "serve", self.path, "--dtype", _VLLM[self.row.name], *revision]
            yield Lines("vLLM", "bash", shlex.join(serve), "Where vLLM knows the architecture.")

    def torchao(self) -> Iterator[Lines]:
        if self.own in _TORCHAO:
            call, imports = _TORCHAO[self.own]
            head = f"from torchao.quantization import {imports}\nfrom transformers import {self.name}, TorchAoConfig"
            code = self._python(head, f"dtype=torch.{self.row.dtype}", f"quantization_config=TorchAoConfig({call})")
            yield Lines("torchao", "python", code, self._note("torchao"))

    def bitsandbytes(self) -> Iterator[Lines]:
        if self.own in _BITSANDBYTES:
            settings = _BITSANDBYTES[self.own].format(self.row.dtype)
            head = f"from transformers import {self.name}, BitsAndBytesConfig"
            given = f"quantization_config=BitsAndBytesConfig({settings})"
            code = self._python(head, f"dtype=torch.{self.row.dtype}", given)
            yield Lines("bitsandbytes", "python", code, self._note("bitsandbytes"))

    def _note(self, library: str) -> str:
        return next((one.note for one in implementations(self.row.name) if one.backend == library), "")

    def _python(self, imports: str, *given: str, torch: bool = True) -> str:
        arguments = [f'"{self.path}"' if '"' not in self.path and "\\" not in self.path else repr(self.path)]
        arguments += [f"revision={self.revision!r}"] if self.revision else []
        arguments += filter(None, given)
        head = ("import torch\n" if torch else "") + (imports or f"from transformers import {self.name}")
        call = f"model = {self.name}.from_pretrained({', '.join(arguments)})"
        if len(call) > 88:
            call = f"model = {self.name}.from_pretrained(\n" + "".join(f"    {one},\n" for one in arguments) + ")"
        return f"{head}\n\n{call}"
