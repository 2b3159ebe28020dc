"""What code written for Keras reads of layers: names, paths, configs, when they are built, and which errors come."""

import keras
import numpy as np
import pytest

import kerax
from kerax import layers

BOTH = pytest.mark.parametrize("library", [kerax, keras])
X = np.ones((1, 4, 2), "float32")


def block_of(library):
    class Block(library.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first = library.layers.Dense(2)
            self.rest = [library.layers.Dense(2), library.layers.Dense(2, name="last")]
            self.attention = library.layers.MultiHeadAttention(1, 2)

        def call(self, x):
            for layer in (self.first, *self.rest):
                x = layer(x)
            return self.attention(x, x)

    return Block


@pytest.mark.medium
@BOTH
def test_paths_are_made_of_layers_names(library):
    library.utils.clear_session()
    block = block_of(library)(name="block")
    block(X)
    found = [weight.path for weight in block.weights if weight.path.endswith("kernel")]
    expected = ["dense", "dense_1", "last", *(f"multi_head_attention/{name}" for name in ("query", "key", "value"))]
    assert found == [f"block/{name}/kernel" for name in (*expected, "multi_head_attention/attention_output")]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda L: L.LSTM(2, name="a"), "a/lstm_cell/kernel"),
        (lambda L: L.Bidirectional(L.GRU(2, name="g"), name="a"), "a/forward_g/gru_cell/kernel"),
        (lambda L: L.TimeDistributed(L.Dense(2, name="d"), name="a"), "a/d/kernel"),
        (lambda L: L.RNN([L.LSTMCell(2, name="c"), L.LSTMCell(2)], name="a"), "a/stacked_rnn_cells/c/kernel"),
        (lambda L: L.SpectralNormalization(L.Dense(2, name="d"), name="a"), "a/d/kernel"),
    ],
)
@BOTH
def test_wrapped_layers_are_in_paths_by_name(make, path, library):
    library.utils.clear_session()
    layer = make(library.layers)
    layer(X)
    assert layer.weights[0].path == path


def _held(library, model):
    class Outer(library.Model):
        def __init__(self):
            super().__init__(name="outer")
            self.inner = model

        def call(self, x):
            return self.inner(x)

    outer = Outer()
    outer(X)
    return outer


@pytest.mark.parametrize(
    "wrap",
    [
        lambda library, model: model,
        lambda library, model: library.Model(model.input, model(model.input)),
        _held,
    ],
    ids=["alone", "in a graph", "in a subclass"],
)
@BOTH
def test_the_name_of_a_graph_is_not_in_the_paths_of_its_layers(wrap, library):
    library.utils.clear_session()
    layers = library.layers
    inputs = library.Input(X.shape[1:])
    inner = library.Sequential([library.Input((*X.shape[1:-1], 2)), layers.Dense(2, name="e")], name="s")
    model = library.Model(inputs, inner(layers.Dense(2, name="d")(inputs)), name="m")
    model = wrap(library, model)
    assert [weight.path for weight in model.weights if weight.path.endswith("kernel")] == ["d/kernel", "s/e/kernel"]


@BOTH
def test_layers_of_a_subclass_are_numbered_and_found(library):
    library.utils.clear_session()

    class Model(library.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (library.layers.Dense(size) for size in (2, 3, 4))

        def call(self, x):
            return self.c(self.b(self.a(x)))

    model = Model()
    model(X)
    assert [layer.name for layer in model.layers] == ["dense", "dense_1", "dense_2"]
    assert model.get_layer("dense_1") is model.b


@BOTH
def test_a_weight_made_after_building_has_the_whole_path(library):
    library.utils.clear_session()

    class Outer(library.layers.Layer):
        def __init__(self):
            super().__init__(name="outer")
            self.dense = library.layers.Dense(3, name="d")

        def call(self, x):
            return self.dense(x)

    outer = Outer()
    outer(X)
    outer.dense.enable_lora(1)
    assert "outer/d/lora_kernel_a" in [weight.path for weight in outer.weights]


@pytest.mark.parametrize(
    "make",
    [
        lambda L: L.MaxPooling2D(2),
        lambda L: L.AveragePooling1D(2, padding="same"),
        lambda L: L.UnitNormalization(),
        lambda L: L.Reshape((2, -1)),
        lambda L: L.Dropout(0.5),
        lambda L: L.Dense(2),
        lambda L: L.LSTM(2),
    ],
)
def test_layers_without_weights_are_built_from_the_start(make):
    assert make(layers).built == make(keras.layers).built


@BOTH
def test_configs_hold_what_the_attributes_say_now(library):
    model = library.Sequential([library.Input((2,)), library.layers.Dense(3, name="d")])
    model.layers[0].kernel_regularizer = library.regularizers.L2(0.5)
    again = library.Sequential.from_config(model.get_config())
    assert again.layers[0].get_config()["kernel_regularizer"]["config"]["l2"] == 0.5
    assert len(again.losses) == 1


@BOTH
def test_a_subclass_that_hands_all_arguments_on_comes_back(library):
    class Plain(library.layers.Dense):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)

    class Fixed(library.layers.Conv1D):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, activation="relu", **kwargs)

    again = Plain.from_config(Plain(3, "relu", name="p").get_config())
    assert (again.units, again.activation.__name__, again.name) == (3, "relu", "p")
    if library is kerax:  # Keras's config holds the argument that the constructor sets itself
        assert Fixed.from_config(Fixed(3, 2).get_config()).filters == 3


