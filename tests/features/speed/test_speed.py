"""Speed: turns with a fake clock, bounds and causes by hand, a real run of a tiny model, the command and the page."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from qfund import cli
from qfund.checkpoints import checkpoint
from qfund.core.errors import InvalidInput, InvalidSpec, UnavailablePrecision, UnknownName, UnsupportedModel
from qfund.engine import key_of, shipped
from qfund.features.memory.request.budgets import GPUS
from qfund.features.speed import figures, link, tables, words
from qfund.features.speed.measure import bounds, energy
from qfund.features.speed.measure import speed as measure
from qfund.features.speed.measure.others import Others
from qfund.features.speed.measure.speed import speed
from qfund.features.speed.measure.turns import turns
from qfund.features.speed.measure.writing import ModelWriter
from qfund.features.speed.request import causes as why
from qfund.features.speed.request.bounds import decode_share, prefill_share
from qfund.features.speed.request.gpus import PUBLISHED, estimated, per_million
from qfund.features.speed.request.speed import Speed, SpeedRequest, checked
from qfund.models.counting import stored_bytes
from qfund.models.loading import read
from qfund.precisions.table import PRECISIONS
from tests.features.speed.speeds import around, make_speed, point, run
from tests.tiny import checkpoints
from tests.ui.pages import FakeJobs, opened, texts


class _Clock:
    """Time passes only where somebody works."""

    def __init__(self) -> None:
        self.now, self.spent = 0.0, 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now


class _Writer:
    def __init__(self, clock: _Clock, name: str, prompt: float, step: float) -> None:
        self._clock, self._name, self._prompt, self._step = clock, name, prompt, step
        self._batch = 1

    def begin(self, batch: int, depth: int) -> None:
        self._clock.calls.append(f"{self._name} {batch}x{depth}")
        self._clock.now += self._prompt * batch * depth
        self._batch = batch

    def step(self) -> None:
        self._clock.now += self._step * self._batch
        self._clock.spent += 7.0


def test_turns_begin_with_another_model_and_warm_up_first() -> None:
    clock = _Clock()
    writers = {"a": _Writer(clock, "a", 0.1, 1.0), "b": _Writer(clock, "b", 0.2, 3.0)}
    found = turns(writers, [(1, 5), (2, 5)], 4, 2, math.inf, clock, joules=lambda: clock.spent).taken
    assert clock.calls[:4] == ["b 1x5", "a 1x5", "b 2x5", "a 2x5"]  # the round that warms up
    assert clock.calls[4:] == ["a 1x5", "b 1x5", "a 2x5", "b 2x5", "a 1x5", "b 1x5", "a 2x5", "b 2x5"]
    assert found["b"][2, 5].prefill == pytest.approx([2.0, 2.0])
    assert found["b"][2, 5].step == pytest.approx([6.0, 6.0])
    assert found["a"][1, 5].joules == pytest.approx([7.0, 7.0])


def test_no_round_begins_when_time_is_up_but_one_is_measured() -> None:
    clock = _Clock()
    found = turns({"a": _Writer(clock, "a", 0.0, 1.0)}, [(1, 1)], 2, 9, 1.0, clock).taken
    assert len(found["a"][1, 1].step) == 1 and not found["a"][1, 1].joules


def test_what_takes_too_long_is_less() -> None:
    """A prompt of a takes 1 s a token, a step 1 s: at 1 × 5 with 16 steps 2 × 5 + 17 s; b is ten times as slow."""
    clock = _Clock()
    quick = {"a": _Writer(clock, "a", 1.0, 1.0)}
    slow = quick | {"b": _Writer(clock, "b", 10.0, 10.0)}
    assert turns(quick, [(1, 5)], 16, 1, 60.0, clock).new_tokens == 16
    fewer = turns(quick, [(1, 5), (1, 7)], 16, 1, 60.0, clock)  # 2 × 12 + 2 × 5 s
    assert (fewer.new_tokens, fewer.without, fewer.left) == (4, (), {})
    assert len(fewer.taken["a"][1, 7].step) == 1
    less = turns(quick, [(1, 7), (1, 5)], 16, 1, 30.0, clock)
    assert less.places == ((1, 5),) and less.without == ((1, 7),)
    assert less.taken["a"].keys() == {(1, 5)}
    alone = turns(slow, [(1, 5)], 16, 1, 60.0, clock)
    assert alone.names == ("a",) and alone.left == {"b": pytest.approx(150.0)} and "b" not in alone.taken
    never = turns({"b": slow["b"], "a": quick["a"]}, [(1, 5)], 16, 1, 1.0, clock)
    assert never.names == ("b",) and len(never.taken["b"][1, 5].step) == 1  # the reference is always measured


def test_what_took_too_long_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    asked = SpeedRequest(
        str(checkpoints.folder("llama")),
        ("bf16",),
        backends=("torch",),
        depths=(4, 8),
        batches=(1,),
        new_tokens=8,
        rounds=2,
    )
    found = speed(asked)
    assert [run.precision for run in found.runs] == ["fp32"] and found.place == (1, 4)
    assert "One round of it would take about" in found.refused["bf16 by torch"]
    assert any("Only 4 tokens were written" in note for note in found.notes)
    assert any("1 × 8 tokens would have taken longer" in note for note in found.notes)
    assert words.headline(found, *found.place).startswith("FP32 writes ")


def test_a_busy_machine_is_told_by_how_long_threads_waited() -> None:
    found = make_speed(run("bf16", "torch", point(150, 1500), point(600, 1500, batch=4)))
    assert words.busy(replace(found, waited=0.04, stolen=0.04)) is None
    said = str(words.busy(replace(found, waited=0.4, stolen=0.08)))
    assert "threads waited 40 % of the time" in said and "other machines on the same host took 8 %" in said
    with Others() as counted:
        sum(range(100_000))
    waited, stolen = counted.shares
    assert all(share is None or 0 <= share <= 1 for share in (waited, stolen))
    assert msgspec.json.decode(msgspec.json.encode(replace(found, waited=0.4)), type=Speed).waited == 0.4


def test_shares_of_bounds_by_hand() -> None:
    """100 steps a second of 9,000 + 1,000 bytes, of 4·10⁶; 100 prompts of 10,000 operations, of 4·10⁶."""
    found = make_speed()
    one, four = found.reference.points
    assert decode_share(found.bounds, found.reference, one) == pytest.approx(0.25)
    assert decode_share(found.bounds, found.reference, four) == pytest.approx(100 * 13_000 / 4e6)
    assert prefill_share(found.bounds, found.reference, one) == pytest.approx(0.25)
    assert prefill_share(replace(found.bounds, peaks={}), found.reference, one) is None


CAUSES: dict[str, Any] = {
    why.ARITHMETIC: run("fp16", "torch", point(50, 500), point(200, 500, batch=4)),
    # 20 ms a step where the plain one takes 10; decoding alone takes 8.
    why.DECODING: run("int8", "qfund", point(50, 900), point(200, 900, batch=4), decoding_seconds=0.008),
    why.SMALL_BATCH: run("int8_dynamic", "torchao", point(50, 1500), point(300, 1500, batch=4)),
    why.LAUNCHES: run("int8", "bitsandbytes", point(50, 500), point(190, 500, batch=4), decoding_seconds=0.001),
    # Decoding takes longer than the whole gap of 10 ms, so it is not what happens.
    why.UNKNOWN: run("int8", "torchao", point(50, 500), point(50, 500, batch=4), decoding_seconds=0.02),
    why.NOISE: run("int8", "torchao", point(90, 900, decode_ratio=around(0.95, 0.1)), point(400, 900, batch=4)),
}


@pytest.mark.parametrize("name", CAUSES)
def test_each_cause_is_named_where_its_figures_show_it(name: str) -> None:
    found = make_speed(CAUSES[name])
    named = why.causes(found, found.runs[1], found.runs[1].at(1, 10))
    assert [cause.name for cause in named] == [name]
    assert (name in " ".join(words.why(found, 1, 10))) == (name != why.NOISE)


def test_a_cause_goes_with_what_causes_it() -> None:
    """Changed: decoding that takes no time, a dtype as fast as the reference's, a batch that does not help."""
    slow = CAUSES[why.DECODING]
    found = make_speed(replace(slow, decoding_seconds=0.0001))
    assert why.DECODING not in [c.name for c in why.causes(found, found.runs[1], found.runs[1].points[0])]
    found = make_speed(CAUSES[why.ARITHMETIC])
    native = replace(found, bounds=replace(found.bounds, peaks=dict.fromkeys(found.bounds.peaks, 4e6)))
    assert why.ARITHMETIC not in [c.name for c in why.causes(native, native.runs[1], native.runs[1].points[0])]
    quick = make_speed(run("int8", "torchao", point(150, 1500), point(600, 1500, batch=4)))
    assert why.causes(quick, quick.runs[1], quick.runs[1].points[0]) == ()
    assert why.causes(quick, quick.reference, quick.reference.points[0]) == ()


