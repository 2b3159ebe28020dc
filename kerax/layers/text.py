"""`TextVectorization`: from sentences to integers or vectors."""

import itertools
import re
import string
from typing import Any

import numpy as np

from kerax.core.symbolic import KerasTensor
from kerax.core.text import TextStep
from kerax.layers.category import as_array
from kerax.layers.lookup import TextLookup
from kerax.layers.options import check, check_choice, check_unsupported

_TABLES = {
    "lower": str.maketrans(string.ascii_uppercase, string.ascii_lowercase),
    "strip_punctuation": str.maketrans("", "", string.punctuation),
    "lower_and_strip_punctuation": str.maketrans(string.ascii_uppercase, string.ascii_lowercase, string.punctuation),
}
_WORD = re.compile(r"[^ \t\n\r\f\v]+")
_SPACES_BUT_THESE = "\x1c\x1d\x1e\x1f"  # of ASCII, what `str.split` takes for spaces besides


def _words(texts: list[str]) -> list[list[str]]:
    """The words of each text, with the spaces of ASCII between them."""
    joined = "".join(texts)
    # A quarter of the time of a regular expression, where the two split alike.
    if joined.isascii() and not any(space in joined for space in _SPACES_BUT_THESE):
        return [text.split() for text in texts]
    return [_WORD.findall(text) for text in texts]


_SPLITTERS = {"whitespace": _words, "character": lambda texts: list(map(list, texts))}


