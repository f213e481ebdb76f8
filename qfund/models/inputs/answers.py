"""Conversations as an input: the checkpoint's own chat template writes them, and only answers are scored."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import InvalidInput
from qfund.inputs import conversations
from qfund.inputs.chunks import Chunk, Tokens
from qfund.inputs.conversations import Message
from qfund.inputs.facts import InputFacts
from qfund.inputs.texts import InputRequest, NamedText
from qfund.models.inputs import chat
from qfund.models.inputs.batch import Prepared
from qfund.models.inputs.notes import plural
from qfund.models.inputs.opening import open_tokenizer
from qfund.models.inputs.texts import batches_of, digest
from qfund.models.inputs.tokenizer import encode, longest_context, vocabulary_size
from qfund.models.tasks import Task

#: Given the tokens of a conversation and how many more at most, those of the reference's answer.
Write = Callable[[Sequence[int], int], list[int]]
MAX_WRITTEN = 256  # tokens of an answer that the reference writes
_LONGEST = 4096  # tokens of a conversation, where neither the request nor the model says less


def prepare_answers(
    request: InputRequest, checkpoint: Checkpoint, task: Task, config: Any, write: Write | None = None
) -> Prepared:
    """As ``prepare``: a chunk for each answer, with all of the conversation that comes before it. With ``write`` it is
    the answer to what each conversation asks last; those that it holds before are read, and not scored.

    Raises:
        InvalidInput: no conversation, one without an answer or that the template refuses, or a model of another kind.
        UnsupportedModel: no chat template, or one that does not end.
    """
    if task.name != "causal language model":
        raise InvalidInput(f"Only a causal language model answers in conversations; this is a {task.name}.", "")
    texts = request.texts or ((NamedText("", request.text),) if request.text is not None else ())
    if not texts:
        raise InvalidInput("No conversation is given.", "Give a JSON file of lists of messages: --text-file.")
    tokenizer = open_tokenizer(checkpoint)
    limits = [limit for limit in (request.context, longest_context(config, tokenizer)) if limit]
    context = min(limits, default=_LONGEST)
    chunks: list[Chunk] = []
    used: set[int] = set()
    cut, number = 0, 0
    for text in texts:
        for messages in conversations.of_file(text.text):
            number += 1
            room = request.max_tokens - sum(map(len, chunks))
            which = f"Conversation {number}"
            if write is None:
                found = _chunks(tokenizer, messages, which)
            else:
                found = _written(tokenizer, messages, which, min(context, room), write)
            cut += sum(len(chunk) > context for chunk in found)
            kept = [chunk for chunk in (_last(chunk, context) for chunk in found) if chunk.start < chunk.stop]
            for chunk in kept:
                if len(chunk) <= room:
                    chunks.append(chunk)
                    used.add(number)
                    room -= len(chunk)
    if not chunks:
        raise InvalidInput("No answer has a token to score.", "Give longer conversations, or more tokens.")
    vocabulary = vocabulary_size(tokenizer, config, [token for chunk in chunks for token in chunk.tokens.ids])
    scored = sum(chunk.stop - chunk.start for chunk in chunks)
    sentences = [
        f"{plural(len(chunks), 'answer')} of {plural(len(used), 'conversation')}, as the checkpoint's own chat "
        f"template writes them; {plural(scored, 'token')} of answers are scored, each after all that comes before it."
    ]
    if write is not None:
        sentences.append(
            f"The reference wrote the answers first, greedily, at most {MAX_WRITTEN} tokens each: what is scored is "
            "how likely every candidate finds the very tokens that the reference chose."
        )
        left = number - len(used)
        sentences += [f"{plural(left, 'conversation')} left no room for an answer."] if left else []
    sentences += [f"Of {plural(cut, 'answer')}, the last {context:,} tokens were read."] if cut else []
    return Prepared(
        batches=tuple(batches_of(chunks, vocabulary, task, checkpoint, config, tokenizer)),
        facts=InputFacts(
            source="conversations",
            sha256=digest(texts),
            tokens=sum(map(len, chunks)),
            chunks=len(chunks),
            context=max(map(len, chunks)),
            notes=tuple(sentences),
        ),
        pieces=tuple(piece for chunk in chunks for piece in chunk.tokens.pieces),
        chunk_starts=tuple(accumulate((len(chunk) for chunk in chunks[:-1]), initial=0)),
        predicts_next=True,
        tokenizer=tokenizer,
        texts_of_chunks=(0,) * len(chunks),  # every token of an answer counts the same, in whichever conversation
    )


def _chunks(tokenizer: Any, messages: tuple[Message, ...], which: str) -> list[Chunk]:
    """Each answer behind what comes before it; the positions that predict its tokens are compared."""
    text, places = chat.answers(tokenizer, messages, which)
    tokens = encode(tokenizer, text)
    ends = [*accumulate(len(piece) for piece in tokens.pieces)]  # where in the text each token ends
    if not ends or ends[-1] != len(text):
        raise InvalidInput(f"The tokens of {which[0].lower()}{which[1:]} cannot be told from each other's text.", "")
    found = []
    for begin, end in places:
        first = max(1, bisect_left(ends, begin + 1))
        last = bisect_left(ends, end) + 1
        found.append(Chunk(tokens[:last], first - 1, last - 1))
    return found


def _written(tokenizer: Any, messages: tuple[Message, ...], which: str, room: int, write: Write) -> list[Chunk]:
    """What is asked last, with the reference's own answer of the tokens that it chose; nothing without room for one."""
    asked = conversations.asking(messages, which)
    prompt = encode(tokenizer, chat.rendered(tokenizer, asked, which, True))
    limit = min(MAX_WRITTEN, room - len(prompt))
    if not len(prompt) or limit < 1 or not (ids := write(prompt.ids, limit)):
        return []
    texts = ["", *(tokenizer.decode(ids[:count]) for count in range(1, len(ids) + 1))]
    pieces = [text.removeprefix(before) for before, text in pairwise(texts)]
    tokens = prompt + Tokens(ids, pieces)
    return [Chunk(tokens, len(prompt) - 1, len(tokens) - 1)]


def _last(chunk: Chunk, context: int) -> Chunk:
    """Its last tokens, where it is longer."""
    cut = max(0, len(chunk) - context)
    tokens = Tokens(chunk.tokens.ids[cut:], chunk.tokens.pieces[cut:])
    return Chunk(tokens, max(0, chunk.start - cut), chunk.stop - cut)
