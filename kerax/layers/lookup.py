"""Layers that number tokens by a vocabulary: `IntegerLookup` and `StringLookup`."""

import itertools
import os
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core import scope as scopes
from kerax.core import sparse
from kerax.core.layer import Layer
from kerax.core.registry import in_safe_mode
from kerax.core.symbolic import KerasTensor
from kerax.core.text import TextStep, reads_text
from kerax.layers.category import ENCODED, Adaptable, as_array, encode, is_abstract, is_text, is_wide
from kerax.layers.hashing import as_salt, hash_integers, hash_text
from kerax.layers.integer_table import IntegerTable
from kerax.layers.options import check, check_choice
from kerax.layers.text_table import TextTable

VOCABULARY_FILE, MAX_BYTES = "vocabulary.txt", 2**30


def read_lines(layer: Adaptable, path: Path, encoding: str, follow: bool = True) -> list[str]:
    """The lines of a vocabulary file, without empty ones at its end.

    Raises:
        ValueError: if it is no regular file, larger than `MAX_BYTES`, not text, or a link while `follow` is false.
    """
    if not path.is_file() or (path.is_symlink() and not follow):
        raise ValueError(f"{layer}: the file of `vocabulary` does not exist, or is no plain file. Got {str(path)!r}.")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{layer}: the file of `vocabulary` must have at most {MAX_BYTES} bytes. Got {str(path)!r}.")
    try:
        lines = data.decode(encoding).replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{layer}: the file {str(path)!r} is not text in {encoding!r}: {error}") from None
    while lines and not lines[-1]:
        lines.pop()
    return lines


