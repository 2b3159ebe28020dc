"""`FeatureSpace`: tables with columns of all kinds as vectors of numbers."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from kerax import layers, ops, saving
from kerax.core.configurable import Configurable
from kerax.core.host_arrays import is_graph_tensor
from kerax.core.layer import Layer
from kerax.core.registry import Family, deserialize_keras_object, serialize_keras_object
from kerax.core.symbolic import KerasTensor
from kerax.core.tensorflow_graphs import call_in_graph
from kerax.core.tracking import unique
from kerax.errors import check_choice, suggest
from kerax.layers.category import as_array, encode, is_text
from kerax.places import path_of
from kerax.utils import missing
from kerax.utils.progbar import Progbar

_FAMILY = Family("feature_space", "feature", module="keras.src.layers.preprocessing.feature_space")
_OUTPUT_MODES = ("int", "one_hot", "float")


class Feature(Configurable):
    """One column of a `FeatureSpace`: what it holds, the layer that prepares it, and how that is encoded.

    Args:
        dtype: `"float32"`, `"int32"` or `"string"`.
        preprocessor: A layer.
        output_mode: `"float"` (as it is), `"int"` (an index) or `"one_hot"` (a vector for the index).
    """

    def __init__(self, dtype, preprocessor, output_mode):
        check_choice("Feature", "output_mode", output_mode, _OUTPUT_MODES)
        self.dtype, self.output_mode = dtype, output_mode
        self.preprocessor = deserialize_keras_object(preprocessor) if isinstance(preprocessor, dict) else preprocessor


class Cross(Configurable):
    """The combination of several features of a `FeatureSpace`, hashed into `crossing_dim` bins.

    Args:
        feature_names: Names of features that are given as integers or text.
        crossing_dim: Number of bins.
        output_mode: `"int"` or `"one_hot"`.
    """

    def __init__(self, feature_names, crossing_dim, output_mode: str = "one_hot"):
        check_choice("Cross", "output_mode", output_mode, ("int", "one_hot"))
        self.feature_names, self.crossing_dim = tuple(feature_names), crossing_dim
        self.output_mode = output_mode

    @property
    def name(self) -> str:
        """The features' names with `_X_` between them."""
        return "_X_".join(self.feature_names)

    def get_config(self) -> dict:
        """The constructor's arguments; the names as a list, whatever they were given as."""
        return super().get_config() | {"feature_names": list(self.feature_names)}


_FAMILY.add(Feature)
_FAMILY.add(Cross)


