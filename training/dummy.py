"""Make ``models/dummy``: the lesson's toy model, seed 123.  python -m training.dummy [FOLDER]"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from qfund.models.dummy import DummyConfig, DummyModel


def make(folder: Path) -> DummyModel:
    """Write config, weights, a tokenizer of the two words ``0`` and ``1``, and the lesson's input [[1, 0], [0, 1]]."""
    torch.manual_seed(123)
    model = DummyModel(DummyConfig())
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"0": 0, "1": 1}, unk_token="0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=2).save_pretrained(folder)
    (folder / "evaluation.txt").write_text("1 0 0 1\n", "utf-8")
    return model


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("models/dummy"))
