"""The load peak: figures by hand, a sampler that is told what to see, real loads of known sizes, what goes wrong."""

import argparse
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from qfund.commandline.parser import parse
from qfund.core.errors import (
    CorruptCheckpoint,
    EngineError,
    InvalidSpec,
    NothingConverted,
    OutOfBudget,
    QfundError,
    TimedOut,
    UnknownName,
    WorkerDied,
)
from qfund.features.memory import words
from qfund.features.memory.command import load_peak as load_peak_command
from qfund.features.memory.measure import load_peak
from qfund.features.memory.measure.loading import sampler, watch
from qfund.features.memory.measure.loading.mapped import Mapped
from qfund.features.memory.measure.loading.messages import Border, Job, Loaded, Moment, Ran
from qfund.features.memory.measure.loading.phases import file_ranges
from qfund.features.memory.measure.loading.summary import POINTS, summarize_forward, summarize_load
from qfund.features.memory.measure.loading.watch import run, watcher
from qfund.features.memory.request import load_peak as load_peak_request
from qfund.features.memory.request.load_peak import WAYS, LoadPeakRequest, LoadPeaks, checked, pairs
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS
from tests.patience import PATIENCE, until
from tests.tiny import checkpoints

ROOT = Path(__file__).resolve().parents[3]
MIB = 1024**2
linux = pytest.mark.skipif(not sampler.available(), reason="no /proc")


def children() -> set[int]:
    """Processes under this one, and theirs, that have not ended."""
    found = {os.getpid()}
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(path.parent.name)] = int(parent)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    before = children()
    yield
    assert not children() - before


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A Llama of 37.7 M parameters (144 MiB in fp32), more than half in linear layers, and the bytes of its weights."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    config = transformers.LlamaConfig(
        hidden_size=1024,
        intermediate_size=2048,
        num_hidden_layers=2,
        num_attention_heads=16,
        num_key_value_heads=16,
        vocab_size=8192,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM._from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    return folder, sum(parameter.nbytes for parameter in model.parameters())


# --- the request ----------------------------------------------------------------------------------------------------


def test_a_request_has_one_form() -> None:
    asked = LoadPeakRequest(" m ", ("int8", "bf16", "int8"), ("deepcopy", "direct"), "")
    found = checked(asked)
    assert found == LoadPeakRequest("m", ("bf16", "int8"), ("direct", "deepcopy"), None) == checked(found)
    assert msgspec.json.decode(msgspec.json.encode(found), type=LoadPeakRequest) == found


def test_every_precision_has_ways_and_the_reference_comes_first() -> None:
    for row in PRECISIONS.values():
        if row.family == STORED:
            continue
        found = pairs(checked(LoadPeakRequest("m", (row.name,))))
        assert found[0] == ("fp32", "direct") and found.count(("fp32", "direct")) == 1
        assert (row.name, "deepcopy") in found and len(found) == len(set(found))
    assert pairs(LoadPeakRequest("m", ("bf16",)))[1:] == (("bf16", "direct"), ("bf16", "cast"), ("bf16", "deepcopy"))
    assert pairs(checked(LoadPeakRequest("m", ("stored",)))) == (("stored", "as-stored"),)
    # On fp32 the two would be one.
    assert ("int8", "quantise-after") not in pairs(LoadPeakRequest("m", ("int8",)))
    assert ("int8_bf16", "quantise-after") in pairs(LoadPeakRequest("m", ("int8_bf16",)))


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        (LoadPeakRequest(""), InvalidSpec, "No model"),
        (LoadPeakRequest("m", ()), InvalidSpec, "No precision"),
        (LoadPeakRequest("m", ("bf61",)), UnknownName, "Did you mean: bf16"),
        (LoadPeakRequest("m", ("bf16",), ("derect",)), UnknownName, "Did you mean: direct"),
        (LoadPeakRequest("m", ("stored", "bf16")), InvalidSpec, "Choose stored alone"),
        (LoadPeakRequest("m", ("stored",), ("direct",)), InvalidSpec, "applies to stored"),
        (LoadPeakRequest("m", ("bf16",), ("as-stored",)), InvalidSpec, "applies to bf16"),
        (LoadPeakRequest("m", ("bf16",), runs=0), InvalidSpec, "runs is 0"),
        (LoadPeakRequest("m", ("int8",), ("cast",)), InvalidSpec, "applies to int8"),
    ],
)
def test_a_wrong_request_is_refused(asked: LoadPeakRequest, error: type[QfundError], says: str) -> None:
    with pytest.raises(error, match=says):
        checked(asked)


