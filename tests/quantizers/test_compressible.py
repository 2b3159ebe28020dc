import json

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax
from kerax import dtype_policies, layers, quantizers

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
LAYERS = {
    "Dense": (lambda L, **kw: L.Dense(6, "relu", **kw), (3, 5), None, {}),
    "Dense-3d": (lambda L, **kw: L.Dense(3, use_bias=False, **kw), (2, 3, 4), None, {}),
    "EinsumDense": (
        lambda L, **kw: L.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de", **kw),
        (2, 3, 4),
        None,
        {},
    ),
    "EinsumDense-two": (
        lambda L, **kw: L.EinsumDense("abcd,cde->abe", (None, 3), bias_axes="e", **kw),
        (2, 3, 4, 2),
        None,
        {},
    ),
    "Embedding": (lambda L, **kw: L.Embedding(7, 5, **kw), (2, 3), 7, {}),
    "ReversibleEmbedding": (lambda L, **kw: L.ReversibleEmbedding(7, 5, **kw), (2, 3), 7, {}),
    "ReversibleEmbedding-reverse": (
        lambda L, **kw: L.ReversibleEmbedding(7, 5, logit_soft_cap=2.0, **kw),
        (2, 3, 5),
        None,
        {"reverse": True},
    ),
    "ReversibleEmbedding-untied": (
        lambda L, **kw: L.ReversibleEmbedding(7, 5, tie_weights=False, **kw),
        (2, 3, 5),
        None,
        {"reverse": True},
    ),
}
MODES = {
    "int8": lambda q: q.Int8QuantizationConfig(),
    "int8-weights": lambda q: q.Int8QuantizationConfig(activation_quantizer=None),
    "int4-blocks": lambda q: q.Int4QuantizationConfig(block_size=2),
    "int4-128": lambda q: q.Int4QuantizationConfig(),
    "int4": lambda q: q.Int4QuantizationConfig(block_size=-1),
    "int4-inputs": lambda q: q.Int4QuantizationConfig(None, q.AbsMaxQuantizer(axis=-1), None),
    "float8": lambda q: q.Float8QuantizationConfig(),
}
QUICK = {("Dense", "int8"), ("Embedding", "int4-blocks"), ("EinsumDense", "float8")}
SOME = {  # every form for one layer of each kind, the common ones for the others
    "EinsumDense": ("int8", "int4-blocks", "float8"),
    "Dense-3d": ("int8",),
    "ReversibleEmbedding": ("int4-blocks",),
    "Embedding": ("int8", "int4-blocks", "int4"),
    "EinsumDense-two": ("int8", "int8-weights", "int4-128", "float8"),
    # (In reverse, Keras's int8 asks for the axis of its own default quantizer.)
    "ReversibleEmbedding-reverse": ("int8-weights", "int4-blocks", "int4", "int4-inputs"),
    "ReversibleEmbedding-untied": ("int8-weights", "int4-blocks", "int4-inputs"),
}
GRID = [
    pytest.param(name, mode, marks=() if (name, mode) in QUICK else pytest.mark.slow)
    for name in LAYERS
    for mode in SOME.get(name, MODES)
]


def pair(name, **kwargs):
    """The layer in kerax and in Keras with equal weights, and inputs."""
    import keras

    make, shape, high, call = LAYERS[name]
    generator = np.random.default_rng(0)
    inputs = generator.integers(0, high, shape) if high else generator.normal(size=shape).astype("float32")
    own, theirs = make(layers, **kwargs), make(keras.layers, **kwargs)
    for layer in (own, theirs):
        layer.build(shape)
    share(own, theirs)
    return own, theirs, inputs, call


def share(own, theirs):
    generator = np.random.default_rng(1)
    weights = [generator.normal(size=weight.shape).astype("float32") for weight in own.weights]
    own.set_weights(weights)
    theirs.set_weights(weights)