class Lookup(Adaptable):
    """What lookups share: the vocabulary, how it is found, and the outputs made from indices.

    Args: as in `StringLookup`, and
        modes: What `output_mode` may be.
    """

    already = "`adapt` finds the vocabulary, but one has been given. Make a layer without."
    _names_special = True  # whether the vocabulary was given with the special tokens in front
    # Large, and without weights: not to be searched for some at every call.
    _untracked = Adaptable._untracked | {
        "_tokens",
        "_table",
        "_counts",
        "_documents",
        "_idf",
        "_found",
        "_host_table",
        "_text_table",
    }

    def _parse(self, token) -> Any:
        """A token as the vocabulary holds it."""

    def _index(self, tokens: list) -> Any:
        """Tokens as an array, and what finds their indices."""

    def __init__(
        self,
        max_tokens: Any,
        num_oov_indices: Any,
        mask_token: Any,
        oov_token: Any,
        vocabulary: Any,
        idf_weights: Any,
        invert: bool,
        output_mode: str,
        sparse: bool,
        pad_to_max_tokens: bool,
        salt: Any = None,
        encoding: str = "utf-8",
        modes: tuple = ("int", *ENCODED, "tf_idf"),
        **kwargs,
    ):
        super().__init__(output_mode, sparse, modes, **kwargs)
        is_size = max_tokens is None or (isinstance(max_tokens, int) and max_tokens >= 2)
        check(self, is_size, "`max_tokens` must be an integer of at least 2", max_tokens=max_tokens)
        is_count = isinstance(num_oov_indices, int) and num_oov_indices >= 0
        check(self, is_count, "`num_oov_indices` must be an integer of at least 0", num_oov_indices=num_oov_indices)
        pads = not pad_to_max_tokens or max_tokens is not None
        check(self, pads, "`pad_to_max_tokens=True` needs `max_tokens`", max_tokens=max_tokens)
        inverts = not invert or output_mode == "int"
        check(self, inverts, "`invert=True` needs output_mode='int'", output_mode=output_mode)
        weighs = idf_weights is None or output_mode == "tf_idf"
        check(self, weighs, "`idf_weights` need output_mode='tf_idf'", output_mode=output_mode)
        self.max_tokens, self.num_oov_indices, self.invert = max_tokens, num_oov_indices, invert
        self.mask_token, self.oov_token, self.pad_to_max_tokens = mask_token, oov_token, pad_to_max_tokens
        self.encoding, self._salt = encoding, as_salt(self, salt)
        self.salt = None if self._salt is None else list(self._salt)
        self._special = [mask_token] * self._oov_start() + [oov_token] * num_oov_indices
        self._found: dict = {}  # what files hold of a vocabulary that is not complete yet
        self.reset_state()
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)

    def _oov_start(self) -> int:
        """Where the indices of unknown tokens begin: vectors leave the mask out, so there it has no index."""
        return int(self.mask_token is not None and self.output_mode == "int")

    # The vocabulary.

    def vocabulary_size(self) -> int:
        """Number of indices: that of the tokens, of the mask and of unknown tokens."""
        return len(self._special) + (0 if self._tokens is None else len(self._tokens))

    def get_vocabulary(self, include_special_tokens: bool = True) -> list:
        """The tokens by index, with those for the mask and for unknown tokens unless told otherwise."""
        tokens = [] if self._tokens is None else self._tokens.tolist()
        return self._special + tokens if include_special_tokens else tokens

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Sets the tokens.

        Args:
            vocabulary: Array or list of tokens, with the special ones of `get_vocabulary()` in front or without them;
                or the path of a text file with a token in each line.
            idf_weights: With output_mode='tf_idf', a weight for each of them. Unknown tokens get the average if the
                special tokens are left out.

        Raises:
            ValueError: if there are no tokens, too many, one twice, or a special one among them; if `idf_weights` do
                not fit.
        """
        tokens = self._read(vocabulary)
        if not tokens:
            raise ValueError(f"{self}: `vocabulary` must have at least one token. Got {vocabulary!r}.")
        weighs = (idf_weights is not None) == (self.output_mode == "tf_idf")
        expected = "`idf_weights` must come with a vocabulary for output_mode='tf_idf', and only then"
        check(self, weighs, expected, idf_weights=idf_weights, output_mode=self.output_mode)
        weights = None if idf_weights is None else np.asarray(idf_weights, "float32")
        if weights is not None and weights.shape != (len(tokens),):
            raise ValueError(f"{self}: {len(tokens)} tokens need as many `idf_weights`. Got shape {weights.shape}.")
        start = len(self._special)
        # `get_vocabulary` and files give them in front; users mostly leave them out.
        has_special = start > 0 and tokens[:start] == self._special
        self._names_special = has_special or start == 0
        if has_special:
            tokens = tokens[start:]
        elif weights is not None:
            weights = np.concatenate([np.full(start, weights.mean(), "float32"), weights])
        # A token's index is its only one: which of two would be found depends on the kind of lookup.
        repeated = [token for token, count in Counter(tokens).items() if count > 1]
        if repeated:
            raise ValueError(f"{self}: every token of `vocabulary` must be there once. Got twice: {repeated[:10]}.")
        # Without `invert` nothing tells the token of unknown ones from another.
        for name in ("mask_token", "oov_token") if self.invert and self.num_oov_indices else ("mask_token",):
            token = getattr(self, name)
            if token is not None and token in tokens:
                raise ValueError(
                    f"{self}: `vocabulary` has `{name}` {token!r} in an unexpected place, {tokens.index(token)}. "
                    f"Leave it out, or begin the vocabulary with {self._special}."
                )
        if self.max_tokens is not None and start + len(tokens) > self.max_tokens:
            raise ValueError(
                f"{self}: `vocabulary` with its special tokens must have at most max_tokens={self.max_tokens} entries. "
                f"Got {start + len(tokens)}."
            )
        self._given = True
        self._set_tokens(tokens, weights)

    def _read(self, vocabulary) -> list:
        if isinstance(vocabulary, (str, os.PathLike)):
            if in_safe_mode():
                raise ValueError(
                    f"{self}: the file or config being loaded names a `vocabulary` file, {str(vocabulary)!r}, which is "
                    "not read: it could be any file of this computer. If you trust the source, pass safe_mode=False."
                )
            lines = read_lines(self, Path(vocabulary), self.encoding)
            return [self._parse(line) for line in lines]
        array: Any = as_array(self, vocabulary)
        check(self, array.ndim == 1, "`vocabulary` must be a list", shape=array.shape)
        return [self._parse(token) for token in array.tolist()]

    def _set_tokens(self, tokens: list, weights):
        self._tokens, self._table = self._index(tokens)
        self._idf = weights

    @property
    def idf_weights(self) -> np.ndarray | None:
        """With output_mode='tf_idf', the weight of each token of `get_vocabulary()`."""
        return self._idf

    # Finding the vocabulary.

    def update_state(self, data: Any) -> None:
        """Counts the tokens of a batch. With output_mode='tf_idf', the last axis is a document."""
        rows = self._rows(as_array(self, data))
        self._num_documents += len(rows)
        # Each token is looked at once, not as often as it is there.
        for token, count in _count(rows).items():
            self._counts[self._parse(token)] += count
        if self.output_mode == "tf_idf":
            for token, count in Counter(itertools.chain.from_iterable(map(set, rows))).items():
                self._documents[self._parse(token)] += count

    def _rows(self, tokens: Any) -> Any:
        """The tokens of each document: lists, or the rows of an array."""
        # Of one axis alone, each token is a document, as in Keras.
        rows = np.asarray(tokens).reshape(-1, tokens.shape[-1] if tokens.ndim > 1 else 1)
        return rows.tolist() if self.output_mode == "tf_idf" else rows

    def finalize_state(self) -> None:
        """Makes the vocabulary from the counts."""
        if self._given:
            return
        if not self._num_documents:
            raise ValueError(f"{self}: `adapt` got no data.")
        counts = [item for item in self._counts.items() if item[0] not in (self.mask_token, self.oov_token)]
        # Ties are broken by the tokens themselves, so that the order of the data changes nothing.
        counts.sort(key=lambda item: (item[1], item[0]), reverse=True)
        start = len(self._special)
        tokens = [token for token, _ in counts[: None if self.max_tokens is None else self.max_tokens - start]]
        weights = None
        if self.output_mode == "tf_idf":
            containing = np.array([self._documents[token] for token in tokens], "float32")
            weights = np.log1p(self._num_documents / (1 + containing)).astype("float32")
            average = weights.mean() if len(weights) else 1.0
            weights = np.concatenate([np.full(start, average, "float32"), weights])
        self._set_tokens(tokens, weights)

    def reset_state(self) -> None:
        """Forgets the counts, and the vocabulary that was made from them."""
        if not self._given:
            self._counts, self._documents, self._num_documents = Counter(), Counter(), 0
            self._tokens: np.ndarray | None = None
            self._idf: np.ndarray | None = None
            self._table: Any = None

    # The call.

    def _check_ready(self):
        if self._tokens is None:
            raise ValueError(f"{self}: there is no vocabulary yet. Call `adapt(data)`, or give `vocabulary`.")

    def _check_known(self, indices, inputs):
        # Only on the host: inside a compiled call there are no values to look at, and -1 stays in the outputs.
        unknown = indices == -1
        if unknown.any():
            raise ValueError(
                f"{self}: with num_oov_indices=0 every token must be in the vocabulary. "
                f"Got {inputs[unknown].ravel()[:10].tolist()}."
            )

    def _depth(self) -> int:
        """Entries of a vector of the outputs."""
        return self.max_tokens if self.pad_to_max_tokens and self.max_tokens else self.vocabulary_size()

    def _outputs(self, indices):
        depth = self._depth()
        if self._idf is None:
            return encode(self, indices, depth)
        weights = self._padded_idf()
        vectors = encode(self, indices, depth)
        if sparse.is_sparse(vectors):
            return sparse.with_data(vectors, vectors.data * weights[vectors.indices[:, -1]])
        return vectors * weights

    def _padded_idf(self) -> Any:
        if self._idf is None:
            return None
        # Where `pad_to_max_tokens` adds entries nothing is counted: any weight does.
        return np.pad(self._idf, (0, self._depth() - len(self._idf))).astype(self.compute_dtype)

    # Files.

    def save_assets(self, dir_path: Any) -> None:
        """Writes the vocabulary, special tokens included, to `vocabulary.txt` in a folder, a token in each line.

        One that was given is not written: configs hold it.
        """
        if self._tokens is not None and not self._given:
            lines = [str(token) for token in self.get_vocabulary()]
            Path(dir_path, VOCABULARY_FILE).write_text("\n".join(lines), "utf-8", newline="\n")

    def load_assets(self, dir_path: Any) -> None:
        """Reads what `save_assets` wrote, unless the layer has its vocabulary from its config."""
        path = Path(dir_path, VOCABULARY_FILE)
        if self._given or not (path.exists() or path.is_symlink()):
            return
        tokens = [self._parse(line) for line in read_lines(self, path, "utf-8", follow=False)]
        if tokens != self._special:  # of a layer that had no vocabulary yet
            self._put_together(tokens=tokens)

    def save_own_variables(self, store: Any) -> None:
        """Puts the weights of `"tf_idf"` into a mapping under `"idf_weights"`."""
        if self._idf is not None:
            store["idf_weights"] = self._idf

    def load_own_variables(self, store: Any) -> None:
        """Takes the weights of `"tf_idf"`, which belong to the vocabulary of `load_assets`."""
        if "idf_weights" in store:
            weights = np.asarray(store["idf_weights"], "float32")
            if self._tokens is None:
                self._put_together(weights=weights)
            elif weights.shape == (self.vocabulary_size(),):  # the config had the tokens, Keras's file has the weights
                self._idf = weights
            else:
                raise ValueError(f"{self}: expected {self.vocabulary_size()} `idf_weights`. Got shape {weights.shape}.")

    def _put_together(self, **found):
        """Sets the vocabulary once its tokens and, with `"tf_idf"`, its weights are read, in whichever order."""
        self._found |= found
        if "tokens" in self._found and ("weights" in self._found or self.output_mode != "tf_idf"):
            self.set_vocabulary(self._found["tokens"], self._found.get("weights"))
            self._given, self._found = False, {}

    def get_config(self) -> dict:
        """The constructor's arguments, with the vocabulary as it was found, read from a file, or given."""
        config = super().get_config()
        # What `adapt` found goes along, and a file's tokens in place of its path: the file may be gone by then.
        start = len(self._special) if self._given and not self._names_special else 0
        config["vocabulary"] = None if self._tokens is None else self.get_vocabulary()[start:]
        config["idf_weights"] = None if self._idf is None else self._idf[start:].tolist()
        return config