class TextVectorization(TextLookup):
    """Sentences as rows of integers, one for each word, or as vectors that say which words are there.

    Works on the host, on NumPy arrays or lists of strings, and returns NumPy arrays, for JAX knows no strings. In a
    model with `Input(dtype="string")` it is computed before the compiled part; without `output_sequence_length` the
    rows of all data are as long as the longest. Index 0 is padding (only with `"int"`), the next unknown words.

    Args:
        max_tokens: Largest size of the vocabulary, special tokens included. Default: unlimited.
        standardize: `"lower_and_strip_punctuation"`, `"lower"`, `"strip_punctuation"`, a function of an array of
            strings, or `None`. Lower case is that of ASCII letters, as in Keras.
        split: `"whitespace"`, `"character"`, a function from a list of strings to a list of lists of strings, or
            `None`: every string is one token.
        ngrams: Joins neighbouring tokens by spaces: up to this many, or tuple of how many. Default: none.
        output_mode: `"int"`, or one vector for each text: `"multi_hot"`, `"count"`, `"tf_idf"`.
        output_sequence_length: With `"int"`, the number of integers, by padding or cutting. Default: the longest.
        pad_to_max_tokens: Whether vectors have `max_tokens` entries whatever the size of the vocabulary.
        vocabulary: The tokens: list, array, or path of a text file with one in each line. `adapt` finds them else.
        idf_weights: With `"tf_idf"`, a weight for each.
        sparse: Whether vectors come as JAX's sparse `BCOO`; not with "int".
        ragged: Not supported; must be `False`.
        encoding: Of `bytes` in the input and of the file.

    Input shape: `(batch,)` or `(batch, 1)`; any with `split=None`.
    Output shape: `(batch, length)` with `"int"` (int32), else `(batch, size of the vocabulary)`.
    A deviation from Keras: functions get `str` in NumPy arrays and lists, not tensors; and the config holds a
    vocabulary that `adapt` found.
    """

    def __init__(
        self,
        max_tokens=None,
        standardize="lower_and_strip_punctuation",
        split="whitespace",
        ngrams=None,
        output_mode="int",
        output_sequence_length=None,
        pad_to_max_tokens=False,
        vocabulary=None,
        idf_weights=None,
        sparse=False,
        ragged=False,
        encoding="utf-8",
        name=None,
        **kwargs,
    ):
        modes = ("int", "multi_hot", "count", "tf_idf")
        options = False, output_mode, sparse, pad_to_max_tokens, None, encoding, modes
        super().__init__(max_tokens, 1, "", "[UNK]", vocabulary, idf_weights, *options, name=name, **kwargs)
        check_unsupported(self, ragged=ragged)
        for name, value, known in (("standardize", standardize, _TABLES), ("split", split, _SPLITTERS)):
            if not callable(value):
                check_choice(self, name, value, (*known, None))
        widths = () if ngrams is None else range(1, ngrams + 1) if isinstance(ngrams, int) else tuple(ngrams)
        # A number stands for all widths up to it.
        are_widths = ngrams is None or (widths and all(isinstance(n, int) and n >= 1 for n in widths))
        check(self, are_widths, "`ngrams` must be an integer of at least 1, or several", ngrams=ngrams)
        got = {"output_sequence_length": output_sequence_length, "output_mode": output_mode}
        fits = output_sequence_length is None or (output_mode == "int" and output_sequence_length >= 1)
        check(self, fits, "`output_sequence_length` must be at least 1, and needs output_mode='int'", **got)
        self.standardize, self.split, self.ngrams, self._widths = standardize, split, ngrams, widths
        self.output_sequence_length = output_sequence_length

    # Keras's argument `batch_size` stands before `steps`.
    def adapt(self, data: Any, batch_size: Any = None, steps: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Finds the vocabulary: the tokens of `data`, the most frequent first, of equally frequent the greater first.

        Args:
            data: Array or list of strings, or an iterable of batches (arrays, or tuples with the inputs first).
            batch_size: Without effect; Keras has it.
            steps: Number of batches to look at. Default: all.

        Raises:
            ValueError: if the layer has been given a vocabulary, or there are no data.
        """
        super().adapt(data, steps)

    def _shape_for_text(self, shape: tuple) -> tuple:
        """The outputs' shape for text of this shape."""
        if self.split is None and not self._widths:
            found = super()._shape_for_text(shape)
            return (*found[:-1], self.output_sequence_length or found[-1]) if len(shape) > 1 else found
        return (*shape[:1], self.output_sequence_length if self.output_mode == "int" else self._depth())

    def __call__(self, inputs: Any, **kwargs) -> Any:
        if isinstance(inputs, KerasTensor):
            return super().__call__(inputs, **kwargs)
        inputs = as_array(self, inputs)
        self.check_inputs(inputs)
        if self.split is None and not self._widths:
            outputs = super().__call__(self._standardized(inputs))
            return self._fit_length(outputs) if self.output_sequence_length and inputs.ndim > 1 else outputs
        rows = self._rows(inputs)
        # Shorter texts are filled up with the mask's token, whose index is 0, and which vectors leave out.
        lengths = np.fromiter(map(len, rows), int, len(rows))
        padded = np.full((len(rows), lengths.max(initial=0)), "", object)
        padded[np.arange(padded.shape[1]) < lengths[:, None]] = list(itertools.chain.from_iterable(rows))
        outputs = self._fit_length(super().__call__(padded))
        return outputs if inputs.shape else outputs[0]

    def kerax_text_steps(self, shape: tuple) -> list[TextStep]:
        """As that of the family."""
        steps = []
        if callable(self.standardize):
            steps.append(TextStep("call", {"argument": "standardize"}))
        elif self.standardize is not None:
            removed = string.punctuation if "strip" in self.standardize else ""
            steps.append(TextStep("translate", {"lower": "lower" in self.standardize, "removed": removed}))
        has_rows = self.split is not None or bool(self._widths)
        if callable(self.split):
            steps.append(TextStep("call", {"argument": "split"}))
        elif has_rows:
            steps.append(TextStep("split", {"by": self.split}))
        if self._widths:
            steps.append(TextStep("join", {"widths": tuple(self._widths)}))
        look_up, encode = super().kerax_text_steps(shape)
        length = self.output_sequence_length if has_rows or len(shape) > 1 else None
        return [*steps, look_up, *([TextStep("fit_length", {"length": length})] if length else []), encode]

    def _fit_length(self, outputs):
        length = self.output_sequence_length
        if length is None:
            return outputs
        # The last axis alone: cut where it is too long, zeros where too short.
        missing = max(0, length - outputs.shape[-1])
        return np.pad(outputs[..., :length], [(0, 0)] * (outputs.ndim - 1) + [(0, missing)])

    def _standardized(self, texts: Any) -> Any:
        if self.standardize is None:
            return texts
        if not callable(self.standardize):
            return _translated(texts, _TABLES[self.standardize])
        # As text of NumPy's own kind, which its functions of strings take.
        return as_array(self, self.standardize(texts.astype(str)))

    def _rows(self, tokens: Any) -> list[list[str]]:
        texts = self._standardized(tokens)
        if self.split is None:
            rows = texts.reshape(-1, texts.shape[-1] if texts.ndim > 1 else 1).tolist()
        else:
            if texts.ndim > 2 or (texts.ndim == 2 and texts.shape[1] != 1):
                raise ValueError(
                    f"{self}: texts to split must have shape (batch,) or (batch, 1). Got {texts.shape}. "
                    "Texts that are split already need split=None."
                )
            flat = texts.ravel().tolist()
            if callable(self.split):  # of all texts at once, as Keras hands them over
                rows = [[str(token) for token in row] for row in self.split(flat)]
            else:
                rows = _SPLITTERS[self.split](flat)
        return [self._joined(row) for row in rows] if self._widths else rows

    def _joined(self, tokens: list[str]) -> list[str]:
        return [" ".join(tokens[i : i + n]) for n in self._widths for i in range(len(tokens) - n + 1)]


def _translated(texts: np.ndarray, table: dict) -> np.ndarray:
    """Every text through a table of characters."""
    flat = texts.ravel().tolist()
    joined = "\0".join(flat)
    # In one go, unless the mark between the texts is in them.
    if joined.count("\0") == len(flat) - 1:
        flat = joined.translate(table).split("\0")
    else:
        flat = [text.translate(table) for text in flat]
    translated = np.empty(len(flat), object)
    translated[:] = flat
    return translated.reshape(texts.shape)