def assert_same_layers(own, theirs, inputs, call, tolerance=1e-4):
    """Names, shapes, dtypes, values and order of the weights, and the outputs."""
    listed = [[(w.name, tuple(w.shape), w.dtype, w.trainable) for w in layer.weights] for layer in (own, theirs)]
    assert listed[0] == listed[1]
    for found, expected in zip(own.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(own(inputs, **call), theirs(inputs, **call), rtol=tolerance, atol=tolerance)


def stored(layer):
    found = {}
    layer.save_own_variables(found)
    return {name: np.asarray(value) for name, value in found.items()}


def assert_stored_alike(own, theirs):
    mine, other = stored(own), stored(theirs)
    assert list(mine) == list(other)
    for name, value in other.items():
        assert mine[name].dtype == value.dtype
        np.testing.assert_allclose(mine[name], value, rtol=1e-6)


@pytest.mark.medium
@pytest.mark.parametrize("name, mode", GRID)
def test_quantized_layers_equal_keras(name, mode):
    import keras

    own, theirs, inputs, call = pair(name)
    for layer, module in ((own, quantizers), (theirs, keras.quantizers)):
        layer.quantize(config=MODES[mode](module))
    assert_same_layers(own, theirs, inputs, call)
    assert_stored_alike(own, theirs)
    config, expected = own.get_config(), theirs.get_config()
    assert json.loads(json.dumps(config["quantization_config"])) == json.loads(
        json.dumps(expected["quantization_config"])
    )
    assert config["dtype"] == expected["dtype"]
    assert {key for key in set(config) ^ set(expected) if expected.get(key) is not None} == set()
    variables = own.variables_tree()
    np.testing.assert_allclose(
        jax.jit(lambda v: own.apply(v, inputs, **call)[0])(variables), own(inputs, **call), rtol=1e-4, atol=1e-5
    )
    if LAYERS[name][2] is None and "Reversible" not in name:
        expected = jax.grad(lambda x: jnp.sum(theirs(x) ** 2))(jnp.asarray(inputs))
        found = jax.grad(lambda x: jnp.sum(own.apply(variables, x)[0] ** 2))(jnp.asarray(inputs))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # A config of either comes back quantized, and takes the weights of either.
    for description in (own.get_config(), json.loads(json.dumps(theirs.get_config()))):
        again = type(own).from_config(description)
        again.build(LAYERS[name][1])
        assert again.quantization_mode == own.quantization_mode
        assert {(w.name, w.shape, w.dtype) for w in again.weights} == {(w.name, w.shape, w.dtype) for w in own.weights}
        again.load_own_variables(stored(theirs))
        np.testing.assert_array_equal(again(inputs, **call), own(inputs, **call))


@pytest.mark.parametrize(
    "policy", ["int8_from_float32", "int4_from_float32", "int4/2_from_mixed_bfloat16", "float8_from_bfloat16"]
)
@pytest.mark.parametrize("name", ["Dense", "Embedding"])
def test_built_under_a_policy_has_keras_weights(name, policy):
    if name == "Embedding" and "float8" in policy:
        with pytest.raises(
            ValueError, match=r"`dtype` must have no quantization mode or one of \('int8', 'int4', 'nf4'\)"
        ):
            layers.Embedding(3, 2, dtype=policy).build()
        return
    own, theirs, _, _ = pair(name, dtype=policy)
    listed = [[(w.name, tuple(w.shape), w.trainable) for w in layer.weights] for layer in (own, theirs)]
    assert listed[0] == listed[1]
    assert [str(w._dtype) for w in own.weights] == [str(w._dtype) for w in theirs.weights]
    assert own.compute_dtype == theirs.compute_dtype and own.quantization_mode == theirs.quantization_mode
    own, theirs = LAYERS[name][0](layers, dtype=policy), LAYERS[name][0](layers, dtype=policy)
    own.build((3, 5))
    for weight in own.weights:
        if weight.name == "g_idx":
            assert weight.numpy().tolist() == [0, 0, 1, 1, 2]
        elif weight.name.endswith("scale"):
            assert np.all(weight.numpy() == 1)


@pytest.mark.medium
def test_a_policy_set_later_quantizes():
    layer, other = built(layers.Dense(3)), built(layers.Dense(3))
    other.set_weights(layer.get_weights())
    layer.dtype_policy = "int4/2_from_float32"
    other.quantize(config=quantizers.Int4QuantizationConfig(block_size=2))
    assert layer.dtype_policy == other.dtype_policy and layer._kernel.shape == (4, 2)
    np.testing.assert_array_equal(layer(X), other(X))
    layer = layers.Dense(3)
    layer.build((None, 4))
    layer.dtype_policy = dtype_policies.QuantizedFloat8DTypePolicy("float8", "float32", amax_history_length=5)
    assert layer.inputs_amax_history.shape == (5,)
    with pytest.raises(ValueError, match="needs `config`"):
        layers.Dense(3)(X), setattr(built(layers.Dense(3)), "dtype_policy", "gptq/4/2_from_float32")


def built(layer):
    layer.build((None, 4))
    return layer


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["int8", "int4-blocks", "int4"])
@pytest.mark.parametrize("name", ["Dense", "EinsumDense", "Embedding"])
@pytest.mark.parametrize("lora_first", [False, True])
def test_lora_beside_quantized_weights_equals_keras(name, mode, lora_first):
    import keras

    own, theirs, inputs, _ = pair(name)
    steps = [
        lambda layer, module: layer.quantize(config=MODES[mode](module)),
        lambda layer, module: layer.enable_lora(2, lora_alpha=6),
    ]
    for step in reversed(steps) if lora_first else steps:
        step(own, quantizers)
        step(theirs, keras.quantizers)
    generator = np.random.default_rng(2)
    main = name.split("-")[0].lower().replace("einsumdense", "kernel").replace("dense", "kernel")
    main = "embeddings" if main == "embedding" else main
    for part in "ab":
        value = generator.normal(size=getattr(own, f"lora_{main}_{part}").shape)
        getattr(own, f"lora_{main}_{part}").assign(value)
        getattr(theirs, f"lora_{main}_{part}").assign(value)
    np.testing.assert_allclose(own(inputs), theirs(inputs), rtol=1e-4, atol=1e-4)
    assert_stored_alike(own, theirs)  # merged and quantized anew
    assert {w.name for w in own.weights if w.trainable} == {w.name for w in theirs.weights if w.trainable}
    merged = stored(own)
    own.load_own_variables(merged)
    theirs.load_own_variables(merged)
    np.testing.assert_allclose(own(inputs), theirs(inputs), rtol=1e-4, atol=1e-4)
    assert own.get_config()["quantization_config"] is not None and own.get_config()["lora_rank"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["int8", "int4-blocks", "float8"])