def test_reading_has_causes_of_its_own() -> None:
    # A prompt takes 20 ms in place of 10, and decoding 8.
    found = make_speed(run("int8", "qfund", point(100, 500), point(400, 500, batch=4), decoding_seconds=0.008))
    named = why.causes(found, found.runs[1], found.runs[1].points[0], why.PREFILL)
    assert [cause.name for cause in named] == [why.DECODING] and "a prompt takes 10.00 ms" in named[0].said


def test_elsewhere_is_worked_out_from_what_is_published() -> None:
    assert PUBLISHED.keys() == GPUS.keys()
    found = make_speed()
    guess = estimated("RTX 4090", found.reference, found.reference.points[1])
    assert guess.decode == pytest.approx(4 * 1008e9 / 13_000)
    assert guess.prefill == pytest.approx(40 * 165.2e12 / 40_000)
    said = words.elsewhere(found.reference, guess, 3.6)
    assert "estimated and not measured: at most" in said and "at least" in said
    assert per_million(3.6, 1000.0) == pytest.approx(1.0)
    with pytest.raises(InvalidSpec, match="price"):
        per_million(0.0, 1.0)
    with pytest.raises(UnknownName, match="Unknown GPU"):
        estimated("rtx-9999", found.reference, found.reference.points[0])


