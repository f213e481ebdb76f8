"""Broken checkpoints, files and lists through commands: how many end in a traceback. The aim is 0.

    python -m benchmarks.fuzz checkpoints 500    # so many of them, each through the cheap commands and a dear one
    python -m benchmarks.fuzz sentences 100 7    # folders of sentence-transformers, from another seed
    python -m benchmarks.fuzz files 300          # GGUF files and packed folders, beside their original and alone
    python -m benchmarks.fuzz pairs 1000         # scored pairs, conversations and stored reports
    python -m benchmarks.fuzz links 5000         # queries, read and written again by every page

Everything is drawn from a seed. ``tests/features/test_fuzz.py`` runs a few of the same; ``benchmarks.forge`` has pages.
"""

import contextlib
import functools
import importlib.util
import io
import json
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from qfund.core.errors import QfundError
from qfund.engine.kinds import kind_of
from qfund.features import FEATURES
from qfund.features.compare.request import link as compare_link
from qfund.features.compare.request.spec import Spec

TEXT = "The fox and the dog. One two three four five six seven eight nine ten."
#: Values that nobody means.
ODD: tuple[Any, ...] = (None, -1, 0, 1e308, 2**70, "q", "", True, [], {}, [None], "../../x", "\0", "é" * 300, {"a": {}})
#: What stands where a model's name should.
NAMES = (
    *("x" * 300, "~nosuch/x", "a/" * 400, "\0", "./" + "y" * 5000, "~", "/", "..", "owner/", "/dev/null", "http://a/b"),
    *("pydoc-llama\n", "=1+1", "<script>", "%00", "a" * 97 + "/b", "\ud7ff\u202e", "-", " ", "models--a--b"),
)
CHEAP: tuple[tuple[str, ...], ...] = (
    ("plan",),
    ("plan", "--headers"),
    ("fits", "--budget", "1GiB", "--precision", "bf16", "--context", "16"),
)
_AWAY = ("--no-store", "--quiet")
_SHORT = ("--text", TEXT, "--max-tokens", "16", *_AWAY)
_EMBED = ("--precision", "bf16", "--query", "a fox", "--text", "a dog", "--text", "two", *_AWAY)
DEAR: tuple[tuple[str, ...], ...] = (
    ("compare", "--precision", "bf16", "int8", *_SHORT),
    ("generate", "--precision", "bf16", "--prompt", TEXT, "--max-new-tokens", "3", *_AWAY),
    ("kv", "--kv", "int8", "--max-tokens", "32", "--context", "16", *_AWAY),
    ("layers", "--precision", "int8", *_SHORT),
    ("layers", "--precision", "int8", "--swaps", "block", *_SHORT),
    ("layers", "--precision", "int8", "--gradient", *_SHORT),
    ("recipe", "--precision", "int8", "int4", "--bits", "6", "--export", "EXPORT", *_SHORT),
    ("speed", "--precision", "bf16", "--depth", "4", "--batch", "1", "--new-tokens", "2", "--rounds", "1", *_AWAY),
    ("embed", *_EMBED),
    ("classify", "--precision", "bf16", "--text", TEXT, *_AWAY),
)
#: What is done with a quantised file of a model.
_OF_FILES: tuple[tuple[str, ...], ...] = (("audit", "FILE", *_AWAY), ("audit", "FILE", "--original", "MODEL", *_AWAY))
#: Packed formats that differ in what lies beside the codes.
_PACKED = ("gptq-4-ordered", "awq", "ct-int4-asymmetric", "ct-nvfp4", "nf4-nested", "fp8-blocks")
_LINES = (
    *("sentence1,sentence2,score", "a,b,1", "a\tb\t2", '"a","b', '{"sentence1": "a", "sentence2": "b", "score": 3}'),
    *("[1, 2, 3]", '["a", "b", null]', "a,b,nan", "a,b,1e999", ",,", "\0", "\u2028", '{"score": {}}', "é" * 3000),
    *("[" * 5000, '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]', '{"messages": [1]}'),
    *('[{"role": "assistant", "content": ["x"]}]', '{"schema": 1}', '{"report": {}}', "-1e5,-,+", "a,b,\u0661"),
)
_OF_LISTS: tuple[tuple[str, ...], ...] = (
    ("embed", "MODEL", "--precision", "bf16", "--pairs", "FILE", *_AWAY),
    ("compare", "MODEL", "--precision", "bf16", "--chat", "--text-file", "FILE", *_AWAY),
    ("show", "FILE"),
    ("plan", "MODEL", "--precision", "FILE"),
)


