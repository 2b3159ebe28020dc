"""Classes that users write against Keras: their configs, their overridden and replaced methods."""

import keras
import numpy as np
import pytest

import kerax

X = np.ones((4, 2), "float32")
Y = np.ones((4, 1), "float32")


def asks_super(base, **given):
    """The names in `super().get_config()` of a user's subclass with an argument of its own."""
    found = {}

    class User(base):
        def __init__(self, own, **kwargs):
            super().__init__(**kwargs)
            self.own = own

        def get_config(self):
            found.update(super().get_config())
            return {**found, "own": self.own}

    config = User(lambda: 1, name="mine", **given).get_config()  # what no config can hold, hence a user's own
    assert config["name"] == "mine"
    return sorted(found)


BASES = {
    "Layer": (lambda k: k.layers.Layer, {}),
    "Dense": (lambda k: k.layers.Dense, {"units": 3}),
    "Model": (lambda k: k.Model, {}),
    "Metric": (lambda k: k.metrics.Mean, {}),
    "Loss": (lambda k: k.losses.MeanSquaredError, {}),
    "base loss": (lambda k: k.losses.Loss, {}),
    "SGD": (lambda k: k.optimizers.SGD, {"learning_rate": 0.5}),
    "Adam": (lambda k: k.optimizers.Adam, {}),
    "Conv2D": (lambda k: k.layers.Conv2D, {"filters": 1, "kernel_size": 2}),
    "Dropout": (lambda k: k.layers.Dropout, {"rate": 0.5}),
}


@pytest.mark.parametrize("name", BASES)
def test_super_get_config_holds_what_the_class_of_the_library_was_given(name):
    base, given = BASES[name]
    assert asks_super(base(kerax), **given) == asks_super(base(keras), **given)


def no_name(k):
    class User(k.layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units

        def call(self, x):
            return x * self.units

    return User(3)


def name_but_no_dtype(k):
    class User(k.layers.Layer):
        def __init__(self, units=2, name=None):
            super().__init__(name=name)
            self.units = units

        def call(self, x):
            return x * self.units

    return User(3, name="given")


def fixed_dense(k):
    class User(k.layers.Dense):
        def __init__(self, half):
            super().__init__(2 * half, activation="relu")
            self.half = half

        def get_config(self):
            return {"half": self.half}

    return User(2)


def no_arguments(k):
    class User(k.layers.Dense):
        def __init__(self):
            super().__init__(3, name="always")

    return User()


@pytest.mark.parametrize("make", [no_name, name_but_no_dtype, fixed_dense, no_arguments])
@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_constructors_that_take_little_are_revived(make, kind, tmp_path):
    layer = make(kerax)
    inputs = kerax.Input((2,))
    model = kerax.Model(inputs, layer(inputs)) if kind == "functional" else kerax.Sequential([inputs, layer])
    model.save(tmp_path / "m.keras")
    loaded = kerax.models.load_model(tmp_path / "m.keras", custom_objects={"User": type(layer)})
    np.testing.assert_array_equal(loaded(X), model(X))
    assert loaded.layers[-1].name == layer.name


# Methods of the user's.


def dense_model(k, **kwargs):
    model = k.Sequential([k.Input((2,)), k.layers.Dense(1, kernel_initializer="ones")])
    model.compile("sgd", "mse", **kwargs)
    return model


@pytest.mark.medium
@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_epoch_end", "on_predict_batch_end", "on_test_batch_end"])
def test_a_hook_set_on_a_callback_is_called(hook):
    counts = []
    for k in (keras, kerax):
        calls = []

        class Hooked(k.callbacks.Callback):
            def __init__(self, calls=calls):
                super().__init__()
                setattr(self, hook, lambda batch, logs=None: calls.append(hook))

        model, callbacks = dense_model(k), [Hooked()]
        model.fit(X, Y, batch_size=2, epochs=2, validation_data=(X, Y), verbose=0, callbacks=callbacks)
        model.predict(X, batch_size=2, verbose=0, callbacks=callbacks)
        counts.append(len(calls))
    assert counts[0] == counts[1] > 0


def test_a_hook_set_on_a_callback_ends_a_loop_over_endless_data():
    def batches():
        while True:
            yield X, Y

    stopper = kerax.callbacks.Callback()
    stopper.on_train_batch_end = lambda batch, logs: setattr(stopper.model, "stop_training", batch > 0)
    history = dense_model(kerax).fit(batches(), steps_per_epoch=3, epochs=9, verbose=0, callbacks=[stopper])
    assert len(history.epoch) == 1


def test_a_lambda_callback_keeps_other_names():
    callback = kerax.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None, answer=lambda: 42)
    assert callback.answer() == 42


