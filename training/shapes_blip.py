"""Make ``models/shapes-blip``: a small BLIP that captions pictures which the project draws (``qfund.inputs.shapes``).

    python -m training.shapes_blip [--steps 6000] [--minutes M] [--out models/shapes-blip]

Prints one JSON line per evaluation and writes tokenizer, image processor, weights (fp32 safetensors) and
``training.json`` (recipe, figures). Nothing is chosen by the held-out pictures: the last weights are those that ship.
The run is seeded; thread count and CPU still change the last bits.
"""

import json
import math
import os
import time
from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, PreTrainedTokenizerFast

from qfund.inputs import shapes
from qfund.inputs.shapes import Picture, Scene
from training.descent import Descent, parser

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # on shared cores: several times faster

START, END, PADDING, UNKNOWN = "[CLS]", "[SEP]", "[PAD]", "[UNK]"
LONGEST = 16  # tokens of a caption that the model has positions for
MEAN, DEVIATION = 0.5, 0.25
HIDDEN = 128
ALONE = 0.15  # share of training pictures with one thing only
IGNORED = -100


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A word is a token; a caption stands between ``[CLS]`` and ``[SEP]``."""
    vocabulary = {word: number for number, word in enumerate((PADDING, UNKNOWN, START, END, *shapes.WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(word, vocabulary[word]) for word in (START, END)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PADDING,
        unk_token=UNKNOWN,
        cls_token=START,
        sep_token=END,
        bos_token=START,
        eos_token=END,
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
    )


def make_image_processor() -> BlipImageProcessor:
    return BlipImageProcessor(
        size={"height": shapes.SIZE, "width": shapes.SIZE}, image_mean=[MEAN] * 3, image_std=[DEVIATION] * 3
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> BlipForConditionalGeneration:
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "encoder_hidden_size": HIDDEN,
        "intermediate_size": 4 * HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": LONGEST,
        "projection_dim": HIDDEN,
        "bos_token_id": start,
        "eos_token_id": end,
        "sep_token_id": end,
        "pad_token_id": tokenizer.pad_token_id,
        "is_decoder": True,
    }
    vision = {
        "hidden_size": HIDDEN,
        "intermediate_size": 4 * HIDDEN,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": shapes.SIZE,
        "patch_size": 16,
        "projection_dim": HIDDEN,
        "initializer_range": 0.02,  # BLIP's default of 1e-10 leaves a small model blind
    }
    return BlipForConditionalGeneration(
        BlipConfig(text_config=text, vision_config=vision, projection_dim=HIDDEN, image_text_hidden_size=HIDDEN)
    )


def pixels(pictures: Sequence[Picture]) -> torch.Tensor:
    """[pictures, 3, height, width], exactly as the image processor makes them (a test compares)."""
    stack = np.stack([np.asarray(picture.image, dtype=np.float32) for picture in pictures])
    return torch.from_numpy((stack / 255 - MEAN) / DEVIATION).permute(0, 3, 1, 2).contiguous()


def training_pictures(step: int, count: int) -> list[Picture]:
    """The pictures of one step: none of a held-out scene."""
    chance = np.random.default_rng([1, step])
    scenes, things = shapes.split()[0], shapes.things()
    alone = chance.random(count) < ALONE
    chosen = [
        Scene(things[chance.integers(len(things))]) if single else scenes[chance.integers(len(scenes))]
        for single in alone
    ]
    return [shapes.draw(scene, chance) for scene in chosen]


@torch.no_grad()
def exact_share(
    model: BlipForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, pictures: Sequence[Picture]
) -> float:
    """The share of greedy captions that are exactly right."""
    model.eval()
    right = 0
    for start in range(0, len(pictures), 100):
        some = pictures[start : start + 100]
        ids = model.generate(pixel_values=pixels(some), max_new_tokens=LONGEST - 2, do_sample=False, num_beams=1)
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        right += sum(text.strip() == picture.caption for text, picture in zip(texts, some, strict=True))
    model.train()
    return right / len(pictures)


def main() -> None:
    options = parser(
        __doc__, "models/shapes-blip", steps=6000, evaluate_every=500, batch=64, rate=1e-3, threads=2
    ).parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(options.out)
    make_image_processor().save_pretrained(options.out)
    held = shapes.held_out(range(1000))
    descent = Descent(model, options.rate, least=0.03, decay=0.05, beta=0.98)
    started, log, running = time.monotonic(), [], math.nan
    model.train()
    while True:
        share = max(descent.steps / options.steps, (time.monotonic() - started) / 60 / options.minutes)
        done = share >= 1
        if done or (descent.steps and descent.steps % options.evaluate_every == 0):
            accuracy = exact_share(model, tokenizer, held if done else held[:400])
            log.append({"step": descent.steps, "loss": round(running, 4), "held_out_exact": round(accuracy, 4)})
            log[-1]["cpu_minutes"] = round(time.process_time() / 60, 1)
            print(json.dumps(log[-1]), flush=True)
        if done:
            break
        drawn = training_pictures(descent.steps, options.batch)
        text = tokenizer([picture.caption for picture in drawn], padding=True, return_tensors="pt")
        ids, mask = text["input_ids"], text["attention_mask"]
        labels = ids.masked_fill(mask == 0, IGNORED)
        loss = model(pixel_values=pixels(drawn), input_ids=ids, attention_mask=mask, labels=labels).loss
        descent.step(loss, share)
        running = loss.item() if math.isnan(running) else 0.97 * running + 0.03 * loss.item()

    model.save_pretrained(options.out)
    record = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "held_out_exact": log[-1]["held_out_exact"],
        "held_out_pictures": len(held),
        "held_out_scenes": len(shapes.split()[1]),
        "training_scenes": len(shapes.split()[0]),
        "steps": descent.steps,
        "batch": options.batch,
        "peak_rate": options.rate,
        "cpu_minutes": log[-1]["cpu_minutes"],
        "wall_minutes": round((time.monotonic() - started) / 60, 1),
        "torch": torch.__version__,
        "log": log,
    }
    (options.out / "training.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
