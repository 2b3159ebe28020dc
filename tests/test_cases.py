"""Every public layer of the table under every transformation, and against Keras with the same weights."""

import functools
import inspect
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kerax import dtype_policies, layers, tree
from kerax.core.symbolic import KerasTensor
from kerax.core.tracking import walk
from tests.cases import CASES

# Image augmentations and the like compile for long; their own tests cover them in the quick run.
LONG = re.compile(
    "Random|CutMix|MixUp|AugMix|RandAugment|Contrast|Equal|Mel|STFT|ConvLSTM[23]D|Adaptive.*3D|Auto|Solar|Pipeline|MaxNum"
    "|GroupQuery|.*Transpose|MultiHeadAttention-"
)
CASE_PARAMS = [
    pytest.param(name, marks=pytest.mark.slow if c.slow or LONG.match(name) else ()) for name, c in CASES.items()
]
every_case = pytest.mark.parametrize("name", CASE_PARAMS)
is_none = lambda value: value is None
is_shape = lambda value: isinstance(value, tuple) and all(size is None or isinstance(size, int) for size in value)


def arrays(shapes, high=None, seed=0):
    """Random arrays in the form of `shapes`."""
    generator = np.random.default_rng(seed)

    def make(shape):
        if not is_shape(shape):
            return shape
        return generator.integers(0, high, shape) if high else generator.normal(size=shape).astype("float32")

    return jax.tree.map(make, shapes, is_leaf=is_shape)


def arguments(case):
    return list(arrays(list(case.shapes), case.high)), arrays(case.call, seed=1)


@functools.cache
def built(name):
    """A built layer of the case with weights that are not the initial ones, and its variables."""
    case = CASES[name]
    inputs, call = arguments(case)
    layer = case.make(layers)
    layer.build_from(*inputs, **call)
    generator = np.random.default_rng(2)
    for variable in layer.weights:
        if jnp.issubdtype(variable.dtype, jnp.floating):
            variable.assign(np.abs(generator.normal(0.5, 0.3, variable.shape)))
    return layer, layer.variables_tree()


def pure(layer, call, training=False):
    """Outputs and new state as a function of variables, inputs and a key."""
    fixed = {name: value for name, value in call.items() if isinstance(value, bool)}
    if "training" in inspect.signature(layer.call).parameters:
        fixed["training"] = training
    return lambda variables, inputs, call, key: layer.apply(variables, *inputs, key=key, **call, **fixed)


def traced_call(call):
    return {name: value for name, value in call.items() if not isinstance(value, bool)}


def project(outputs):
    """A scalar whose gradient reaches every output."""
    leaves = [leaf for leaf in jax.tree.leaves(outputs) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return sum(jnp.sum(leaf * jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)) for leaf in leaves)


@functools.cache
def results(name):
    """Outputs, gradients, outputs by `jax.vmap`, training outputs and state: all of one compiled function."""
    case = CASES[name]
    inputs, call = arguments(case)
    layer, variables = built(name)
    evaluate, train = pure(layer, call), pure(layer, call, training=True)

    def everything(variables, inputs, call, key):
        def loss(params, inputs):
            outputs, _ = evaluate({**variables, "params": params}, inputs, call, key)
            return project(outputs), outputs

        argnums = (0,) if case.high else (0, 1)
        (_, outputs), grads = jax.value_and_grad(loss, argnums, has_aux=True)(variables["params"], inputs)
        twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), inputs)
        batched = {
            name: jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), value) for name, value in call.items()
        }
        mapped = jax.vmap(lambda inputs, call: evaluate(variables, inputs, call, key)[0])(twice, batched)
        return outputs, grads, mapped, train(variables, inputs, call, key)

    with jax.checking_leaks(), jax.numpy_dtype_promotion("strict"):  # no dtype is changed unless someone says so
        found = jax.jit(everything)(variables, inputs, traced_call(call), jax.random.key(3))
    return jax.device_get(found)


def assert_close(first, second, tolerance):
    first, second = jax.tree.leaves(first), jax.tree.leaves(second)
    assert [np.shape(leaf) for leaf in first] == [np.shape(leaf) for leaf in second]
    for one, other in zip(first, second):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@every_case
def test_compiled_pure_call_equals_eager_call(name):
    case = CASES[name]
    inputs, call = arguments(case)
    layer, variables = built(name)
    outputs = layer(*inputs, **call, training=False)
    assert_close(results(name)[0], outputs, 1e-5)
    assert_close(layer.variables_tree(), variables, 0)


@every_case
def test_gradients_are_finite(name):
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results(name)[1]))