# --- figures by hand ------------------------------------------------------------------------------------------------


def border(phase: str, at: float, private: int, kept: int, shared: int = 0) -> Border:
    return Border(phase, at, at, 1000 + private + shared, shared, kept)


def test_need_by_hand() -> None:
    # fp32 is read (100 stay in the file), then cast: 50 private, and nothing in the file any more.
    borders = [
        border("start", 10.0, 0, 0),
        border("reading", 11.0, 0, 0),
        border("casting", 12.0, 1, 100),
        border("ready", 13.0, 50, 0),
        border("end", 14.0, 49, 0),
    ]
    samples = [(9.0, 9999, 0), (11.5, 1003, 0), (12.5, 1190, 130), (13.5, 1052, 0), (15.0, 9999, 0)]
    found = summarize_load(borders, samples, 100)
    assert found is not None
    assert (found.need, found.settled) == (101, 49)  # at the border where casting begins: 1 + 100
    assert (found.private_peak, found.rss_peak) == (60, 190)
    assert found.multiples == {"need": 1.01, "settled": 0.49, "private_peak": 0.6, "rss_peak": 1.9}
    assert (found.baseline, found.samples, found.largest_gap) == (1000, 3, 1.0)
    assert [(row.name, row.start, row.end, row.need, row.kept) for row in found.phases] == [
        ("start", 0.0, 1.0, 0, 0),
        ("reading", 1.0, 2.0, 101, 100),
        ("casting", 2.0, 3.0, 50, 0),
        ("ready", 3.0, 4.0, 49, 0),
    ]


def test_what_stays_in_the_file_all_through_a_phase_is_needed_beside_the_peak() -> None:
    borders = [border("start", 0.0, 0, 0), border("quantising", 1.0, 0, 100), border("ready", 2.0, 20, 30)]
    found = summarize_load([*borders, border("end", 3.0, 20, 30)], [(1.5, 1080, 0)], 100)
    assert found is not None
    assert found.need == 110  # 80 + min(100, 30), and 0 + 100 at the border
    assert found.settled == 50


def test_what_is_in_the_file_is_counted_at_every_moment() -> None:
    """A cast of weights of 60 and 40: at the worst moment both lie in the file, beside the first one's copy."""
    borders = [border("start", 0.0, 0, 0), border("casting", 1.0, 0, 100), border("ready", 2.0, 50, 0)]
    moments = [Moment(0.5, 1000, 0, 100), Moment(1.4, 1030, 0, 40), Moment(1.8, 1050, 0, 0)]
    found = summarize_load([*borders, border("end", 3.0, 50, 0)], [(1.2, 1020, 0), (1.6, 1045, 0)], 100, moments)
    assert found is not None
    assert (found.need, found.settled, found.private_peak) == (130, 50, 50)
    assert found.curve.need == (0, 100, 100, 100, 120, 130, 85, 90, 50, 50, 50)


def test_a_tensor_is_mapped_as_long_as_anybody_holds_it(tmp_path: Path) -> None:
    save_file({"a": torch.ones(300), "b": torch.ones(100)}, tmp_path / "x.safetensors")
    mapped = Mapped()
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        a, b, again = (mapped.watch(file.get_tensor(name)) for name in "aba")
        private = mapped.watch(torch.ones(500))
    parameter = torch.nn.Parameter(a)
    del a, again, private  # the parameter holds the first; the second lies at the same place
    parameter.data = parameter.data.bfloat16()
    del b
    assert [moment.kept for moment in mapped.moments] == [1200, 1600, 400, 0]


def test_a_system_without_counters_gives_no_figures() -> None:
    assert summarize_load([], [], 100) is None
    assert summarize_forward([], Ran(tokens=3), [], 0, 100) is None


