"""Captions in every precision: the numbers beside plain transformers and NumPy, the request, the command line."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoTokenizer

from qfund import cli
from qfund.checkpoints import catalog, checkpoint
from qfund.checkpoints.catalog import CATALOG
from qfund.core.errors import InvalidInput, InvalidSpec, QfundError, UnknownName, UnsupportedModel
from qfund.engine import compute, key_of, messages
from qfund.engine.kinds import KINDS
from qfund.features.captions import request as captions_request
from qfund.features.captions import words
from qfund.features.captions.command import text
from qfund.features.captions.measure import captioner
from qfund.features.captions.measure.caption import caption, first_difference
from qfund.features.captions.measure.captioner import Captioner
from qfund.features.captions.request import (
    CaptionRequest,
    Captions,
    GivenPicture,
    checked,
    mcnemar,
    paired_change,
    share,
    worst_first,
)
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec
from qfund.inputs import picture_files, shapes
from qfund.models import inputs, opened
from qfund.models.tasks import task_of
from tests import independent
from tests.engine.shipping import ships
from tests.features.captions.results import make_captions
from tests.tiny import checkpoints
from training import measured, shapes_blip

PHOTO = GivenPicture("photo.png", picture_files.to_png(Image.effect_noise((90, 60), 80).convert("RGB")))
ENDS = {"blip": 3, "vision-gpt2": -1}


def plain_logits(model: Any, name: str, values: torch.Tensor, ids: Sequence[int]) -> np.ndarray:
    """[tokens, vocabulary] in double precision of one picture, by one forward of the whole model without a cache."""
    row = torch.tensor([list(ids)])
    with torch.no_grad():
        if name == "blip":
            seen = model.vision_model(pixel_values=values)[0]
            found = model.text_decoder(input_ids=row, encoder_hidden_states=seen, use_cache=False).logits
        else:
            found = model(pixel_values=values, decoder_input_ids=row, use_cache=False).logits
    logits: np.ndarray = found[0].double().numpy()
    return logits


def log_softmax(logits: np.ndarray) -> np.ndarray:
    found: np.ndarray = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return found


@pytest.mark.parametrize(
    ("name", "start", "left"), [("blip", 4, "text_decoder.cls.predictions.decoder"), ("vision-gpt2", 0, "lm_head")]
)
def test_captions_and_divergences_are_those_of_plain_transformers(name: str, start: int, left: str) -> None:
    """Greedy, token by token, without cache, batch or ``generate``; KL along the reference's caption in NumPy."""
    folder = checkpoints.folder(name)
    found = caption(CaptionRequest(str(folder), ("int8",), samples=4, max_new_tokens=7))
    reference = independent.load(folder, torch.float32)
    heads = [module for module, _ in reference.named_modules() if left in module]
    candidate = independent.rounded(independent.load(folder, torch.float32), heads)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert found.total == len(found.pictures) == 4
    for picture in found.pictures:
        image = shapes.held_out([picture.number])[0].image
        resized = np.asarray(image.resize((32, 32)), dtype=np.float32) / 127.5 - 1
        values = torch.from_numpy(resized).permute(2, 0, 1)[None]
        made: dict[str, list[int]] = {}
        for key, model in (("reference", reference), ("int8", candidate)):
            ids = [start]
            while len(ids) <= 7 and (len(ids) == 1 or ids[-1] != ENDS[name]):
                ids.append(int(plain_logits(model, name, values, ids)[-1].argmax()))
            made[key] = ids[1:]
            ours = picture.reference if key == "reference" else picture.candidates["int8"]
            chances = np.exp(log_softmax(plain_logits(model, name, values, ids[:-1])))
            assert ours.pieces == tuple(tokenizer.decode([token]) for token in ids[1:])
            assert ours.text == str(tokenizer.decode(ids[1:], skip_special_tokens=True)).strip()
            assert ours.probabilities == pytest.approx([row[t] for row, t in zip(chances, ids[1:], strict=True)], 1e-4)
            assert ours.ended == (ids[-1] == ENDS[name]) and ours.exact is False
        along = [start, *made["reference"][:-1]]
        logits = [plain_logits(model, name, values, along) for model in (reference, candidate)]
        log_p, log_q = map(log_softmax, logits)
        ours = picture.candidates["int8"]
        assert ours.kl == pytest.approx((np.exp(log_p) * (log_p - log_q)).sum(-1).mean(), 1e-3)
        assert ours.max_logit_diff == pytest.approx(np.abs(logits[0] - logits[1]).max(), 1e-3)
        differs = [a != b for a, b in zip(made["int8"], made["reference"], strict=False)]
        assert ours.first_difference == (differs.index(True) if True in differs else None)
    row = found.candidates[0]
    assert row.kl_mean is not None and row.kl_mean.n == sum(len(one.reference.pieces) for one in found.pictures)
    assert row.changed is not None
    assert row.changed.count == sum(one.candidates["int8"].first_difference is not None for one in found.pictures)