@every_case
def test_vmap_equals_single_calls(name):
    outputs, _, mapped, _ = results(name)
    assert_close(jax.tree.map(lambda leaf: leaf[0], mapped), outputs, 1e-5)


@every_case
def test_training_call_is_finite_and_random_where_expected(name):
    case = CASES[name]
    outputs, _, _, (trained, state) = results(name)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((trained, state)))
    same = all(map(np.array_equal, jax.tree.leaves(outputs), jax.tree.leaves(trained)))
    assert not (case.has_seed and same)
    assert jax.tree.structure(state) == jax.tree.structure(built(name)[1]["state"])


@every_case
def test_shapes_and_dtypes_are_inferred(name):
    case = CASES[name]
    inputs, call = arguments(case)
    outputs = results(name)[0]
    layer = case.make(layers)
    dtype = "int32" if case.high else "float32"
    if not call or all(isinstance(value, bool) for value in call.values()):
        symbolic = jax.tree.map(
            lambda shape: KerasTensor((None, *shape[1:]), dtype), list(case.shapes), is_leaf=is_shape
        )
        inferred = jax.tree.leaves(layer(*symbolic, **call))
        expected = [(None, *np.shape(leaf)[1:]) for leaf in jax.tree.leaves(outputs)]
        assert [tensor.shape for tensor in inferred] == expected
        assert [tensor.dtype for tensor in inferred] == [leaf.dtype.name for leaf in jax.tree.leaves(outputs)]
    before = dtype_policies.dtype_policy()
    dtype_policies.set_dtype_policy("mixed_bfloat16")
    try:
        half = case.make(layers)
        half.build_from(*inputs, **call)
        specs = jax.eval_shape(
            lambda variables, inputs, call: pure(half, arguments(case)[1], training=True)(
                variables, inputs, call, jax.random.key(0)
            )[0],
            jax.eval_shape(half.init, jax.random.key(0)),
            inputs,
            traced_call(call),
        )
    finally:
        dtype_policies.set_dtype_policy(before)
    expected = "bfloat16" if half.quantization_mode is None else "float32"  # the case names its own policy
    assert {leaf.dtype.name for leaf in jax.tree.leaves(specs)} == {expected}
    assert {variable.dtype for variable in half.weights if "int" not in variable.dtype} <= {"float32"}


def without_build_configs(config):
    """A config as text, without the shapes that layers inside were built with."""
    drop = lambda found: {name: value for name, value in found.items() if name != "build_config"}
    return json.dumps(json.loads(json.dumps(config), object_hook=drop))


@every_case
def test_config_makes_the_same_layer(name):
    case = CASES[name]
    layer, variables = built(name)
    config = layer.get_config()
    again = type(layer).from_config(json.loads(json.dumps(config)))
    assert without_build_configs(again.get_config()) == without_build_configs(config)
    inputs, call = arguments(case)
    specs = jax.eval_shape(lambda key: again.init(key, *inputs, **call), jax.random.key(0))
    assert jax.tree.map(jnp.shape, specs) == jax.tree.map(jnp.shape, variables)


CLASSES = sorted(
    {value for value in vars(layers).values() if inspect.isclass(value) and issubclass(value, layers.Layer)},
    key=lambda cls: cls.__name__,
)


def test_every_layer_has_a_case():
    missing = {cls.__name__ for cls in CLASSES} - {name.partition("-")[0] for name in CASES}
    assert missing == {"FlaxLayer", "InputLayer", "Layer", "Stack", "StringLookup", "TextVectorization", "Wrapper"}


@pytest.mark.parametrize("cls", CLASSES)
def test_wrong_argument_is_named_with_a_suggestion(cls):
    if cls in (layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D, layers.Pipeline):
        pytest.skip("takes no further arguments, so Python itself refuses them")
    if cls is layers.FlaxLayer:
        pytest.importorskip("flax")
    first = {
        "layer": layers.Dense(2),
        "cell": layers.LSTMCell(2),
        "cells": [layers.LSTMCell(2)],
        "rate": 0.5,
        "axes": 1,
    }
    first |= {"equation": "ab,bc->ac", "output_shape": 2, "activation": "relu", "function": np.tanh, "shape": (2,)}
    first |= {"target_shape": (2,), "dims": (1,), "mean": None}
    if cls is layers.Bidirectional:
        first["layer"] = layers.LSTM(2)
    parameters = inspect.signature(cls.__init__).parameters.values()
    needed = [
        p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"
    ]
    kwargs = {name: first.get(name, 1) for name in needed} | ({"shape": (2,)} if cls is layers.InputLayer else {})
    with pytest.raises(TypeError, match="unknown argument 'trainble'. Did you mean 'trainable'?"):
        cls(**kwargs, trainble=True)