class FeatureSpace(Layer):
    """Tables with columns of all kinds as vectors of numbers, or as a dict of them.

    Called on a dict of columns, or a pandas frame, it works on the host and returns NumPy arrays: call it on the data
    before the model, for example by `dataset.map(lambda x, y: (space(x), y))`, and build the model from
    `get_encoded_features()`.

    Args:
        features: `{name: kind}`; a kind is one of `"float"`, `"float_rescaled"`, `"float_normalized"`,
            `"float_discretized"`, `"integer_categorical"`, `"string_categorical"`, `"integer_hashed"`,
            `"string_hashed"`, or what the method of the same name returns, or `FeatureSpace.feature(...)`.
        output_mode: `"concat"`: one vector of everything, features by name, then crosses by name; `"dict"`.
        crosses: Tuples of names of features to combine, or `FeatureSpace.cross(...)`.
        crossing_dim: Number of bins of crosses given as tuples.
        hashing_dim: Number of bins of hashed features given by name.
        num_discretization_bins: Number of bins of discretized features given by name.
        name: Default: `"feature_space"`.
        impute: What is put where values are missing (`None`, NaN, pandas' `NA`): `"mean"` or `"median"` of the column,
            which `adapt` finds, of integers the most frequent one; a number; or a dict of these by feature. Missing
            text is then the empty text, a category of its own. Default: missing values are an error.

    Raises:
        ValueError: for an unknown kind, a cross of unknown features, and missing values without `impute`.

    Deviations from Keras: nothing needs TensorFlow; with text among the features, `get_inputs` cannot start a model;
    `impute`.

    >>> space = FeatureSpace({"age": "float_rescaled", "job": "string_categorical"})
    >>> space.adapt({"age": [20.0, 30.0, 40.0], "job": ["cook", "nurse", "cook"]}, verbose=0)
    >>> space({"age": [25.0, 35.0], "job": ["nurse", "pilot"]})
    array([[25.,  0.,  0.,  1.],
           [35.,  1.,  0.,  0.]], dtype=float32)
    """

    def __init__(
        self,
        features,
        output_mode: str = "concat",
        crosses=None,
        crossing_dim: int = 32,
        hashing_dim: int = 32,
        num_discretization_bins: int = 32,
        name: str | None = None,
        impute=None,
    ):
        super().__init__(name=name)
        if not features:
            raise ValueError(f"{self}: `features` must name at least one feature. Got {features!r}.")
        check_choice(self, "output_mode", output_mode, ("concat", "dict"))
        self.crossing_dim, self.hashing_dim = crossing_dim, hashing_dim
        self.num_discretization_bins, self.output_mode = num_discretization_bins, output_mode
        self.features = {name: self._as_feature(name, kind) for name, kind in features.items()}
        self.crosses = [self._as_cross(cross) for cross in crosses or ()]
        self.preprocessors = {name: feature.preprocessor for name, feature in self.features.items()}
        _name_apart(self.preprocessors.values())
        self.crossers = {cross.name: layers.HashedCrossing(cross.crossing_dim) for cross in self.crosses}
        self.impute = self._as_imputation(impute)
        self._encoders: dict[str, layers.CategoryEncoding] = {}
        self._inputs = self._encoded = None
        self._is_adapted = False

    def _as_feature(self, name: str, kind) -> Feature:
        kind = deserialize_keras_object(kind) if isinstance(kind, dict) else kind
        if isinstance(kind, Feature):
            return kind
        kinds = {
            "float": self.float,
            "float_rescaled": self.float_rescaled,
            "float_normalized": self.float_normalized,
            "float_discretized": lambda name: self.float_discretized(self.num_discretization_bins, name=name),
            "integer_categorical": self.integer_categorical,
            "string_categorical": self.string_categorical,
            "integer_hashed": lambda name: self.integer_hashed(self.hashing_dim, name=name),
            "string_hashed": lambda name: self.string_hashed(self.hashing_dim, name=name),
        }
        if kind not in kinds:
            raise ValueError(
                f"{self}: feature {name!r} must be one of {tuple(kinds)} or a feature object. "
                f"Got {kind!r}.{suggest(kind, kinds)}"
            )
        return kinds[kind](name=name)

    def _as_imputation(self, impute) -> dict:
        """By feature what `impute` says, a strategy or a value; nothing for features that it leaves out."""
        given = impute if isinstance(impute, dict) else dict.fromkeys(self.features, impute)
        found = {}
        for name, filling in given.items():
            if name not in self.features:
                raise ValueError(f"{self}: `impute` names {name!r}, no feature.{suggest(name, self.features)}")
            dtype = self.features[name].dtype
            if dtype == "string" and filling is not None:
                found[name] = filling if isinstance(impute, dict) else ""  # of text there is no mean
            elif filling in missing.STRATEGIES:
                found[name] = filling
            elif filling is not None:
                found[name] = self._as_number(name, filling, int if dtype.startswith("int") else float)
        return found

    def _as_number(self, name: str, filling, kind: type):
        is_number = isinstance(filling, (int, float)) and not isinstance(filling, bool)
        if not is_number or kind(filling) != filling:
            number = "a whole number" if kind is int else "a number"
            raise ValueError(f"{self}: `impute` must be 'mean', 'median' or {number} for {name!r}. Got {filling!r}.")
        return kind(filling)

    def filling(self, name: str):
        """What is put where a feature's values are missing; `None` if they are an error."""
        found = self.impute.get(name)
        if found in missing.STRATEGIES:
            raise ValueError(f"{self}: call `adapt(data)` first; the {found} of {name!r} is to be found.")
        return found

    def _as_cross(self, cross) -> Cross:
        cross = deserialize_keras_object(cross) if isinstance(cross, dict) else cross
        if not isinstance(cross, Cross):
            if not self.crossing_dim:
                raise ValueError(f"{self}: `crosses` need `crossing_dim`. Got {self.crossing_dim!r}.")
            cross = Cross(cross, self.crossing_dim)
        for name in cross.feature_names:
            if name not in self.features:
                raise ValueError(
                    f"{self}: the cross {cross.feature_names} needs a feature {name!r}."
                    f"{suggest(name, self.features)} Features: {', '.join(self.features)}."
                )
        return cross

    # The kinds of features.

    @classmethod
    def cross(cls, feature_names, crossing_dim, output_mode: str = "one_hot") -> Cross:
        """A combination of features with a number of bins of its own."""
        return Cross(feature_names, crossing_dim, output_mode)

    @classmethod
    def feature(cls, dtype, preprocessor, output_mode) -> Feature:
        """A feature prepared by a layer of one's own."""
        return Feature(dtype, preprocessor, output_mode)

    @classmethod
    def float(cls, name: str | None = None) -> Feature:
        """Numbers as they are."""
        return Feature("float32", layers.Identity(name=_named(name, "float")), "float")

    @classmethod
    def float_rescaled(cls, scale=1.0, offset=0.0, name: str | None = None) -> Feature:
        """Numbers times `scale` plus `offset`."""
        return Feature("float32", layers.Rescaling(scale, offset, name=_named(name, "float_rescaled")), "float")

    @classmethod
    def float_normalized(cls, name: str | None = None) -> Feature:
        """Numbers brought to mean 0 and variance 1, which `adapt` finds."""
        return Feature("float32", layers.Normalization(name=_named(name, "float_normalized")), "float")

    @classmethod
    def float_discretized(cls, num_bins, bin_boundaries=None, output_mode="one_hot", name=None) -> Feature:
        """Numbers by the range they lie in: `bin_boundaries`, or `num_bins` equally full ones that `adapt` finds."""
        bins = {"num_bins": num_bins} if bin_boundaries is None else {"bin_boundaries": bin_boundaries}
        return Feature("float32", layers.Discretization(**bins, name=_named(name, "float_discretized")), output_mode)

    @classmethod
    def integer_categorical(cls, max_tokens=None, num_oov_indices=1, output_mode="one_hot", name=None) -> Feature:
        """Integers by their index in a vocabulary that `adapt` finds."""
        lookup = layers.IntegerLookup(max_tokens, num_oov_indices, name=_named(name, "integer_categorical"))
        return Feature("int32", lookup, output_mode)

    @classmethod
    def string_categorical(cls, max_tokens=None, num_oov_indices=1, output_mode="one_hot", name=None) -> Feature:
        """Text by its index in a vocabulary that `adapt` finds."""
        lookup = layers.StringLookup(max_tokens, num_oov_indices, name=_named(name, "string_categorical"))
        return Feature("string", lookup, output_mode)

    @classmethod
    def string_hashed(cls, num_bins, output_mode: str = "one_hot", name: str | None = None) -> Feature:
        """Text hashed into bins."""
        return Feature("string", layers.Hashing(num_bins, name=_named(name, "string_hashed")), output_mode)

    @classmethod
    def integer_hashed(cls, num_bins, output_mode: str = "one_hot", name: str | None = None) -> Feature:
        """Integers hashed into bins."""
        return Feature("int32", layers.Hashing(num_bins, name=_named(name, "integer_hashed")), output_mode)

    # Adapting.

    def _adaptable(self) -> list[str]:
        return [name for name, layer in self.preprocessors.items() if hasattr(layer, "adapt") and not _is_given(layer)]

    def adapt(self, dataset, verbose=1):
        """Finds vocabularies, means, variances and boundaries.

        Args:
            dataset: A dict of columns, a pandas frame, or a data set of batches of either (with targets or without)
                that can be gone through again: once for each feature that has something to find.
            verbose: 0 nothing, 1 a bar of the features done, 2 one line at the end.

        Raises:
            ValueError: if a column is missing.
            TypeError: for a data set of another kind, such as a generator.
        """
        table = _as_columns(dataset)
        if table is None and (hasattr(dataset, "__next__") or not hasattr(dataset, "__getitem__")):
            if hasattr(dataset, "__next__") or not hasattr(dataset, "__iter__"):
                raise TypeError(
                    f"{self}: `adapt` takes a dict of columns, a frame, or a data set that can be gone through again. "
                    f"Got {type(dataset).__name__}."
                )
        # A pass for each feature: what one column needs is held alone, and `adapt` of layers takes batches anyway.
        for name in [name for name, filling in self.impute.items() if filling in missing.STRATEGIES]:
            columns = [table] if table is not None else [_as_columns(_inputs_of(batch)) for batch in _batches(dataset)]
            self.impute[name] = self._find_filling(
                name, [column[name] for column in columns if column and name in column]
            )
        adaptable = self._adaptable()
        progress = Progbar(len(adaptable), verbose=verbose if adaptable else 0, unit_name="feature")
        for done, name in enumerate(adaptable, 1):
            layer = self.preprocessors[name]
            if table is not None:
                layer.adapt(_column(self, table, name))
            else:
                layer.adapt(_column(self, _as_columns(_inputs_of(batch)), name) for batch in _batches(dataset))
            progress.update(done)
        self._is_adapted, self._encoded = True, None  # a new vocabulary gives other widths
        self.built = True

    def _find_filling(self, name: str, parts: list):
        if not parts:
            raise ValueError(f"{self}: there is no column {name!r}.")
        column = np.concatenate([np.ravel(part.to_numpy() if hasattr(part, "to_numpy") else part) for part in parts])
        try:
            return missing.filling_of(self.impute[name], column, self.features[name].dtype)
        except ValueError as error:
            raise ValueError(f"{self}: feature {name!r} cannot be filled: {error}") from None

    def _check_adapted(self):
        open_ones = [name for name, filling in self.impute.items() if filling in missing.STRATEGIES]
        found = list(dict.fromkeys([*self._adaptable(), *open_ones]))
        if not self._is_adapted and found:
            raise ValueError(f"{self}: call `adapt(data)` first; {', '.join(found)} need it.")

    # The call.

    def __call__(self, data):
        self._check_adapted()
        if any(map(is_graph_tensor, jax.tree.leaves(data))):
            return call_in_graph(self, (data,), {})
        columns = _as_columns(data)
        if columns is None:
            raise ValueError(f"{self}: expected a dict of columns or a frame. Got {type(data).__name__}.")
        # In a graph or under `jit` the layers themselves are called; else the host does it all.
        if any(isinstance(columns[name], (KerasTensor, Tracer)) for name in columns if name in self.features):
            return self._encode(columns, _call, ops.concatenate)
        # One example of plain values: it is encoded as a batch of one, and comes back without that axis.
        scalars = all(np.ndim(columns[name]) == 0 for name in self.features if name in columns)
        arrays = {name: _column(self, columns, name) for name in self.features}
        encoded = self._encode(arrays, _call_on_host, np.concatenate)
        return jax.tree.map(lambda array: array[0], encoded) if scalars else encoded

    def _encode(self, columns: dict, call, concatenate):
        """The encoded features; `call(layer, inputs)` and `concatenate` do a step on the host or in a graph."""
        if call is _call:  # in a graph; on the host columns have been filled
            columns = {name: self._fill_numbers(name, column) for name, column in columns.items()}
        prepared = {name: call(layer, columns[name]) for name, layer in self.preprocessors.items()}
        parts = {}
        for name in sorted(self.features):
            parts[name] = self._encode_one(name, prepared[name], self.features[name], self.preprocessors[name], call)
        # Features by name, then crosses by name: the order that Keras concatenates in.
        for cross in sorted(self.crosses, key=lambda cross: cross.name):
            inputs = [prepared[name] for name in cross.feature_names]
            for name, values in zip(cross.feature_names, inputs, strict=True):
                if not is_text(values) and np.dtype(values.dtype).kind not in "iu":
                    raise ValueError(f"{self}: the cross {cross.name!r} needs integers or text; {name!r} has numbers.")
            bins = call(self.crossers[cross.name], inputs)
            parts[cross.name] = self._encode_one(cross.name, bins, cross, self.crossers[cross.name], call)
        if self.output_mode == "dict":
            return parts
        for name, values in parts.items():
            if is_text(values) or np.dtype(values.dtype).kind in "iu":
                raise ValueError(
                    f"{self}: {name!r} has output_mode='int', which cannot be joined with others. "
                    "Use `output_mode='dict'`, or one_hot for this feature."
                )
        return concatenate(list(parts.values()), -1)

    def _fill_numbers(self, name: str, column):
        """A symbolic or traced column with its NaN filled; there is no other form of a missing value there."""
        if name not in self.features or not self.features[name].dtype.startswith("float"):
            return column
        filling = self.filling(name)
        return column if filling is None else ops.where(ops.isnan(column), filling, column)

    def _encode_one(self, name: str, values, feature, layer, call):
        if feature.output_mode != "one_hot":
            return values
        if is_text(values) or np.dtype(values.dtype).kind not in "iu":
            raise ValueError(f"{self}: {name!r} has output_mode='one_hot', so its layer must give integers.")
        count = _cardinality(layer)
        if count is None:
            raise ValueError(
                f"{self}: {name!r} has output_mode='one_hot', but {layer} does not say how many values there are. "
                "Use output_mode='int'."
            )
        if name not in self._encoders or self._encoders[name].num_tokens != count:  # a new vocabulary
            self._encoders[name] = layers.CategoryEncoding(count, name=f"{name}_one_hot")
        return call(self._encoders[name], values)

    # Symbolic tensors.

    def get_inputs(self) -> dict:
        """`Input`s of shape `(batch, 1)` by name, text among them, for a model that takes the raw columns."""
        if self._inputs is None:
            self._inputs = {
                name: layers.Input((1,), dtype=feature.dtype, name=name) for name, feature in self.features.items()
            }
        return self._inputs

    def get_encoded_features(self):
        """The symbolic encoded features, computed from `get_inputs()`: what to build a model from, and what one that
        takes encoded features begins with."""
        self._check_adapted()
        if self._encoded is None:
            self._encoded = self._encode(self.get_inputs(), _call, ops.concatenate)
        return self._encoded

    # Configs and files.

    compiled = False  # what a file of a model would say

    def save(self, filepath):
        """Writes a `.keras` file, from which `kerax.saving.load_model` makes the same space.

        Raises:
            ValueError: if it is not adapted, or the name has another ending.
        """
        self._check_adapted()
        path = path_of(filepath, f"{self}.save")
        if not path.endswith(".keras"):
            raise ValueError(f"{self}: the name of the file must end in '.keras'. Got {path!r}.")
        saving.save_model(self, path)

    def get_config(self) -> dict:
        """The constructor's arguments, with the vocabularies and boundaries that were found; means and variances are
        weights."""
        return {
            "features": serialize_keras_object(self.features),
            "output_mode": self.output_mode,
            "crosses": serialize_keras_object(self.crosses),
            "crossing_dim": self.crossing_dim,
            "hashing_dim": self.hashing_dim,
            "num_discretization_bins": self.num_discretization_bins,
            # Left out where it says nothing, for Keras does not know it.
            **({"impute": dict(self.impute)} if self.impute else {}),
        }

    def get_build_config(self) -> dict:
        """What the layers were built for, by the features' names."""
        return {name: layer.get_build_config() for name, layer in self.preprocessors.items()}

    def build_from_config(self, config: dict):
        """Builds the layers as `get_build_config` described; their weights are to be set then."""
        for name, inner in config.items():
            if inner and not self.preprocessors[name].built:
                self.preprocessors[name].build_from_config(inner)
        self._is_adapted = self.built = True


