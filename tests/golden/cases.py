"""The table of what is recorded: command lines, the files that they need, and links."""

import json
import shlex
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS = ROOT / "models"

#: What stands in a file, or the file that it is a copy of.
Content = bytes | Path
Files = Mapping[str, Content]


@dataclass(frozen=True)
class Case:
    """A command line as it is typed in a folder that holds these files."""

    name: str
    line: str
    files: Files = field(default_factory=dict)
    stdin: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        return shlex.split(self.line)


@dataclass(frozen=True)
class Link:
    """A page's name, the query of a link to it, and the tab that is then opened."""

    page: str
    query: str
    tab: str = ""

    @property
    def name(self) -> str:
        return f"{self.page}-{[link for link in LINKS if link.page == self.page].index(self)}"


def _model(name: str, folder: str, **others: Content) -> dict[str, Content]:
    """A shipped model as a folder, some of its files replaced (``model_safetensors=…``)."""
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
    return {f"{folder}/{each}": others.get(each.replace(".", "_"), MODELS / name / each) for each in names}


def _png() -> bytes:
    """A red square on blue."""
    rows = b"".join(
        b"\0" + b"".join(b"\xff\0\0" if 8 < x < 24 and 8 < y < 24 else b"\0\0\xff" for x in range(32))
        for y in range(32)
    )
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _safetensors(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """Weights that any machine makes alike, to the bit."""
    header: dict[str, object] = {}
    data = b""
    for number, (name, shape) in enumerate(shapes.items()):
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = [((place * 7919 + number * 104729) % 2001 - 1000) / 4000 for place in range(count)]
        values = [1.0 + value for value in values] if len(shape) == 1 else values
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(data), len(data) + 4 * count]}
        data += struct.pack(f"<{count}f", *values)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


def _classifier() -> dict[str, Content]:
    """A small Llama that tells three classes apart."""
    wide, inner = 32, 64
    config = {
        "architectures": ["LlamaForSequenceClassification"],
        "model_type": "llama",
        "hidden_size": wide,
        "intermediate_size": inner,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 2,
        "max_position_embeddings": 32,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": None,
        "id2label": {"0": "small", "1": "medium", "2": "large"},
        "label2id": {"small": 0, "medium": 1, "large": 2},
        "dtype": "float32",
    }
    tokens = b'{"backend": "tokenizers", "tokenizer_class": "TokenizersBackend", "pad_token": "0"}'
    layer = "model.layers.0."
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (2, wide)}
    shapes |= {f"{layer}self_attn.{name}_proj.weight": (wide, wide) for name in "qkvo"}
    shapes |= {f"{layer}mlp.{name}_proj.weight": (inner, wide) for name in ("gate", "up")}
    shapes |= {f"{layer}mlp.down_proj.weight": (wide, inner), "model.norm.weight": (wide,)}
    shapes |= {f"{layer}{name}_layernorm.weight": (wide,) for name in ("input", "post_attention")}
    shapes |= {"score.weight": (3, wide)}
    return {
        **_model("dummy", "classifier", model_safetensors=_safetensors(shapes), tokenizer_config_json=tokens),
        "classifier/config.json": json.dumps(config).encode(),
    }


CLASSIFIER = _classifier()
TEXT = "Return a list of the names in the current module. Raise ValueError if the file is closed."
LONG = "Open the file and return its lines, one by one, until the end of the file is reached. " * 8
BITS: Files = {"bits.txt": b"0 1 1 0 1\n1 0 0 1\n0 0 1 1\n"}
FOLDER: dict[str, Content] = {
    "texts/a.txt": b"Return the size of the file.",
    "texts/b.md": "Sort a list – in place.".encode(),
}
FOLDER |= {"texts/inner/c.txt": b"Raise an exception if the socket is closed.", "texts/.hidden": b"x"}
#: Reports as somebody sends them, of what ships.
SHIPPED: dict[str, Content] = {
    name: json.dumps(json.loads((MODELS / file).read_bytes())["result"]).encode()
    for name, file in (
        ("report.json", "pydoc-llama/measured/compare.json"),
        ("many.json", "pydoc-llama/measured/compare-every.json"),
    )
}
#: Of what is called BF16 or FP16, and of each family of quantisers.
MEANINGS = "bf16_weights bf16_inputs bf16_autocast bf16_fp32_head fp16_weights"
LOW = "int8 int4 int4_dynamic nf4 fp8_e4m3 mxfp4 int2"
GENERATE = "generate pydoc-llama --precision bf16 int4 int2 --prompt 'def open_url(url):' --prompt 'class File:'"
EMBED = "embed pydoc-llama --precision bf16 int4 --query 'Read a file' --text 'Open a file' --text 'Sort a list'"
CLASSIFY = "classify ./classifier --precision bf16 int8 --text '0 1 1' --text '1 0' --text 1"

