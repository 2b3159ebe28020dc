"""`.keras` files: both ways between kerax and Keras, with training that goes on."""

import json
import zipfile

import keras
import numpy as np
import pytest

import kerax
from kerax import layers, saving

pytestmark = pytest.mark.optimized

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(24, 6)).astype("float32")
Y = (X.sum(1) > 0).astype("int32")
IMAGES = DRAW.normal(size=(24, 8, 8, 1)).astype("float32")
TOKENS = DRAW.integers(0, 9, (24, 7)).astype("int32")
WORDS = np.array([["a b"], ["b c"], ["c c a"]] * 8)


def dense(k):
    return k.Sequential(
        [
            k.Input((6,)),
            k.layers.Dense(4, activation="relu", kernel_regularizer=k.regularizers.L2(1e-3), name="first"),
            k.layers.BatchNormalization(),
            k.layers.Dropout(0.0),
            k.layers.Dense(2, kernel_constraint=k.constraints.MaxNorm(3.0)),
        ]
    )


def images(k):
    x = k.Input((8, 8, 1))
    h = k.layers.Conv2D(3, 3, padding="same", activation="gelu")(x)
    h = k.layers.SeparableConv2D(4, 3, strides=2)(h)
    h = k.layers.LayerNormalization()(h)
    h = k.layers.concatenate([k.layers.GlobalAveragePooling2D()(h), k.layers.GlobalMaxPooling2D()(h)])
    return k.Model(x, k.layers.Dense(2)(h))


def text(k):
    x = k.Input((7,), dtype="int32")
    h = k.layers.Embedding(9, 4)(x) * 0.5 + 1.0
    h = h + k.layers.MultiHeadAttention(2, 3)(h, h)
    h = k.layers.Bidirectional(k.layers.LSTM(3, return_sequences=True))(h)
    h = k.layers.TimeDistributed(k.layers.Dense(3))(h)
    return k.Model(x, k.layers.Dense(2)(k.layers.GRU(3)(h)))


def shared(k):
    """One encoder in two models inside a third."""
    encoder = k.Sequential([k.Input((3,)), k.layers.Dense(4, activation="tanh")], name="encoder")
    x = k.Input((3,))
    left = k.Model(x, k.layers.Dense(2)(encoder(x)), name="left")
    y = k.Input((3,))
    right = k.Model(y, k.layers.Dense(2)(encoder(y)), name="right")
    whole = k.Input((6,))
    return k.Model(whole, left(whole[:, :3]) - right(whole[:, 3:]))


MODELS = {"dense": (dense, X), "images": (images, IMAGES), "text": (text, TOKENS), "shared": (shared, X)}
OPTIMIZERS = {
    "dense": lambda k: k.optimizers.Adam(k.optimizers.schedules.ExponentialDecay(0.01, 10, 0.9)),
    "images": lambda k: k.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "text": lambda k: k.optimizers.AdamW(0.01, clipnorm=1.0),
    "shared": lambda k: k.optimizers.RMSprop(0.01, centered=True),
}


def compiled(k, name):
    model = MODELS[name][0](k)
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(OPTIMIZERS[name](k), loss=loss, metrics=["accuracy"])
    return model


def train(model, name):
    return model.fit(MODELS[name][1], Y, batch_size=12, epochs=2, shuffle=False, verbose=0).history["loss"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, first, second",
    [(name, *pair) for name in MODELS for pair in ((keras, kerax), (kerax, keras), (kerax, kerax))],
)
def test_a_model_goes_both_ways_and_trains_on(first, second, name, tmp_path):
    if name == "shared" and keras in (first, second):
        pytest.skip("Keras cannot load its own file of a layer that two models share")
    path, inputs = str(tmp_path / "model.keras"), MODELS[name][1]
    model = compiled(first, name)
    train(model, name)
    model.save(path)
    again = second.saving.load_model(path)
    np.testing.assert_allclose(again.predict(inputs, verbose=0), model.predict(inputs, verbose=0), rtol=1e-5, atol=1e-6)
    assert len(again.weights) == len(model.weights)
    assert int(again.optimizer.iterations) == 4
    np.testing.assert_allclose(train(again, name), train(model, name), rtol=2e-4)
    for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)