def test_the_need_of_a_forward_by_hand() -> None:
    """It is above the load's baseline, and nothing of it is in the load's figures."""
    borders = [border("start", 10.0, 0, 0), border("reading", 11.0, 0, 0), border("ready", 12.0, 5, 100)]
    borders.append(border("end", 13.0, 5, 100))
    running = [border("running", 14.0, 6, 100), border("end", 16.0, 20, 100), border("end", 17.0, 9, 100)]
    outside = [(11.5, 1003, 0), (14.5, 1030, 0), (15.0, 1090, 50), (16.5, 9999, 0)]
    assert summarize_load(borders, outside, 100) == summarize_load(borders, outside[:1], 100)
    load = summarize_load(borders, outside, 100)
    assert load is not None and (load.need, load.settled) == (105, 105)
    ran = Ran(running, [(14.8, 1066, 6), (15.6, 1030, 0)], tokens=7, batch=1)
    found = summarize_forward(borders, ran, outside, load.settled, 100)
    assert found is not None
    # At the module that ended at 14.8: 60 private, and 100 in the file.
    assert (found.need, found.above_settled, found.multiple) == (160, 55, 1.6)
    assert (found.stays, found.activations) == (4, 51)
    assert (found.tokens, found.batch, found.seconds, found.samples) == (7, 1, 2.0, 4)
    assert found.largest_gap == pytest.approx(0.6)
    # Weights of 60 and 40 that leave the file on the way are counted there until they do: 65 private, and all of them.
    moved = [running[0], border("end", 16.0, 120, 0), border("end", 17.0, 109, 0)]
    left = [Moment(14.6, 1065, 0, 40), Moment(15.2, 1100, 0, 0)]
    found = summarize_forward(borders, Ran(moved, moments=left), [], load.settled, 100)
    assert found is not None and (found.need, found.stays) == (165, 4)
    found = summarize_forward(borders, Ran(moved), [], load.settled, 100)
    assert found is not None and (found.need, found.stays) == (120, 4)


def test_a_thinned_curve_keeps_the_peaks_and_the_ends() -> None:
    borders = [border("start", 0.0, 0, 0), border("reading", 1.0, 0, 0), border("ready", 99.0, 7, 3)]
    samples = [(1 + number / 1000, 1000 + number % 977, number % 31) for number in range(90_000)]
    found = summarize_load([*borders, border("end", 100.0, 7, 3)], samples, 1)
    assert found is not None
    assert len(found.curve.seconds) <= POINTS
    assert list(found.curve.seconds) == sorted(found.curve.seconds)
    assert (found.curve.seconds[0], found.curve.seconds[-1]) == (0.0, 100.0)
    peaks = (max(found.curve.need), max(found.curve.private), max(found.curve.rss))
    assert peaks == (found.need, found.private_peak, found.rss_peak)
    assert found.private_peak == max(resident - shared for _, resident, shared in samples) - 1000


def test_only_ranges_with_a_file_count() -> None:
    maps = """\
7f00-7f10 r--p 00000000 fd:01 1234 /models/with a space/model.safetensors
7f20-7f30 rw-p 00000000 00:00 0
7f40-7f50 rw-p 00000000 00:00 0 [heap]
7e00-7e10 r--p 00000000 fd:01 99 /models/other.safetensors
"""
    assert file_ranges(maps) == [(0x7E00, 0x7E10), (0x7F00, 0x7F10)]


# --- the sampler ----------------------------------------------------------------------------------------------------