@BOTH
def test_a_name_given_first_is_a_value_error(library):
    class Old(library.layers.Layer):
        def __init__(self):
            super().__init__()
            self.w = self.add_weight("w", shape=(2,))

    with pytest.raises(ValueError, match="name"):
        Old()
    with pytest.raises((TypeError, ValueError), match="shape"):
        library.layers.Layer().add_weight((2,), shape=(2,))


@BOTH
def test_a_policy_may_be_set_in_each_of_its_forms(library):
    class Plain(library.layers.Layer):
        def call(self, x):
            return x

    half = {"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}, "module": "keras"}
    for make in (Plain, lambda: library.layers.Dense(2), lambda: library.layers.Dropout(0.5)):
        layer = make()
        for policy, dtype in (("mixed_bfloat16", "bfloat16"), (half, "float16"), ("float32", "float32")):
            layer.dtype_policy = policy
            assert layer.compute_dtype == dtype == str(layer(X).dtype)


@BOTH
def test_a_layer_keeps_the_map_of_policies_that_it_was_given(library):
    class Outer(library.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = library.layers.Dense(2, dtype=self.dtype_policy, name="d")

        def call(self, x):
            return self.dense(x)

    policies = library.dtype_policies.DTypePolicyMap("float32")
    policies["outer/d"] = library.dtype_policies.DTypePolicy("mixed_bfloat16")
    outer = Outer(dtype=policies, name="outer")
    outer(X)
    assert outer.dense.dtype_policy is policies
    assert (outer.compute_dtype, outer.dense.compute_dtype) == ("float32", "bfloat16")


@BOTH
def test_inputs_know_their_older_arguments(library):
    with pytest.warns(UserWarning, match="input_shape"):
        assert library.layers.InputLayer(input_shape=(3,)).batch_shape == (None, 3)
    assert library.layers.InputLayer(batch_input_shape=(2, 3)).batch_shape == (2, 3)
    for differs in ({"dtype": "int32"}, {"sparse": True}):
        with pytest.raises(ValueError, match=next(iter(differs))):
            library.layers.InputLayer(input_tensor=library.KerasTensor((2, 3)), **differs)


@BOTH
def test_a_lambda_from_a_config_is_refused_without_a_word_of_the_user(library):
    config = {"name": "l", "function": {"class_name": "__lambda__", "config": {"code": "4w==", "defaults": None}}}
    with pytest.raises(ValueError, match="ambda"):
        library.layers.Lambda.from_config(config)


@BOTH
def test_a_name_scope_is_in_the_paths_of_what_is_built_in_it(library):
    library.utils.clear_session()
    dense = library.layers.Dense(2, name="d")
    with library.name_scope("outer"):
        dense.build((None, 2))
    dense(X)
    assert dense.kernel.path == "outer/d/kernel"


@pytest.mark.parametrize("make", [lambda L: L.GaussianNoise(1.0), lambda L: L.GaussianDropout(0.5)])
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_noise_on_integers_gives_floats(make, dtype):
    images = np.ones((2, 3, 3, 1), dtype)
    outputs = [np.asarray(make(library.layers)(images, training=True)) for library in (kerax, keras)]
    assert {str(output.dtype) for output in outputs} == {"float32"} and len(np.unique(outputs[0])) > 1
    assert make(layers)(images).dtype == make(keras.layers)(images).dtype


@BOTH
def test_a_pure_call_needs_a_built_layer(library):
    with pytest.raises(ValueError, match="built"):
        library.layers.BatchNormalization().stateless_call([], [], X)
    layer = library.layers.Dense(2, dtype="mixed_float16")
    assert (layer.supports_jit, layer.input_dtype) == (True, "float16")


def test_default_names_are_kerass():
    for make in (lambda L: L.GroupQueryAttention(2, 2, 1), lambda L: L.ConvLSTM2D(2, 2).cell):
        assert make(layers).name.rstrip("_0123456789") == make(keras.layers).name.rstrip("_0123456789")


@pytest.mark.medium
def test_cells_of_another_dtype_than_their_layers():
    x = X.astype("float16")
    for cell in (lambda: [layers.LSTMCell(2), layers.GRUCell(3)], lambda: layers.SimpleRNNCell(2)):
        outputs = layers.RNN(cell(), dtype="mixed_float16")(x)
        assert np.isfinite(np.asarray(outputs)).all()
    copied = layers.Bidirectional(layers.GRU(2, use_cudnn=False))
    assert copied.forward_layer.use_cudnn is False and copied.backward_layer.use_cudnn is False
    assert not hasattr(layers.Bidirectional(layers.SimpleRNN(2)).forward_layer, "use_cudnn")