def test_headlines_and_a_busy_machine() -> None:
    slower = make_speed(CAUSES[why.DECODING])
    assert words.headline(slower, 1, 10).startswith("Nothing writes clearly faster here than FP32")
    assert "1 of 1 are clearly slower" in words.headline(slower, 1, 10)
    faster = make_speed(run("bf16", "torch", point(150, 1500), point(600, 1500, batch=4)))
    assert words.headline(faster, 1, 10).startswith("BF16 writes fastest here: 150 tokens/s, 1.50 (1.48 to 1.52) times")
    assert words.busy(faster) is None
    scattered = replace(point(100, 1000), decode=around(100, 0.3))
    busy = make_speed(run("bf16", "torch", scattered, replace(scattered, batch=4)))
    busy = replace(busy, runs=(replace(busy.reference, points=(scattered, replace(scattered, batch=4))), busy.runs[1]))
    assert "60 % of their medians" in str(words.busy(busy))
    assert any("there is no counter" in note for note in words.notes(busy))
    assert words.refused(busy) == [
        "int8 by torchao was not run: torchao is not installed. Install it with: pip install torchao"
    ]


def test_tables_figures_and_links() -> None:
    found = make_speed(*CAUSES.values())
    frame = tables.points(found)
    assert len(frame) == 2 * len(found.runs)
    assert list(frame["cause"][:2]) == ["", ""] and why.LAUNCHES in set(frame["cause"])
    assert len(figures.ratios(frame[frame["batch"] == 1]).data) == len(found.runs)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Speed) == found
    asked = link.Asked(precisions=("int8",), backends=("torchao",), depths=(7, 9), batches=(3,), gpu="h100", price=2.5)
    assert link.from_query(link.to_query(asked)) == (asked, [])
    back, problems = link.from_query({"batch": ["0", "2"], "gpu": ["9999"], "price": ["free"]})
    assert back == link.Asked(batches=(2,)) and len(problems) == 3


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Bounds of small matrices and little memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "_SIDES", (64,))
        patch.setattr(bounds, "_BYTES", 2**20)
        patch.setattr(bounds, "_SECONDS", 0.001)
        yield


@pytest.fixture(scope="module")
def found(quick: None) -> Speed:
    request = SpeedRequest(
        str(checkpoints.folder("llama")), ("int8", "bf16"), depths=(4,), batches=(1, 2), new_tokens=2, rounds=2
    )
    return speed(request)


def test_every_backend_that_runs_is_beside_the_reference(found: Speed) -> None:
    ran = [(one.precision, one.backend) for one in found.runs]
    assert ran[0] == ("fp32", "torch") and {("bf16", "torch"), ("int8", "qfund")} < set(ran)
    assert {("int8", name) for name in ("torchao", "bitsandbytes")} <= set(ran) | {
        (key.split()[0], key.split()[-1]) for key in found.refused
    }
    for one in found.runs:
        assert [(p.batch, p.depth) for p in one.points] == [(1, 4), (2, 4)]
        assert all(p.decode.low > 0 and p.rounds == 2 for p in one.points)
        assert (one.decoding_seconds is not None) == (one.backend in ("qfund", "torchao"))
    assert all(p.decode_ratio.low == p.decode_ratio.high == 1 for p in found.reference.points)
    layers, channels = 2, 16
    assert found.reference.at(2, 4).cache_bytes == 2 * 4 * layers * 2 * channels * 4
    assert found.bounds.bandwidth > 1e8 and found.bounds.peaks.keys() == {"float32", "bfloat16"}


def _writer(name: str) -> tuple[Any, ModelWriter]:
    model = read(checkpoint.read(checkpoints.folder(name)), "float32")
    return model, ModelWriter(model, PRECISIONS["fp32"], model.config.vocab_size)


