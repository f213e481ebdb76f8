"""A checkpoint's own chat template, rendered in the sandbox that transformers uses, within ``template_limits``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qfund.checkpoints import checkpoint
from qfund.core.errors import InvalidInput, UnsupportedModel
from qfund.inputs.conversations import ANSWERS, Message
from qfund.models.inputs.template_limits import TooLong, limited
from qfund.models.inputs.tokenizer import Reader, vocabulary_size

SECONDS = 10.0  # templates take milliseconds
_LONGEST = 4_000_000  # characters of a rendered conversation
_INSTEAD = "Choose an instruct model, or leave the chat template out."


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
    """The text of a conversation; ``answer``: with what comes before one that is still to be written.

    A template of a multimodal model may take messages in parts alone, and drop without a word what is a string: where
    nothing of a conversation is in its text, it is given in parts.
    """
    if (template := _template(tokenizer)) is None:
        raise UnsupportedModel("The checkpoint's tokenizer has no chat template.", _INSTEAD)

    def render(given: Sequence[Any]) -> Any:
        return tokenizer.apply_chat_template(
            list(given), chat_template=template, tokenize=False, add_generation_prompt=answer
        )

    try:
        with limited(SECONDS):
            found = render(messages)
            if isinstance(found, str) and not any(message["content"].strip() in found for message in messages):
                parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in messages]
                found = render(parts)
    except TooLong:
        raise UnsupportedModel(
            f"The checkpoint's chat template did not end within {SECONDS:g} seconds on {which[0].lower()}{which[1:]}.",
            _INSTEAD,
        ) from None
    except Exception as error:  # templates raise what they like, and Jinja its own kinds
        said = f"{type(error).__name__}: {str(error)[:300]}".removesuffix(": ")
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


def _template(tokenizer: Any) -> str | None:
    """The tokenizer's, of several the default; or the processor's of a multimodal model, which older ones keep in a
    file of their own."""
    found = getattr(tokenizer, "chat_template", None)
    path = Path(tokenizer.name_or_path) / "chat_template.json"
    if not found and path.is_file():
        found = checkpoint.read_json(path).get("chat_template")
    if isinstance(found, dict) and "default" not in found:
        raise UnsupportedModel(
            f"The checkpoint's tokenizer has chat templates for {', '.join(found)}, and none by default.", _INSTEAD
        )
    found = found["default"] if isinstance(found, dict) else found
    return found if isinstance(found, str) and found else None