@pytest.mark.parametrize("name", ["train_step", "test_step", "predict_step", "compute_loss", "compute_metrics"])
def test_a_method_set_on_a_model_is_called(name):
    model, calls = dense_model(kerax, metrics=["mae"]), []
    method = getattr(model, name)

    def counted(*args, **kwargs):
        calls.append(name)
        return method(*args, **kwargs)

    setattr(model, name, counted)
    model.fit(X, Y, verbose=0)
    model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)
    assert calls


def test_a_loss_set_on_a_model_counts_in_evaluation_too():
    found = []
    for k in (keras, kerax):
        model = dense_model(k)
        model.compute_loss = lambda x=None, y=None, y_pred=None, sample_weight=None, training=True, k=k: (
            k.ops.sum(y_pred) * 0 + 5.0
        )
        found.append((model.evaluate(X, Y, verbose=0), model.fit(X, Y, verbose=0).history["loss"]))
    assert found[0] == found[1] == (5.0, [5.0])


def test_methods_set_on_a_layer_are_called():
    layer, shapes = kerax.layers.Dense(1, kernel_initializer="ones"), []
    build, call = layer.build, layer.call
    layer.build = lambda shape: (shapes.append(shape), build(shape))
    layer.call = lambda x: call(x) * 2
    layer.compute_mask = lambda inputs, mask=None: kerax.ops.ones((4,), "bool")
    layer.supports_masking = True
    outputs = layer(X)
    assert shapes == [(4, 2)] and outputs[0, 0] == 4 and outputs._keras_mask.shape == (4,)


class CountsBatches(kerax.metrics.Metric):
    def __init__(self, start=None, **kwargs):
        super().__init__(**kwargs)
        self.start, self.batches = start, self.add_variable((), "zeros", name="batches")

    def update_state(self, *args, **kwargs):
        self.batches.assign_add(1.0)

    def result(self):
        return self.batches.value

    def reset_state(self):
        if self.start is not None:
            self.batches.assign(self.start)


@pytest.mark.parametrize("start, expected", [(None, [2, 4, 6]), (10.0, [12, 12, 12])])
def test_reset_state_of_a_users_metric_decides_where_an_epoch_starts(start, expected):
    model = dense_model(kerax, metrics=[CountsBatches(start, name="n")])
    assert model.fit(X, Y, batch_size=2, epochs=3, verbose=0).history["n"] == expected
    before = 6 if start is None else 10
    assert model.evaluate(X, Y, batch_size=4, verbose=0, return_dict=True)["n"] == before + 1
    assert model.train_on_batch(X, Y, return_dict=True)["n"] == (8 if start is None else 11)


def convolution(rank):
    def convolve(k):
        class User(getattr(k.layers, f"Conv{rank}D")):
            def convolution_op(self, inputs, kernel):
                return super().convolution_op(inputs, kernel) * 3 + k.ops.sum(kernel)

        layer = User(1, 2, strides=2, activation="tanh", kernel_initializer="ones", bias_initializer="ones")
        return layer(np.full((1, *[4] * rank, 1), 0.01, "float32"))

    return convolve


def attention_of(name, *arguments):
    def attention(k):
        class User(getattr(k.layers, name)):
            def _compute_attention(self, query, key, value, attention_mask=None, training=None, *rest, **kwargs):
                assert attention_mask is not None
                outputs, scores = super()._compute_attention(
                    query, key, value, attention_mask, training, *rest, **kwargs
                )
                return outputs * 2, scores

        options = {"kernel_initializer": "ones"}
        x = np.arange(12, dtype="float32").reshape(1, 4, 3)
        return User(*arguments, **options)(x, x, use_causal_mask=True)

    return attention


def no_activation(k):
    layers = [
        k.layers.Dense(2, "relu", kernel_initializer="ones"),
        k.layers.Conv1D(1, 1, activation="relu", kernel_initializer="ones"),
        k.layers.EinsumDense("abc,cd->abd", (None, 2), activation="relu", kernel_initializer="ones"),
        k.layers.DepthwiseConv1D(1, activation="relu", depthwise_initializer="ones"),
        k.layers.Conv1DTranspose(1, 1, activation="relu", kernel_initializer="ones"),
    ]
    for layer in layers:
        layer.activation = None
    return [layer(-np.ones((1, 3, 2), "float32")) for layer in layers]


OVERRIDDEN = {
    "convolution_op": convolution(2),
    "convolution_op of volumes": convolution(3),
    "MultiHeadAttention": attention_of("MultiHeadAttention", 2, 2),
    "GroupQueryAttention": attention_of("GroupQueryAttention", 2, 4, 2),
    "activation": no_activation,
}