#: Words and ``--json`` of each: measured once where results are stored.
_BOTH = (
    Case("compare-dummy", "compare dummy --precision bf16 int8"),
    Case("compare-dummy-all", "compare dummy"),
    Case("compare-chunks", "compare dummy --precision bf16 fp16 int8 --text-file bits.txt --context 2 --fresh", BITS),
    Case("compare-llama", f"compare pydoc-llama --precision bf16 {LOW} --max-tokens 64 --context 8"),
    Case("compare-folder", "compare pydoc-llama --precision int4 --text-folder texts --context 16", FOLDER),
    Case("compare-blip", "compare shapes-blip --precision bf16 int8 --max-tokens 24"),
    Case("compare-classifier", "compare ./classifier --precision bf16 int4 --text '0 1 1 0 1'", CLASSIFIER),
    Case("generate-llama", f"{GENERATE} --max-new-tokens 12"),
    Case("embed-llama", EMBED),
    Case("classify", CLASSIFY, CLASSIFIER),
    Case("caption", "caption shapes-blip --precision bf16 int4 int2 --samples 6"),
    Case("plan-dummy", "plan dummy"),
    Case("plan-llama", "plan pydoc-llama --precision fp32 bf16 int8 int4 nf4 mxfp4 --also head embeddings"),
    Case("plan-headers", "plan shapes-blip --headers"),
    Case("fits-gpu", "fits pydoc-llama --gpu rtx-4090 --context 4096 --batch 4 --kv int8"),
    Case(
        "fits-budget", "fits pydoc-llama --budget 600MiB --context 100000 --batch 64 --precision bf16 int4 --all-logits"
    ),
)
#: In words only, or as one document only.
_ONE = (
    Case("compare-meanings", f"compare pydoc-llama --precision {MEANINGS} --max-tokens 48 --context 16"),
    Case(
        "compare-like-llama-cpp",
        "compare pydoc-llama --like-llama-cpp --precision int4 --max-tokens 96 --context 32 --quiet",
    ),
    Case("compare-stride", "compare pydoc-llama --precision int8 --max-tokens 64 --context 32 --stride 16 --json"),
    Case("compare-second-half", f"compare pydoc-llama --scoring Second-Half --context 8 --text '{TEXT}' --quiet"),
    Case("compare-text", f"compare pydoc-llama --precision INT4,bf16 --text '{TEXT}' --reference bf16"),
    Case("compare-stdin", "compare dummy --precision INT8 --text-file - --json --quiet --no-store", stdin="0 1 1 0"),
    Case("compare-also", "compare pydoc-llama --precision int4 --also head,embeddings --max-tokens 32 --context 16"),
    Case("compare-libraries", "compare pydoc-llama --precision int8 int4 nf4 --libraries --max-tokens 16 --json"),
    Case("compare-libraries-words", "compare pydoc-llama --precision int8 int4 nf4 --libraries --max-tokens 16"),
    Case(
        "compare-margin",
        "compare pydoc-llama --precision int4 int2 --max-tokens 256 --context 16 --margin-perplexity 50 "
        "--margin-tokens 0.1%",
    ),
    Case("compare-many-tokens", "compare pydoc-llama --precision bf16 int4 --max-tokens 400 --context 32"),
    Case(
        "generate-dummy",
        "generate dummy --precision bf16 --prompts-file bits.txt --max-new-tokens 1",
        {"bits.txt": b"1\n\n0\n"},
    ),
    Case(
        "generate-drawn",
        "generate pydoc-llama --precision int4 --prompt 'def f():' --temperature 0.8 --seed 3 --stop . "
        "--max-new-tokens 10",
    ),
    Case(
        "generate-prompts",
        f"{GENERATE} --prompts-file prompts --max-new-tokens 4",
        {"prompts": b"a\nb\n---\nc\n---\nd"},
    ),
    Case("embed-last", f"{EMBED} --pooling last --also head embeddings --quiet"),
    Case(
        "classify-default",
        "classify ./classifier --precision int4 --texts-file texts",
        {**CLASSIFIER, "texts": b"0\n1 1 0\n"},
    ),
    Case(
        "caption-image",
        "caption shapes-blip --precision int4 --image shapes.png --max-new-tokens 8",
        {"shapes.png": _png()},
    ),
    Case("plan-also", "plan ./classifier --precision int4,nf4", CLASSIFIER),
    Case("fits-cpu", "fits pydoc-llama --budget 24GB --device cpu --context 64"),
    Case("fits-also", "fits pydoc-llama --budget 8MiB --precision int8 int4 --also head"),
    Case("show", "show report.json", SHIPPED),
    Case("show-margin", "show report.json --margin-tokens 0.1 --margin-perplexity 0.01%", SHIPPED),
    Case("show-many", "show many.json", SHIPPED),
    Case("ls-models", "ls models"),
    Case("ls-precisions", "ls precisions"),
    Case("ls-metrics", "ls metrics"),
    Case("version", "--version"),
)
_SUBCOMMANDS = ["compare", "plan", "fits", "load-peak", "generate", "classify", "embed", "caption", "show", "ls", "run"]
_HELP = (Case("help", "--help"), *(Case(f"help-{name}", f"{name} --help") for name in _SUBCOMMANDS))

