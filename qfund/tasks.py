"""What a checkpoint's head does, and so how it is run and compared. Imports transformers."""

from dataclasses import dataclass
from typing import Any

import transformers
from transformers.models.auto import modeling_auto

from qfund import lesson
from qfund.checkpoint import Checkpoint
from qfund.errors import UnsafeCheckpoint, UnsupportedModel


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of head.

    Attributes:
        name: for people.
        table: transformers' mapping (``modeling_auto``) that lists the architectures of this task.
        reads: ``"text"``, ``"pictures"`` or ``"pictures and text"``.
        gives: ``"tokens"`` (logits at every position), ``"labels"`` (logits per example), ``"token labels"`` or
            ``"hidden states"``.
    """

    name: str
    table: str
    reads: str
    gives: str


# In order: an architecture that is in two tables (BART) has the first one's task.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("causal language model", "MODEL_FOR_CAUSAL_LM", "text", "tokens"),
        Task("sequence-to-sequence model", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM", "text", "tokens"),
        Task("masked language model", "MODEL_FOR_MASKED_LM", "text", "tokens"),
        Task("sequence classifier", "MODEL_FOR_SEQUENCE_CLASSIFICATION", "text", "labels"),
        Task("token classifier", "MODEL_FOR_TOKEN_CLASSIFICATION", "text", "token labels"),
        Task("image classifier", "MODEL_FOR_IMAGE_CLASSIFICATION", "pictures", "labels"),
        Task("vision-to-text model", "MODEL_FOR_IMAGE_TEXT_TO_TEXT", "pictures and text", "tokens"),
        Task("text encoder", "MODEL_FOR_TEXT_ENCODING", "text", "hidden states"),
        Task("image encoder", "MODEL_FOR_IMAGE", "pictures", "hidden states"),
        Task("encoder", "MODEL", "text", "hidden states"),
    )
}

# Vision-to-text models whose inputs are just a picture and a caption; others splice picture tokens into the prompt.
_CAPTIONERS = ("BlipForConditionalGeneration", "VisionEncoderDecoderModel")


def _lists(table: str, architecture: str) -> bool:
    names = getattr(modeling_auto, f"{table}_MAPPING_NAMES").values()
    return any(architecture == name or (not isinstance(name, str) and architecture in name) for name in names)


def task_of(checkpoint: Checkpoint) -> Task:
    """The task of the architecture that the checkpoint names.

    Raises:
        UnsupportedModel: by the architecture's name.
    """
    architecture = checkpoint.architecture
    if architecture == lesson.DummyModel.__name__:
        return TASKS["causal language model"]
    task = next((task for task in TASKS.values() if _lists(task.table, architecture)), None)
    supported = f"Supported heads: {', '.join(TASKS)}."
    if task is None:
        if "auto_map" in checkpoint.config and not hasattr(transformers, architecture):
            raise UnsafeCheckpoint(
                f"{architecture} is code that comes with the checkpoint; qfund runs no such code.",
                "Use a model whose architecture is part of transformers.",
            )
        raise UnsupportedModel(f"{architecture} is not supported: its head is of no kind that qfund runs.", supported)
    if task.name == "vision-to-text model" and architecture not in _CAPTIONERS:
        raise UnsupportedModel(
            f"{architecture} is not supported: of the vision-to-text models qfund runs {' and '.join(_CAPTIONERS)}.",
            supported,
        )
    if task.name == "encoder" and "vocab_size" not in checkpoint.config:
        raise UnsupportedModel(
            f"{architecture} is not supported: it reads neither text nor single pictures.", supported
        )
    return task


def model_class(checkpoint: Checkpoint) -> Any:
    """The class that the checkpoint's architecture names: transformers' own, or the lesson's."""
    if checkpoint.architecture == lesson.DummyModel.__name__:
        return lesson.DummyModel
    try:
        return getattr(transformers, checkpoint.architecture)
    except (AttributeError, ImportError) as error:
        raise UnsupportedModel(
            f"{checkpoint.architecture} cannot be opened by transformers {transformers.__version__}: {error}.",
            "Install what it needs, or choose another model.",
        ) from error


def read_config(checkpoint: Checkpoint) -> Any:
    """transformers' configuration object of the checkpoint.

    Raises:
        UnsupportedModel: transformers does not know the model type, or rejects a value.
    """
    try:
        return transformers.AutoConfig.from_pretrained(
            checkpoint.folder, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # transformers raises whatever its config classes raise
        raise UnsupportedModel(
            f"transformers {transformers.__version__} cannot read this config.json: {error}",
            "Check the file, or choose another model.",
        ) from error