def test_files_of_quantized_models_go_both_ways(mode, tmp_path):
    import keras

    def make(K):
        inputs = K.Input((3,), dtype="int32")
        x = K.layers.Embedding(7, 5, name="table")(inputs)
        x = K.layers.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d", name="wide")(x)
        return K.Model(inputs, K.layers.Dense(2, name="last")(x))

    own, theirs = make(kerax), make(keras)
    theirs.set_weights(own.get_weights())
    for model, module in ((own, quantizers), (theirs, keras.quantizers)):
        model.quantize(config=MODES[mode](module))
    tokens = np.arange(6).reshape(2, 3)
    expected = np.asarray(theirs(tokens))
    np.testing.assert_allclose(own(tokens), expected, rtol=1e-4, atol=1e-5)
    paths = {"own": str(tmp_path / "own.weights.h5"), "theirs": str(tmp_path / "theirs.weights.h5")}
    own.save_weights(paths["own"])
    theirs.save_weights(paths["theirs"])
    for path in paths.values():
        again = kerax.models.model_from_json(own.to_json())
        again.load_weights(path)
        assert [layer.quantization_mode for layer in again.layers] == [layer.quantization_mode for layer in own.layers]
        np.testing.assert_allclose(again(tokens), expected, rtol=1e-4, atol=1e-5)
        again = keras.models.model_from_json(theirs.to_json())
        again.load_weights(path)
        np.testing.assert_allclose(again(tokens), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_archives_hold_quantized_layers_inside_others(tmp_path):
    """In Keras's own files attention comes back as floats; kerax's come back quantized in both."""
    import keras

    inputs = kerax.Input((5, 4))
    model = kerax.Model(inputs, layers.MultiHeadAttention(2, 3)(inputs, inputs))
    model.quantize("int8")
    path = tmp_path / "model.keras"
    model.save(path)
    for module in (kerax, keras):
        again = module.saving.load_model(path)
        np.testing.assert_allclose(again(X[None]), model(X[None]), rtol=1e-5, atol=1e-5)
        assert again.layers[-1].count_params() == model.layers[-1].count_params()


@pytest.mark.slow
def test_training_with_8_bit_floats_goes_on_from_a_file(tmp_path):
    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(3)])
    model.quantize("float8")
    model.compile("adam", "mse")
    model.fit(X, X[:, :3], verbose=0)
    for path in (tmp_path / "model.keras", tmp_path / "checkpoint"):
        model.save(path)
        again = kerax.saving.load_model(path)
        assert again.layers[-1].inputs_amax_history.numpy()[0] == np.abs(X).max()
        again.fit(X, X[:, :3], verbose=0)
        expected = kerax.saving.load_model(path)
        expected.fit(X, X[:, :3], verbose=0)
        np.testing.assert_array_equal(again(X), expected(X))
        assert not np.array_equal(again(X), model(X))