def _named(name: str | None, kind: str) -> str:
    return f"{name or kind}_preprocessor"


def _name_apart(preprocessors):
    """Numbers those that have one name, as two features of a kind that were given none have: graphs tell them apart."""
    taken: set[str] = set()
    for layer in {id(layer): layer for layer in preprocessors}.values():
        layer.name = unique(layer.name, taken)
        taken.add(layer.name)


def _is_given(layer) -> bool:
    """Whether a layer was told what `adapt` would find."""
    return getattr(layer, "_given", False) or getattr(layer, "input_mean", None) is not None


def _cardinality(layer) -> int | None:
    if hasattr(layer, "vocabulary_size"):
        return layer.vocabulary_size()
    # Boundaries that were given have a bin below the first and one above the last.
    if isinstance(layer, layers.Discretization) and layer.num_bins is None:
        return len(layer.bin_boundaries or ()) + 1
    return getattr(layer, "num_bins", None) or getattr(layer, "num_tokens", None)


def _as_columns(data) -> dict | None:
    """Columns by name of a dict or a frame."""
    if isinstance(data, dict):
        return data
    return {name: data[name] for name in data.columns} if hasattr(data, "columns") else None


def _inputs_of(batch):
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def _batches(dataset):
    return dataset if hasattr(dataset, "__iter__") else (dataset[index] for index in range(len(dataset)))