@linux
def test_the_sampler_sees_what_a_process_takes_and_gives_back() -> None:
    size = 200 * MIB
    code = f"""
        import mmap, sys
        print("ready", flush=True); sys.stdin.readline()
        held = mmap.mmap(-1, {size}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for place in range(0, {size}, mmap.PAGESIZE): held[place] = 1
        print("held", flush=True); sys.stdin.readline()
        held.close()
        print("freed", flush=True); sys.stdin.readline()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdout.readline()
        with watcher(process.pid, 0.002) as seen:
            for _ in range(2):
                time.sleep(0.05)
                process.stdin.write(b"\n")
                process.stdin.flush()
                process.stdout.readline()
            time.sleep(0.05)
            rows = seen()
    private = [resident - shared for _, resident, shared in rows]
    # The kernel keeps these counts per processor and sums them up loosely: to 64 pages each or so.
    tolerance = 4096 * 64 * (os.cpu_count() or 1) + 64 * 1024
    assert abs(max(private) - private[0] - size) <= tolerance
    assert abs(private[-1] - private[0]) <= tolerance
    times = [row[0] for row in rows]
    assert times == sorted(times) and len(rows) > 20


@linux
def test_the_sampler_imports_next_to_nothing() -> None:
    code = f"import runpy, sys; runpy.run_path({str(sampler.__file__)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "msgspec", "qfund"} & set(done.stdout.split())


@linux
def test_a_process_that_has_ended_is_no_sample() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(WorkerDied, match="sampler"), watcher(process.pid) as seen:
        seen()


# --- real loads -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(llama: tuple[Path, int]) -> tuple[LoadPeaks, list[tuple[str, float]]]:
    told: list[tuple[str, float]] = []
    asked = LoadPeakRequest(str(llama[0]), ("bf16", "int8"), ("direct", "cast", "deepcopy", "quantised-direct"))
    return load_peak.load_peak(asked, lambda phase, share: told.append((phase, share))), told


@linux
def test_the_lesson_is_measured(llama: tuple[Path, int], measured: tuple[LoadPeaks, list[tuple[str, float]]]) -> None:
    weights, (found, phases) = llama[1], measured
    assert found.weights_bytes == weights == found.stored_bytes
    rows = {(row.precision, row.way): row for row in (found.reference, *found.ways)}
    largest = 8192 * 1024 * 4  # the embedding, 22 % of the weights: what is copied in one piece comes on top
    reading = 2 * largest + 2 * largest // 4  # four threads read: what each casts is there in fp32 meanwhile
    bounds = {
        ("fp32", "direct"): (1.0, 0.0, 1.0),
        ("bf16", "direct"): (0.5, reading, 0.5),
        ("bf16", "cast"): (1.0, largest / 2, 0.5),
        ("bf16", "deepcopy"): (2.0, largest / 2, 1.5),
        # The codes, and of the wide weights one at a time: [4096, 1024].
        ("int8", "quantised-direct"): (
            (rows["int8", "quantised-direct"].footprint_bytes or 0) / weights,
            largest / 2,
            rows["int8", "quantised-direct"].footprint_bytes or 0,
        ),
        ("int8", "deepcopy"): (2.0, largest, rows["int8", "deepcopy"].footprint_bytes or 0),
    }
    assert set(bounds) == set(rows)
    noise = 4 * MIB  # Python's and torch's own allocations, and the kernel's loose counts: 3 % of the weights
    for key, (need, more, settled) in bounds.items():
        row, sampled = rows[key], rows[key].sampled
        assert sampled is not None and row.seconds is not None and row.footprint_bytes is not None
        assert -MIB <= sampled.need - need * weights <= more + noise, (key, sampled.multiples)
        stays = settled if settled > 2 else settled * weights
        assert -MIB <= sampled.settled - stays <= noise, (key, sampled.multiples)
        assert abs(row.footprint_bytes - stays) < 64 * 1024
        assert sampled.need >= sampled.settled >= 0 and sampled.need >= sampled.private_peak
        assert sampled.multiples["need"] == sampled.need / weights and row.needs == (sampled.need,)
        assert max(sampled.curve.need) == sampled.need and max(sampled.curve.rss) == sampled.rss_peak
        names = [phase.name for phase in sampled.phases]
        assert names[:2] == ["start", "reading"] and names[-1] == "ready"
        borders = [time for phase in sampled.phases for time in (phase.start, phase.end)]
        assert borders == sorted(borders) and borders[0] == 0
        assert row.seconds <= borders[-1]
    assert (rows["bf16", "direct"].sampled or pytest.fail()).rss_peak > 1.2 * weights  # what misleads
    assert found.ways == tuple(row for key, row in rows.items() if key != ("fp32", "direct"))
    assert not found.notes
    assert [share for _, share in phases] == sorted(share for _, share in phases)
    said = words.load_needs(found, "bf16")
    direct = rows["bf16", "direct"].sampled or pytest.fail()
    assert said.startswith(f"BF16: loading it directly needs {direct.multiples['need']:.2f}")
    assert "the notebook's deepcopy 2." in said
    printed = load_peak_command.text(found)
    assert said in printed
    cells = next(line.split() for line in printed.splitlines() if line.startswith("BF16 ") and " direct" in line)
    assert cells[:2] == ["BF16", "direct"] and cells[8:10] == ["0.50", "0.50"]
    assert float(cells[4]) == pytest.approx(direct.multiples["need"], abs=0.006)
    assert all(float(cell) == pytest.approx(0.5, abs=0.04) for cell in cells[5:7])


@linux
def test_a_forward_after_the_load_is_measured(
    llama: tuple[Path, int], measured: tuple[LoadPeaks, list[tuple[str, float]]]
) -> None:
    weights, (found, phases) = llama[1], measured
    logits, hidden = 512 * 8192, 512 * 1024  # elements
    for row in (found.reference, *found.ways):
        if row.way == "deepcopy":
            assert row.inference is None
            continue
        ran, sampled = row.inference, row.sampled
        assert ran is not None and sampled is not None, row.note
        assert (ran.tokens, ran.pictures, ran.batch) == (512, 0, 1)
        assert ran.need >= sampled.settled and ran.need == sampled.settled + ran.above_settled
        assert ran.multiple == ran.need / weights and ran.device_peak is None
        size = 2 if row.precision == "bf16" else 4
        # The logits, and beside them no more than the hidden states, and what kernels take.
        assert size * logits - MIB <= ran.activations <= size * (logits + 8 * hidden) + 8 * MIB, (row.way, ran)
        assert -MIB <= ran.stays <= 16 * MIB, (row.way, ran)
        assert ran.samples > 20 and ran.seconds > 0
        assert "running" not in [phase.name for phase in sampled.phases]
        assert f"{ran.multiple:.2f}" in load_peak_command.text(found)
    assert any(phase == "BF16, direct: running" for phase, _ in phases)
    assert not any(phase == "BF16, deepcopy: running" for phase, _ in phases)
    assert "one forward of 512 tokens after the load" in load_peak_command.text(found)


def fails(*_: object, **__: object) -> None:
    raise RuntimeError("no kernel\nfor that")


def test_a_forward_that_fails_is_told_and_leaves_no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    from qfund.checkpoints import checkpoint
    from qfund.features.memory.measure.loading import forward
    from qfund.models.loading import read

    found = checkpoint.read(checkpoints.folder("llama"))
    model, batch = read(found, "float32"), forward.prepare(found, 512)
    assert not isinstance(batch, Ran)
    assert forward.watched(model, batch, PRECISIONS["fp32"], lambda phase: None).problem is None
    monkeypatch.setattr(model.model.norm, "forward", fails)
    ran = forward.watched(model, batch, PRECISIONS["fp32"], lambda phase: None)
    assert ran == Ran(problem="RuntimeError: no kernel for that")
    assert not torch.nn.modules.module._global_forward_hooks


@pytest.mark.parametrize("name", ["gpt2", "roberta-masked", "t5", "bart-classifier", "vit-classifier", "vision-gpt2"])
def test_every_kind_of_model_is_given_what_it_reads(name: str) -> None:
    from qfund.checkpoints import checkpoint
    from qfund.features.memory.measure.loading import forward
    from qfund.models.loading import read

    found = checkpoint.read(checkpoints.folder(name))
    batch = forward.prepare(found, 20)
    assert not isinstance(batch, Ran)
    ran = forward.watched(read(found, "float32"), batch, PRECISIONS["fp32"], lambda phase: None)
    tokens, pictures = {"vit-classifier": (0, 1), "vision-gpt2": (20, 1)}.get(name, (20, 0))
    assert (ran.problem, ran.tokens, ran.pictures, ran.batch) == (None, tokens, pictures, 1)


@linux
def test_need_agrees_with_private_bytes_where_no_file_is_mapped(
    llama: tuple[Path, int], measured: tuple[LoadPeaks, list[tuple[str, float]]]
) -> None:
    """The independent check of the definition: read privately, nothing can hide in a mapped file."""
    folder, weights = llama
    private = run(Job(str(folder), "bf16", "deepcopy", private=True))
    assert all(row.kept == 0 for row in private.loaded.borders)
    check = summarize_load(private.loaded.borders, private.samples, weights)
    need = next(row.sampled for row in measured[0].ways if (row.precision, row.way) == ("bf16", "deepcopy"))
    assert check is not None and need is not None
    # Within what is copied in one piece: the embedding in bf16, 11 % of these weights.
    assert abs(check.multiples["private_peak"] - need.multiples["need"]) < 0.11 + 0.03


@linux
def test_need_is_what_a_process_takes_that_maps_nothing(
    llama: tuple[Path, int], measured: tuple[LoadPeaks, list[tuple[str, float]]]
) -> None:
    """Plain transformers in another process, by the kernel's own mark: no border, no moment and no sampler of ours."""
    folder, weights = llama
    code = f"from benchmarks import peak; print(peak.load_growth({str(folder)!r}, 'bf16', 'cast', 16)[0])"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(128 << 10)},
        capture_output=True,
        text=True,
        check=True,
    )
    need = next(row.sampled for row in measured[0].ways if (row.precision, row.way) == ("bf16", "cast"))
    assert need is not None
    assert need.multiples["need"] == pytest.approx(int(found.stdout.split()[-1]) / weights, abs=0.08)


