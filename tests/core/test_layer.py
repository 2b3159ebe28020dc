"""Layers as Keras users write them, and the pure pair derived from them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers


class Linear(kerax.Layer):
    """The custom layer of Keras's guide."""

    def __init__(self, units=32, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="random_normal", trainable=True)
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", trainable=True)

    def call(self, inputs):
        return kerax.ops.matmul(inputs, self.w) + self.b


class EagerWeights(kerax.Layer):
    """Weights made in `__init__`, one of them not trained."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, inputs):
        self.calls.assign_add(1.0)
        return inputs * self.scale.value


class Block(kerax.Layer):
    """Sublayers in attributes, lists and dicts, and no `build`."""

    def __init__(self):
        super().__init__()
        self.first = Linear(4)
        self.rest = [Linear(3), Linear(3)]
        self.heads = {"a": layers.Dense(2), "b": layers.Dense(1)}

    def call(self, inputs, training=False):
        x = self.first(inputs)
        for layer in self.rest:
            x = layer(x)
        return self.heads["a"](x), self.heads["b"](x)


X = np.linspace(-1, 1, 10, dtype=np.float32).reshape(2, 5)


def test_a_custom_layer_works_eagerly_and_purely(key):
    layer = Linear(3)
    y = layer(X)
    np.testing.assert_allclose(y, X @ layer.w.numpy() + layer.b.numpy(), rtol=1e-5)
    variables = layer.init(key, X)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"w": (5, 3), "b": (3,)}, "state": {}}
    pure, _ = jax.jit(layer.apply)(variables, X)
    np.testing.assert_allclose(pure, X @ variables["params"]["w"] + variables["params"]["b"], rtol=1e-5)
    np.testing.assert_allclose(layer(X), y)  # `init` and `apply` touched nothing


@pytest.mark.medium
def test_trees_are_keyed_by_structure():
    block = Block()
    block(X)
    params = block.variables_tree()["params"]
    assert sorted(params) == ["first", "heads", "rest"]
    assert sorted(params["rest"]) == ["0", "1"] and sorted(params["heads"]) == ["a", "b"]
    assert block.rest[1].w.path == f"block/{block.rest[1].name}/w"


def test_the_same_code_gives_the_same_tree_and_the_same_weights_twice():
    trees = []
    for _ in range(2):
        kerax.utils.set_random_seed(3)
        model = kerax.Sequential([layers.Dense(3), layers.Dense(3), layers.Dense(2)])
        model.build((None, 4))
        trees.append(model.variables_tree())
    assert list(trees[0]["params"]) == ["dense", "dense_1", "dense_2"]
    jax.tree.map(np.testing.assert_array_equal, trees[0], trees[1])


@pytest.mark.medium
def test_adding_a_layer_never_changes_how_another_starts(key):
    small, large = Block(), Block()
    large.extra = Linear(7)
    call = large.call
    large.__class__ = type("Larger", (Block,), {"call": lambda self, x: (call(x), self.extra(x))})
    first, second = small.init(key, X)["params"], large.init(key, X)["params"]
    assert set(second) - set(first) == {"extra"}
    jax.tree.map(np.testing.assert_array_equal, first, {name: second[name] for name in first})


def test_state_goes_in_and_comes_out(key):
    layer = EagerWeights()
    variables = layer.init(key, X)
    assert variables == {"params": {"scale": 1.0}, "state": {"calls": 0.0}}
    _, state = layer.apply(variables, X)
    assert state == {"calls": 1.0} and float(layer.calls.value) == 0
    layer(X)
    assert float(layer.calls.value) == 1


@pytest.mark.medium
def test_the_pure_pair_survives_every_transformation(key):
    model = kerax.Sequential([Linear(4), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(2)])
    variables = model.init(key, X)

    def loss(params, state, x, key):
        y, state = model.apply({"params": params, "state": state}, x, training=True, key=key)
        return jnp.mean(y**2), state

    with jax.checking_leaks():
        (_, state), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(*variables.values(), X, key)
        assert jax.tree.structure(grads) == jax.tree.structure(variables["params"])

        def body(state, key):
            value, state = jax.checkpoint(loss)(variables["params"], state, X, key)
            return state, value

        state, values = jax.lax.scan(body, state, jax.random.split(key, 3))
        assert values.shape == (3,)
        ys, _ = jax.vmap(lambda x: model.apply(variables, x))(np.stack([X, X]))
        np.testing.assert_allclose(ys[0], model.apply(variables, X)[0], rtol=1e-5)


def test_a_random_layer_without_a_key_says_so(key):
    layer = layers.Dropout(0.5)
    with pytest.raises(ValueError, match="key"):
        layer.apply({}, X, training=True)
    first, _ = layer.apply({}, X, training=True, key=key)
    second, _ = layer.apply({}, X, training=True, key=key)
    np.testing.assert_array_equal(first, second)


def test_apply_names_a_missing_or_misshapen_variable(key):
    layer = Linear(3)
    variables = layer.init(key, X)
    with pytest.raises(ValueError, match=r"no value for 'b'"):
        layer.apply({"params": {"w": variables["params"]["w"]}}, X)
    with pytest.raises(ValueError, match=r"'w' must have shape \(5, 3\)"):
        layer.apply({"params": variables["params"] | {"w": jnp.ones((2, 2))}}, X)


def test_training_flows_into_sublayers_that_were_not_told():
    seen = []

    class Spy(kerax.Layer):
        def call(self, inputs, training=None):
            seen.append(training)
            return inputs

    class Outer(kerax.Layer):
        def __init__(self):
            super().__init__()
            self.spy = Spy()

        def call(self, inputs):
            return self.spy(inputs)

    Outer()(X, training=True)
    assert seen[-1] is True
    Spy()(X)
    assert seen[-1] is None


def test_masks_travel_and_are_computed():
    tokens = np.array([[1, 2, 0], [3, 0, 0]])
    embedding = layers.Embedding(5, 4, mask_zero=True)
    lstm = layers.LSTM(3)
    lstm.build((None, 3, 4))
    embedded = embedding(tokens)
    masked = lstm(embedded)
    short = lstm(np.asarray(embedded)[1:, :1])
    np.testing.assert_allclose(masked[1:], short, rtol=1e-5)


def test_set_variables_tree_is_strict(key):
    layer = Linear(3)
    layer(X)
    tree = layer.variables_tree()
    layer.set_variables_tree(jax.tree.map(jnp.zeros_like, tree))
    assert not layer.w.numpy().any()
    with pytest.raises(ValueError, match=r"Missing: \['b'\]. Unknown: \['c'\]"):
        layer.set_variables_tree({"params": {"w": tree["params"]["w"], "c": tree["params"]["b"]}})


def test_freezing_moves_nothing_between_the_trees():
    layer = Linear(3)
    layer(X)
    before = jax.tree.structure(layer.variables_tree())
    layer.trainable = False
    assert jax.tree.structure(layer.variables_tree()) == before
    assert layer.trainable_weights == [] and len(layer.non_trainable_weights) == 2


def test_config_is_captured_and_round_trips():
    layer = Linear(7, name="mine", dtype="mixed_bfloat16")
    config = layer.get_config()
    assert config["units"] == 7 and config["name"] == "mine"
    again = Linear.from_config(config)
    assert again.units == 7 and again.dtype_policy.name == "mixed_bfloat16"


def test_mixed_precision_reads_weights_in_the_compute_dtype():
    layer = Linear(3, dtype="mixed_bfloat16")
    assert layer(X).dtype == jnp.bfloat16
    assert layer.w.value.dtype == jnp.float32


def test_forgetting_super_init_is_named():
    class Forgetful(kerax.Layer):
        def __init__(self):
            self.units = 3

        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match=r"Forgetful: `super\(\).__init__\(\)` was not called"):
        Forgetful()(X)


def test_an_unknown_argument_gets_a_suggestion():
    with pytest.raises(TypeError, match=r"Dense: unknown argument 'activaton'.*Did you mean 'activation'"):
        layers.Dense(3, activaton="relu")


def test_wrong_call_arguments_name_the_layer():
    with pytest.raises(TypeError, match=r"<Linear name=linear>.*`call` takes \(inputs\)"):
        Linear(3)(X, X)


def test_the_wrong_number_of_features_is_refused():
    layer = layers.Dense(3)
    layer(X)
    with pytest.raises(ValueError, match=r"expected axis -1 of the input to have size 5"):
        layer(np.ones((2, 6), np.float32))


def test_passing_a_variable_to_jax_numpy_is_explained():
    class Wrong(Linear):
        def call(self, inputs):
            return jnp.matmul(inputs, self.w)

    with pytest.raises((TypeError, ValueError)) as raised:
        Wrong(3)(X)
    assert any(".value" in note for note in raised.value.__notes__)


@pytest.mark.medium
def test_a_variable_becomes_an_array_where_jax_asks_for_one():
    weight = kerax.Variable(np.arange(4, dtype="int8").reshape(2, 2))
    for made in (jnp.asarray(weight), jnp.stack([weight])[0], kerax.Variable(weight).value):
        np.testing.assert_array_equal(made, weight.numpy())
    packed, _, _ = kerax.quantizers.pack_int4(weight)
    np.testing.assert_array_equal(kerax.quantizers.unpack_int4(kerax.Variable(packed), 2), weight.numpy())


def test_tracebacks_end_in_the_users_line():
    class Buggy(kerax.Layer):
        def call(self, inputs):
            return jnp.ones((3,)) + jnp.ones((4,))  # the user's line

    model = kerax.Sequential([Buggy()])
    with pytest.raises(TypeError) as raised:
        model(X)
    frames, frame = [], raised.value.__traceback__
    while frame is not None:
        frames.append(frame.tb_frame.f_code)
        frame = frame.tb_next
    assert frames[-1].co_name == "call" and frames[-1].co_filename == __file__
    assert any("<Buggy name=buggy>" in note for note in raised.value.__notes__)
    kerax.config.disable_traceback_filtering()
    try:
        with pytest.raises(TypeError) as raised:
            model(X)
        depth, frame = 0, raised.value.__traceback__
        while frame is not None:
            depth, frame = depth + 1, frame.tb_next
        assert depth > len(frames)
    finally:
        kerax.config.enable_traceback_filtering()


def test_losses_of_layers_are_collected(key):
    class Penalised(kerax.Layer):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2, kernel_regularizer=kerax.regularizers.L2(0.5), kernel_initializer="ones")

        def call(self, inputs):
            self.add_loss(jnp.sum(inputs**2))
            return self.dense(inputs)

    layer = Penalised()
    layer(X)
    np.testing.assert_allclose(sorted(map(float, layer.losses)), sorted([float((X**2).sum()), 5.0]), rtol=1e-5)


def test_stateless_call_has_kerass_order():
    layer = EagerWeights()
    outputs, other = layer.stateless_call([jnp.float32(2)], [jnp.float32(5)], X)
    np.testing.assert_allclose(outputs, 2 * X)
    assert float(other[0]) == 6 and float(layer.calls.value) == 0


def test_hops_from_layer_to_op():
    import sys

    depth = {}

    class Spy(kerax.Layer):
        def call(self, inputs):
            frame, count = sys._getframe(), 0
            while frame.f_code.co_name != "test_hops_from_layer_to_op":
                frame, count = frame.f_back, count + 1
            depth["frames"] = count
            return inputs

    layer = Spy()
    layer(X)
    assert depth["frames"] <= 2  # `Layer.__call__` and `call`


REAL_LAYERS = {
    "Dense": (lambda: layers.Dense(3), (2, 4), "jit"),  # of `jnp.matmul`
    "Dense of sequences": (lambda: layers.Dense(3), (2, 5, 4), "reshape"),
    "Conv2D": (lambda: layers.Conv2D(3, 3), (2, 6, 6, 9), "custom_jvp_call"),
    "Conv2D with strides": (lambda: layers.Conv2D(3, 3, strides=2, padding="same"), (2, 6, 6, 9), "custom_jvp_call"),
    "LSTM": (lambda: layers.LSTM(3), (2, 4, 3), "scan"),
    "MultiHeadAttention": (lambda: layers.MultiHeadAttention(2, 3), (2, 4, 3), "jit"),
    "MaxPooling2D": (lambda: layers.MaxPooling2D(2), (2, 5, 5, 3), "slice"),
}


@pytest.mark.parametrize("name", REAL_LAYERS)
def test_hops_from_a_real_layer_to_its_formula(name, monkeypatch):
    """At most 3 frames of kerax: `Layer.__call__`, `call`, and a function that takes arrays; inner layers aside."""
    import sys

    from jax.extend.core import Primitive

    package = str(Path(kerax.__file__).parent)  # a checkout's own folder may have that name too
    make, shape, first = REAL_LAYERS[name]
    layer, inputs = make(), jnp.ones(shape)
    arguments = (inputs, inputs) if name == "MultiHeadAttention" else (inputs,)
    layer(*arguments)
    depths, bind = [], Primitive.bind

    def spy(self, *args, **kwargs):
        frame, frames = sys._getframe(1), []
        while frame.f_code.co_name != "test_hops_from_a_real_layer_to_its_formula":
            frames.append(frame.f_code)
            frame = frame.f_back
        own = [code.co_name for code in frames if code.co_filename.startswith(package)]
        if self.name == first and own.count("call") == 1:
            depths.append(len(own))
        return bind(self, *args, **kwargs)

    monkeypatch.setattr(Primitive, "bind", spy)
    jax.make_jaxpr(lambda *arguments: layer(*arguments))(*arguments)
    assert depths and depths[0] <= 3, depths


def test_metrics_in_attributes_are_the_layers():
    import keras

    def made(module):
        class Counting(module.layers.Layer):
            def __init__(self):
                super().__init__()
                self.mean, self.dense = module.metrics.Mean(name="mean"), module.layers.Dense(2)

            def call(self, x):
                return self.dense(x)

        class Outer(module.layers.Layer):
            def __init__(self):
                super().__init__()
                self.inner, self.total = Counting(), module.metrics.Sum(name="sum")

            def call(self, x):
                return self.inner(x)

        layer = Outer()
        layer(np.ones((1, 3), "float32"))
        return layer

    ours, theirs = made(kerax), made(keras)
    assert {m.name for m in ours.metrics} == {m.name for m in theirs.metrics} == {"mean", "sum"}
    assert len(ours.metrics_variables) == len(theirs.metrics_variables)


@pytest.mark.parametrize("value", ["text", 3, True, 0.5])
def test_only_arrays_are_positional_arguments_of_a_call(value):
    class Two(kerax.layers.Layer):
        def call(self, x, y=None):
            return x

    assert Two()(jnp.ones(2), y=value).shape == (2,)
    with pytest.raises(ValueError, match="pass it by keyword"):
        Two()(jnp.ones(2), value)


def test_a_build_that_fits_no_call_says_so():
    class Odd(kerax.layers.Layer):
        def build(self, a_shape, b_shape):
            pass

        def call(self, x):
            return x

    with pytest.raises(ValueError, match="in `build`"):
        Odd()(jnp.ones(2))
