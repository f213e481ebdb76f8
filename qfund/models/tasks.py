"""What a checkpoint's head does, and so how it is run and compared. Imports transformers."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import transformers
from transformers.models.auto import modeling_auto

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.checkpoints.recognition import key_mapping
from qfund.core.errors import UnsafeCheckpoint, UnsupportedModel
from qfund.models import configs, dummy
from qfund.models.match import bare


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


# In order: an architecture that is in two tables (BART, XLM) has the first one's task.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("sequence-to-sequence model", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM", "text", "tokens"),
        Task("masked language model", "MODEL_FOR_MASKED_LM", "text", "tokens"),
        Task("causal language model", "MODEL_FOR_CAUSAL_LM", "text", "tokens"),
        Task("sequence classifier", "MODEL_FOR_SEQUENCE_CLASSIFICATION", "text", "labels"),
        Task("token classifier", "MODEL_FOR_TOKEN_CLASSIFICATION", "text", "token labels"),
        Task("image classifier", "MODEL_FOR_IMAGE_CLASSIFICATION", "pictures", "labels"),
        Task("vision-to-text model", "MODEL_FOR_IMAGE_TEXT_TO_TEXT", "pictures and text", "tokens"),
        Task("text encoder", "MODEL_FOR_TEXT_ENCODING", "text", "hidden states"),
        Task("image encoder", "MODEL_FOR_IMAGE", "pictures", "hidden states"),
        Task("encoder", "MODEL", "text", "hidden states"),
    )
}

#: transformers' tables of models that write text and read pictures or sound beside it.
_MULTIMODAL = ("MODEL_FOR_IMAGE_TEXT_TO_TEXT", "MODEL_FOR_MULTIMODAL_LM")

# Vision-to-text models whose inputs are just a picture and a caption; others splice picture tokens into the prompt.
_CAPTIONERS = ("BlipForConditionalGeneration", "VisionEncoderDecoderModel")

# Causal language models by name whose outputs still depend on later tokens.
_TWO_WAY = ("XLNetLMHeadModel", "CpmAntForCausalLM", "DiffusionGemmaForBlockDiffusion")

# Models of pictures or sound whose forward raises where there is nothing but text, though its arguments are optional.
_NEVER_TEXT_ALONE = (
    "IdeficsForVisionText2Text",
    "Kosmos2ForConditionalGeneration",
    "VoxtralRealtimeForConditionalGeneration",
)


def _lists(table: str, architecture: str) -> bool:
    names = _names(table).values()
    return any(architecture == name or (not isinstance(name, str) and architecture in name) for name in names)


def _names(table: str) -> Any:
    return getattr(modeling_auto, f"{table}_MAPPING_NAMES")


def task_of(checkpoint: Checkpoint) -> Task:
    """The task of the architecture that the checkpoint names.

    Raises:
        UnsupportedModel: by the architecture's name.
    """
    architecture = stored_architecture(checkpoint)
    if architecture == dummy.DummyModel.__name__:
        return TASKS["causal language model"]
    task = _task_of(architecture)
    if _is_multimodal(checkpoint):
        task = TASKS["causal language model"]
    if task is None and "auto_map" in checkpoint.config and not hasattr(transformers, architecture):
        raise UnsafeCheckpoint(
            f"{architecture} is code that comes with the checkpoint; qfund runs no such code.",
            "Use a model whose architecture is part of transformers.",
        )
    if task is None and not hasattr(transformers, architecture):
        _must_not_be_wrapped(architecture)
    why = "its head is of no kind that qfund runs" if task is None else _why_not(checkpoint, task)
    if task is None or why is not None:
        raise UnsupportedModel(f"{architecture} is not supported: {why}.", f"Supported heads: {', '.join(TASKS)}.")
    return task


def _task_of(architecture: str) -> Task | None:
    return next((task for task in TASKS.values() if _lists(task.table, architecture)), None)


def stored_architecture(checkpoint: Checkpoint) -> str:
    """The architecture that the file holds: the one that config.json names, or its base where the head is not there."""
    if _is_multimodal(checkpoint):
        return checkpoint.architecture
    task = _task_of(checkpoint.architecture)
    decodes = task is not None and task.name in ("causal language model", "sequence-to-sequence model")
    return bare.stored_architecture(checkpoint, lambda: read_config(checkpoint), decodes)


def notes_on_what_is_missing(checkpoint: Checkpoint) -> list[str]:
    """That a head or a pooler is not there, where that is so."""
    named, held, found = checkpoint.architecture, stored_architecture(checkpoint), []
    if held != named:
        found.append(f"config.json names {named}, but the file holds nothing of its head: it is read as {held}.")
    if _has_no_pooler(checkpoint, held):
        found.append("The checkpoint holds no pooler; hidden states need none.")
    return found


def _has_no_pooler(checkpoint: Checkpoint, architecture: str) -> bool:
    """Whether it gives hidden states, and its pooler's weights are not there."""
    task, class_ = _task_of(architecture), getattr(transformers, architecture, None)
    if task is None or task.gives != "hidden states" or class_ is None or checkpoint.quantization is not None:
        return False
    return bare.lacks_pooler(checkpoint, class_, lambda: read_config(checkpoint))