def _there(space: FeatureSpace, name: str, values):
    """The values, with the missing ones (`None`, NaN, and what frames have for them) filled as `impute` says.

    Raises:
        ValueError: for missing ones where it says nothing.
    """
    filling = space.filling(name)
    if filling is not None:
        return missing.filled(values, filling)
    found = missing.where_missing(values)
    if found.any():
        raise ValueError(
            f"{space}: feature {name!r} has {int(found.sum())} missing values of {found.size}, the first in row "
            f"{int(found.ravel().argmax())}. Give `impute='median'` or `'mean'` to have them filled, fill them "
            "yourself, for example by `frame.fillna(...)`, or leave these rows out."
        )
    return values


def _column(space: FeatureSpace, columns: dict | None, name: str) -> np.ndarray:
    """A column as an array `(rows, 1)`, or with more columns if it has them, in the feature's dtype."""
    if columns is None:
        raise ValueError(f"{space}: the data must be a dict of columns or a frame.")
    if name not in columns:
        raise ValueError(f"{space}: there is no column {name!r}.{suggest(name, columns)}")
    feature = space.features[name]
    values: Any = _there(space, name, columns[name])
    values = as_array(feature.preprocessor, values.to_numpy() if hasattr(values, "to_numpy") else values)
    # NumPy would turn numbers into text, and the other way round, without a word.
    if is_text(values) != (feature.dtype == "string"):
        held = "text" if is_text(values) else f"{np.asarray(values).dtype} numbers"
        raise ValueError(f"{space}: feature {name!r} expects {feature.dtype}. Got {held}.")
    values = np.asarray(values)
    if feature.dtype != "string":
        if np.dtype(feature.dtype).kind in "iu" and values.dtype.kind not in "iub":
            raise ValueError(f"{space}: feature {name!r} expects integers. Got {values.dtype}.")
        values = values.astype(feature.dtype) if np.dtype(feature.dtype).kind == "f" else values
    return values.reshape(-1, 1) if values.ndim < 2 else values