def _count(rows: Any) -> dict:
    """How often each token is in lists of tokens, or in an array."""
    if not isinstance(rows, np.ndarray):
        return Counter(itertools.chain.from_iterable(rows))
    if is_text(rows):
        return Counter(rows.ravel().tolist())
    tokens, counts = np.unique(rows, return_counts=True)
    return dict(zip(tokens.tolist(), counts.tolist()))


class IntegerLookup(Lookup):
    """Integers as their indices in a vocabulary of integers, or vectors that say which are there.

    Works inside a compiled model, with the vocabulary that the layer has when the model is compiled.

    Args:
        max_tokens: Largest size of the vocabulary, special tokens included. Default: unlimited.
        num_oov_indices: Number of indices for integers outside the vocabulary. With 0 they are an error, and inside a
            compiled model -1.
        mask_token: The integer that gets index 0, and that vectors leave out. Default: there is none.
        oov_token: What an inverted lookup returns for an index outside the vocabulary.
        vocabulary: The integers: list, array, or path of a text file with one in each line. `adapt` finds them else.
        vocabulary_dtype: Must be `"int64"`.
        idf_weights: With `"tf_idf"`, a weight for each.
        invert: Whether indices are turned into integers.
        output_mode: `"int"`, `"one_hot"` (a vector for each input), or one vector for the last axis: `"multi_hot"`,
            `"count"`, `"tf_idf"` (counts times the weights).
        sparse: Whether vectors come as JAX's sparse `BCOO`; not with "int".
        pad_to_max_tokens: Whether vectors have `max_tokens` entries whatever the size of the vocabulary.
        oov_method: How several indices for unknown integers are shared: `"floormod"`, `"farmhash"`.
        salt: Key of the hash with `"farmhash"`: one or two integers.

    Input shape: any, integers. Output shape: the same with `"int"` (int32), else `(..., size of the vocabulary)`.
    A deviation from Keras: the config holds a vocabulary that `adapt` found, so a copy made from it is complete.
    """

    def __init__(
        self,
        max_tokens=None,
        num_oov_indices=1,
        mask_token=None,
        oov_token: Any = -1,
        vocabulary=None,
        vocabulary_dtype: Any = "int64",
        idf_weights=None,
        invert=False,
        output_mode="int",
        sparse=False,
        pad_to_max_tokens=False,
        oov_method="floormod",
        salt=None,
        name=None,
        **kwargs,
    ):
        tokens = max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights
        super().__init__(*tokens, invert, output_mode, sparse, pad_to_max_tokens, salt, name=name, **kwargs)
        check_choice(self, "vocabulary_dtype", vocabulary_dtype, ("int64",))
        check_choice(self, "oov_method", oov_method, ("floormod", "farmhash"))
        is_hashed = salt is None or oov_method == "farmhash"
        check(self, is_hashed, "`salt` needs oov_method='farmhash'", oov_method=oov_method)
        self.oov_method = oov_method

    def _parse(self, token) -> int:
        try:
            number = int(token)
        except (TypeError, ValueError):
            number = None
        # Text, as in files, is read; a float is taken only if it is whole.
        if number is None or (not isinstance(token, str) and number != token):
            raise ValueError(f"{self}: tokens must be integers. Got {token!r}.")
        return number

    def _index(self, tokens):
        # Sorted, for a search that NumPy and JAX both have; a dict would not work inside a compiled call.
        order = np.argsort(found := np.array(tokens, "int64"))
        keys, positions = found[order], (order + len(self._special)).astype("int32")
        mask = [] if self.mask_token is None else [self.mask_token]
        # On the host the mask is one more token; without an index it counts as -2, which vectors leave out.
        values = np.concatenate([positions, np.full(len(mask), 0 if self._oov_start() else -2, "int32")])
        self._host_table = IntegerTable(np.concatenate([keys, np.array(mask, "int64")]), values)
        return found, (keys, positions)

    def __call__(self, inputs: Any, **kwargs) -> Any:
        inputs = as_array(self, inputs)
        if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "iu" and not self.invert:
            self._check_ready()
            outputs = self.call_on_host(inputs)  # the only place where 64 bits are kept
            return outputs if sparse.is_sparse(outputs) else jnp.asarray(outputs)
        return super().__call__(inputs, **kwargs)

    def call(self, inputs: Any) -> Any:
        if self.output_mode == "int" and self._tokens is None and scopes.infers_shapes():
            return jnp.zeros(inputs.shape, "int32")  # a model that is made before its vocabulary is read
        self._check_ready()
        if not jnp.issubdtype(inputs.dtype, jnp.integer):
            raise ValueError(f"{self}: inputs must be integers. Got dtype {inputs.dtype}.")
        if self.invert:
            vocabulary = np.array([*self.get_vocabulary(), self.oov_token])
            if is_wide(vocabulary):
                raise ValueError(f"{self}: tokens beyond 32 bits can only be returned with jax_enable_x64.")
            is_known = (inputs >= 0) & (inputs < len(vocabulary) - 1)
            return jnp.asarray(vocabulary)[jnp.where(is_known, inputs, len(vocabulary) - 1)]
        with jax.enable_x64(True):  # the vocabulary may be beyond 32 bits
            indices = self._find(inputs.astype("int64")).astype("int32")
        return self._outputs(indices)

    def call_on_host(self, inputs: Any) -> Any:
        if is_text(inputs):
            raise ValueError(f"{self}: inputs must be integers. Use `StringLookup` for text. Got {inputs.ravel()[:3]}.")
        indices = self._host_table.find(inputs)
        if self.num_oov_indices == 0:
            self._check_known(indices, inputs)
        else:
            self._number_unknown(indices, inputs)
        return self._outputs(indices)

    def _number_unknown(self, indices, inputs):
        """Puts the indices of unknown integers where there is -1."""
        unknown = indices == -1
        if self.num_oov_indices == 1:
            indices[unknown] = self._oov_start()
            return
        integers = inputs[unknown].astype("int64")
        if self.oov_method == "farmhash":
            bins = hash_text(integers, self._salt) % np.uint64(self.num_oov_indices)
        else:
            bins = integers % self.num_oov_indices
        indices[unknown] = bins.astype("int32") + self._oov_start()

    def _find(self, integers):
        """The index of each integer, in JAX."""
        keys, positions = (jnp.asarray(array, "int64") for array in self._table)
        oov_start = self._oov_start()
        if self.num_oov_indices == 0:
            indices = jnp.full(integers.shape, -1)
        elif self.oov_method == "floormod" or self.num_oov_indices == 1:
            indices = integers % self.num_oov_indices + oov_start
        else:
            indices = hash_integers(integers, self.num_oov_indices, self._salt) + oov_start
        if len(keys):
            place = jnp.minimum(jnp.searchsorted(keys, integers), len(keys) - 1)
            indices = jnp.where(keys[place] == integers, positions[place], indices)
        if self.mask_token is not None:
            indices = jnp.where(integers == self.mask_token, 0 if oov_start else -1, indices)
        return indices