def test_what_the_checkpoint_says_about_generation_changes_nothing(tmp_path: Path) -> None:
    """Beams, penalties and lengths of a generation config would compare other things than the precisions."""
    folder = checkpoints.make("vision-gpt2", tmp_path / "model")
    request = CaptionRequest(str(folder), ("bf16",), samples=2, max_new_tokens=6)
    before = caption(request)
    settings = {
        "num_beams": 3,
        "repetition_penalty": 4.0,
        "no_repeat_ngram_size": 1,
        "max_length": 3,
        "do_sample": True,
    }
    (folder / "generation_config.json").write_text(json.dumps(settings | {"decoder_start_token_id": 0}))
    after = caption(request)
    assert [one.reference.text for one in after.pictures] == [one.reference.text for one in before.pictures]


def test_batches_and_groups_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """More pictures than a batch holds, and models that do not fit beside each other."""
    request = CaptionRequest(str(checkpoints.folder("blip")), ("bf16", "int4"), samples=5, max_new_tokens=5)
    whole = caption(request)
    monkeypatch.setattr(Captioner, "batching", lambda self, image: (2, "by twos"))
    monkeypatch.setattr(opened, "groups", lambda *_: [["bf16"], ["int4"]])
    shares: list[float] = []
    parts = caption(request, lambda phase, share: shares.append(share))
    assert shares == sorted(shares) and shares[-1] <= 1
    for one, other in zip(whole.pictures, parts.pictures, strict=True):
        assert one.number == other.number and one.reference.text == other.reference.text
        for name in request.precisions:
            assert one.candidates[name].kl == pytest.approx(other.candidates[name].kl, 0.05)
    means = [found.candidates[1].kl_mean for found in (whole, parts)]
    assert means[0] and means[1] and means[0].value == pytest.approx(means[1].value, 1e-3) and means[0].n == means[1].n


def test_a_batch_is_no_larger_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checkpoint.read(checkpoints.folder("blip"))
    image = shapes.held_out([0])[0].image
    assert Captioner(found, 30).batching(image)[0] == 32
    vocabulary = json.loads((checkpoints.folder("blip") / "config.json").read_text())["text_config"]["vocab_size"]
    monkeypatch.setattr(captioner, "_BATCH_LOGITS", 3 * 30 * vocabulary)
    assert Captioner(found, 30).batching(image)[0] == 3
    monkeypatch.setattr(captioner, "_BATCH_VALUES", 3 * 32 * 32 * 2)
    assert Captioner(found, 30).batching(image)[0] == 2
    monkeypatch.setattr(captioner, "_BATCH_VALUES", 1)
    assert Captioner(found, 30).batching(image)[0] == 1


def test_given_pictures_have_no_truth_and_come_back_small() -> None:
    large = Image.new("RGB", (500, 300), "navy")
    request = CaptionRequest(
        str(checkpoints.folder("blip")),
        ("bf16",),
        samples=0,
        pictures=(PHOTO, GivenPicture("blue.png", picture_files.to_png(large))),
        max_new_tokens=4,
    )
    found = caption(request)
    assert found.reference.exact is None and found.candidates[0].exact is None
    assert {one.name for one in found.pictures} == {"photo.png", "blue.png"}
    assert all(one.truth is None and one.reference.exact is None for one in found.pictures)
    sizes = {one.name: Image.open(BytesIO(one.png)).size for one in found.pictures}
    assert sizes == {"photo.png": (90, 60), "blue.png": (256, 154)}
    assert all(picture.png == b"" for picture in found.request.pictures)
    document = KINDS["caption"].read_result(messages.document(found))
    assert document == found, "what a worker sends arrives as it was"