@linux
def test_torchao_quantizes_while_it_reads(llama: tuple[Path, int]) -> None:
    folder, weights = llama
    found = run(Job(str(folder), "int8_bf16", "torchao-direct"))
    peaks = summarize_load(found.loaded.borders, found.samples, weights)
    assert peaks is not None
    assert found.loaded.footprint_bytes - MIB <= peaks.need <= 0.6 * weights
    # get_memory_footprint() counts the dtype that a quantised weight claims to have.
    assert found.loaded.footprint_bytes < 0.4 * weights < found.loaded.transformers_bytes


def test_a_library_that_converts_nothing_is_no_measurement() -> None:
    from qfund.features.memory.measure.loading.loader import Loader
    from qfund.features.memory.measure.loading.phases import Phases

    # GPT-2's layers are Conv1D, which torchao passes over in silence.
    with pytest.raises(NothingConverted, match="torchao converted nothing"):
        Loader(checkpoints.folder("gpt2"), "int8", "torchao-after").load(Phases(lambda phase: None))


def loaded(need: int = 100, swapped: int = 0) -> watch.Run:
    """A run of which the process said that."""
    borders = [border("start", 0.0, 0, 0), border("reading", 1.0, 0, 0), border("ready", 2.0, need, 0)]
    said = Loaded([*borders, border("end", 3.0, need, 0)], 0.5, 100, 100, None, 0.4, swapped=swapped)
    return watch.Run(said, ())