def corrupt(folder: Path, random: Random) -> str:
    """Do one thing to a checkpoint, and say which."""
    ways = (_header_bytes, _header_entry, _truncated, _config, _config, _json_file, _gone)
    return random.choice(ways)(folder, random)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _weights(folder: Path) -> tuple[Path, bytes, int]:
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    return path, raw, int.from_bytes(raw[:8], "little")


def _header_bytes(folder: Path, random: Random) -> str:
    path, raw, length = _weights(folder)
    changed = bytearray(raw)
    places = [random.randrange(8 + length) for _ in range(random.randint(1, 4))]
    for place in places:
        changed[place] = random.randrange(256)
    path.write_bytes(changed)
    return f"bytes {places} of the header"


def _header_entry(folder: Path, random: Random) -> str:
    path, raw, length = _weights(folder)
    rows = json.loads(raw[8 : 8 + length])
    name = random.choice([name for name in rows if name != "__metadata__"])
    what = random.choice(("dtype", "shape", "data_offsets", "name"))
    if what == "name":
        rows[random.choice(("", "a." * 500, "\u202e", "lm_head.weight", "module." + name))] = rows.pop(name)
    elif what == "dtype":
        rows[name]["dtype"] = random.choice(("I64", "C64", "BOOL", "F16", "I32", "F8_E4M3", "F4", "X"))
    else:
        rows[name][what] = random.choice(ODD)
    made = json.dumps(rows).encode()
    path.write_bytes(len(made).to_bytes(8, "little") + made + raw[8 + length :])
    return f"{what} of {name}"


def _truncated(folder: Path, random: Random) -> str:
    path = random.choice(_files(folder))
    size = random.randrange(path.stat().st_size)
    path.write_bytes(path.read_bytes()[:size])
    return f"{path.name} cut to {size} bytes"


def _json_file(folder: Path, random: Random) -> str:
    path = random.choice([path for path in _files(folder) if path.suffix == ".json"])
    found = json.loads(path.read_text())
    key = random.choice(list(range(len(found)) if isinstance(found, list) else found) or ["a"])
    found[key] = random.choice(ODD)
    path.write_text(json.dumps(found))
    return f"{path.name}: {key} = {str(found[key])[:30]!r}"


def _config(folder: Path, random: Random) -> str:
    path = folder / random.choice(("config.json", "config.json", "generation_config.json"))
    found = json.loads(path.read_text()) if path.is_file() else {}
    more = ("num_beams", "eos_token_id", "temperature", "rope_scaling", "quantization_config", "dtype", "pad_token_id")
    key = random.choice((*found, *more))
    found[key] = random.choice(ODD)
    path.write_text(json.dumps(found))
    return f"{path.name}: {key} = {str(found[key])[:30]!r}"


def _gone(folder: Path, random: Random) -> str:
    path = random.choice(_files(folder))
    path.unlink()
    return f"{path.name} is gone"


def run(arguments: list[str]) -> str | None:
    """The traceback with which a command ends; None where it ends as it should."""
    from qfund import cli

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            cli.main(arguments)
        except SystemExit:
            return said.getvalue() if "Traceback" in said.getvalue() else None
        except Exception:
            return traceback.format_exc()
    return None


def _words(module: object) -> set[str]:
    """Names that stand in a module's collections: of views, parts, precisions, poolings."""
    held = (
        value
        for name, value in vars(module).items()
        if name[:2] != "__" and isinstance(value, dict | tuple | frozenset)
    )
    return {word for collection in held for word in collection if isinstance(word, str)}


@functools.cache
def _links() -> tuple[Any, ...]:
    """What reads the links of each feature's page."""
    names = (f"qfund.features.{feature.name}.link" for feature in FEATURES)
    return tuple(importlib.import_module(name) for name in names if importlib.util.find_spec(name))