def test_values_that_are_not_finite_are_counted_and_nothing_is_made_of_them(tmp_path: Path) -> None:
    folder = checkpoints.make("blip", tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["vision_model.post_layernorm.weight"] = weights["vision_model.post_layernorm.weight"] * 1e8
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    found = caption(CaptionRequest(str(folder), ("fp16", "bf16"), samples=2, max_new_tokens=4))
    broken, fine = (row for row in sorted(found.candidates, key=lambda row: row.precision != "fp16"))
    assert broken.nonfinite_positions == sum(len(one.reference.pieces) for one in found.pictures)
    assert fine.nonfinite_positions == 0 and fine.kl_mean is not None
    for picture in found.pictures:
        one = picture.candidates["fp16"]
        assert one.kl is None and one.max_logit_diff is None and set(one.probabilities) == {None}
    assert "not finite at" in "".join(words.verdicts(found))
    assert KINDS["caption"].read_result(messages.document(found)) == found


@pytest.mark.parametrize(("name", "positions"), [("blip", 32), ("vision-gpt2", 48)])
def test_a_caption_is_no_longer_than_the_model_has_positions_for(name: str, positions: int) -> None:
    found = caption(CaptionRequest(str(checkpoints.folder(name)), ("bf16",), samples=2, max_new_tokens=200))
    assert f"The model has positions for captions of {positions} tokens at most." in found.notes
    assert [len(picture.reference.pieces) for picture in found.pictures] == [positions] * 2
    assert found.reference.unfinished == 2 and not found.pictures[0].reference.ended


def test_only_captioners_caption() -> None:
    with pytest.raises(UnsupportedModel, match="dummy is a causal language model and captions no pictures"):
        caption(CaptionRequest("dummy", ("bf16",), samples=1))


def test_the_same_precision_changes_nothing() -> None:
    found = caption(CaptionRequest(str(checkpoints.folder("blip")), ("fp64",), samples=3, max_new_tokens=5))
    row = found.candidates[0]
    assert row.changed is not None and row.changed.count == 0
    assert row.kl_mean is not None and 0 <= row.kl_mean.value < 1e-9
    alone = caption(CaptionRequest(str(checkpoints.folder("blip")), ("fp32",), samples=2, max_new_tokens=3))
    assert alone.candidates == () and alone.reference.precision == "fp32" and alone.total == 2


# --- the request


def test_a_request_has_one_form() -> None:
    request = CaptionRequest(" m ", ("int4", "fp32", "bf16", "bf16"), samples=3, revision="")
    assert checked(request) == CaptionRequest("m", ("bf16", "int4"), samples=3)
    photo = picture_files.decode(PHOTO.png, "x").png
    large = BytesIO()
    Image.new("L", (2000, 1000)).save(large, "JPEG")
    given = checked(CaptionRequest("m", samples=0, pictures=(GivenPicture("a/b.jpg", large.getvalue()), PHOTO)))
    assert [picture.name for picture in given.pictures] == ["b.jpg", "photo.png"]
    assert given.pictures[1].png == photo
    assert Image.open(BytesIO(given.pictures[0].png)).size == (512, 256)
    assert checked(given) == given
    assert hash(given) and KINDS["caption"].read_request(msgspec.json.encode(given)) == given


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": " "}, InvalidSpec, "No model"),
        ({"precisions": ()}, InvalidSpec, "No precision"),
        ({"precisions": ("bf61",)}, UnknownName, "bf61"),
        ({"reference": "stored"}, InvalidSpec, "quantised already"),
        ({"samples": 0}, InvalidSpec, "No picture is asked for"),
        ({"samples": -1}, InvalidSpec, "samples is -1"),
        ({"samples": 2001}, InvalidSpec, "samples is 2001"),
        ({"pictures": (PHOTO,)}, InvalidSpec, "Both"),
        ({"samples": 0, "pictures": (PHOTO,) * 17}, InvalidInput, "17 pictures"),
        ({"samples": 0, "pictures": (GivenPicture("a.png", b"no"),)}, InvalidInput, "a.png is not a picture"),
        ({"max_new_tokens": 0}, InvalidSpec, "max_new_tokens is 0"),
        ({"max_new_tokens": 257}, InvalidSpec, "max_new_tokens is 257"),
    ],
)
def test_requests_that_cannot_be(changes: dict[str, Any], error: type[QfundError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        checked(replace(CaptionRequest("shapes-blip"), **changes))
    assert caught.value.remedy


def test_a_picture_with_a_good_header_only_is_refused_by_the_measure() -> None:
    request = CaptionRequest(
        str(checkpoints.folder("blip")), ("bf16",), samples=0, pictures=(GivenPicture("a.png", PHOTO.png[:60]),)
    )
    with pytest.raises(InvalidInput, match=r"a.png is damaged or cut off"):
        caption(request)


def test_equal_requests_have_one_key_and_others_another() -> None:
    request = CaptionRequest(str(checkpoints.folder("blip")), samples=0, pictures=(PHOTO,))
    other = replace(request, pictures=(replace(PHOTO, png=picture_files.to_png(Image.new("RGB", (90, 60)))),))
    assert key_of(request) == key_of(replace(request, precisions=request.precisions[::-1])) != key_of(other)
    assert compute(request, measure=lambda asked, progress: asked) == checked(request)


# --- numbers


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_is_where_the_test_just_does_not_reject(pair: tuple[int, int]) -> None:
    count, n = pair
    found = share(count, n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    for end in (found.low, found.high):
        if 1e-9 < end < 1 - 1e-9:
            assert abs(found.value - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), rel=1e-6)


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=60))
def test_the_paired_change_is_the_mean_of_the_differences(differences: list[int]) -> None:
    found = paired_change(differences.count(-1), differences.count(1), len(differences))
    assert found.value == pytest.approx(np.mean(differences))
    assert found.se == pytest.approx(np.std(differences) / math.sqrt(len(differences)), abs=1e-12)


