"""What a request measures on, as batches."""

from dataclasses import replace

from qfund.checkpoints import catalog
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import InvalidInput
from qfund.inputs.texts import ALL, CHAT, WRITTEN, InputRequest
from qfund.models.inputs.answers import Write, prepare_answers
from qfund.models.inputs.batch import Prepared
from qfund.models.inputs.pictures import prepare_pictures
from qfund.models.inputs.texts import prepare_texts
from qfund.models.tasks import Task, notes_on_what_is_missing, read_config


def prepare(
    request: InputRequest, source: catalog.Source, checkpoint: Checkpoint, task: Task, write: Write | None = None
) -> Prepared:
    """Batches of the input that ``request`` asks for. ``write`` is the reference, where it writes some of that.

    Raises:
        InvalidInput: an empty text, too few tokens, a context longer than the model's, a stride or a choice of
            positions that does not fit, text for a model that reads none.
        UnsupportedModel: a text model whose folder has no tokenizer, or another model's.
        CorruptCheckpoint: a vocabulary that is not the one in config.json.
    """
    found = _prepare(request, source, checkpoint, task, write)
    notes = (*found.facts.notes, *notes_on_what_is_missing(checkpoint))
    return replace(found, facts=replace(found.facts, notes=notes))


def _prepare(
    request: InputRequest, source: catalog.Source, checkpoint: Checkpoint, task: Task, write: Write | None
) -> Prepared:
    config = read_config(checkpoint)
    if task.reads == "text" and request.scoring in CHAT:
        return prepare_answers(request, checkpoint, task, config, write if request.scoring == WRITTEN else None)
    if task.reads == "text":
        return prepare_texts(request, source, checkpoint, task, config)
    if (request.text is not None or request.texts) and task.reads == "pictures":
        raise InvalidInput(f"A model for pictures ({task.name}) reads no text.", "Leave the text out.")
    if request.texts:
        raise InvalidInput(f"A {task.name} is scored with one text for every picture.", "Give one text, or none.")
    if request.stride is not None or request.scoring != ALL:
        raise InvalidInput(
            f"A {task.name} reads no chunks of a text.", "Leave out the stride, and score all positions."
        )
    return prepare_pictures(request, source, checkpoint, task, config)