def test_what_a_library_lacks_or_cannot_do_is_said_and_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(job: Job, told: object) -> watch.Run:
        if job.way == "torchao-after":
            raise EngineError("It does not work.")
        return loaded()

    monkeypatch.setattr(load_peak, "run", fails)
    found = load_peak.load_peak(LoadPeakRequest(str(checkpoints.folder("llama")), ("int8", "nf4")))
    problems = {(row.precision, row.way): row.problem for row in found.ways if row.problem}
    lacks = "torchao has no nf4."
    assert problems == {
        ("int8", "torchao-after"): "It does not work.",
        ("nf4", "torchao-direct"): lacks,
        ("nf4", "torchao-after"): lacks,
    }
    assert all(row.sampled for row in found.ways if not row.problem)
    assert "NF4, torchao-direct: torchao has no nf4." in load_peak_command.text(found)


def test_a_model_that_cannot_be_run_is_loaded_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = LoadPeakRequest(str(checkpoints.folder("llama")), ("bf16",), ("direct", "deepcopy"))
    jobs: list[Job] = []

    def refuses(job: Job, told: object) -> watch.Run:
        jobs.append(job)
        return replace(loaded(), ran=Ran(problem="It has no kernel.") if job.tokens else None)

    monkeypatch.setattr(load_peak, "run", refuses)
    found = load_peak.load_peak(asked)
    assert [(job.way, job.tokens) for job in jobs] == [("direct", 512), ("direct", 512), ("deepcopy", 0)]
    assert [row.note for row in found.ways] == ["No forward was measured: It has no kernel.", None]
    assert all(row.sampled and row.inference is None and row.problem is None for row in found.ways)
    assert "BF16, direct: No forward was measured: It has no kernel." in load_peak_command.text(found)
    assert "one forward" not in load_peak_command.text(found)