@functools.cache
def parameters() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the parameters that links of any page hold, and what may stand there."""
    modules = _links()
    named = {name for module in modules for name in getattr(module, "_PARAMETERS", ())}
    named |= {name for module in modules if hasattr(module, "Asked") for name in module.to_query(module.Asked())}
    named |= compare_link.QUERY_NAMES | compare_link.MARGIN_NAMES | {"section"}
    words = {word for module in modules for word in _words(module)}
    return tuple(sorted(named)), tuple(sorted(words))


def link(random: Random) -> dict[str, str | list[str]]:
    """A query that somebody made up: half of its values are names that some page knows."""
    names, words = parameters()
    odd = (*ODD, *NAMES, "1", "0", "nan", "-1", "1e400", "0x7f", "1,2", "9" * 400)
    chosen: dict[str, str | list[str]] = {}
    for name in random.sample(names, random.randint(2, 6)):
        values = [str(random.choice(random.choice((odd, words)))) for _ in range(random.choice((1, 1, 1, 3)))]
        chosen[name] = values if len(values) > 1 else values[0]
    return chosen | {"model": random.choice((*NAMES, "pydoc-llama", "dummy", "docstring-kinds", "docstring-vectors"))}


def misread(query: dict[str, str | list[str]]) -> Iterator[str]:
    """Tracebacks of what every page makes of a query: choices, the link that names them (which must mean the same),
    and requests, in their canonical form or refused."""
    given = {name: [value] if isinstance(value, str) else value for name, value in query.items()}
    for module in _links():
        try:
            if not hasattr(module, "Asked"):  # Compare's, whose link is a request
                spec, _ = compare_link.from_query(given, Spec("pydoc-llama"))
                compare_link.margin_from_query(given)
                assert compare_link.from_query(compare_link.to_query(spec), Spec("x"))[0] == spec
                continue
            asked, _ = module.from_query(given)
            again, problems = module.from_query(module.to_query(asked))
            assert module.to_query(again) == module.to_query(asked) and not problems, problems
            for name, part in vars(type(asked)).items():
                if isinstance(part, property):
                    with contextlib.suppress(QfundError):
                        request = getattr(asked, name)
                        if type(request).__name__.endswith("Request"):
                            kind_of(request).checked(request)
        except Exception:
            yield f"{query}: {module.__name__}: {traceback.format_exc()[-1500:]}"


def corrupted(model: Path, count: int, seed: int) -> Iterator[tuple[str, Path]]:
    """So many broken copies of a checkpoint, each gone when the next is asked for."""
    random = Random(seed)
    with tempfile.TemporaryDirectory(prefix="qfund-fuzz-") as room:
        for number in range(count):
            folder = Path(room) / f"model{number}"
            shutil.copytree(model, folder)
            yield corrupt(folder, random), folder
            shutil.rmtree(folder)


def damaged(file: Path, count: int, seed: int) -> Iterator[tuple[str, Path]]:
    """So many broken copies of one file: bytes of its first part changed, or its end cut off."""
    random, raw = Random(seed), file.read_bytes()
    with tempfile.TemporaryDirectory(prefix="qfund-fuzz-") as room:
        for number in range(count):
            made, path = bytearray(raw), Path(room) / f"{number}-{file.name}"
            if cut := random.random() < 0.3:
                del made[random.randrange(len(raw)) :]
            else:
                for _ in range(random.randint(1, 4)):
                    made[random.randrange(min(len(raw), random.choice((64, 1024, 16_384))))] = random.randrange(256)
            path.write_bytes(made)
            yield f"{file.name} {'cut to ' * cut}{len(made) if cut else 'with other bytes'}", path
            path.unlink()


def lists(count: int, seed: int) -> Iterator[tuple[str, Path]]:
    """So many files that ought to be lists of pairs, conversations or reports."""
    random = Random(seed)
    with tempfile.TemporaryDirectory(prefix="qfund-fuzz-") as room:
        path = Path(room) / "list.csv"
        for _ in range(count):
            made = random.choice(("\n", "\r\n", "\r")).join(random.choices(_LINES, k=random.randint(1, 5)))
            way = random.choice(("utf-8", "utf-8-sig", "utf-16", "latin-1"))
            path.write_bytes(made.encode(way, "replace"))
            yield f"{way}: {made[:80]!r}", path


def filled(command: Sequence[str], path: Path, model: Path) -> list[str]:
    """A command with the names of what was made."""
    places = {"FILE": str(path), "MODEL": str(model), "EXPORT": str(path.parent / "export")}
    return [places.get(word, word) for word in command]


def of_checkpoints(model: Path, count: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """What is broken and each command that it goes through: the cheap ones, and one of the dear in turn."""
    for number, (what, folder) in enumerate(corrupted(model, count, seed)):
        for name, *options in (*CHEAP, DEAR[number % len(DEAR)]):
            yield what, [name, str(folder), *filled(options, folder, model)]
        shutil.rmtree(folder.parent / "export", ignore_errors=True)


def of_sentences(model: Path, count: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """As ``of_checkpoints``, of a folder of sentence-transformers."""
    steps = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    steps += [{"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
    kept: dict[str, Any] = {"1_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_cls_token": True}}
    kept |= {"sentence_bert_config.json": {"max_seq_length": 8, "do_lower_case": True}, "modules.json": steps}
    kept |= {"config_sentence_transformers.json": {"prompts": {"query": "q: "}, "default_prompt_name": "query"}}
    with tempfile.TemporaryDirectory(prefix="qfund-fuzz-") as room:
        folder = Path(shutil.copytree(model, Path(room) / "sentences"))
        (folder / "1_Pooling").mkdir()
        for name, held in kept.items():
            (folder / name).write_text(json.dumps(held))
        random = Random(seed)
        for what, broken in corrupted(folder, count, seed):
            with contextlib.suppress(ValueError):  # the file that is picked may be broken already
                what += f"; {_json_file(broken, random)}"
            yield what, filled(("embed", str(broken), *_EMBED), broken, model)


def of_files(model: Path, count: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """As ``of_checkpoints``, of quantised files of a model."""
    from tests.checkpoints.wild.packed import folders, formats
    from tests.tiny import gguf_files

    with tempfile.TemporaryDirectory(prefix="qfund-fuzz-") as room:
        gguf = Path(room) / "model.gguf"
        gguf_files.write(model, gguf, "Q4_0")
        made = [damaged(gguf, count, seed)]
        for name in _PACKED:
            folders.write("llama-untied", formats.CASES[name], Path(room) / name)
            made.append(corrupted(Path(room) / name, count, seed))
        for turn in range(count):
            what, path = next(made[turn % len(made)])
            compared = ("compare", "MODEL", "--precision", "bf16", "--file", "FILE", *_SHORT)
            for command in (*_OF_FILES, compared):
                yield what, filled(command, path, model)
            if path.is_dir():
                yield from ((what, [name, str(path), *options]) for name, *options in CHEAP)


def of_lists(model: Path, count: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """As ``of_checkpoints``, of lists that people write."""
    for number, (what, path) in enumerate(lists(count, seed)):
        yield what, filled(_OF_LISTS[number % len(_OF_LISTS)], path, model)


def main() -> None:
    from tests.tiny import checkpoints

    kinds = {
        "checkpoints": (of_checkpoints, "llama"),
        "sentences": (of_sentences, "bert-masked"),
        "files": (of_files, "llama-untied"),
        "pairs": (of_lists, "llama"),
    }
    kind, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1
    if kind == "links":
        random = Random(seed)
        broken = [error for _ in range(count) for error in misread(link(random))]
        print("\n".join([*broken, f"{count:,} links, each read by every page: {len(broken)} tracebacks"]))
        return
    commands, model = kinds[kind]
    found = runs = 0
    try:
        for what, arguments in commands(checkpoints.folder(model), count, seed):
            runs += 1
            if (error := run(arguments)) is not None:
                found += 1
                print(f"{what}: qfund {' '.join(arguments[:8])}: {error.strip()[-1500:]}", flush=True)
    finally:  # also where it is interrupted
        print(f"{runs:,} commands on broken {kind}: {found} tracebacks")


if __name__ == "__main__":
    main()
