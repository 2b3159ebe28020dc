"""Tables, texts and images as `data` describes them, and what is refused."""

import numpy as np
import pytest

from kerax.cli import ConfigError
from kerax.cli.config import Field
from kerax.cli.encode import encode, find_encoder

TABLE = ({"age": np.array([20.0, 30.0, 40.0]), "job": np.array(["cook", "nurse", "cook"])}, np.zeros(3))
TEXTS = (np.array(["to be or not", "to be"]), np.zeros(2))
IMAGES = (np.full((2, 2, 2), 8, np.uint8), np.zeros(2))


def encoded(data, options):
    field = Field(options, "run.yaml", "data")
    return encode(field, find_encoder(field, data[0]), data, data)


def test_tables_become_vectors():
    kinds = {"age": "float_rescaled", "job": "string_categorical"}
    (x, y), (x_test, _) = encoded(TABLE, {"features": {"features": kinds}})
    assert x.tolist() == x_test.tolist() == [[20, 0, 1, 0], [30, 0, 0, 1], [40, 0, 1, 0]] and len(y) == 3
    options = {"features": kinds, "crosses": [["job", "job"]], "output_mode": "dict", "crossing_dim": 4}
    (x, _), _ = encoded(TABLE, {"features": {**options, "features": {"job": "string_categorical"}}})
    assert {name: column.shape for name, column in x.items()} == {"job": (3, 3), "job_X_job": (3, 4)}


def test_texts_become_word_numbers():
    (x, _), _ = encoded(TEXTS, {"text": {"output_sequence_length": 3}})
    assert x.shape == (2, 3) and x[0, :2].tolist() == x[1, :2].tolist() and x[1, 2] == 0


def test_inputs_can_be_the_targets():
    (x, y), (_, y_test) = encoded(IMAGES, {"scale": 0.125, "targets": "inputs"})
    assert x.dtype == np.float32 and x.max() == x.min() == 1 and y is x and y_test.shape == (2, 2, 2)


@pytest.mark.parametrize(
    "data, options, message",
    [
        (IMAGES, {"scale": "big"}, "data.scale: expected a number"),
        (TABLE, {"scale": 2}, "data.scale: the data set has several inputs"),
        (IMAGES, {"features": {"features": {"age": "float"}}}, "data.features: the data set has no columns"),
        (TABLE, {"features": {"features": {"agee": "float"}}}, "data.features.features.agee: unknown name.*'age'"),
        (TABLE, {"features": {"features": {"age": "flot"}}}, "data.features: .*flot"),
        (TABLE, {"features": {"kinds": {}}}, "data.features.kinds: unknown name"),
        (IMAGES, {"text": {}}, "data.text: the data set is no list of texts"),
        (TEXTS, {"text": {"max_tokens": 0}}, "data.text: .*max_tokens"),
        (IMAGES, {"targets": "outputs"}, "data.targets: expected inputs"),
    ],
)
def test_what_does_not_suit_the_data_is_named(data, options, message):
    with pytest.raises(ConfigError, match=message):
        encoded(data, options)
