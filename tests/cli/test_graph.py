"""Functional models from configs: branches, several inputs and outputs, and what is wrong with others."""

import numpy as np
import pytest

from kerax.cli import ConfigError, build_model, resolve_config

COMPILE = {"optimizer": "sgd", "loss": "mse"}


def build(model, compile=COMPILE):
    config = {"run_dir": "runs", "data": {"name": "digits"}, "model": {"class_name": "Functional", **model}}
    return build_model(resolve_config({**config, "compile": compile}, {}, "run.yaml"))


@pytest.mark.medium
def test_branches_join_again():
    model = build(
        {
            "name": "branches",
            "inputs": {"x": {"shape": [4, 6]}},
            "layers": {
                "norm": "LayerNormalization",
                "heads": {
                    "MultiHeadAttention": {"num_heads": 2, "key_dim": 3},
                    "of": ["norm", "norm"],
                    "call": {"use_causal_mask": True},
                },
                "sum": {"Add": None, "of": ["x", "heads"]},
                "flat": "Flatten",
                "out": {"Dense": {"units": 2}},
            },
        }
    )
    assert model.name == "branches" and [layer.name for layer in model.layers[1:]] == "norm heads sum flat out".split()
    x = np.random.default_rng(0).normal(size=(3, 4, 6)).astype("float32")
    assert model.predict(x, verbose=0).shape == (3, 2)
    summed = np.asarray(model.get_layer("heads")(*[model.get_layer("norm")(x)] * 2, use_causal_mask=True)) + x
    expected = model.get_layer("out")(summed.reshape(3, -1))
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.medium
def test_inputs_and_outputs_have_names():
    model = build(
        {
            "inputs": {"size": {"shape": [3]}, "kind": {"shape": [1], "dtype": "int32"}},
            "layers": {
                "vector": {"Embedding": {"input_dim": 4, "output_dim": 2}},
                "flat": "Flatten",
                "both": {"Concatenate": {}, "of": ["size", "flat"]},
                "age": {"Dense": {"units": 1}},
                "sex": {"Dense": {"units": 3, "activation": "softmax"}, "of": "both"},
            },
            "outputs": {"age": "age", "sex": "sex"},
        },
        {"optimizer": "sgd", "loss": {"age": "mse", "sex": "sparse_categorical_crossentropy"}},
    )
    x = {"size": np.ones((4, 3), "float32"), "kind": np.zeros((4, 1), "int32")}
    y = {"age": np.ones((4, 1), "float32"), "sex": np.zeros(4, "int32")}
    assert set(model.predict(x, verbose=0)) == {"age", "sex"}
    history = model.fit(x, y, verbose=0).history
    assert set(history) == {"loss", "age_loss", "sex_loss"}


def test_outputs_may_be_a_list():
    layers = {"a": {"Dense": {"units": 1}}, "b": {"Dense": {"units": 2}, "of": "x"}}
    model = build({"inputs": {"x": {"shape": [3]}}, "layers": layers, "outputs": ["b", "a"]})
    assert [tuple(output.shape) for output in model.outputs] == [(None, 2), (None, 1)]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"layers": {"a": {"Dense": {"units": 1}, "of": "y"}}}, "model.layers.a.of: nothing before it is named 'y'"),
        ({"layers": {"x": {"Dense": {"units": 1}}}}, "model.layers.x: an input has this name too"),
        ({"layers": {"a": {"Dens": {"units": 1}}}}, "unknown layer 'Dens'.*did you mean 'Dense'"),
        ({"layers": {"a": {"Dense": {"unit": 1}}}}, "model.layers.a.Dense.unit: unknown name"),
        ({"layers": {"a": 3}}, "model.layers.a: expected ClassName or"),
        ({"layers": {"a": {"Add": {}}}}, "model.layers.a: .*list of inputs"),
        ({"inputs": {"x": {"dtype": "int32"}}}, "model.inputs.x: 'shape' is missing"),
        ({"outputs": ["c"]}, "model.outputs: nothing before it is named 'c'"),
        ({"outputs": {"c": "d"}}, "model.outputs.c: nothing before it is named 'd'"),
        ({"input_shape": [3]}, "model.input_shape: unknown name"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    good = {"inputs": {"x": {"shape": [3]}}, "layers": {"a": {"Dense": {"units": 1}}}}
    with pytest.raises(ConfigError, match=f"(?i){message}"):
        build({**good, **change})
