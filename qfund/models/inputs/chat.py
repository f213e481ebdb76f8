"""A checkpoint's own chat template, rendered in the sandbox that transformers uses, within a time limit."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from qfund.core.errors import InvalidInput, UnsupportedModel
from qfund.inputs.conversations import ANSWERS, Message
from qfund.models.inputs.tokenizer import Reader, vocabulary_size

SECONDS = 10.0  # templates take milliseconds
_LONGEST = 4_000_000  # characters of a rendered conversation
_INSTEAD = "Choose an instruct model, or leave the chat template out."


class _TooLong(BaseException):
    """Beyond what a template could catch."""


def prompt_ids(reader: Reader, messages: Sequence[Message], which: str) -> list[int]:
    """Tokens of a conversation, up to where the model's answer begins.

    Raises:
        UnsupportedModel: no template, or one that cannot be rendered.
        InvalidInput: a conversation that the template refuses.
    """
    found = rendered(reader.tokenizer, messages, which, True)
    ids: list[int] = reader.tokenizer(found, add_special_tokens=False)["input_ids"]
    if not ids:
        raise InvalidInput(f"The chat template makes no token of {which[0].lower()}{which[1:]}.", _INSTEAD)
    vocabulary_size(reader.tokenizer, reader.config, ids)
    return ids


def rendered(tokenizer: Any, messages: Sequence[Message], which: str, answer: bool) -> str:
    """The text of a conversation; ``answer``: with what comes before one that is still to be written."""
    if not getattr(tokenizer, "chat_template", None):
        raise UnsupportedModel("The checkpoint's tokenizer has no chat template.", _INSTEAD)
    try:
        with _limited(SECONDS):
            found = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=answer)
    except _TooLong:
        raise UnsupportedModel(
            f"The checkpoint's chat template did not end within {SECONDS:g} seconds on {which[0].lower()}{which[1:]}.",
            _INSTEAD,
        ) from None
    except Exception as error:  # templates raise what they like, and Jinja its own kinds
        said = f"{type(error).__name__}: {str(error)[:300]}"
        raise InvalidInput(
            f"The checkpoint's chat template refuses {which[0].lower()}{which[1:]} ({said}).",
            f"Change its messages (roles must often alternate, and some templates take no system message). {_INSTEAD}",
        ) from error
    if not isinstance(found, str) or len(found) > _LONGEST:
        raise UnsupportedModel("The checkpoint's chat template makes no text of usable length.", _INSTEAD)
    return found


def answers(tokenizer: Any, messages: Sequence[Message], which: str) -> tuple[str, list[tuple[int, int]]]:
    """The text of a conversation, and where in it [from, to) the answers stand, with what ends them.

    An answer is what the template adds, after what comes before one, when it is told the answer too.

    Raises:
        InvalidInput: no answer, or one whose place cannot be told since the template changes what came before it.
    """
    places = [number for number, message in enumerate(messages) if message["role"] == ANSWERS]
    if not places:
        raise InvalidInput(f"{which} holds no answer to score.", 'Give it a message of the role "assistant".')
    whole, found = rendered(tokenizer, messages, which, False), []
    for place in places:
        before = rendered(tokenizer, messages[:place], which, True) if place else ""
        upto = whole if place == len(messages) - 1 else rendered(tokenizer, messages[: place + 1], which, False)
        if not (whole.startswith(upto) and upto.startswith(before)):
            # Templates that leave thoughts out of earlier answers, or close the text: the last answer can be told.
            continue
        found.append((len(before), len(upto)))
    if not found:
        raise InvalidInput(
            f"The chat template writes {which[0].lower()}{which[1:]} so that its answers cannot be told from the rest.",
            "Leave the chat template out, or give conversations of one question and one answer.",
        )
    return whole, found


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise ``_TooLong`` in Python code of this thread that runs for longer."""
    end, before = time.monotonic() + seconds, sys.gettrace()

    def watch(*_: Any) -> Any:
        if time.monotonic() > end:
            raise _TooLong
        return watch

    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)