def test_a_convolution_of_ones_own_counts_for_sequences_too():
    """Keras asks for it in images and volumes only."""
    np.testing.assert_allclose(convolution(1)(kerax), np.tanh(np.full((1, 2, 1), 3 * 0.02 + 2 + 1)), rtol=1e-6)


@pytest.mark.medium
@pytest.mark.parametrize("name", OVERRIDDEN)
def test_what_users_override_in_layers_is_respected(name):
    ours, theirs = (k.tree.flatten(OVERRIDDEN[name](k)) for k in (kerax, keras))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.medium
def test_an_attention_asked_directly_joins_its_masks():
    layer = kerax.layers.MultiHeadAttention(1, 2)
    x = np.ones((1, 3, 2), "float32")
    layer(x, x)
    heads = np.random.default_rng(0).normal(size=(3, 1, 3, 1, 2)).astype("float32")
    mask = np.array([[[True, False, True]] * 3])
    _, causal = layer._compute_attention(*heads, mask, return_attention_scores=True, use_causal_mask=True)
    _, explicit = layer._compute_attention(*heads, mask & np.tril(np.ones((3, 3), bool)), return_attention_scores=True)
    np.testing.assert_allclose(causal, explicit, rtol=1e-6)
    assert causal[0, 0, 1, 1] == 0 and causal[0, 0, 0, 2] == 0


class Tokens(kerax.Model):
    """A model of tokens, which fails on floats as it is built."""

    def __init__(self):
        super().__init__()
        self.table = kerax.layers.Embedding(10, 2)

    def call(self, x):
        ids = x["ids"] if isinstance(x, dict) else x
        assert "int" in str(ids.dtype), ids.dtype
        return self.table(ids)


@pytest.mark.parametrize("inputs", [np.ones((2, 3), "int32"), {"ids": np.ones((2, 3), "int64"), "x": np.ones((2, 1))}])
def test_a_model_of_tokens_is_loaded_as_it_was_built(inputs, tmp_path):
    model = Tokens()
    expected = model(inputs)
    model.save(tmp_path / "m.keras")
    loaded = kerax.saving.load_model(tmp_path / "m.keras", custom_objects={"Tokens": Tokens})
    assert loaded.built
    np.testing.assert_array_equal(loaded(inputs), expected)
    loaded.save(tmp_path / "again.keras")
    kerax.saving.load_model(tmp_path / "again.keras", custom_objects={"Tokens": Tokens})


TEXTS = {
    "a build with a shape": lambda self, input_shape: setattr(self, "w", self.add_weight((1,))),
    "a build that may have one": lambda self, input_shape=None: setattr(self, "w", self.add_weight((1,))),
    "a build without": lambda self: setattr(self, "w", self.add_weight((1,))),
}


@pytest.mark.medium
@pytest.mark.parametrize("name", TEXTS)
def test_a_layer_of_text_alone_or_of_nothing_is_built(name):
    def call(self, text="", also=2):
        return self.w * len(text) * also

    for arguments in ({"text": "abc"}, {"text": "ab", "also": 3}, {}):
        layer = type("Reads", (kerax.Layer,), {"build": TEXTS[name], "call": call})()
        np.testing.assert_allclose(
            layer(**arguments), layer.w.numpy() * len(arguments.get("text", "")) * arguments.get("also", 2)
        )


@pytest.mark.parametrize("parameters", ["*_", "*shapes", "*args, **kwargs", "input_shape=None, **kwargs"])
def test_a_build_may_take_any_arguments(parameters, tmp_path):
    names = {"kerax": kerax}
    text = f"def build(self, {parameters}):\n    self.inner = kerax.layers.Dense(3)"
    exec(text, names)

    def call(self, inputs):
        return self.inner(inputs)

    Loose = type("Loose", (kerax.Layer,), {"build": names["build"], "call": call})
    assert Loose()(np.ones((2, 5))).shape == (2, 3)
    inputs = kerax.Input((5,))
    model = kerax.Model(inputs, Loose()(inputs))
    model.save(tmp_path / "loose.keras")
    again = kerax.models.load_model(tmp_path / "loose.keras", custom_objects={"Loose": Loose})
    np.testing.assert_array_equal(again(np.ones((2, 5))), model(np.ones((2, 5))))


def test_methods_that_hand_on_all_their_arguments_get_shapes():
    class Outer(kerax.Layer):
        def __init__(self):
            super().__init__()
            self.inner = kerax.layers.Dense(3)

        def build(self, *args, **kwargs):
            self.inner.build(*args, **kwargs)
            super().build(*args, **kwargs)

        def call(self, inputs):
            return self.inner(inputs)

        def compute_output_shape(self, *args, **kwargs):
            return self.inner.compute_output_shape(*args, **kwargs)

    assert Outer()(kerax.Input((7, 5))).shape == (None, 7, 3)
    assert Outer()(np.ones((2, 5))).shape == (2, 3)


