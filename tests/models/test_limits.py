"""What transformers itself can read at once, and how it makes pictures ready."""

from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image

from qfund.checkpoints import checkpoint
from qfund.core.errors import CorruptCheckpoint
from qfund.models import inputs
from tests.tiny import checkpoints

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


@pytest.mark.parametrize("padding", [0, 1])
def test_prophetnet_reads_the_longest_text_and_no_longer_one(padding: int) -> None:
    config = transformers.ProphetNetConfig(
        vocab_size=30,
        hidden_size=16,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_encoder_attention_heads=2,
        num_decoder_attention_heads=2,
        max_position_embeddings=20,
        pad_token_id=padding,
    )
    model = transformers.ProphetNetForConditionalGeneration(config).eval()
    (longest,) = inputs.position_limits(config)
    ids = torch.full((1, longest), 5)
    assert model(input_ids=ids, decoder_input_ids=ids).logits.shape[1] == longest
    ids = torch.full((1, longest + 1), 5)
    with pytest.raises(IndexError):
        model(input_ids=ids, decoder_input_ids=ids)


def test_pictures_are_made_ready_as_a_processor_says_that_transformers_5_wrote(tmp_path: Path) -> None:
    processor = transformers.BlipImageProcessorPil(size={"height": 32, "width": 32})
    source = checkpoints.make("blip", tmp_path / "blip")
    transformers.BlipProcessor(processor, checkpoints.word_piece()).save_pretrained(source)
    assert not (source / "preprocessor_config.json").exists()
    found, image = checkpoint.read(source), Image.new("RGB", (48, 40), (250, 120, 10))
    values, how = inputs.pixel_values(found, [image])
    assert how == "made ready by the model's own image processor"
    torch.testing.assert_close(values, processor(images=[image], return_tensors="pt")["pixel_values"], rtol=0, atol=0)
    (source / "processor_config.json").write_text('{"processor_class": "BlipProcessor"}')  # as transformers 4 wrote it
    assert "no image processor" in inputs.pixel_values(found, [image])[1]
    (source / "processor_config.json").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    )
    with pytest.raises(CorruptCheckpoint, match=r"processor_config.json .* is a Git LFS pointer"):
        inputs.pixel_values(found, [image])
