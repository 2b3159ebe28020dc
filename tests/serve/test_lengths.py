"""Rows of any length, filled up to a few."""

import re

import numpy as np
import pytest

import kerax
from kerax import layers
from tests.serve.client import get, post

pytest.importorskip("starlette")
from kerax.serve.lengths import Lengths
from kerax.serve.tensors import TensorSpec


def tokens_model(mask=True, pooling=layers.GlobalAveragePooling1D):
    return kerax.Sequential(
        [
            kerax.Input((None,), dtype="int32", name="tokens"),
            layers.Embedding(20, 4, mask_zero=mask),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            pooling(),
            layers.Dense(2),
        ]
    )


def causal_model():
    """A number for each token, which only those before it tell of."""
    tokens = kerax.Input((None,), dtype="int32", name="tokens")
    x = layers.Embedding(20, 8)(tokens)
    return kerax.Model(tokens, layers.Dense(3)(layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)))


def masked_series():
    series = kerax.Input((None, 2), name="series")
    return kerax.Model(series, layers.GRU(3)(layers.Masking(-1.0)(series)))


@pytest.fixture
def serving():
    made = []

    def make(models, **options):
        made.append(kerax.serve.Server(models, max_batch=4, **options))
        made[-1].wait()
        return made[-1]

    yield make
    for server in made:
        server.close()


def ask(server, x):
    answer = post(server, "/v1/models/m:predict", {"instances": x.tolist()})
    assert answer.status == 200, answer
    return np.array(answer.json()["predictions"])


def tokens(length, rows=3):
    return np.random.default_rng(length).integers(1, 20, (rows, length)).astype("int32")


def series(length, rows=3):
    return np.random.default_rng(length).normal(size=(rows, length, 2)).astype("float32")


@pytest.mark.medium
@pytest.mark.parametrize(
    ("make", "rows", "pad_value"),
    [(tokens_model, tokens, 0), (causal_model, tokens, 0), (causal_model, tokens, 7), (masked_series, series, -1)],
)
def test_rows_are_filled_up_and_keep_their_numbers(serving, compilations, make, rows, pad_value):
    model = make()
    server = serving({"m": model}, lengths=[12, 6], pad_value=pad_value)
    assert server.is_ready, server.repository.find("m").error
    lengths = (1, 2, 5, 6, 7, 12)
    with compilations() as compiled:
        found = [ask(server, rows(length)) for length in lengths]
    assert compiled == []
    for length, outputs in zip(lengths, found):
        expected = model.predict(rows(length), verbose=0)
        assert outputs.shape == expected.shape
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)
    assert "kerax_late_programs_total{" not in get(server, "/metrics").body.decode()


@pytest.mark.medium
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (tokens_model(mask=False), "rows of length 1 give another 'output_0'"),
        (tokens_model(mask=False, pooling=layers.GlobalMaxPooling1D), "rows of length 1 give another"),
        # What has no use of masks: from which length on the filled up rows hold the largest, the weights decide.
        (tokens_model(pooling=layers.GlobalMaxPooling1D), "rows of length"),
        (
            kerax.Sequential([kerax.Input((None, 2), name="series"), layers.Conv1D(3, 4), layers.ReLU()]),
            "rows of length 3 give another",
        ),
    ],
)
def test_a_model_whose_numbers_that_changes_is_not_served(serving, model, words):
    server = serving({"m": model}, lengths=[6], pad_value=0)
    assert not server.is_ready
    assert words in server.repository.find("m").error and "mask that value" in server.repository.find("m").error


