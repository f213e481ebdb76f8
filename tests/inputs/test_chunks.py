"""How texts are cut: by hand, beside llama.cpp's loop written out, and every token predicted once whatever the cut."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qfund.core.errors import InvalidInput
from qfund.inputs.chunks import Chunk, Chunking, Tokens
from qfund.inputs.texts import SECOND_HALF

BOS, EOS = Tokens([-1], ["<s>"]), Tokens([-2], ["</s>"])


def text(count: int) -> Tokens:
    """Tokens 0, 1, 2 …, each its own number in letters."""
    return Tokens(range(count), [str(number) for number in range(count)])


def said(chunks: list[Chunk]) -> list[tuple[list[int], int, int]]:
    assert all([str(token) for token in chunk.tokens.ids if token >= 0] == [
        piece for piece in chunk.tokens.pieces if piece.isdigit()
    ] for chunk in chunks)  # fmt: skip
    return [(list(chunk.tokens.ids), chunk.start, chunk.stop) for chunk in chunks]


def test_chunks_follow_each_other() -> None:
    assert said(Chunking(4).cut(text(10))) == [([0, 1, 2, 3], 0, 4), ([4, 5, 6, 7], 0, 4), ([8, 9], 0, 2)]
    assert said(Chunking(4, before=BOS, after=EOS).cut(text(3))) == [([-1, 0, 1, -2], 0, 4), ([-1, 2, -2], 0, 3)]
    assert said(Chunking(4).cut(text(8))) == said(Chunking(4, stride=4).cut(text(8)))


def test_chunks_that_overlap_score_what_is_new() -> None:
    """The position of token 3 predicts token 4, which is new in the second chunk; the last token of a chunk predicts
    what the next chunk predicts with more before it."""
    assert said(Chunking(4, stride=2).cut(text(7))) == [
        ([0, 1, 2, 3], 0, 3),
        ([2, 3, 4, 5], 1, 3),
        ([4, 5, 6], 1, 3),
    ]
    assert said(Chunking(4, stride=2, predicts_next=False).cut(text(7))) == [
        ([0, 1, 2, 3], 0, 4),
        ([2, 3, 4, 5], 2, 4),
        ([4, 5, 6], 2, 3),
    ]
    assert said(Chunking(4, stride=1, before=BOS).cut(text(5))) == [
        ([-1, 0, 1, 2], 0, 3),
        ([-1, 1, 2, 3], 2, 3),
        ([-1, 2, 3, 4], 2, 4),
    ]


@given(st.integers(2, 60), st.integers(1, 12), st.integers(1, 12), st.booleans(), st.booleans())
def test_every_token_is_predicted_once_and_none_is_skipped(
    count: int, room: int, stride: int, bos: bool, predicts_next: bool
) -> None:
    assume(stride <= room)
    before = BOS if bos else Tokens()
    chunking = Chunking(room + bos, stride, before=before, predicts_next=predicts_next)
    predicted: list[int] = []
    for number, chunk in enumerate(chunking.cut(text(count))):
        ids = list(chunk.tokens.ids)
        assert len(before) < len(ids) <= chunking.context and ids[len(before)] == number * stride
        for position in range(chunk.start, chunk.stop):
            shown = position + predicts_next
            if shown < len(ids) and ids[shown] >= 0:
                predicted.append(ids[shown])
                seen = position + 1 - len(before) if predicts_next else room
                assert seen >= min(ids[shown], room - stride), "what overlaps is context"
    if predicts_next and not bos:  # nothing is before the first token of all, or of chunks that share nothing
        starts = range(0, count, stride) if stride == room else [0]
        assert predicted == [token for token in range(count) if token not in starts]
    else:
        assert predicted == list(range(count))


def llama_cpp(tokens: list[int], n_ctx: int, bos: int | None) -> list[tuple[list[int], int]]:
    """Each scored prediction of ``llama-perplexity``: what the model was given up to there, and the token to predict.
    ``tokens`` are those of the whole text, with the BOS that its tokenizer puts before it, where it does."""
    found = []
    first = n_ctx // 2
    for i in range(len(tokens) // n_ctx):
        start = i * n_ctx
        batch = tokens[start : start + n_ctx]
        if bos is not None:
            batch[0] = bos
        found += [(batch[: j + 1], tokens[start + j + 1]) for j in range(first, n_ctx - 1)]
    return found


@pytest.mark.parametrize("bos", [None, -1])
@pytest.mark.parametrize("context", [3, 4, 7, 8])
@pytest.mark.parametrize("count", [7, 8, 15, 16, 17, 40])
def test_second_halves_are_those_of_llama_cpp(count: int, context: int, bos: int | None) -> None:
    before = Tokens() if bos is None else BOS
    chunks = Chunking(context, scoring=SECOND_HALF, before=before).cut(text(count))
    ours = [
        (list(chunk.tokens.ids[: position + 1]), chunk.tokens.ids[position + 1])
        for chunk in chunks
        for position in range(chunk.start, chunk.stop)
    ]
    whole = [*([] if bos is None else [bos]), *range(count)]
    assert ours == llama_cpp(whole, context, bos)
    assert all(len(chunk) == context for chunk in chunks)


def test_texts_that_are_too_short_give_no_chunk() -> None:
    assert Chunking(8).cut(text(1)) == [] != Chunking(8).cut(text(2))
    half = Chunking(8, scoring=SECOND_HALF, before=BOS)
    assert half.least == 7 and half.cut(text(6)) == [] and len(half.cut(text(7))) == 1


@pytest.mark.parametrize(
    ("context", "stride", "scoring", "said"),
    [
        (2, None, "all", "no room"),
        (2, None, SECOND_HALF, "no room"),
        (6, 5, "all", r"stride of 5 skips tokens: a chunk has room for 4"),
    ],
)
def test_contexts_and_strides_that_do_not_go(context: int, stride: int | None, scoring: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        Chunking(context, stride, scoring, before=BOS, after=EOS)
    assert caught.value.remedy