@every_case
def test_agrees_with_keras(name):
    import keras

    case = CASES[name]
    if not case.agrees:
        pytest.skip("has no counterpart of the same arguments")
    inputs, call = arguments(case)
    layer, _ = built(name)
    theirs = case.make(keras.layers)
    theirs(*map(_to_keras, inputs), **{name: _to_keras(value) for name, value in call.items()})
    assert [tuple(weight.shape) for weight in theirs.weights] == [weight.shape for weight in layer.weights]
    # Keras numbers names over all layers of a process.
    found, expected = ([re.sub(r"_\d+", "", weight.path) for weight in one.weights] for one in (layer, theirs))
    assert found == expected
    theirs.set_weights(layer.get_weights())
    layer.set_weights(theirs.get_weights())
    if hasattr(theirs, "finalize_state"):
        theirs.finalize_state()
    fixed = {name: value for name, value in call.items() if isinstance(value, bool)}
    takes_training = "training" in inspect.signature(theirs.call).parameters
    other = [variable.value for variable in theirs.non_trainable_variables]

    def run(trainable, inputs, call, training):
        kwargs = {"training": training} if takes_training else {}
        return theirs.stateless_call(trainable, other, *inputs, **call, **fixed, **kwargs)

    def loss(trainable, inputs, call):
        outputs, _ = run(trainable, inputs, call, False)
        return project(outputs), outputs

    @jax.jit
    def everything(trainable, inputs, call):
        argnums = (0,) if case.high else (0, 1)
        (_, outputs), grads = jax.value_and_grad(loss, argnums, has_aux=True)(trainable, inputs, call)
        return outputs, grads, run(trainable, inputs, call, True) if case.training else None

    trainable = [variable.value for variable in theirs.trainable_variables]
    outputs, grads, trained = everything(trainable, inputs, traced_call(call))
    own_outputs, own_grads, _, (own_trained, own_state) = results(name)
    assert_close(own_outputs, outputs, 1e-5)
    own_params = tree.unnest(own_grads[0])
    assert_close([own_params[path] for path, variable in walk(layer) if variable.trainable], grads[0], 1e-4)
    assert_close(own_grads[1:], grads[1:], 1e-4)
    if case.training:
        assert_close(own_trained, trained[0], 1e-5)
        own_state = tree.unnest(own_state)
        own_other = [own_state[path] for path, variable in walk(layer) if path in own_state]
        assert_close(
            own_other, [value for value in trained[1] if value.dtype != "uint32"][-len(own_other) or None :], 1e-5
        )


def _to_keras(value):
    return jax.tree.map(jnp.asarray, value) if not isinstance(value, bool) else value


def described(config):
    """A config without what must differ: modules, and names that are numbered over all layers of a process."""
    if isinstance(config, dict) and "dtype" in config and isinstance(config["dtype"], str):
        config = config | {"dtype": {"class_name": "DTypePolicy", "config": {"name": config["dtype"]}}}
    if isinstance(config, dict):
        left_out = ("module", "registered_name", "build_config", "name", "seed")
        return {name: described(value) for name, value in config.items() if name not in left_out}
    if isinstance(config, (list, tuple)):
        return [described(value) for value in config]
    return config


@every_case
def test_config_and_shape_agree_with_keras(name):
    import keras

    case = CASES[name]
    if not case.agrees:
        pytest.skip("has no counterpart of the same arguments")
    layer, _ = built(name)
    theirs = case.make(keras.layers)
    own, other = layer.get_config(), theirs.get_config()
    if name == "RandomShear":  # Keras does not read what it writes, a pair with a negative number
        other |= {"x_factor": own["x_factor"], "y_factor": own["y_factor"]}
    assert set(own) - set(other) <= {"trainable", "seed"}
    assert set(other) <= set(own)
    assert described({name: own[name] for name in other}) == described(other)
    type(theirs).from_config(own)
    type(layer).from_config(other)
    if len(case.shapes) == 1 and not case.call:
        shape = jax.tree.map(lambda s: (None, *s[1:]), case.shapes[0], is_leaf=is_shape)
        expected = theirs.compute_output_shape(shape)
        found = case.make(layers).compute_output_shape(shape)
        sizes = zip(jax.tree.leaves(found, is_leaf=is_none), jax.tree.leaves(expected, is_leaf=is_none))
        assert all(ours == other or other is None for ours, other in sizes), (found, expected)