def test_the_median_of_all_runs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = iter([7, 7, 7, 9, 30, 10])
    monkeypatch.setattr(load_peak, "run", lambda job, told: loaded(next(needs)))
    asked = LoadPeakRequest(str(checkpoints.folder("llama")), ("bf16",), ("direct",), runs=3)
    (row,) = load_peak.load_peak(asked).ways
    assert row.needs == (9, 30, 10) and row.sampled is not None and row.sampled.need == 10


def test_what_was_swapped_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_peak, "run", lambda job, told: loaded(swapped=8 * MIB))
    found = load_peak.load_peak(LoadPeakRequest(str(checkpoints.folder("llama")), ("bf16",)))
    assert "moved 8 MiB to its swap" in (found.ways[0].note or "") and "moved 8 MiB" in load_peak_command.text(found)


def test_a_system_without_counters_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Loaded([], 0.5, 100, 100, None, 0.4)
    monkeypatch.setattr(load_peak, "run", lambda job, told: watch.Run(said, ()))
    found = load_peak.load_peak(LoadPeakRequest(str(checkpoints.folder("llama")), ("bf16",)))
    assert all(row.sampled is None and row.seconds == 0.5 and row.footprint_bytes == 100 for row in found.ways)
    assert load_peak_request.NOT_SAMPLED in found.notes[0] and load_peak_request.NOT_SAMPLED in load_peak_command.text(
        found
    )


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_more_than_the_machine_has_is_refused_before_anything_is_loaded(
    llama: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_peak, "run", lambda *_: pytest.fail("loaded"))
    monkeypatch.setattr(load_peak, "available", lambda: load_peak.IMPORTED + int(1.9 * llama[1]))
    with pytest.raises(OutOfBudget, match=r"BF16 \(deepcopy\) is expected to need up to"):
        load_peak.load_peak(LoadPeakRequest(str(llama[0]), ("bf16",)))


@linux
def test_available_memory_is_plausible() -> None:
    free = load_peak.available()
    assert free is not None and 0 < free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_checkpoint_that_does_not_fit_its_config_is_told_by_the_loading_process(tmp_path: Path) -> None:
    folder = checkpoints.make("llama-untied", tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CorruptCheckpoint, match=r"broken lacks 1 tensor: model\.norm\.weight"):
        load_peak.load_peak(LoadPeakRequest(str(folder), ("bf16",)))


def test_a_truncated_checkpoint_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_peak, "run", lambda *_: pytest.fail("loaded"))
    folder = checkpoints.make("llama", tmp_path / "short")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(CorruptCheckpoint, match="truncated"):
        load_peak.load_peak(LoadPeakRequest(str(folder)))


def fake(code: str) -> tuple[str, ...]:
    """A loading process that reads its job and then does something else."""
    return (sys.executable, "-c", "import os, sys, time; sys.stdin.readline()\n" + textwrap.dedent(code))


IMPORTED = 'print(\'{"type":"imported"}\', flush=True); sys.stdin.readline()\n'


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        ("os.kill(os.getpid(), 9)", WorkerDied, "killed.*memory ran out"),
        (IMPORTED + "os.kill(os.getpid(), 9)", WorkerDied, "killed.*memory ran out"),
        (IMPORTED + "os.abort()", WorkerDied, "SIGABRT"),
        ("sys.exit(3)", WorkerDied, "exit code 3"),
        ("print('nonsense')", EngineError, "cannot be read"),
    ],
)
def test_a_loading_process_that_fails_is_told(code: str, error: type[QfundError], says: str) -> None:
    with pytest.raises(error, match=says):
        run(Job("folder", "bf16", "direct"), loader=fake(code))


def test_a_loading_process_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LIMIT", 0.5)
    with pytest.raises(TimedOut):
        run(Job("folder", "bf16", "direct"), loader=fake("time.sleep(600)"))


LOADED = IMPORTED + f"print({msgspec.json.encode(Loaded([], 0.5, 1, 1, None, 0.4)).decode()!r}, flush=True)\n"