def test_the_chance_of_an_uneven_split() -> None:
    """By hand: 6 of 6 is 2 / 64, 7 and 1 of 8 is 2 · 9 / 256."""
    assert mcnemar(6, 0) == mcnemar(0, 6) == 2 / 64
    assert mcnemar(7, 1) == 18 / 256 and mcnemar(3, 3) == 1.0 == mcnemar(0, 0)


def test_the_first_difference() -> None:
    assert first_difference([1, 2, 3], [1, 2, 3]) is None
    assert first_difference([1, 9, 3], [1, 2, 3]) == 1
    assert first_difference([1, 2], [1, 2, 3]) == 2 == first_difference([1, 2, 3], [1, 2])


def test_the_worst_pictures_come_first() -> None:
    found = make_captions(CaptionRequest("m", ("bf16", "int4"), samples=3))
    calm = replace(found.pictures[0], candidates=dict(found.pictures[0].candidates))
    calm.candidates["int4"] = replace(calm.candidates["int4"], first_difference=None, kl=99.0)
    ordered = worst_first([calm, *found.pictures[1:]])
    assert [one.number for one in ordered] == [1, 0, 2], "more changes first, then the larger divergence"
    broken = replace(calm, number=7, candidates={"int4": replace(calm.candidates["int4"], kl=None)})
    assert worst_first([calm, broken])[0].number == 7, "what is not finite is worse than any number"