def test_a_mistake_in_a_build_without_a_shape_is_told_as_it_is():
    class Reads(kerax.Layer):
        def build(self):
            self.w = len(3)

        def call(self, text):
            return text

    with pytest.raises(TypeError, match="^object of type 'int' has no len"):
        Reads()(text="abc")


def test_a_build_that_needs_a_shape_and_gets_none_says_so():
    class Reads(kerax.Layer):
        def build(self, input_shape):
            self.w = self.add_weight((input_shape[-1],))

        def call(self, text):
            return self.w

    with pytest.raises(TypeError, match="cannot build without a tensor argument"):
        Reads()(text="abc")


WRONG = {
    "Wrapper": lambda k: k.layers.Wrapper("text"),
    "output_shape": lambda k: k.layers.MultiHeadAttention(1, 1, output_shape=1.5),
    "noise_shape": lambda k: k.layers.Dropout(0.5, noise_shape=1.5),
    "noise_shape of a fraction": lambda k: k.layers.Dropout(0.5, noise_shape=(1, 2.5)),
    "SeedGenerator": lambda k: k.random.SeedGenerator(1, unknown=2),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_value_errors_as_in_keras(name):
    for k in (kerax, keras):
        with pytest.raises(ValueError):
            WRONG[name](k)


@pytest.mark.parametrize("name, size", [("AveragePooling1D", 4), ("MaxPooling2D", (4, 5)), ("AveragePooling3D", 2)])
def test_configs_of_adaptive_pooling_hold_a_size_for_each_axis(name, size):
    ours, theirs = (getattr(k.layers, f"Adaptive{name}")(size).get_config()["output_size"] for k in (kerax, keras))
    assert ours == theirs


@pytest.mark.parametrize("name", ["Conv2D", "DepthwiseConv1D", "SeparableConv2D", "Conv1DTranspose", "Dense"])
def test_configs_hold_the_same_names_as_kerass(name):
    arguments = (2,) if name.startswith("Dep") or name == "Dense" else (1, 2)
    ours, theirs = (sorted(getattr(k.layers, name)(*arguments).get_config()) for k in (kerax, keras))
    assert ours == theirs


@pytest.mark.medium
def test_wrong_arguments_of_a_layer_are_refused_as_in_keras():
    for library in (keras, kerax):
        with pytest.raises(ValueError, match="trainable|boolean"):
            library.layers.Dense(2, trainable="yes")
        with pytest.raises(ValueError, match="shape|w"):
            library.layers.Layer().add_weight("w")
        layer = library.layers.Layer()
        layer.build((2, 2))
        for call in (
            lambda layer=layer: layer.quantize("int8"),
            lambda layer=layer: layer.quantized_build((2,), "int8"),
        ):
            with pytest.raises(NotImplementedError):
                call()
        regularized = library.layers.Dense(2, activity_regularizer="l2")
        regularized(np.zeros((0, 3), "float32"))
        assert float(regularized.losses[0]) == 0


NAMES = (
    "compilation passes inferences random_key own_policy output_names log_name used_inputs build_shapes build_from "
    "apply init claim_seeds collect_state bind_variables stored_values stored_variables require_init next_key plan "
    "graph keys variables_tree hands_on_text also_loaded"
).split()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["attribute", "method"])
def test_names_that_keras_has_not_are_free(name, kind, tmp_path):
    def value(self, *args, **kwargs):
        return 3

    members = {name: value} if kind == "method" else {}

    class Base:
        def set(self):
            if kind == "attribute":
                setattr(self, name, 3)

    class Layer(Base, kerax.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = kerax.layers.Dense(1)
            self.set()

        def call(self, inputs):
            return self.dense(inputs)

    class Model(Base, kerax.Model):
        def __init__(self, **kwargs):
            inputs = kerax.Input((2,))
            super().__init__(inputs, Own(name="own")(inputs), **kwargs)
            self.set()

        def get_config(self):
            return {}

        @classmethod
        def from_config(cls, config):
            return cls()

    Own, Whole = type("Own", (Layer,), members), type("Whole", (Model,), members)
    model = Whole()
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit(X, Y, verbose=0, validation_data=(X, Y))
    model.train_on_batch(X, Y)
    model.save(tmp_path / "m.keras")
    loaded = kerax.saving.load_model(tmp_path / "m.keras", custom_objects={"Own": Own, "Whole": Whole})
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    for item in (model, model.get_layer("own")):
        found = getattr(item, name)
        assert (found() if kind == "method" else found) == 3
