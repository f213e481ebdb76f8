"""GGUF files as llama.cpp runs them here, through llama-cpp-python's bindings to its own interface."""

import ctypes
import importlib
import importlib.util
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from qfund.checkpoints.wild.quantized_file import QuantizedFile
from qfund.core.errors import UnsupportedModel

#: What is missing, and what to do about it.
MISSING = (
    "llama-cpp-python is not installed.",
    "Install it with: pip install llama-cpp-python (or qfund[llama])",
)
INSTALL = " ".join(MISSING)


def installed() -> bool:
    return importlib.util.find_spec("llama_cpp") is not None


class GgufWriter:
    """Reads and writes as ``ModelWriter`` does: the same number of tokens, greedily, on as many threads.

    Keys and values are cached in fp16, which is llama.cpp's default.

    Raises:
        UnsupportedModel: llama.cpp does not open the file.
    """

    def __init__(self, path: Path, file: QuantizedFile, threads: int) -> None:
        self._library: Any = importlib.import_module("llama_cpp")
        self._quiet = self._library.llama_log_callback(_nothing)
        self._library.llama_log_set(self._quiet, ctypes.c_void_p(0))
        self._library.llama_backend_init()
        options = self._library.llama_model_default_params()
        options.n_gpu_layers = 0
        self._model = self._library.llama_model_load_from_file(str(path).encode(), options)
        if not self._model:
            raise UnsupportedModel(
                f"llama.cpp (llama-cpp-python {self._library.__version__}) does not open {path.name}.",
                "Check that its architecture is one of llama.cpp's.",
            )
        vocabulary = self._library.llama_model_get_vocab(self._model)
        self._vocabulary: int = self._library.llama_vocab_n_tokens(vocabulary)
        self._file, self._threads = file, threads
        self._contexts: dict[tuple[int, int], Any] = {}
        self._context: Any = None
        self._next = np.zeros(0, dtype=np.int32)
        self._depth = 0

    @property
    def stored_bytes(self) -> int:
        size: int = self._library.llama_model_size(self._model)
        return size

    @property
    def read_bytes(self) -> int:
        """All but the embeddings, of which a row is taken, unless the output head multiplies by the same weight."""
        names = self._file.tensors
        head = any(name.startswith(_HEADS) for name in names)
        rows = sum(tensor.bytes for name, tensor in names.items() if name.startswith(_EMBEDDINGS))
        return self.stored_bytes - rows if head else self.stored_bytes

    def begin(self, batch: int, depth: int) -> None:
        self._context = self._made(batch, depth)
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)
        ids = np.random.default_rng(0).integers(self._vocabulary, size=(batch, depth), dtype=np.int32)
        self._depth = 0
        self._decode(ids)

    def step(self) -> None:
        self._decode(self._next[:, None])

    def cache_bytes(self, batch: int, depth: int) -> int:
        """Of keys and values in fp16 after such prompts."""
        width: int = self._library.llama_model_n_head_kv(self._model) * self._head_size
        layers: int = self._library.llama_model_n_layer(self._model)
        return 2 * 2 * layers * batch * depth * width

    def flops(self, batch: int, depth: int) -> int:
        """Operations of reading such prompts, as ``ModelWriter`` counts them: every weight of two dimensions by every
        token (of experts those that a token takes), the head by the last of each sequence, and attention without its
        causal half."""
        facts, body = self._file.facts, 0.0
        taken = int(facts.get("num_experts_per_tok", 1)) / max(1, int(facts.get("num_experts", 1)))
        for name, tensor in self._file.tensors.items():
            if len(tensor.shape) > 1 and not name.startswith((*_EMBEDDINGS, *_HEADS)):
                body += tensor.elements * (taken if "_exps." in name else 1)
        head = self._library.llama_model_n_embd(self._model) * self._vocabulary
        heads, layers = self._library.llama_model_n_head(self._model), self._library.llama_model_n_layer(self._model)
        attention = 4 * layers * heads * self._head_size * depth**2
        return int(batch * (2 * depth * body + 2 * head + attention))

    @property
    def _head_size(self) -> int:
        """Some architectures' heads are no equal parts of the hidden size."""
        library, model = self._library, self._model
        said = self._file.facts.get("head_dim")
        return int(said or library.llama_model_n_embd(model) // library.llama_model_n_head(model))

    def close(self) -> None:
        for context in self._contexts.values():
            self._library.llama_free(context)
        self._contexts.clear()
        if self._model:
            self._library.llama_model_free(self._model)
            self._model = None

    def __del__(self) -> None:
        with suppress(Exception):  # at the end of the interpreter nothing may be left to call
            self.close()

    def _made(self, batch: int, depth: int) -> Any:
        """A context with room for prompts and what is written after them: made in the round that warms up."""
        if (batch, depth) not in self._contexts:
            options = self._library.llama_context_default_params()
            options.n_ctx = batch * (depth + _ROOM)
            options.n_batch = max(batch * depth, 1)
            options.n_seq_max = batch
            options.n_threads = options.n_threads_batch = self._threads
            options.no_perf = True
            context = self._library.llama_init_from_model(self._model, options)
            if not context:
                raise UnsupportedModel("llama.cpp makes no context of this size.", "Give smaller depths or batches.")
            self._contexts[batch, depth] = context
        return self._contexts[batch, depth]

    def _decode(self, ids: Any) -> None:
        """[batch, tokens] after what was read; the likeliest next token of each sequence is then known."""
        count, tokens = ids.shape
        made = self._library.llama_batch_init(count * tokens, 0, 1)
        try:
            made.n_tokens = count * tokens
            for row in range(count):
                for place in range(tokens):
                    at = row * tokens + place
                    made.token[at], made.pos[at] = int(ids[row, place]), self._depth + place
                    made.n_seq_id[at], made.seq_id[at][0] = 1, row
                    made.logits[at] = place == tokens - 1
            if self._library.llama_decode(self._context, made) != 0:
                raise UnsupportedModel("llama.cpp does not decode this batch.", "Give smaller depths or batches.")
            last = [row * tokens + tokens - 1 for row in range(count)]
            self._next = np.array([self._likeliest(at) for at in last], dtype=np.int32)
        finally:
            self._library.llama_batch_free(made)
        self._depth += tokens

    def _likeliest(self, at: int) -> int:
        pointer = self._library.llama_get_logits_ith(self._context, at)
        return int(np.ctypeslib.as_array(pointer, (self._vocabulary,)).argmax())


#: As a file names them, and as its original does.
_HEADS, _EMBEDDINGS = ("output.weight", "lm_head."), ("token_embd.", "position_embd.", "model.embed_tokens.")
#: Tokens that may be written after a prompt: the most that a request asks for.
_ROOM = 1024


def _nothing(level: int, text: bytes, data: Any) -> None:
    """llama.cpp's own log."""