def test_sentences_say_what_happened() -> None:
    found = make_captions(CaptionRequest("m", ("bf16", "int4"), samples=3))
    assert words.headline(found).startswith("FP32 captions 3 of 3 held-out pictures exactly: 100.0")
    quiet, said = words.verdicts(found)
    assert quiet == "BF16 changes no caption."
    more = make_captions(CaptionRequest("m", ("bf16", "fp16", "int8", "int4"), samples=3))
    assert words.verdicts(more)[0] == "BF16, FP16 and INT8 weight-only change no caption."
    assert (
        "INT4 g32 changes 3 of 3 captions" in said
        and "3 from right to wrong, 0 from wrong to right" in said
        and "−100.0 points, standard error 0.0" in said
    )
    for broken, mended, noise in ((2, 1, True), (6, 0, True), (8, 0, False), (51, 6, False)):
        change = paired_change(broken, mended, 100)
        row = replace(found.candidates[1], broken=broken, mended=mended, exact_change=change)
        row = replace(row, chance=mcnemar(broken, mended))
        _, said = words.verdicts(replace(found, candidates=(found.candidates[0], row)))
        assert ("within the noise" in said) == noise, "0.05 / 2 candidates is the border"


# --- pictures that the project draws


def test_held_out_scenes_are_never_trained_on() -> None:
    training, held = shapes.split()
    assert len(training) + len(held) == 32 * 31 * 2 and len(held) == round(0.1 * 32 * 31 * 2)
    assert not {scene.caption for scene in training} & {scene.caption for scene in held}
    drawn = [picture.caption for step in range(3) for picture in shapes_blip.training_pictures(step, 64)]
    assert not set(drawn) & {scene.caption for scene in held}
    assert {len(caption.split()) for caption in drawn} == {3, 7, 8}, "one thing, above, left of"
    assert {picture.caption for picture in shapes.held_out(range(len(held)))} == {scene.caption for scene in held}


def test_a_number_is_always_the_same_picture() -> None:
    (alone,) = shapes.held_out([5])
    assert alone.image.tobytes() == shapes.held_out(range(8))[5].image.tobytes()
    assert alone.image.tobytes() != shapes.held_out([5 + len(shapes.split()[1])])[0].image.tobytes()
    assert alone.image.size == (shapes.SIZE, shapes.SIZE)


def test_captions_are_true_of_the_pictures() -> None:
    """The thing that is named first is really above or left, and has the colour that is named."""
    for picture in shapes.held_out(range(40)):
        first, rest = picture.caption.replace(" left of ", " above ").split(" above ")
        pixels = np.asarray(picture.image, dtype=np.float64)
        centers = []
        for thing in (first, rest):
            far = np.linalg.norm(pixels - shapes.COLORS[thing.split()[1]], axis=-1)
            rows, columns = np.nonzero(far <= np.quantile(far, 0.02))
            centers.append(np.median(rows if " above " in picture.caption else columns))
        if first.split()[1] != rest.split()[1]:
            assert centers[0] < centers[1] + 4, picture.caption


def test_every_word_of_a_caption_is_a_token() -> None:
    tokenizer = shapes_blip.make_tokenizer()
    for scene in (*shapes.split()[1], shapes.Scene(shapes.things()[0])):
        ids = tokenizer(scene.caption)["input_ids"]
        assert tokenizer.unk_token_id not in ids and len(ids) == len(scene.caption.split()) + 2 <= shapes_blip.LONGEST
        assert tokenizer.decode(ids, skip_special_tokens=True) == scene.caption


# --- the model that ships


def test_the_shipped_captioner_captions_pictures_it_never_saw() -> None:
    folder = CATALOG["shapes-blip"].folder
    record = json.loads((folder / "training.json").read_text())
    found = caption(CaptionRequest("shapes-blip", ("int2",), samples=200))
    exact, worse = found.reference.exact, found.candidates[0].exact
    assert exact is not None and worse is not None
    assert exact.low - 0.02 <= record["held_out_exact"] <= exact.high + 0.02
    assert exact.value > 0.9 and worse.value < exact.value
    assert sum(file.stat().st_size for file in folder.iterdir()) < 12e6
    assert sum(tensor.bytes for tensor in checkpoint.read(folder).tensors.values()) == 4 * record["parameters"]