class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(2, 3, name="attention")
        self.dense = layers.Dense(4, name="dense")

    def call(self, inputs):
        return self.dense(self.attention(inputs, inputs))


@pytest.mark.medium
def test_layers_with_quantized_layers_inside_come_back():
    inputs = X[None]
    block = Block(name="block")
    before = block(inputs)
    model = kerax.Sequential([kerax.Input((5, 4)), block])
    model.quantize("int8")
    assert block.attention.query_dense._kernel.dtype == "int8"
    np.testing.assert_allclose(block(inputs), before, atol=0.1)
    assert not np.array_equal(block(inputs), before)
    config = json.loads(json.dumps(block.get_config()))
    assert config["dtype"]["class_name"] == "DTypePolicyMap"
    again = Block.from_config(config)
    again.build_from(inputs)
    assert again.dense.quantization_mode == again.attention.query_dense.quantization_mode == "int8"
    again.set_weights(block.get_weights())
    np.testing.assert_array_equal(again(inputs), block(inputs))


def test_a_map_reaches_the_projections_of_attention():
    policies = dtype_policies.DTypePolicyMap(None, {"mha/query": "int8_from_float32", "mha/key": "int8_from_float32"})
    layer = layers.MultiHeadAttention(2, 3, name="mha", dtype=policies)
    layer(X[None], X[None])
    modes = [getattr(layer, f"{part}_dense").quantization_mode for part in ("query", "key", "value", "output")]
    assert modes == ["int8", "int8", None, None] and layer.query_dense.path == "mha/query"
    assert layer.value_dense.dtype_policy is policies and layer.value_dense.kernel.dtype == "float32"


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_ellipsis_means_the_same_as_letters(mode):  # Keras cannot quantize it
    found = []
    for equation in ("...x,xy->...y", "abx,xy->aby"):
        layer = layers.EinsumDense(equation, 3 if "." in equation else (None, 3))
        layer.build((1, 5, 4))
        layer.set_weights([X.T[:, :3]])
        layer.quantize(mode)
        layer.enable_lora(1, b_initializer="ones", a_initializer="ones")
        found.append(layer(X[None]) - X[None].sum(-1, keepdims=True))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[0], (X @ X.T[:, :3])[None], atol=0.1 if mode == "int8" else 1)