def reads_text_alone(checkpoint: Checkpoint) -> bool:
    """Whether it is a causal language model that could read pictures or sound too, and is run without them."""
    return _is_multimodal(checkpoint) and _why_not(checkpoint, TASKS["causal language model"]) is None


def _is_multimodal(checkpoint: Checkpoint) -> bool:
    """Whether it writes text, and reads pictures or sound beside it."""
    architecture = checkpoint.architecture
    if architecture in _CAPTIONERS or not any(_lists(table, architecture) for table in _MULTIMODAL):
        return False
    return not read_config(checkpoint).is_encoder_decoder


def _why_not(checkpoint: Checkpoint, task: Task) -> str | None:
    """Why a model whose head is of a supported kind is refused all the same."""
    architecture, config = stored_architecture(checkpoint), read_config(checkpoint)
    if task.name == "vision-to-text model" and architecture not in _CAPTIONERS:
        return f"of the vision-to-text models qfund runs {' and '.join(_CAPTIONERS)}"
    if task.name == "encoder" and getattr(config, "vocab_size", None) is None:
        return "it reads neither text nor single pictures"
    argument = "input_ids" if task.reads == "text" else "pixel_values"
    parameters = inspect.signature(model_class(checkpoint).forward).parameters
    if argument not in parameters:
        return f"it does not read {task.reads}"
    if _is_multimodal(checkpoint) and (architecture in _NEVER_TEXT_ALONE or _required(parameters) - {"input_ids"}):
        return "it reads no text without pictures or sound"
    if task.name == "sequence-to-sequence model" and not config.is_encoder_decoder:
        return "it has no encoder and decoder that both read text"
    if task.name == "sequence-to-sequence model" and len(_vocabularies(config)) > 1:
        return "its encoder and decoder have different vocabularies"
    if task.name == "causal language model":
        # Encoders with a language model's head (BERT) see later tokens too, unless they are told to be decoders.
        encoder = config.model_type in _names("MODEL_FOR_MASKED_LM") or config.model_type == "bert-generation"
        both_ways = getattr(config.get_text_config(), "use_bidirectional_attention", None) in (True, "all")
        if architecture in _TWO_WAY or both_ways or (encoder and not config.is_decoder):
            return "its outputs depend on later tokens too, so it would be asked to predict what it has seen"
    return None


def _required(parameters: Mapping[str, inspect.Parameter]) -> set[str]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name
        for name, one in parameters.items()
        if name != "self" and one.default is inspect.Parameter.empty and one.kind not in kinds
    }


def _vocabularies(config: Any) -> set[int]:
    """The sizes of all vocabularies of an encoder and decoder."""
    owners = (config, getattr(config, "encoder", None), getattr(config, "decoder", None))
    names = ("vocab_size", "decoder_vocab_size", "src_vocab_size", "tgt_vocab_size")
    sizes = {getattr(owner, name, None) for owner in owners for name in names}
    return {size for size in sizes if isinstance(size, int)}


def _must_not_be_wrapped(architecture: str) -> None:
    if inner := configs.wrapped(architecture):
        raise UnsupportedModel(
            f"{architecture[:100]} is no class of transformers; it is {inner} as something wrapped it for training.",
            f'Write "architectures": ["{inner}"] into config.json, or save the model itself.',
        )
    if configs.WRAPPER.fullmatch(architecture):
        raise UnsupportedModel(
            f"{architecture[:100]} is what wraps a model, and no class of transformers; config.json has to name the "
            "model's own.",
            'Write that into its "architectures" (such as LlamaForCausalLM), or save the model itself.',
        )


def model_class(checkpoint: Checkpoint) -> Any:
    """The class of what the file holds: transformers' own, less a pooler that is not there, or the lesson's."""
    if checkpoint.architecture == dummy.DummyModel.__name__:
        return dummy.DummyModel
    architecture = stored_architecture(checkpoint)
    try:
        found = getattr(transformers, architecture)
        found.forward  # noqa: B018 - what stands in for a class whose libraries are missing raises here
        return bare.without_pooler(found) if _has_no_pooler(checkpoint, architecture) else found
    except (AttributeError, ImportError) as error:
        _must_not_be_wrapped(checkpoint.architecture)
        raise UnsupportedModel(
            f"{checkpoint.architecture} cannot be opened by transformers {transformers.__version__}: {error}.",
            "Install what it needs, or choose another model.",
        ) from error


def named(checkpoint: Checkpoint) -> dict[str, Any]:
    """What ``from_pretrained`` has to be told where the names in the files are not the model's."""
    return {"key_mapping": key_mapping()} if checkpoint.wrapper else {}


def read_config(checkpoint: Checkpoint) -> Any:
    """transformers' configuration object of the checkpoint.

    Raises:
        UnsupportedModel: transformers does not know the model type, or rejects a value; a size is negative.
    """
    configs.must_make_sense(checkpoint.config)
    try:
        return configs.read(checkpoint.folder, checkpoint.config)
    except Exception as error:  # transformers raises whatever its config classes raise
        raise UnsupportedModel(
            f"transformers {transformers.__version__} cannot read this config.json: {error}",
            "Check the file, or choose another model.",
        ) from error
