"""The nine questions of the lesson, in its order: the ONE table of titles, answers, code, predictions and evidence.

No torch. The evidence is drawn by what ``evidence`` names, from measurements of the model that is looked at.
"""

import json
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from qfund.checkpoints import catalog
from qfund.core.errors import QfundError
from qfund.features.compare.request import examples
from qfund.features.compare.request.spec import Spec
from qfund.features.lesson.request.notebook import NotebookRequest
from qfund.features.memory.request.load_peak import LoadPeakRequest
from qfund.features.memory.request.plan import PlanRequest

#: Of the plan: what the footprints of the page are about.
PLANNED = ("fp32", "bf16", "int8", "int4")
#: Candidates of the timing in turns.
TIMED = ("bf16", "int8", "int8_dynamic")
#: Tokens of a forward that is timed: a text at once, and as few as a comparison can take, about a step of generating.
MANY, FEW = 512, 2


@dataclass(frozen=True, slots=True)
class Asked:
    """The choices of the page, and what they ask qfund for.

    Attributes:
        question: name of ``QUESTIONS``, or ``THEN_AND_NOW``.
        guesses: name of a prediction → the option that was chosen, from 0.
    """

    model: str = examples.EXAMPLE.model
    revision: str | None = None
    question: str = "dtypes"
    guesses: tuple[tuple[str, int], ...] = ()

    @property
    def comparison(self) -> Spec:
        """The one that the page Compare begins with, so that it may be there already."""
        return Spec(self.model, revision=self.revision)

    def timing(self, tokens: int) -> Spec:
        return Spec(self.model, precisions=TIMED, max_tokens=tokens, revision=self.revision, libraries=True)

    @property
    def plan(self) -> PlanRequest:
        return PlanRequest(self.model, PLANNED, revision=self.revision)

    @property
    def load_peaks(self) -> LoadPeakRequest:
        """As the page Memory asks for it."""
        return LoadPeakRequest(self.model, ("bf16",), revision=self.revision)

    @property
    def lesson(self) -> NotebookRequest:
        return NotebookRequest(self.model, self.revision)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A number to be guessed before it is seen.

    Attributes:
        options: what can be guessed; ``qfund.features.lesson.words.TRUTHS`` says which one was measured.
        course: id of the course's own figure, told beside what was measured here.
    """

    name: str
    question: str
    options: tuple[str, ...]
    course: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        short: for the navigation.
        answer: in a few sentences, true of every model.
        evidence: lazy ``"module:function"`` that draws what was measured of the model in ``Asked``.
        predictions: asked before the evidence is shown.

    ``snippet`` is a file of ``qfund.features.lesson.snippets``.
    """

    name: str
    short: str
    title: str
    answer: str
    snippet: str
    evidence: str
    predictions: tuple[Prediction, ...] = ()


_NOTEBOOK, _MEASURES = "qfund.features.lesson.view.notebook:", "qfund.features.lesson.view.measurements:"