def test_a_low_rank_update_where_the_last_letter_is_contracted():
    layer = layers.EinsumDense("ab,cb->ac", (3,))
    layer.build((5, 4))
    layer.quantize("int8")
    before = layer(X)
    layer.enable_lora(1, a_initializer="ones", b_initializer="ones")
    np.testing.assert_allclose(layer(X), before + X.sum(-1, keepdims=True), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_model_quantizes_its_layers():
    import keras

    def make(K):
        return K.Sequential(
            [K.layers.Input((4,)), K.layers.Dense(6, name="first"), K.layers.LayerNormalization(), K.layers.Dense(2)]
        )

    own, theirs = make(kerax), make(keras)
    theirs.set_weights(own.get_weights())
    before = own.predict(X, verbose=0)
    own.quantize("int8")
    theirs.quantize("int8")
    assert [layer.quantization_mode for layer in (own.layers[0], own.layers[-1])] == ["int8", "int8"]
    after = own.predict(X, verbose=0)
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(after, theirs(X), rtol=1e-4, atol=1e-5)
    for filters in ("^first$", ["nothing", "^first$"], lambda layer: layer.name == "first"):
        model = make(kerax)
        model.quantize("int4", filters=filters)
        assert (model.layers[0].quantization_mode, model.layers[-1].quantization_mode) == ("int4", None)
    with pytest.raises(ValueError, match="`filters` leaves no layer"):
        make(kerax).quantize("int8", filters="nothing")
    with pytest.raises(ValueError, match="`filters` must be a regular expression"):
        make(kerax).quantize("int8", filters=3)


def test_weights_alone_can_be_integers():
    layer = layers.Dense(3)
    before = layer(X)
    layer.quantize(config=quantizers.Int8QuantizationConfig(activation_quantizer=None))
    np.testing.assert_allclose(layer(X), before, atol=0.05)
    np.testing.assert_allclose(layer(X), X @ (layer._kernel.value / layer.kernel_scale.value), rtol=1e-4, atol=1e-5)


def test_embeddings_are_left_as_floats_by_float8():
    model = kerax.Sequential([kerax.Input((3,), dtype="int32"), layers.Embedding(4, 2, name="table"), layers.Dense(2)])
    with pytest.warns(UserWarning, match=r"mode 'float8' is not for \['table'\]"):
        model.quantize("float8")
    assert [layer.quantization_mode for layer in model.layers] == [None, "float8"]


def test_weights_of_a_subclass_are_stored_too():
    class Scaled(layers.Dense):
        def build(self, input_shape):
            super().build(input_shape)
            self.factor = self.add_weight((), "ones", name="factor")

    layer = built(Scaled(3))
    assert [v.name for v in layer.stored_variables()] == ["kernel", "bias", "factor"]
    layer.quantize("int8", type_check=False)
    assert [v.name for v in layer.stored_variables()] == ["kernel", "bias", "kernel_scale", "factor"]


def quantized(mode="int8", **kwargs):
    layer = built(layers.Dense(3, **kwargs))
    layer.quantize(mode)
    return layer


class OwnCall(layers.Dense):
    def call(self, inputs):
        return super().call(inputs)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: layers.Dense(3).quantize("int8"), "needs a built layer"),
        (lambda: built(layers.Dense(3)).quantize("int9"), "`mode` must be one of .* Did you mean 'int8'"),
        (lambda: built(layers.Dense(3)).quantize(), "needs `mode` or `config`"),
        (lambda: built(layers.Dense(3)).quantize("gptq"), "GPTQConfig` with calibration data"),
        (
            lambda: quantizers.Int8QuantizationConfig(quantizers.AbsMaxQuantizer(0, (0, 255))),
            "`value_range` of 8-bit integers",
        ),
        (lambda: built(layers.Embedding(3, 2)).quantize("float8"), r"`mode` must be one of \('int8', 'int4', 'nf4'\)"),
        (
            lambda: built(layers.Dense(3)).quantize("int8", config=quantizers.Int4QuantizationConfig()),
            "`config` must be for mode 'int8'. Got one for 'int4'",
        ),
        (lambda: quantized().quantize("int4"), "quantized already, with mode 'int8'"),
        (lambda: built(layers.Dense(3, lora_rank=1)).quantize("float8"), "'float8' does not go with LoRA"),
        (lambda: quantized("float8").enable_lora(1), "LoRA does not go with quantization mode 'float8'"),
        (lambda: built(layers.Dense(3, dtype="float16")).quantize("int8"), "wider compute dtype than float16"),
        (lambda: built(OwnCall(3)).quantize("int8", type_check=False), "has a `call` of its own"),
        (lambda: layers.Dense(3).load_own_variables({"0": X}), "expected 0 stored weights, got 1. .*not built"),
        (lambda: built(layers.Dense(3)).load_own_variables({"0": X, "1": X}), r"has shape \(4, 3\). Got \(5, 4\)"),
    ],
)
def test_bad_calls_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_subclasses_are_quantized_only_when_asked_for():
    with pytest.raises(NotImplementedError, match="type_check=False"):  # as in Keras
        built(OwnCall(3)).quantize("int8")


def test_bad_configs_are_refused():
    with pytest.raises(TypeError, match="`quantization_config` must be one of `kerax.quantizers`"):
        layers.Dense(3, quantization_config="int8")
    with pytest.raises(TypeError, match="`config` must be a `kerax.quantizers.QuantizationConfig`"):
        built(layers.Dense(3)).quantize("int8", config=3)


@pytest.mark.medium
def test_a_policy_that_says_no_size_of_blocks_quantizes_with_the_default_size(tmp_path):
    ours, theirs = (package.layers.Dense(4) for package in (kerax, keras))
    for layer in (ours, theirs):
        layer.build((None, 8))
        layer.dtype_policy = "int4_from_float32"
    assert [v.shape for v in ours.variables] == [v.shape for v in theirs.variables]
    model = kerax.Sequential([kerax.Input((8,)), ours])
    model.save(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(3, 8)).astype("float32")
    np.testing.assert_allclose(kerax.saving.load_model(tmp_path / "m.keras")(x), model(x), rtol=1e-6)
