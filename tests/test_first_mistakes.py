"""What newcomers get wrong first: each is one message that names the place and the way out, or just works."""

import re
import traceback

import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import checkpoint, layers, saving

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = X.sum(1, keepdims=True)


def make(units: int = 3):
    kerax.utils.set_random_seed(1)
    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(units, activation="relu"), layers.Dense(1)])
    model.compile("adam", "mse")
    return model


class Branches(layers.Layer):
    def call(self, inputs):
        return inputs if inputs.sum() > 0 else -inputs


class ForgetsValue(layers.Layer):
    def build(self, input_shape):
        self.w = self.add_weight((input_shape[-1], 2))

    def call(self, inputs):
        return jnp.dot(inputs, self.w)


def fit_with(layer):
    model = kerax.Sequential([kerax.Input((4,)), layer, layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)


def embedding_fit(values):
    model = kerax.Sequential([kerax.Input((2,)), layers.Embedding(3, 2), layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.full((8, 2), values, "float32"), np.ones((8, 1)), verbose=0)


MISTAKES = {
    "an if on an array": (lambda: fit_with(Branches()), "ops.where"),
    "an if in a graph": (lambda: Branches()(kerax.Input((3,))), "ops.where"),
    "a variable for an array": (lambda: ForgetsValue()(X), "variable.value"),
    "validation without targets": (lambda: make().fit(X, Y, validation_data=X, verbose=0), "validation_data.*pairs"),
    "whole floats out of range": (lambda: embedding_fit(7.0), "index 7 is out of range"),
    "negative out of range": (lambda: layers.Embedding(3, 2)(np.array([-4.0])), "index -4 is out of range"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_calls(mistake):
    call, words = MISTAKES[mistake]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    text = "".join(traceback.format_exception(caught.value))
    assert re.search(words, text, re.DOTALL), text
    assert "JAX has removed its internal frames" not in text


@pytest.mark.parametrize("call", [lambda x: layers.Embedding(3, 2)(x), embedding_fit], ids=["layer", "fit"])
def test_fractions_of_indices_are_cut_off_with_a_warning(call):
    with pytest.warns(UserWarning, match="embedding.*whole numbers.*1.5"):
        call(np.full((8, 2), 1.5, "float32"))
    with pytest.raises(ValueError, match="index 3 is out of range"):
        call(np.full((8, 2), 3.5, "float32"))


@pytest.mark.medium
def test_lists_of_batches():
    batches = [(X[:8], Y[:8]), (X[8:], Y[8:])]
    model, other = make(), make()
    history = model.fit(batches, epochs=2, verbose=0).history
    assert history == other.fit(iter(batches * 2), epochs=2, steps_per_epoch=2, verbose=0).history
    assert np.isfinite(model.evaluate([(X, Y, np.ones(24))], verbose=0))
    weighted = [(*batch, np.ones(len(batch[0]))) for batch in batches]
    found = make().fit(weighted, epochs=2, verbose=0).history["loss"]
    np.testing.assert_allclose(found, history["loss"], rtol=1e-5)


@pytest.mark.parametrize("name", ["m.safetensors", "m.weights.json", "m.weights.h5"])
def test_weights_are_no_model(tmp_path, name):
    make().save_weights(tmp_path / name, max_shard_size=1 if "json" in name else None)
    with pytest.raises(ValueError, match="weights, but no model.*load_weights"):
        saving.load_model(tmp_path / name)


def test_files_are_no_checkpoints(tmp_path):
    make().save(tmp_path / "m.keras")
    for read in (checkpoint.load_model, checkpoint.restore_arrays, checkpoint.inspect):
        with pytest.raises(FileNotFoundError, match="kerax.saving.load_model"):
            read(tmp_path / "m.keras")


def test_a_checkpoint_of_another_model_says_how_to_take_a_part(tmp_path):
    checkpoint.save(tmp_path / "run", make())
    with pytest.raises(ValueError, match="`strict=False`"):
        checkpoint.restore(tmp_path / "run", make(5))


@pytest.mark.parametrize(
    ("get", "name", "wanted"),
    [
        (kerax.losses.get, "categorical_crosentropy", "CategoricalCrossentropy"),
        (kerax.metrics.get, "acuracy", "Accuracy"),
        (kerax.optimizers.get, "adma", "Adam"),
        (kerax.initializers.get, "glorot_unifrom", "GlorotUniform"),
    ],
)
def test_typos_print_a_few_names(get, name, wanted):
    with pytest.raises(ValueError) as caught:
        get(name)
    known = str(caught.value).split("Known: ")[1].split(" and ")[0].split(", ")
    assert len(known) == 8 and len({each.lower().replace("_", "") for each in known}) == 8
    assert wanted in [each.replace("_", "") for each in known] or wanted.lower() in [each.lower() for each in known]


class TestFlippedBytes:
    """Files whose damage their own format does not notice: checksums inside, which others do not look at."""

    def flip(self, path, array):
        data = bytearray(path.read_bytes())
        place = data.find(np.ascontiguousarray(array).tobytes())
        assert place > 0
        data[place] ^= 1
        path.write_bytes(data)

    @pytest.mark.parametrize("name", ["m.weights.h5", "m.safetensors"])
    def test_weights(self, tmp_path, name):
        model, path = make(), tmp_path / name
        model.save_weights(path)
        self.flip(path, model.layers[0].kernel.numpy())
        before = make().get_weights()
        again = make()
        with pytest.raises(ValueError, match="other bytes than were written"):
            again.load_weights(path)
        for one, two in zip(again.get_weights(), before, strict=True):
            np.testing.assert_array_equal(one, two)

    def test_models_and_shards(self, tmp_path):
        model = make()
        model.save(tmp_path / "m.h5")
        self.flip(tmp_path / "m.h5", model.layers[0].kernel.numpy())
        with pytest.raises(ValueError, match="other bytes"):
            saving.load_model(tmp_path / "m.h5")
        model.save_weights(tmp_path / "m.weights.json", max_shard_size=1)
        shard = next(tmp_path.glob("*.weights.h5"))
        self.flip(shard, model.layers[0].kernel.numpy())
        with pytest.raises(ValueError, match="other bytes"):
            make().load_weights(tmp_path / "m.weights.json")

    def test_keras_reads_them(self, tmp_path):
        keras = pytest.importorskip("keras")
        model = make()
        model.save_weights(tmp_path / "m.weights.h5")
        other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(1)])
        other.load_weights(tmp_path / "m.weights.h5")
        other.save_weights(tmp_path / "k.weights.h5")
        make().load_weights(tmp_path / "k.weights.h5")

    def test_a_change_on_purpose(self, tmp_path):
        import h5py

        model, path = make(), tmp_path / "m.weights.h5"
        model.save_weights(path)
        with h5py.File(path, "r+") as file:
            weight = file["layers/dense/vars/0"]
            weight[...] = 0
            del weight.attrs["kerax_crc32"]
        model.load_weights(path)
        assert not model.layers[0].kernel.numpy().any()


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (np.array([1.0, np.nan, 3.0]), "'a' has 1 missing values of 3, the first in row 1"),
        ([None, 2.0, 3.0], "'a' has 1 missing values of 3, the first in row 0"),
    ],
)
def test_missing_numbers(column, words):
    space = kerax.utils.FeatureSpace({"a": "float_normalized"})
    with pytest.raises(ValueError, match=words):
        space.adapt({"a": column})
    space.adapt({"a": np.array([1.0, 2.0, 3.0])})
    with pytest.raises(ValueError, match=words):
        space({"a": column})