def test_a_layer_in_two_models_stays_one(tmp_path):
    model = shared(kerax)
    model.save(tmp_path / "model.keras")
    again = saving.load_model(tmp_path / "model.keras")
    left, right = (again.get_layer(name).get_layer("encoder") for name in ("left", "right"))
    assert left is right
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


@pytest.mark.parametrize("first, second", [(keras, kerax), (kerax, keras)])
def test_vocabularies_and_statistics_travel(first, second, tmp_path):
    path = str(tmp_path / "model.keras")
    x = first.Input((6,))
    normalization = first.layers.Normalization()
    normalization.adapt(X * 3 + 1)
    first.Model(x, first.layers.Discretization(bin_boundaries=[0.0, 0.5])(normalization(x))).save(path)
    again = second.saving.load_model(path)
    expected = np.digitize((X - (X * 3 + 1).mean(0)) / (X * 3 + 1).std(0), [0.0, 0.5])
    np.testing.assert_array_equal(again.predict(X, verbose=0), expected)


@saving.register_keras_serializable("tests")
class TextNet(kerax.Model):
    """Strings in, numbers out."""

    def __init__(self, vectorize, **kwargs):
        super().__init__(**kwargs)
        self.vectorize, self.embedding = vectorize, layers.Embedding(6, 2)

    def build(self, input_shape):
        self.embedding.build((None, 3))

    def call(self, text):
        return self.embedding(self.vectorize(text))


def test_text_goes_in_and_comes_out_again(tmp_path):
    vectorize = layers.TextVectorization(output_sequence_length=3)
    vectorize.adapt(WORDS[:, 0])
    model = TextNet(vectorize)
    model(WORDS[:3, 0])
    model.save(tmp_path / "model.keras")
    again = saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(again(WORDS[:3, 0])), np.asarray(model(WORDS[:3, 0])))
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert any(name.endswith("vocabulary.txt") for name in archive.namelist())


