"""Conversations: lists of messages, each with a role and what it says, as chat templates take them. No torch."""

import json
from collections.abc import Sequence

from qfund.core.errors import InvalidInput

#: ``{"role": "user", "content": "…"}``
Message = dict[str, str]
ANSWERS = "assistant"
MAX_MESSAGES = 1000
_SHAPE = 'Give a list of conversations, each a list of {"role": "user" or "assistant" or "system", "content": "…"}.'


def of_file(text: str) -> tuple[tuple[Message, ...], ...]:
    """The conversations of a JSON document: a list of lists of messages, or one list of messages.

    Raises:
        InvalidInput: it is none.
    """
    found = _parsed(text)
    if isinstance(found, list) and found and all(isinstance(part, dict) for part in found):
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
        raise InvalidInput(f"The conversations are no JSON: {str(error)[:200]}.", _SHAPE) from error


def _checked(part: object, which: str) -> tuple[Message, ...]:
    if not isinstance(part, list) or not 0 < len(part) <= MAX_MESSAGES:
        raise InvalidInput(f"{which} is no list of 1 to {MAX_MESSAGES:,} messages.", _SHAPE)
    for number, message in enumerate(part, 1):
        told = isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
        if not told:
            raise InvalidInput(f"Message {number} of {which[0].lower()}{which[1:]} has no role and content.", _SHAPE)
    return tuple({"role": message["role"], "content": message["content"]} for message in part)