QUESTIONS: dict[str, Question] = {
    question.name: question
    for question in (
        Question(
            "dtypes",
            "Dtypes",
            "What does printing the parameters' dtypes show?",
            "In which format each weight is held, tensor by tensor: the quickest way to notice that a model was loaded "
            "in another format than you thought. It does not show buffers, nor what a multiplication runs in; and of a "
            "quantised weight it repeats what the weight *claims* to be, not what is stored.",
            "dtypes",
            f"{_NOTEBOOK}dtypes",
        ),
        Question(
            "cast",
            "Cast",
            "What does casting to BF16 do?",
            "It rounds every float, buffers included, to the nearest number with eight significant bits: at most one "
            "part in 256 off. BF16 reaches as far as FP32, so hardly anything overflows. Integers stay as they are. "
            "What was rounded away is gone: a cast back brings back the format and not the values.",
            "cast",
            f"{_NOTEBOOK}cast",
            (
                Prediction(
                    "rounded",
                    "How many of this model's weights does the cast change?",
                    ("hardly any", "about half", "most", "nearly all"),
                ),
            ),
        ),
        Question(
            "inference",
            "Inference",
            "Does the model still run?",
            "With the same call and the same input. Token ids stay integers; inputs that are floats, such as pictures, "
            "must be cast along. Activations and logits then come in the model's dtype, so BF16 logits carry two to "
            "three decimal digits. FP16 runs on a CPU too today; in the lesson it failed.",
            "inference",
            f"{_NOTEBOOK}inference",
        ),
        Question(
            "deepcopy",
            "Deepcopy",
            "Why deepcopy?",
            "A model's `.to()` changes the very model it is called on and returns it, unlike a tensor's `.to()`, which "
            "makes a new tensor. An assignment makes no copy either, only a second name. To look at both precisions "
            "side by side, copy first: a deep copy has memory of its own, and weights tied in the model are tied in "
            "the copy. It costs the memory of a second model.",
            "deepcopy",
            f"{_NOTEBOOK}deepcopy",
        ),
        Question(
            "outputs",
            "Outputs",
            "How do BF16 and FP32 outputs compare, and does the loss matter?",
            "Each output moves a little. Whether that matters, a mean difference cannot say: what counts is whether "
            "decisions change. So look at how often the likeliest token stays the same, at how far the whole "
            "distribution moved (KL), and at what the model thinks of a real text (perplexity), each with its error. "
            "A flip between two tokens that were nearly tied is no damage.",
            "outputs",
            f"{_MEASURES}outputs",
        ),
        Question(
            "footprint",
            "Footprint",
            "How much memory does the model take?",
            "`get_memory_footprint()` adds the bytes of all parameters and buffers. Sixteen bits are half of 32, but "
            "only what is cast becomes half: integer buffers, and what transformers keeps in FP32, stay as large as "
            "they were. Activations and the peak of loading are not in this number.",
            "footprint",
            f"{_MEASURES}footprint",
            (
                Prediction(
                    "ratio",
                    "The footprint in BF16 ÷ the footprint in FP32, for this model?",
                    ("a little below 0.5", "exactly 0.5", "a little above 0.5", "above 0.6"),
                    "blip_ratio",
                ),
            ),
        ),
        Question(
            "loading",
            "Loading",
            "Why load in low precision rather than cast afterwards?",
            "Because the peak decides whether it fits. To cast, the whole FP32 model has to be there first; loaded "
            "straight in BF16 it never is. The notebook's copy needs both at once. The weights are the same in the "
            "end; buffers may not be: transformers keeps some in FP32 that a cast rounds too.",
            "loading",
            f"{_MEASURES}loading",
            (
                Prediction(
                    "peak",
                    "At its peak, the notebook's way (load in FP32, deepcopy, cast the copy) needs how many times the "
                    "FP32 weights?",
                    ("1 ×", "1.5 ×", "2 ×", "3 ×"),
                ),
            ),
        ),
        Question(
            "linear",
            "Linear quantisation",
            "How does linear quantisation differ from a smaller float?",
            "A float keeps a few significant digits of every number, so its error is in proportion to the number. "
            "Linear quantisation keeps whole numbers and one scale for many weights, q = round(w ÷ s) + z: all steps "
            "are equally wide, whatever the weight, and the largest weight of a row sets the step for all of them. "
            "Small weights pay for it, and an outlier makes everyone pay.",
            "linear",
            f"{_NOTEBOOK}linear",
        ),
        Question(
            "savings",
            "Smaller, faster?",
            "Why does quantising save memory, and is it faster?",
            "A quantised weight takes one byte in place of four, and each row a scale. Only what is quantised shrinks: "
            "embeddings, norms and mostly the head stay, so a model with a large vocabulary shrinks by far less than "
            "4 ×. Time is another matter: weight-only formats are turned into floats again before each "
            "multiplication, which is extra work unless a kernel hides it. Measure it where it shall run.",
            "savings",
            f"{_MEASURES}savings",
            (
                Prediction(
                    "times",
                    "INT8 weights: how many times smaller does this whole model become?",
                    ("less than 2 ×", "2 to 3 ×", "3 to 3.9 ×", "4 ×"),
                    "flan_times",
                ),
                Prediction(
                    "speed",
                    "One forward with INT8 weights on this machine, beside FP32?",
                    ("faster", "about as fast", "slower"),
                ),
            ),
        ),
    )
}

THEN_AND_NOW = "then-and-now"
PREDICTIONS: dict[str, Prediction] = {
    prediction.name: prediction for question in QUESTIONS.values() for prediction in question.predictions
}

_TOY, _TOY_CLASS = "models/dummy", "DummyModel"


def source(name: str) -> str:
    """A snippet as it is written, for the lesson's toy model."""
    return (resources.files("qfund.features.lesson.snippets") / f"{name}.py").read_text("utf-8")


def snippet(name: str, asked: Asked, architecture: str) -> str:
    """A snippet for the model that is looked at; ``architecture`` is the class that its config names.

    Neither a name nor a class that a stranger chose becomes code: a path is quoted, and a class must be a plain name,
    or transformers' ``AutoModel`` stands in for it.
    """
    code = source(name)
    if architecture != _TOY_CLASS:
        found = architecture if re.fullmatch(r"[A-Za-z]\w*", architecture, re.ASCII) else "AutoModel"
        code = code.replace(f"from qfund.models.dummy import {_TOY_CLASS}", f"from transformers import {found}")
        code = code.replace(_TOY_CLASS, found)
    quoted = json.dumps(_place(asked))
    if asked.revision:
        quoted += f", revision={json.dumps(asked.revision)}"
    return code.replace(f'"{_TOY}"', quoted)


def _place(asked: Asked) -> str:
    """What ``from_pretrained`` takes: a shipped model's folder as seen from the project's, else what was named."""
    if asked.model in catalog.CATALOG:
        return f"models/{asked.model}"
    try:
        folder: Path | None = catalog.locate(asked.model, asked.revision).folder
    except QfundError:
        return asked.model
    return str(folder) if folder else asked.model