_DUMMY = (MODELS / "dummy/model.safetensors").read_bytes()
_CUT = _model("dummy", "cut", model_safetensors=_DUMMY[:-4])
_NO_HEADER = _model("dummy", "torn", model_safetensors=b"\xff" * 64)
_PICKLED: dict[str, Content] = {
    "pickled/config.json": MODELS / "dummy/config.json",
    "pickled/pytorch_model.bin": b"\x80\x02}q\x00.",
}
_REMOTE = _model("dummy", "remote", config_json=b'{"model_type": "own", "auto_map": {"AutoModel": "own.Own"}}')
_CHECKPOINTS: dict[str, Files] = {
    "cut": _CUT,
    "torn": _NO_HEADER,
    "bare": {"bare/config.json": MODELS / "dummy/config.json"},
    "empty": {"empty/notes.txt": b"x"},
    "pickled": _PICKLED,
    "remote": _REMOTE,
    "nonsense": _model("dummy", "nonsense", config_json=b"{not json"),
    "unknown": _model("dummy", "unknown", config_json=b'{"model_type": "nobody", "architectures": ["Nobody"]}'),
    "missing": _model("dummy", "missing", model_safetensors=_safetensors({"head.weight": (2, 2)})),
    "gguf": {"gguf/model.gguf": b"GGUF\x03\0\0\0" + b"\0" * 64},
}
_BAD = {
    "nothing": "",
    "subcommand": "compere dummy",
    "no-model": "compare",
    "model": "compare pydoc-lama",
    "folder": "compare ./no/such/folder",
    "precision": "compare dummy --precision bf17",
    "precision-fp8": "compare dummy --precision fp8",
    "precision-gguf": "compare dummy --precision q4_k_m",
    "precision-far": "compare dummy --precision zzz",
    "precision-here": "compare dummy --precision tf32",
    "precision-nothing": "plan dummy --precision int4_g128",
    "precision-stored": "compare dummy --precision stored",
    "no-precision": "compare dummy --precision ,",
    "reference": "compare dummy --reference fp33",
    "also": "compare dummy --also heads",
    "option": "compare dummy --fast",
    "tokens": "compare dummy --max-tokens 0",
    "tokens-word": "compare dummy --max-tokens x",
    "context": "compare dummy --context 64",
    "context-1": "compare dummy --context 1",
    "context-most": "compare pydoc-llama --context 1000000",
    "stride": "compare dummy --stride 3",
    "stride-0": "compare dummy --stride 0",
    "stride-llama-cpp": "compare dummy --like-llama-cpp --stride 1",
    "llama-cpp": "compare dummy --like-llama-cpp",
    "scoring": "compare dummy --scoring halves",
    "margin": "compare dummy --margin-tokens -1",
    "margin-word": "compare dummy --margin-perplexity much",
    "text": "compare dummy --text ''",
    "text-blank": "compare dummy --text ' '",
    "text-short": "compare dummy --text 1",
    "text-file": "compare dummy --text-file none.txt",
    "text-file-binary": "compare dummy --text-file picture.png",
    "text-twice": "compare dummy --text 1 --text-file none.txt",
    "text-folder": "compare dummy --text-folder none",
    "revision": "compare dummy --revision main",
    "hub": "compare owner/name",
    "gguf-file": "compare model.gguf",
    "gguf-path": "compare ./model.gguf",
    "plan-precision": "plan dummy --precision int9",
    "plan-headers": "plan ./none --headers",
    "fits-nothing": "fits dummy",
    "fits-budget": "fits dummy --budget much",
    "fits-budget-0": "fits dummy --budget 0",
    "fits-gpu": "fits dummy --gpu rtx-9999",
    "fits-small": "fits dummy --budget 1000",
    "fits-pictures": "fits shapes-blip --budget 1GiB",
    "fits-kv": "fits dummy --gpu h100 --kv int3",
    "fits-context": "fits dummy --budget 1GiB --context 0",
    "fits-context-most": "fits dummy --budget 1GiB --context 99999999999",
    "fits-batch": "fits dummy --budget 1GiB --batch -2",
    "fits-device": "fits dummy --budget 1GiB --device tpu",
    "load-peak-ways": "load-peak dummy --ways quickly",
    "load-peak-runs": "load-peak dummy --runs 0",
    "load-peak-precision": "load-peak dummy --precision int99",
    "generate-prompt": "generate dummy --prompt ' '",
    "generate-long": "generate dummy --prompt '1 0 1'",
    "generate-file": "generate dummy --prompts-file none.txt",
    "generate-tokens": "generate dummy --max-new-tokens 0",
    "generate-temperature": "generate dummy --prompt 1 --temperature -1",
    "generate-captioner": "generate shapes-blip --prompt a",
    "classify-head": "classify dummy",
    "embed-pooling": "embed dummy --pooling max",
    "embed-long": "embed dummy --text 1",
    "embed-states": "embed dummy --query 1 --text 0",
    "caption-model": "caption pydoc-llama --samples 2",
    "caption-image": "caption shapes-blip --image picture.png",
    "caption-missing": "caption shapes-blip --image none.png",
    "caption-samples": "caption shapes-blip --samples 0",
    "caption-both": "caption shapes-blip --samples 2 --image none.png",
    "show-missing": "show none.json",
    "show-binary": "show picture.png",
    "show-list": "show list.json",
    "show-schema": "show newer.json",
    "ls": "ls colours",
    "run-port": "run --port x",
}
_BAD_FILES: dict[str, Content] = {
    "picture.png": b"\x89PNG\xff\xfe",
    "list.json": b"[1, 2]",
    "newer.json": b'{"schema": 99}',
}
_BAD_FILES |= {"model.gguf": b"GGUF\x03\0\0\0" + b"\0" * 64}
_WRONG = (
    *(
        Case(f"bad-{name}", line, _BAD_FILES, environment={"QFUND_ALLOW": "folder"} if name == "hub" else {})
        for name, line in _BAD.items()
    ),
    *(Case(f"bad-checkpoint-{name}", f"compare ./{name}", files) for name, files in _CHECKPOINTS.items()),
    Case("bad-checkpoint-plan", "plan ./cut --precision bf16", _CUT),
    Case("bad-checkpoint-headers", "plan ./torn --headers", _NO_HEADER),
    Case("bad-classifier-generate", "generate ./classifier --prompt 1", CLASSIFIER),
)