@pytest.mark.medium
def test_lengths_alone_are_compiled_and_fill_nothing_up(serving, compilations):
    model = tokens_model(mask=False)
    server = serving({"m": model}, lengths=[6, 9])
    with compilations() as compiled:
        found = [ask(server, tokens(length)) for length in (6, 9)]
    assert compiled == []
    found += [ask(server, tokens(length)) for length in (5, 7, 7)]
    for length, outputs in zip((6, 9, 5, 7, 7), found):
        np.testing.assert_allclose(outputs, model.predict(tokens(length), verbose=0), rtol=1e-4, atol=1e-6)
    counted = re.findall(
        r'kerax_late_programs_total{.*shape="(.*?)".*} ([\d.]+)', get(server, "/metrics").body.decode()
    )
    assert counted == [("4x5", "1.0"), ("4x7", "1.0")]


@pytest.mark.medium
def test_many_late_shapes_leave_the_prepared_programs(serving, compilations, monkeypatch):
    monkeypatch.setattr("kerax.serve.models._MOST_PROGRAMS", 2)
    monkeypatch.setattr("kerax.serve.metrics._MOST_SHAPES", 2)
    server = serving({"m": tokens_model()}, lengths=[6])
    for length in (2, 3, 4, 5):
        ask(server, tokens(length))
    with compilations() as compiled:
        ask(server, tokens(6))
    assert compiled == []
    assert 'shape="others"' in get(server, "/metrics").body.decode()


def test_texts_of_known_lengths_are_compiled(serving, compilations):
    vectorize = layers.TextVectorization(vocabulary=["good", "bad", "film"])
    inputs = kerax.Input((), dtype="string", name="text")
    embedded = layers.Embedding(6, 2, mask_zero=True)(vectorize(inputs))
    server = serving({"m": kerax.Model(inputs, layers.GlobalAveragePooling1D()(embedded))}, lengths=[4])
    with compilations() as compiled:
        ask(server, np.array(["a good bad film"]))
    assert compiled == []


@pytest.mark.medium
def test_files_of_onnx_are_filled_up(serving, tmp_path):
    pytest.importorskip("onnxruntime")
    model = tokens_model()
    model.export(tmp_path / "m.onnx", format="onnx", verbose=False)
    server = serving({"m": tmp_path / "m.onnx"}, lengths=[6], pad_value=0)
    assert server.is_ready, server.repository.find("m").error
    np.testing.assert_allclose(ask(server, tokens(4)), model.predict(tokens(4), verbose=0), rtol=1e-4, atol=1e-6)


SPECS = [TensorSpec("a", "float32", (None, 2)), TensorSpec("b", "int32", (None,)), TensorSpec("c", "float32", (3,))]


def test_only_rows_of_one_length_are_filled_up():
    lengths = Lengths([4, 8], 0, SPECS, SPECS)
    arrays = [np.ones((2, 3, 2)), np.ones((2, 3), "int32"), np.ones((2, 3))]
    filled, size = lengths.fill(arrays)
    assert [array.shape for array in filled] == [(2, 4, 2), (2, 4), (2, 3)] and size == 3
    assert filled[0][:, 3:].max() == 0 and filled[1].dtype == "int32"
    assert [array.shape for array in lengths.cut(filled, size)] == [array.shape for array in arrays]
    arrays[1] = np.ones((2, 4), "int32")
    assert lengths.fill(arrays) == (arrays, None)
    for size in (0, 9):
        arrays = [np.ones((2, size, 2)), np.ones((2, size), "int32"), arrays[2]]
        assert lengths.fill(arrays) == (arrays, None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lengths": [4], "pad_value": 0.5}, "'b', int32 of shape [rows, any], cannot be filled up with 0.5"),
        ({"lengths": [0]}, "integer of at least 1"),
        ({"lengths": ["4"]}, "integer of at least 1"),
        ({"lengths": {"n": [4]}}, "there is no model 'n'"),
    ],
)
def test_wrong_lengths_and_values_are_told(options, words):
    a, b = kerax.Input((None,), name="a"), kerax.Input((None,), dtype="int32", name="b")
    model = kerax.Model([a, b], layers.Add()([a, b]))
    with pytest.raises(ValueError, match=re.escape(words)):
        kerax.serve.app({"m": model}, **options)