class TextLookup(Lookup):
    """What layers on text share: tokens are strings, looked up on the host."""

    def _parse(self, token) -> str:
        if not isinstance(token, str):
            raise ValueError(f"{self}: tokens must be strings. Use `IntegerLookup` for integers. Got {token!r}.")
        return str(token)  # of NumPy's own kind of `str`, the plain one

    def _index(self, tokens):
        table = {token: index for index, token in enumerate(tokens, len(self._special))}
        # Without an index of its own the mask counts as -2, which vectors leave out.
        if self.mask_token is not None:
            table[self.mask_token] = 0 if self._oov_start() else -2
        self._text_table = TextTable(table)
        return np.array(tokens, object), table

    def check_inputs(self, inputs: Any) -> None:
        """Raises `ValueError` unless inputs of `as_array` can be looked up here, in a vocabulary that is known."""
        if is_abstract(inputs) or (not self.invert and not is_text(inputs)):
            raise ValueError(
                f"{self}: inputs must be {'integers' if self.invert else 'strings'} on the host: a NumPy array or a "
                f"list. Got {inputs!r}. Call this layer on the data before the model, not inside it."
            )
        self._check_ready()

    def __call__(self, inputs: Any, **kwargs) -> Any:
        if isinstance(inputs, KerasTensor) and reads_text(inputs):
            return Layer.__call__(self, inputs, **kwargs)  # a call in a graph
        inputs = as_array(self, inputs, keeps_width=True)
        self.check_inputs(inputs)
        return self.call_on_host(np.asarray(inputs))

    def call_on_host(self, inputs: Any) -> Any:
        if self.invert:
            return self._to_strings(inputs)
        flat, oov_start = inputs.ravel(), self._oov_start()
        default = oov_start if self.num_oov_indices == 1 else -1
        indices = self._text_table.find(flat, default)
        if self.num_oov_indices == 0:
            self._check_known(indices, flat)
        elif self.num_oov_indices > 1:
            unknown = indices == -1
            bins = hash_text(flat[unknown], self._salt, self.encoding) % np.uint64(self.num_oov_indices)
            indices[unknown] = bins.astype("int32") + oov_start
        return self._outputs(indices.reshape(inputs.shape))

    def kerax_text_steps(self, shape: tuple) -> list[TextStep]:
        """As that of the family. Where unknown tokens are an error here, they are -1 there."""
        self._check_ready()
        unknown = {"start": self._oov_start(), "bins": self.num_oov_indices, "salt": self._salt}
        look_up = TextStep("look_up", {"table": self._table, **unknown})
        return [look_up, self.kerax_encode_step(self._depth(), self._padded_idf())]

    def _to_strings(self, indices) -> np.ndarray:
        if indices.dtype.kind not in "iu":
            raise ValueError(f"{self}: with invert=True inputs must be integers. Got dtype {indices.dtype}.")
        vocabulary = np.array([*self.get_vocabulary(), self.oov_token], object)
        is_known = (indices >= 0) & (indices < len(vocabulary) - 1)
        return vocabulary[np.where(is_known, indices, -1)]