@pytest.mark.parametrize("missing", [None, float("nan"), "pandas"])
def test_missing_text(missing):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"b": ["x", pd.NA if missing == "pandas" else missing, "y", "x"]})
    space = kerax.utils.FeatureSpace({"b": kerax.utils.FeatureSpace.string_categorical()})
    with pytest.raises(ValueError, match="'b' has 1 missing values of 4, the first in row 1.*fillna"):
        space.adapt(frame)


@pytest.mark.medium
def test_find_batch_size():
    model = make(256)
    spec = (X[:1], Y[:1])
    few, many = (kerax.utils.find_batch_size(model, spec, memory=memory) for memory in (2e6, 2e7))
    assert few % 8 == 0 and few < many <= 2**16
    assert model.plan("cpu:1", spec, many, "data").total_memory <= 2e7
    assert kerax.utils.find_batch_size(model, spec, most=64) == 64
    with pytest.raises(ValueError, match="Make the model smaller"):
        kerax.utils.find_batch_size(model, spec, memory=1000)
    with pytest.raises(ValueError, match="compile"):
        kerax.utils.find_batch_size(kerax.Sequential([layers.Dense(1)]), spec)


def test_one_cycle():
    rate = kerax.optimizers.schedules.OneCycle(1.0, 100, rising=0.25, initial_factor=10, final_factor=100)
    found = np.array([float(rate(step)) for step in range(130)])
    np.testing.assert_allclose(found[[0, 25, 100, 129]], [0.1, 1.0, 0.01, 0.01], rtol=1e-5)
    assert (np.diff(found[:26]) > 0).all() and (np.diff(found[25:101]) < 0).all()
    np.testing.assert_allclose(found[[12, 13]].mean(), 0.55, rtol=1e-2)  # half way up
    again = kerax.optimizers.schedules.deserialize(kerax.optimizers.schedules.serialize(rate))
    assert float(again(40)) == found[40]
    with pytest.raises(ValueError, match="rising"):
        kerax.optimizers.schedules.OneCycle(1.0, 100, rising=1.5)


def test_warmup_stable_decay():
    rate = kerax.optimizers.schedules.WarmupStableDecay(2.0, 4, 10, 5, alpha=0.1)
    found = [float(rate(step)) for step in (0, 1, 3, 4, 14, 19, 50)]
    np.testing.assert_allclose(found, [0.5, 1.0, 2.0, 2.0, 2.0, 0.2, 0.2], rtol=1e-6)
    assert float(kerax.optimizers.schedules.WarmupStableDecay(2.0, 0, 10, 5)(0)) == 2.0
    model = make()
    model.compile(kerax.optimizers.Adam(rate), "mse")
    model.fit(X, Y, verbose=0)
    assert float(kerax.optimizers.get(kerax.optimizers.serialize(model.optimizer)).learning_rate) == 0.5


@pytest.mark.medium
def test_searches_over_arguments_of_the_builder():
    pytest.importorskip("sklearn")
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV

    from kerax.wrappers import SKLearnRegressor

    def build(X, y, units=3, rate=0.1):
        model = make(units)
        model.compile(kerax.optimizers.Adam(rate), "mse")
        return model

    one = SKLearnRegressor(build, model_kwargs={"units": 4}, fit_kwargs={"epochs": 1})
    assert one.get_params()["units"] == 4 and one.get_params()["rate"] == 0.1
    one.set_params(rate=0.2, fit_kwargs={"epochs": 2})
    assert one.model_kwargs == {"units": 4, "rate": 0.2} and clone(one).model_kwargs == one.model_kwargs
    search = GridSearchCV(one, {"units": [2, 5]}, cv=2).fit(X, Y[:, 0])
    assert search.best_params_["units"] in (2, 5)
    assert len(search.best_estimator_.model_.layers[0].bias) == search.best_params_["units"]
    with pytest.raises(ValueError, match="depth"):
        one.set_params(depth=3)