@saving.register_keras_serializable("tests")
class Scaled(layers.Layer):
    """Keeps more in the file than its weights."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units, self.seen = units, None
        self.inner = layers.Dense(units)

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(self.units,), initializer="ones", name="scale")

    def call(self, x):
        return self.inner(x) * self.scale.value

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["seen"] = np.array([1.0, 2.0]) if self.seen is None else self.seen

    def load_own_variables(self, store):
        self.scale.assign(store["0"])
        self.seen = np.asarray(store["seen"])


@saving.register_keras_serializable("tests")
class Net(kerax.Model):
    """A subclassed model."""

    def __init__(self, width=3, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.blocks = [Scaled(width), layers.Dense(width)]
        self.head = layers.Dense(2)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.mark.medium
def test_subclassed_models_and_layers_that_save_for_themselves(tmp_path):
    model = Net(4, name="net")
    model.compile("adam", "mse")
    model.fit(X, X[:, :2], verbose=0)
    model.blocks[0].scale.assign([1.0, 2.0, 3.0, 4.0])
    model.save(tmp_path / "model.keras")
    again = saving.load_model(tmp_path / "model.keras")
    assert type(again) is Net and again.width == 4 and again.name == "net"
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    np.testing.assert_array_equal(again.blocks[0].seen, [1.0, 2.0])
    assert int(again.optimizer.iterations) == 1
    assert not saving.load_model(tmp_path / "model.keras", compile=False).compiled
    assert type(kerax.models.load_model(tmp_path / "model.keras")) is Net


def test_classes_of_ones_own_are_found_by_name_only(tmp_path):
    class Unknown(layers.Dense):
        pass

    model = kerax.Sequential([kerax.Input((6,)), Unknown(2)])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="model.keras.*Unknown class 'Unknown'"):
        saving.load_model(tmp_path / "model.keras")
    again = saving.load_model(tmp_path / "model.keras", custom_objects={"Unknown": Unknown})
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_loss_that_cannot_be_described_is_left_out_with_a_warning(tmp_path):
    model = kerax.Sequential([kerax.Input((6,)), layers.Dense(1)])

    class Loss:
        def __call__(self, y_true, y_pred):
            return (y_true - y_pred) ** 2

    model.compile("sgd", Loss())
    with pytest.warns(UserWarning, match="compile arguments.*left out"):
        model.save(tmp_path / "model.keras")
    assert not saving.load_model(tmp_path / "model.keras").compiled


def test_lambdas_run_only_when_told_to(tmp_path):
    path = str(tmp_path / "model.keras")
    keras.Sequential([keras.Input((6,)), keras.layers.Lambda(lambda x: x * 2 + 1)]).save(path)
    with pytest.raises(ValueError, match="model.keras.*does not run"):
        saving.load_model(path)
    with pytest.warns(UserWarning, match="`safe_mode=False` lets it run"):
        again = saving.load_model(path, safe_mode=False)
    np.testing.assert_allclose(again.predict(X, verbose=0), X * 2 + 1, rtol=1e-6)


def test_saving_leaves_what_was_there_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    model = dense(kerax)
    model.save(path)
    before = path.read_bytes()

    def broken(*_):
        raise OSError("no space left")

    monkeypatch.setattr(kerax.saving.weights_h5, "write", broken)
    with pytest.raises(OSError, match="no space left"):
        model.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]
    with pytest.raises(ValueError, match="exists"):
        model.save(path, overwrite=False)


def test_a_checkpoint_folder_loads_as_a_model_too(tmp_path):
    model = dense(kerax)
    model.save(tmp_path / "folder")
    again = saving.load_model(tmp_path / "folder")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


@pytest.mark.medium
def test_model_checkpoint_writes_keras_files(tmp_path):
    model = dense(kerax)
    model.compile("adam", kerax.losses.SparseCategoricalCrossentropy(from_logits=True))
    saver = kerax.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"), "loss", save_best_only=True)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[saver])
    again = saving.load_model(tmp_path / "2.keras")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    assert int(again.optimizer.iterations) == 2


class TestWeights:
    def test_shards_go_both_ways(self, tmp_path):
        for first, second in ((keras, kerax), (kerax, keras), (kerax, kerax)):
            model, again = dense(first), dense(second)
            path = str(tmp_path / f"{first.__name__}.weights.json")
            model.save_weights(path, max_shard_size=1e-7)
            assert len(list(tmp_path.glob(f"{first.__name__}_*.weights.h5"))) > 1
            again.load_weights(path)
            for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)

    def test_bad_shards(self, tmp_path):
        model = dense(kerax)
        path = tmp_path / "model.weights.json"
        with pytest.raises(ValueError, match="more than a shard"):
            model.save_weights(path, max_shard_size=1e-9)
        with pytest.raises(ValueError, match="go together"):
            model.save_weights(tmp_path / "model.weights.h5", max_shard_size=1)
        model.save_weights(path, max_shard_size=1e-7)
        (tmp_path / "model_00000.weights.h5").unlink()
        with pytest.raises(FileNotFoundError, match="model_00000"):
            model.load_weights(path)
        for content in ("{", "[]", json.dumps({"weight_map": {"/a": ["../secret.weights.h5"]}}), "[" * 10000):
            path.write_text(content)
            with pytest.raises(ValueError, match="model.weights.json"):
                model.load_weights(path)

    def test_safetensors(self, tmp_path):
        pytest.importorskip("safetensors")
        model, again = dense(kerax), dense(kerax)
        path = tmp_path / "model.safetensors"
        model.save_weights(path)
        again.load_weights(path)
        for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        again = dense(kerax)
        before = again.layers[-1].kernel.numpy()
        again.load_weights(path, only="first/")
        np.testing.assert_array_equal(again.layers[0].kernel.numpy(), model.layers[0].kernel.numpy())
        np.testing.assert_array_equal(again.layers[-1].kernel.numpy(), before)

    def test_safetensors_of_other_libraries_are_renamed(self, tmp_path):
        library = pytest.importorskip("safetensors.numpy")
        kernel, bias = DRAW.normal(size=(6, 4)).astype("float32"), np.ones(4, "float32")
        library.save_file({"encoder.0.weight": kernel, "encoder.0.bias": bias}, tmp_path / "other.safetensors")
        model = dense(kerax)
        for rename in (
            {"^first/": "encoder.0.", "kernel$": "weight"},
            lambda name: name.replace("first/", "encoder.0.").replace("kernel", "weight"),
        ):
            model.layers[0].kernel.assign(kernel * 0)
            model.load_weights(tmp_path / "other.safetensors", only="first/", rename=rename)
            np.testing.assert_array_equal(model.layers[0].kernel.numpy(), kernel)
        with pytest.raises(ValueError, match=r"first/kernel: not in the file[\s\S]*Nothing was loaded"):
            model.load_weights(tmp_path / "other.safetensors")
        with pytest.raises(ValueError, match="no weight of .* matches"):
            model.load_weights(tmp_path / "other.safetensors", only="second/")
        (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 30)
        with pytest.raises(ValueError, match="bad.safetensors.*not a readable"):
            model.load_weights(tmp_path / "bad.safetensors")

    def test_bfloat16_safetensors(self, tmp_path):
        pytest.importorskip("safetensors")
        model = kerax.Sequential([kerax.Input((4,)), layers.Dense(3, dtype="bfloat16")])
        model.save_weights(tmp_path / "model.safetensors")
        before = model.get_weights()
        model.set_weights([weight * 0 for weight in before])
        model.load_weights(tmp_path / "model.safetensors")
        np.testing.assert_array_equal(model.get_weights()[0], before[0])

    def test_options_belong_to_kinds_of_files(self, tmp_path):
        model = dense(kerax)
        model.save_weights(tmp_path / "model.weights.h5")
        with pytest.raises(ValueError, match="`only` is for .safetensors files"):
            model.load_weights(tmp_path / "model.weights.h5", only="first")
        with pytest.raises(TypeError, match="unknown argument 'strict'"):
            model.load_weights(tmp_path / "model.weights.h5", strict=True)
        with pytest.raises(ValueError, match="must end in"):
            model.save_weights(tmp_path / "model.txt")


class TestEditor:
    def test_a_renamed_layer_is_mended(self, tmp_path, capsys):
        old = kerax.Sequential([kerax.Input((6,)), layers.Dense(4), layers.Dense(2)])
        old.save(tmp_path / "old.keras")
        new = kerax.Sequential([kerax.Input((6,)), layers.Dense(4), layers.EinsumDense("ab,bc->ac", 2, bias_axes="c")])
        editor = saving.KerasFileEditor(tmp_path / "old.keras")
        editor.summary()
        assert "layers/dense_1" in capsys.readouterr().out
        assert editor.compare(new) == {"status": "error", "error_count": 2, "match_count": 2}
        editor.rename_object("dense_1", "einsum_dense")
        assert editor.compare(new)["status"] == "success"
        editor.save(tmp_path / "new.weights.h5")
        new.load_weights(tmp_path / "new.weights.h5")
        np.testing.assert_array_equal(new.predict(X, verbose=0), old.predict(X, verbose=0))

    def test_objects_and_weights_come_and_go(self, tmp_path):
        model = dense(kerax)
        model.save_weights(tmp_path / "model.weights.h5")
        editor = saving.KerasFileEditor(tmp_path / "model.weights.h5")
        editor.delete_object("layers/dense")
        editor.delete_weight("dense_1", "1")
        editor.add_weights("dense_1", {"1": np.full(2, 7.0)})
        editor.add_object("layers/dense", {"0": np.zeros((6, 4)), "1": np.zeros(4)})
        editor.resave_weights(tmp_path / "edited.weights.h5")
        model.load_weights(tmp_path / "edited.weights.h5")
        np.testing.assert_array_equal(model.get_weights()[0], np.zeros((6, 4)))
        np.testing.assert_array_equal(model.get_weights()[-1], [7.0, 7.0])
        with pytest.raises(ValueError, match="no object 'densee'"):
            editor.delete_object("densee")
        with pytest.raises(ValueError, match="is an object 'layers/dense' already"):
            editor.add_object("layers/dense", {})
        with pytest.raises(ValueError, match="has no weight '9'"):
            editor.delete_weight("layers/dense", "9")
        with pytest.raises(ValueError, match="must end in"):
            editor.save(tmp_path / "edited.keras")
        with pytest.raises(ValueError, match="must end in"):
            saving.KerasFileEditor(tmp_path / "edited.txt")