def _call(layer, inputs):
    return layer(inputs)


def _call_on_host(layer, inputs):
    """What `layer(inputs)` gives, in NumPy: a batch of a dozen features costs no dispatch to the device."""
    # By the exact class: a subclass may compute something else.
    kind = type(layer)
    if kind is layers.Identity:
        return inputs
    if kind is layers.Rescaling:
        return inputs * np.float32(layer.scale) + np.float32(layer.offset)
    if kind is layers.Normalization and layer.input_mean is None:
        mean, variance = np.asarray(layer.adapt_mean.value), np.asarray(layer.adapt_variance.value)
        # The least deviation is that of the layer, so that a constant column becomes zeros, not NaN.
        return (inputs - mean) / np.maximum(np.sqrt(variance), np.float32(1e-7))
    if kind is layers.Discretization:
        boundaries = np.asarray(layer.bin_boundaries, np.float32)
        return encode(layer, np.searchsorted(boundaries, inputs, side="right"), len(boundaries) + 1)
    if kind is layers.CategoryEncoding:
        return encode(layer, inputs.astype(np.int32), layer.num_tokens)
    if kind in (layers.IntegerLookup, layers.StringLookup, layers.Hashing, layers.HashedCrossing):
        return layer.call_on_host(inputs)
    return np.asarray(layer(inputs))