class StringLookup(TextLookup):
    """Strings as their indices in a vocabulary, or vectors that say which are there.

    Works on the host, on NumPy arrays or lists of strings, and returns NumPy arrays, for JAX knows no strings. In a
    model with `Input(dtype="string")` it is computed before the compiled part.

    Args:
        max_tokens: Largest size of the vocabulary, special tokens included. Default: unlimited.
        num_oov_indices: Number of indices for strings outside the vocabulary, shared by their hash. With 0 they are an
            error.
        mask_token: The string that gets index 0, and that vectors leave out. Default: there is none.
        oov_token: What an inverted lookup returns for an index outside the vocabulary.
        vocabulary: The strings: list, array, or path of a text file with one in each line. `adapt` finds them else.
        idf_weights: With `"tf_idf"`, a weight for each.
        invert: Whether indices are turned into strings.
        output_mode: `"int"`, `"one_hot"` (a vector for each input), or one vector for the last axis: `"multi_hot"`,
            `"count"`, `"tf_idf"` (counts times the weights).
        pad_to_max_tokens: Whether vectors have `max_tokens` entries whatever the size of the vocabulary.
        sparse: Whether vectors come as JAX's sparse `BCOO`; not with "int".
        encoding: Of `bytes` in the input and of the file.
        salt: Key of the hash: one or two integers.

    Input shape: any. Output shape: the same with `"int"` (int32), else `(..., size of the vocabulary)`.
    A deviation from Keras: the config holds a vocabulary that `adapt` found, so a copy made from it is complete.
    """

    _in_keras_only = (*Lookup._in_keras_only, "oov_method", "vocabulary_dtype")

    def __init__(
        self,
        max_tokens=None,
        num_oov_indices=1,
        mask_token=None,
        oov_token: Any = "[UNK]",
        vocabulary=None,
        idf_weights=None,
        invert=False,
        output_mode="int",
        pad_to_max_tokens=False,
        sparse=False,
        encoding="utf-8",
        name=None,
        salt=None,
        **kwargs,
    ):
        tokens = max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights
        super().__init__(*tokens, invert, output_mode, sparse, pad_to_max_tokens, salt, encoding, name=name, **kwargs)