COMMANDS = (
    *(Case(f"{each.name}-json", f"{each.line} --json", each.files) for each in _BOTH),
    *_BOTH,
    *_ONE,
    *_HELP,
    *_WRONG,
)
#: Some ten seconds each, so few.
LOADS = (
    Case("load-peak", "load-peak dummy --precision bf16 --ways cast"),
    Case("load-peak-json", "load-peak dummy --precision int8 --ways quantised-direct --json --quiet"),
)
#: Kept in a database, and found there again.
STORED = (
    Case("stored-compare-dummy", "compare dummy --precision bf16 int8 nf4_bf16 --text '0 1 1 0 1 0'"),
    Case("stored-compare-llama", f"compare pydoc-llama --precision bf16 int4 --text '{LONG}' --context 16"),
    Case("stored-compare-blip", "compare shapes-blip --precision int8 --max-tokens 16"),
    Case("stored-generate", f"{GENERATE} --max-new-tokens 8"),
    Case("stored-embed", f"{EMBED} --text 'Close it' --pooling mean"),
    Case("stored-classify", CLASSIFY, CLASSIFIER),
)

#: Those that show a shipped result each.
MEASURED = ("dtypes", "outputs", "footprint", "loading", "savings")
QUESTIONS = (*MEASURED, "cast", "inference", "deepcopy", "linear", "then-and-now")
DRAWN = "samples=4&p=int4&tokens=9"
OWN_LESSON = "model=./classifier&q=cast"
OWN_LOADING = "model=dummy&budget=1GiB&section=loading&load=int8"
_OWN = "model=dummy&ref=fp32&p=bf16&p=int8&p=nf4_bf16&text=0+1+1+0+1+0"
LINKS = (
    Link("compare", ""),
    Link("compare", "model=dummy"),
    Link("compare", "model=shapes-blip&ppl=0.5&changed=1&kl=0.01"),
    *(Link("compare", "", tab) for tab in ("Token by token", "Statistics", "Memory", "Data")),
    Link("compare", _OWN),
    Link("compare", "model=dummy&p=bf61&p=int8&tokens=many&colour=red&v=9"),
    Link("compare", "model=pydoc-lama"),
    Link("memory", "budget=rtx-4090"),
    Link("memory", "budget=1GiB&context=100&batch=3&p=bf16&p=int8&section=sizes"),
    Link("memory", "budget=24GiB&kv=int8&context=8192&section=loading"),
    Link("memory", "budget=24GiB&section=modules"),
    Link("memory", "budget=24GiB&section=data"),
    Link("memory", OWN_LOADING),
    Link("memory", "model=./classifier&budget=1GiB&p=bf16&p=int4"),
    Link("memory", "budget=x&section=fits&p=int99&colour=red"),
    Link("outputs", ""),
    Link("outputs", "view=embeddings&look=int2"),
    Link("outputs", "example=3&look=int4"),
    Link("outputs", "view=classes&model=./classifier&p=bf16&p=int8&text=0+1+1&text=1+0&text=1"),
    Link("outputs", "model=dummy&tokens=x&temperature=99&colour=red"),
    Link("outputs", "view=captions"),
    Link("outputs", "view=captions&samples=5&p=int4&tokens=9"),
    Link("outputs", "view=captions&ref=fp99&samples=0"),
    Link("outputs", f"view=captions&{DRAWN}"),
    Link("layers", ""),
    Link("layers", "view=modules&look=int4"),
    Link("layers", "view=recipe&bits=x"),
    Link("speed", ""),
    Link("kv", ""),
    *(Link("questions", f"q={name}") for name in QUESTIONS),
    *(Link("questions", f"model={model}&q={name}") for model in ("dummy", "shapes-blip") for name in MEASURED),
    Link("questions", OWN_LESSON),
    Link("questions", "model=dummy&q=cast&guess=rounded.1"),
    Link("questions", "model=shapes-blip&q=nothing&guess=x.y"),
    Link("quantiser", ""),
    Link("quantiser", "source=typed&matrix=0.5+-1.2;3.3+0.02&bits=4&mapping=symmetric&per=row&cell=1,1"),
    Link("quantiser", "source=model&model=pydoc-llama&bits=8&per=tensor&s=0.01&z=3"),
    Link("quantiser", "source=nowhere&bits=99&s=-1&z=1000&cell=x"),
    Link("formats", ""),
    Link("formats", "format=bf16&bits=0x3EAB&number=pi"),
    Link("formats", "section=ranges"),
    Link("formats", "model=dummy&section=weights&scaling=x&format=fp99"),
    Link("precisions", ""),
    Link("precisions", "family=x"),
    Link("saved", ""),
    Link("saved", "page=2"),
    Link("guide", ""),
    Link("guide", "x=1"),
)
#: Answered by a job when they are opened, and kept: plans, and what fits.
ASKED = tuple(link for link in LINKS if link.page in ("memory", "questions"))
#: Answered by a job that a button starts.
PRESSED = (
    (Link("outputs", f"view=captions&{DRAWN}"), "Caption"),
    (Link("memory", OWN_LOADING), "Measure loading"),
)
