"""The text that a model is measured on where none is given."""

from qfund.checkpoints.catalog import CATALOG, Source
from qfund.inputs import pydoc_text


def evaluation_text(source: Source) -> tuple[str, list[str]]:
    """The text a model is evaluated on unless one is given, and sentences that say what it is.

    A shipped model brings its own: ``evaluation.txt``, or the held-out part of Python's documentation. Any other model
    reads the latter too.
    """
    folder = source.folder if source.kind == "shipped" else None
    if folder and (folder / "evaluation.txt").is_file():
        return (folder / "evaluation.txt").read_text("utf-8"), []
    manifest = pydoc_text.read_manifest(CATALOG["pydoc-llama"].folder / "held_out.json")
    text = pydoc_text.held_out_text(manifest)
    notes = []
    if folder is None:
        notes.append("No evaluation text of this model is known: Python's documentation is read instead.")
    if pydoc_text.digest(text) != manifest.sha256:
        notes.append(
            f"This Python ({pydoc_text.python_version()}) carries slightly other documentation than the one that the "
            f"held-out text was chosen from ({manifest.python}): perplexities differ a little."
        )
    return text, notes
