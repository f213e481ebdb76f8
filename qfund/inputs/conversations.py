"""Conversations: lists of messages, each with a role and what it says, as chat templates take them. No torch."""

import json
from collections.abc import Sequence
from contextlib import suppress

from qfund.core.errors import InvalidInput
from qfund.core.text import lines

#: ``{"role": "user", "content": "…"}``
Message = dict[str, str]
ANSWERS = "assistant"
MAX_MESSAGES = 1000
_SHAPE = 'Give a list of conversations, each a list of {"role": "user" or "assistant" or "system", "content": "…"}.'
_TEXTS = "text"  # the type of those parts of a message that are not pictures


def of_file(text: str) -> tuple[tuple[Message, ...], ...]:
    """The conversations of a JSON document: a list of lists of messages, or one list of messages; or of JSON lines, one
    a line. A conversation may be an object that holds its list as ``messages``, as data sets for training have it.

    Raises:
        InvalidInput: it is none.
    """
    found = _parsed(text)
    if isinstance(found, dict):
        found = [found]
    if isinstance(found, list) and found and all(isinstance(part, dict) and "role" in part for part in found):
        found = [found]
    if not isinstance(found, list) or not found:
        raise InvalidInput("The file holds no conversation.", _SHAPE)
    return tuple(_checked(part, f"Conversation {number}") for number, part in enumerate(found, 1))


def of_prompt(text: str, which: str) -> tuple[Message, ...]:
    """A prompt as a conversation that waits for an answer: a user's message, or as ``written`` wrote one."""
    if text.lstrip().startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list) and found and all(isinstance(part, dict) and "role" in part for part in found):
            return asking(_checked(found, which), which)
    return ({"role": "user", "content": text},)


def asking(messages: tuple[Message, ...], which: str) -> tuple[Message, ...]:
    """A conversation up to what waits for an answer: without the one that it may end in.

    Raises:
        InvalidInput: it holds answers alone.
    """
    while messages and messages[-1]["role"] == ANSWERS:
        messages = messages[:-1]
    if not messages:
        raise InvalidInput(f"{which} asks nothing: it holds answers alone.", _SHAPE)
    return messages


def written(messages: Sequence[Message]) -> str:
    """A conversation as a prompt; ``of_prompt`` reads it."""
    return json.dumps(list(messages), ensure_ascii=False)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        each = [line for line in lines(text) if line.strip()]
        with suppress(ValueError, RecursionError):
            if len(each) > 1:
                return [json.loads(line) for line in each]
        raise InvalidInput(f"The conversations are no JSON: {str(error)[:200]}.", _SHAPE) from error


def _checked(part: object, which: str) -> tuple[Message, ...]:
    if isinstance(part, dict):
        part = part.get("messages")
    if not isinstance(part, list) or not 0 < len(part) <= MAX_MESSAGES:
        raise InvalidInput(f"{which} is no list of 1 to {MAX_MESSAGES:,} messages.", _SHAPE)
    found = []
    for number, message in enumerate(part, 1):
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if isinstance(content, list):
            content = _joined(content)
        if not isinstance(role, str) or not isinstance(content, str):
            raise InvalidInput(
                f"Message {number} of {which[0].lower()}{which[1:]} has no role and content that is text.", _SHAPE
            )
        found.append({"role": role, "content": content})
    return tuple(found)


def _joined(parts: list[object]) -> str | None:
    """The text of a message that is given in parts, as multimodal models take it; None where one is no text."""
    texts = [part.get(_TEXTS) for part in parts if isinstance(part, dict) and part.get("type") == _TEXTS]
    return "".join(map(str, texts)) if texts and len(texts) == len(parts) else None
