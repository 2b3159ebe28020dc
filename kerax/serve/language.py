"""`LanguageModel`: what a server answers with that is asked for text."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerax.language import checkpoints, files
from kerax.language import tokenizer as tokenizers
from kerax.language.engine import Engine
from kerax.language.tokenizer import Tokenizer
from kerax.saving import hub, load_model
from kerax.serve.tensors import RequestError, TensorSpec


class LanguageModel:
    """A model that answers with text, as an entry of a server.

    Args:
        model: What `kerax.language.load` reads, or another model with caches.
        tokenizer: Of its texts.
        **options: As for `kerax.language.Engine`.
    """

    platform, mixes_rows = "kerax_language", False

    def __init__(self, model: Any, tokenizer: Tokenizer, **options: Any):
        self.inputs: list[TensorSpec] = []
        self.outputs: list[TensorSpec] = []
        self.sizes = [1]
        self.tokenizer, self._created = tokenizer, int(time.time())
        self.engine = Engine(model, **options)

    @property
    def num_programs(self) -> int:
        """Programs compiled so far."""
        return self.engine.num_programs

    def prepare(self, lengths: Sequence[int]) -> None:
        """Compiles all programs."""
        self.engine.prepare()

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Raises `RequestError` (400): there are no tensors to give."""
        raise RequestError(400, "a language model is asked by /v1/completions or /v1/chat/completions.")

    def close(self) -> None:
        """Answers what was asked."""
        self.engine.close()

    def describe(self, name: str) -> dict:
        """The model as `/v1/models` lists it."""
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "kerax",
            "max_model_len": self.engine.cache_length,
        }


def is_language_model(path: str) -> bool:
    """Whether a path is a folder that `kerax.language.load` reads, or has a `.keras` file and a tokenizer."""
    folder = Path(path)
    if hub.is_address(path):
        return True
    has_tokenizer, has_config = ((folder / name).is_file() for name in (tokenizers.FILE, files.CONFIG))
    # Folders of other models have a `config.json` too.
    has_weights = has_config and next(folder.glob("*.safetensors"), None) is not None
    return has_weights or (has_tokenizer and (has_config or _saved_in(folder) is not None))


def _saved_in(folder: Path) -> Path | None:
    found = list(folder.glob("*.keras"))
    return found[0] if len(found) == 1 else None


def open_language_model(path: str, engine: dict[str, Any], dtype: Any = None, quantization: str | None = None):
    """The `LanguageModel` of a folder or of `hf://user/name`.

    Raises:
        ValueError: for what cannot be read, or answers with no text.
        FileNotFoundError: if there is no tokenizer.
        ImportError: if `tokenizers` is not installed.
    """
    saved = None if hub.is_address(path) else _saved_in(Path(path))
    tokenizer = Tokenizer(path)  # first: it is read in no time
    model = checkpoints.load(path, dtype, quantization) if saved is None else load_model(str(saved), compile=False)
    return LanguageModel(model, tokenizer, **engine)