@pytest.mark.parametrize(
    ("code", "limit", "says"),
    [
        ("os.kill(os.getpid(), 9)", PATIENCE, "was killed"),
        ("time.sleep(600)", 0.4, "A forward took longer than 0 s"),
        ("sys.stdin.readline()", 0.4, "A forward took longer than 0 s"),
        ("print('nonsense')", PATIENCE, "cannot be read"),
    ],
)
def test_a_forward_that_ends_its_process_or_hangs_leaves_the_load(
    code: str, limit: float, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "FORWARD_LIMIT", limit)
    loader = fake(LOADED + "time.sleep(0.2)\n" + code)  # so that the sampler sees it
    found = run(Job("folder", "bf16", "direct", tokens=512), loader=loader)
    assert found.loaded.seconds == 0.5 and found.ran is not None and says in (found.ran.problem or "")


def test_a_command_that_is_not_there_is_told() -> None:
    with pytest.raises(WorkerDied, match="cannot be started"):
        run(Job("folder", "bf16", "direct"), loader=("/no/such/program",))


def test_memory_that_runs_out_is_told_as_that() -> None:
    from qfund.features.memory.measure.loading.process import failure_of

    for error in (MemoryError(), torch.OutOfMemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
        assert isinstance(failure_of(error).exception(), OutOfBudget)
    assert isinstance(failure_of(ValueError("x")).exception(), EngineError)


def test_a_cancelled_measurement_leaves_nothing_behind() -> None:
    def cancel(phase: str) -> None:
        if phase == "reading":
            raise KeyboardInterrupt

    reading = IMPORTED + 'print(\'{"type":"entered","phase":"reading"}\', flush=True)\ntime.sleep(600)'
    with pytest.raises(KeyboardInterrupt):
        run(Job("folder", "bf16", "direct"), cancel, loader=fake(reading))


@linux
def test_a_killed_measurement_takes_its_processes_along(llama: tuple[Path, int]) -> None:
    code = f"""
        import sys
        from qfund.features.memory.measure.loading.messages import Job
        from qfund.features.memory.measure.loading.watch import run
        def told(phase):
            if phase == "start": print("loading", flush=True); sys.stdin.readline()
        run(Job({str(llama[0])!r}, "bf16", "deepcopy"), told)
    """
    before = children()
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout
        assert process.stdout.readline() == b"loading\n"
        below = children() - before - {process.pid}
        assert len(below) == 2  # the loading process and the sampler
        process.send_signal(signal.SIGKILL)
        process.wait()
    until(lambda: all(_is_zombie(pid) for pid in below))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# --- the command ----------------------------------------------------------------------------------------------------


def options(*arguments: str) -> argparse.Namespace:
    return parse(["load-peak", *arguments])


def test_the_command_prints_a_table_or_one_json_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``tests/golden`` runs it with processes that load."""

    def reads(job: Job, told: Callable[[str], None]) -> watch.Run:
        told("reading")
        return loaded()

    monkeypatch.setattr(load_peak, "run", reads)
    asked = options(str(checkpoints.folder("llama")), "--precision", "BF16", "--ways", "direct", "--json")
    asked.run(asked)
    told = capsys.readouterr()
    document = msgspec.json.decode(told.out.encode(), type=LoadPeaks)
    assert [(row.precision, row.way) for row in document.ways] == [("bf16", "direct")]
    assert "so little" in document.notes[0]
    assert words.load_needs(document, "bf16") == "BF16: the model is too small to tell the ways of loading it apart."
    assert ["BF16", "direct"] in [line.split()[:2] for line in load_peak_command.text(document).splitlines()]
    assert "BF16, direct: reading" in told.err


def test_the_command_refuses_before_it_imports_torch() -> None:
    code = """
        import sys
        from qfund.commandline.parser import parse
        found = parse(["load-peak", "dummy", "--precision", "bf61"])
        try: found.run(found)
        except Exception as error: print(type(error).__name__, "torch" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == ["UnknownName", "False"]


def test_all_ways_are_said_in_the_help_and_done_by_the_loader() -> None:
    from qfund.features.memory.measure.loading.loader import LOADS

    assert LOADS.keys() == WAYS.keys() and all(way.meaning and way.phrase for way in WAYS.values())