def test_operations_and_bytes_are_those_of_the_weights() -> None:
    model, writer = _writer("llama-untied")
    linear = [part.weight.numel() for part in model.modules() if isinstance(part, torch.nn.Linear)]
    head = model.lm_head.weight.numel()
    products = 2 * (5 * (sum(linear) - head) + head)  # of the last position alone is the head asked
    assert products <= writer.flops(1, 5) <= 1.2 * products
    assert writer.read_bytes == stored_bytes(model) - model.model.embed_tokens.weight.nbytes
    tied, own = _writer("llama")
    assert tied.lm_head.weight is tied.model.embed_tokens.weight and own.read_bytes == stored_bytes(tied)


def test_it_really_writes_what_generate_writes() -> None:
    model, writer = _writer("llama")
    writer.begin(2, 6)
    ids = torch.randint(model.config.vocab_size, (2, 6), generator=torch.Generator().manual_seed(0))
    made = [writer._next]
    for _ in range(4):
        writer.step()
        made.append(writer._next)
    theirs = model.generate(
        ids, max_new_tokens=5, do_sample=False, eos_token_id=None, attention_mask=torch.ones_like(ids)
    )
    assert torch.equal(torch.cat(made, 1), theirs[:, 6:])


def test_what_cannot_be_timed_is_said() -> None:
    for wrong, error, said in (
        ({"batches": (0,)}, InvalidSpec, "batch is 0"),
        ({"depths": ()}, InvalidSpec, "0 values of depth"),
        ({"backends": ("vllm",)}, UnknownName, "Unknown backend 'vllm'"),
        ({"precisions": ("int99",)}, UnknownName, "int99"),
        ({"reference": "stored"}, UnavailablePrecision, "quantised already"),
        ({"depths": (250,)}, InvalidInput, "250 tokens and 16 that are written are 266; the model reads at most 256"),
    ):
        with pytest.raises(error, match=said):
            speed(SpeedRequest(**wrong))
    with pytest.raises(UnsupportedModel, match="no head that continues a text"):
        speed(SpeedRequest(str(checkpoints.folder("bert-masked"))))
    with pytest.raises(UnsupportedModel, match="takes no cache"):
        speed(SpeedRequest(str(checkpoints.folder("mamba")), (), depths=(4,), batches=(1,)))


def test_energy_is_counted_by_rapl_where_it_can_be_read(tmp_path: Path) -> None:
    joules, said = energy.meter("cpu", tmp_path)
    assert joules() is None and "there is none" in said
    package, part = tmp_path / "intel-rapl:0", tmp_path / "intel-rapl:0:0"
    for folder in (package, part):  # a part of a package is counted with it
        folder.mkdir()
        (folder / "max_energy_range_uj").write_text("999999\n")
        (folder / "energy_uj").write_text("900000\n")
    joules, said = energy.meter("cpu", tmp_path)
    assert joules() == 0 and said.startswith("Energy of 1 processor package")
    (package / "energy_uj").write_text("100000\n")  # it began again at 0
    assert joules() == pytest.approx(0.2)
    (package / "energy_uj").unlink()
    joules, said = energy.meter("cpu", tmp_path)
    assert joules() is None and "root" in said


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    rest = ["--depth", "4", "--batch", "1", "--new-tokens", "1", "--rounds", "1", "--quiet", "--no-store"]
    with pytest.raises(SystemExit, match="0"):
        cli.main(["speed", str(checkpoints.folder("llama")), "--precision", "bf16", "--gpu", "h100", *rest])
    said = capsys.readouterr().out
    assert "1 × 4 tokens:" in said and "estimated and not measured" in said and "Bounds measured here" in said
    for wrong in (["--batch", "0"], ["--gpu", "9999"], ["--price", "-1"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["speed", "pydoc-llama", *rest, *wrong])
        assert capsys.readouterr().err.startswith("qfund: ")


@pytest.mark.usefixtures("page_server")
def test_page(jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened("pages/speed.py", {"batch": "2"})
    assert "Not measured yet" in texts(at)
    at.button(key="speed_measure").click().run()
    assert jobs.submitted[-1] == SpeedRequest(batches=(2,))
    found = make_speed(*CAUSES.values())
    monkeypatch.setattr(shipped, "find", lambda request, key, **_: found)
    at = opened("pages/speed.py", {"gpu": "h100"})
    said = texts(at)
    assert "Nothing writes clearly faster" in said and "Bounds measured here" in said and why.LAUNCHES in said
    assert "estimated and not measured" in said and "pip install torchao" in said
    assert len(at.dataframe[0].value) == len(found.runs)


def test_what_ships_is_found() -> None:
    request = checked(SpeedRequest())
    found = shipped.find(request, key_of(request))
    assert found is not None and found.reference.precision == "fp32"