def test_the_shipped_captions_are_of_the_weights_and_pictures_that_are_there() -> None:
    found: Captions = ships(CaptionRequest("shapes-blip"))
    assert found.total == captions_request.DEFAULT_SAMPLES and len(found.pictures) == measured.PICTURES
    drawn = shapes.held_out([one.number for one in found.pictures])
    for ours, picture in zip(found.pictures, drawn, strict=True):
        assert ours.truth == picture.caption
        assert ours.sha256 == hashlib.sha256(picture.image.tobytes()).hexdigest()


def test_training_sees_pictures_as_the_image_processor_makes_them() -> None:
    drawn = shapes.held_out(range(3))
    processor = AutoImageProcessor.from_pretrained(CATALOG["shapes-blip"].folder, backend="pil")
    made = processor(images=[picture.image for picture in drawn], return_tensors="pt")["pixel_values"]
    assert torch.allclose(made, shapes_blip.pixels(drawn), atol=1e-6)


def test_a_comparison_of_the_shipped_captioner_reads_held_out_pictures() -> None:
    found = checkpoint.read(CATALOG["shapes-blip"].folder)
    prepared = inputs.prepare(Spec("shapes-blip"), catalog.locate("shapes-blip"), found, task_of(found))
    assert prepared.facts.chunks == len(prepared.batches) == 100
    assert any("training never saw" in note for note in prepared.facts.notes)
    report = compare(Spec("shapes-blip", precisions=("int4",)))
    perplexity = report.reference.fidelity["perplexity"]
    assert perplexity.value < 1.3, "of 22 words, the right one is nearly certain"
    assert report.results[0].fidelity["kl_mean"].value > 0


# --- the command line


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["caption", *arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code


BLIP = ("--precision", "bf16,int4", "--max-new-tokens", "4")


def test_the_command_prints_words_or_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(checkpoints.folder("blip"))
    assert run(folder, "--samples", "2", *BLIP) == 0
    out, told = capsys.readouterr()
    assert "FP32 captions 0 of 2 held-out pictures exactly: 0.0" in out and "captioning in INT4 g32" in told
    assert run(folder, "--samples", "2", "--json", "--quiet", *BLIP) == 0
    out, told = capsys.readouterr()
    assert not told
    found = msgspec.json.decode(out, type=Captions)
    assert [row.precision for row in found.candidates] == ["bf16", "int4"] and found.total == 2


def test_the_command_reads_picture_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.new("RGB", (900, 90), "red").save(tmp_path / "wide.jpg")
    assert run(str(checkpoints.folder("blip")), "--image", str(tmp_path / "wide.jpg"), "--quiet", *BLIP) == 0
    out = capsys.readouterr().out
    assert "wide.jpg: scaled from 900 × 90 to 512 × 51 pixels." in out
    assert (
        "1 picture, captioned in FP32" in out and "exact" not in out.partition("Largest")[0].partition("\n\n")[2][:80]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "none.png"], "none.png cannot be read: there is no such file."),
        (["--samples", "0"], "No picture is asked for."),
        (["--samples", "99999"], "samples is 99999."),
        (["--precision", "int5x"], "Unknown precision 'int5x'."),
        (["--image", *["a.png"] * 17], "17 pictures are too many."),
    ],
)
def test_a_wrong_command_says_what_is_wrong(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("shapes-blip", *arguments) == 2
    assert message in capsys.readouterr().err


def test_drawn_and_given_pictures_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("shapes-blip", "--samples", "3", "--image", "a.png") == 2
    assert "not allowed with" in capsys.readouterr().err


def test_what_a_terminal_shows_marks_changes_and_prints_no_control_characters() -> None:
    found = make_captions(CaptionRequest("m", ("bf16", "int4"), samples=2))
    worst = found.pictures[0]
    evil = replace(worst.candidates["int4"], text="a \x1b[31mred\nsquare")
    shown = text(replace(found, pictures=(replace(worst, candidates=worst.candidates | {"int4": evil}),)))
    assert "\x1b" not in shown and "  * INT4 g32  a ?[31mred?square" in shown
    assert f"    FP32      {worst.truth}" in shown
    assert "100.0\u00a0%" in shown
