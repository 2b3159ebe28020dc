"""Tables and texts of a data set as the numbers that a compiled model takes, as `data` describes it."""

import inspect
from typing import Any

import jax
import numpy as np

from kerax import layers
from kerax.cli.config import Field
from kerax.utils import FeatureSpace

# What `data` may hold beside the loader's own arguments: the kind of each value, and what it does.
OPTIONS = {
    "scale": ("number", "Factor on the inputs, as float32."),
    "features": ("mapping", "Arguments of FeatureSpace, which makes vectors of the columns."),
    "text": ("mapping", "Arguments of TextVectorization, which makes word numbers of texts."),
    "targets": ("text", "`inputs`: the inputs are what the model is to give."),
}


def find_encoder(field: Field, x_train) -> FeatureSpace | layers.TextVectorization | None:
    """What makes numbers of tables (`features`) or texts (`text`), having learned from the part for training.

    Raises:
        ConfigError: for options that are wrong or do not suit the data.
    """
    if "features" in field.value:
        return _learn_features(field["features"], x_train)
    return _learn_text(field["text"], x_train) if "text" in field.value else None


def encode(field: Field, encoder: Any, train: tuple, test: tuple) -> tuple[tuple, tuple]:
    """The parts of a data set with the options of `data` applied.

    `features` and `text`: what `find_encoder` found makes numbers of columns and texts.
    `scale`: a number that the inputs, as float32, are multiplied by.
    `targets: inputs`: the inputs are what the model is to give.

    Raises:
        ConfigError: for options that are wrong or do not suit the data.
    """
    (x_train, y_train), (x_test, y_test) = train, test
    if encoder is not None:
        x_train, x_test = (jax.tree.map(np.asarray, encoder(x)) for x in (x_train, x_test))
    # After `text` and `features`, for what is scaled is what the model gets; before targets that are those inputs.
    x_train, x_test = scale(field, x_train), scale(field, x_test)
    if "targets" in field.value:
        if field["targets"].value != "inputs":
            raise field["targets"].error(f"expected inputs, or nothing. Got {field['targets'].value!r}.")
        y_train, y_test = x_train, x_test
    return (x_train, y_train), (x_test, y_test)


def scale(field: Field, inputs):
    """Inputs times the `scale` of `data`, as float32; as they are if there is none. Raises `ConfigError`."""
    if "scale" not in field.value:
        return inputs
    if isinstance(inputs, dict):
        raise field["scale"].error("the data set has several inputs, which `features` can scale.")
    return inputs.astype(np.float32) * np.float32(field["scale"].expect((int, float), "a number").value)


def _learn_features(field: Field, x_train) -> FeatureSpace:
    field.expect_names(list(inspect.signature(FeatureSpace).parameters), required=["features"])
    if not isinstance(x_train, dict):
        raise field.error(f"the data set has no columns but arrays of shape {x_train.shape}.")
    field["features"].expect_names(list(x_train))
    arguments = dict(field.value)
    if "crosses" in arguments:
        # YAML has lists only; a tuple is a cross by its features' names.
        arguments["crosses"] = [tuple(names) for names in field["crosses"].expect(list).value]
    space = field.call(FeatureSpace, arguments)
    field.call(lambda: space.adapt({name: x_train[name] for name in space.features}))
    return space


def _learn_text(field: Field, x_train) -> layers.TextVectorization:
    field.expect_names(list(inspect.signature(layers.TextVectorization).parameters))
    if isinstance(x_train, dict) or x_train.dtype.kind != "U":
        raise field.error("the data set is no list of texts.")
    layer = field.call(layers.TextVectorization, field.value)
    layer.adapt(x_train)  # never the test part: its words would tell about what is to be unknown
    return layer
