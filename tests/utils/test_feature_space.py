"""Tables as vectors: every kind of feature by hand, crosses, configs, and real census data."""

import os
from pathlib import Path

import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.utils import FeatureSpace

TABLE = {
    "age": np.array([20.0, 30.0, 40.0, 50.0]),
    "count": np.array([1, 1, 1, 2]),
    "job": ["cook", "nurse", "cook", "pilot"],
    "code": np.array([7, 7, 9, 8]),
}
HASHES = {name: np.asarray(layers.Hashing(5)(np.array([name], object)))[0] for name in ("cook", "nurse", "pilot")}


def encoded(kind, column, **options):
    """One feature alone."""
    space = FeatureSpace({"x": kind}, **options)
    space.adapt({"x": column})
    return space({"x": column})


def test_every_kind_by_hand():
    np.testing.assert_array_equal(encoded("float", TABLE["age"])[:, 0], TABLE["age"])
    scaled = encoded(FeatureSpace.float_rescaled(0.1, -1.0), TABLE["age"])
    np.testing.assert_allclose(scaled[:, 0], [1, 2, 3, 4], rtol=1e-6)
    normal = encoded("float_normalized", TABLE["age"])[:, 0]
    np.testing.assert_allclose(normal, (TABLE["age"] - 35) / np.sqrt(125), rtol=1e-6)
    bins = encoded(FeatureSpace.float_discretized(3, bin_boundaries=[25.0, 45.0]), TABLE["age"])
    np.testing.assert_array_equal(bins, [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]])
    found = encoded(FeatureSpace.float_discretized(2, output_mode="int"), TABLE["age"], output_mode="dict")["x"]
    np.testing.assert_array_equal(found, [[0], [1], [1], [1]])
    # Index 0 is for unknown tokens; of equally frequent ones the greater comes first.
    np.testing.assert_array_equal(encoded("integer_categorical", TABLE["code"]).argmax(1), [1, 1, 2, 3])
    np.testing.assert_array_equal(encoded("string_categorical", TABLE["job"]).argmax(1), [1, 3, 1, 2])
    hashed = encoded(FeatureSpace.string_hashed(5), TABLE["job"])
    np.testing.assert_array_equal(hashed.argmax(1), [HASHES[name] for name in TABLE["job"]])
    assert hashed.shape == (4, 5) and hashed.dtype == np.float32
    digits = encoded(FeatureSpace.integer_hashed(5), TABLE["code"])
    expected = np.asarray(layers.Hashing(5)(np.array([str(code) for code in TABLE["code"]], object)))
    np.testing.assert_array_equal(digits.argmax(1), expected)
    for kind, width in (("integer_hashed", 32), ("string_hashed", 32), ("float_discretized", 32)):
        column = TABLE["job"] if kind.startswith("string") else TABLE["code"]
        assert encoded(kind, column).shape == (4, width)
    assert encoded("float_discretized", TABLE["age"], num_discretization_bins=4).shape == (4, 4)
    assert encoded("string_hashed", TABLE["job"], hashing_dim=6).shape == (4, 6)
    several = encoded(FeatureSpace.string_categorical(max_tokens=3, num_oov_indices=1), TABLE["job"])
    np.testing.assert_array_equal(several.argmax(1), [1, 0, 1, 2])


def make(**options):
    features = {"job": "string_categorical", "age": "float_normalized", "count": "float", "code": "integer_categorical"}
    space = FeatureSpace(features, crosses=[("job", "code")], crossing_dim=6, **options)
    space.adapt(TABLE)
    return space


def test_adapting_shows_how_many_features_are_done(capfd):
    space = FeatureSpace({"age": "float_normalized", "job": "string_categorical", "count": "float"})
    space.adapt(TABLE)
    assert "2/2" in capfd.readouterr().out  # a plain number has nothing to find
    space.adapt([{name: column[:2] for name, column in TABLE.items()}], verbose=0)
    FeatureSpace({"count": "float"}).adapt(TABLE)
    assert not capfd.readouterr().out
    with pytest.raises(ValueError, match="verbose"):
        space.adapt(TABLE, verbose=3)


def test_features_are_joined_by_name_then_crosses():
    space, parts = make(), make(output_mode="dict")(TABLE)
    assert list(parts) == ["age", "code", "count", "job", "job_X_code"]
    assert [parts[name].shape[1] for name in parts] == [1, 4, 1, 4, 6]
    np.testing.assert_array_equal(space(TABLE), np.concatenate(list(parts.values()), axis=1))
    indices = [
        layer(np.asarray(TABLE[name])[:, None]) for name, layer in space.preprocessors.items() if name in "jobcode"
    ]
    expected = layers.HashedCrossing(6, output_mode="one_hot")(indices)
    np.testing.assert_array_equal(parts["job_X_code"], expected)


def test_single_rows_lose_their_batch_axis():
    space = make()
    row = {name: column[1] for name, column in TABLE.items()}
    np.testing.assert_array_equal(space(row), space(TABLE)[1])
    unknown = space({**row, "job": "farmer"})
    assert unknown.shape == (16,) and unknown[6] == 1  # job's place for unknown tokens


def test_frames_and_batches_adapt_like_columns():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(TABLE)
    from_frame, from_batches = make(), make()
    from_frame.adapt(frame)
    from_batches.adapt([({k: v[s] for k, v in TABLE.items()}, 0) for s in (slice(0, 3), slice(3, 4))])
    for space in (from_frame, from_batches):
        np.testing.assert_allclose(space(frame), make()(TABLE), rtol=1e-6)


def test_configs_and_weights_make_the_same_space():
    space = make()
    copy = FeatureSpace.from_config(space.get_config())
    copy.build_from_config(space.get_build_config())
    copy.set_weights(space.get_weights())
    np.testing.assert_array_equal(copy(TABLE), space(TABLE))
    assert copy.get_config() == space.get_config()
    described = kerax.saving.serialize_keras_object(FeatureSpace.cross(("a", "b"), 8))
    assert described["module"] == "keras.src.layers.preprocessing.feature_space"  # as Keras writes it
    assert kerax.saving.deserialize_keras_object(described).name == "a_X_b"


def test_files_make_the_same_space(tmp_path):
    space, path = make(), tmp_path / "space.keras"
    space.save(path)
    np.testing.assert_array_equal(kerax.saving.load_model(path)(TABLE), space(TABLE))
    with pytest.raises(ValueError, match=r"must end in '\.keras'"):
        space.save(tmp_path / "space.h5")
    with pytest.raises(ValueError, match="call `adapt"):
        FeatureSpace({"a": "float_normalized"}).save(path)


@pytest.mark.medium
def test_numbers_alone_make_a_whole_model():
    space = FeatureSpace(
        {
            "age": FeatureSpace.float_normalized(),
            "count": FeatureSpace.float_rescaled(2.0),
            "bin": FeatureSpace.float_discretized(3, [25.0, 45.0]),
            "code": FeatureSpace.integer_categorical(),
            "hash": FeatureSpace.integer_hashed(5),
        },
        crosses=[("code", "hash")],
        crossing_dim=4,
    )
    table = {"age": TABLE["age"], "bin": TABLE["age"], "count": TABLE["count"] * 1.0, "code": TABLE["code"]}
    table["hash"] = TABLE["code"]
    space.adapt(table)
    model = kerax.Model(space.get_inputs(), space.get_encoded_features())
    raw = {name: np.asarray(column)[:, None] for name, column in table.items()}
    np.testing.assert_allclose(model.predict(raw, verbose=0), space(table), rtol=1e-5, atol=1e-6)


@pytest.mark.medium
@pytest.mark.parametrize("output_mode", ["concat", "dict"])
def test_a_model_takes_text_as_it_is_or_encoded(output_mode, tmp_path):
    space = make(output_mode=output_mode)
    encoded = space.get_encoded_features()
    joined = layers.Concatenate()(list(encoded.values())) if output_mode == "dict" else encoded
    outputs = layers.Dense(1)(joined)
    trained, whole = kerax.Model(encoded, outputs), kerax.Model(space.get_inputs(), outputs)
    raw = {name: np.asarray(TABLE[name])[:, None] for name in space.features}
    expected = trained.predict(space(TABLE), verbose=0)
    np.testing.assert_allclose(whole.predict(raw, verbose=0), expected, rtol=1e-5, atol=1e-6)
    whole.save(tmp_path / "whole.keras")
    again = kerax.models.load_model(tmp_path / "whole.keras")
    np.testing.assert_allclose(again.predict(raw, verbose=0), expected, rtol=1e-5, atol=1e-6)


def test_layers_of_ones_own():
    vectorize = layers.TextVectorization(output_mode="int", output_sequence_length=3)
    space = FeatureSpace({"note": FeatureSpace.feature("string", vectorize, "int"), "age": "float"}, output_mode="dict")
    space.adapt({"note": ["a b", "b c d e"], "age": [1.0, 2.0]})
    assert space({"note": ["b x", "e"], "age": [1.0, 2.0]})["note"].shape == (2, 3)
    doubled = FeatureSpace({"x": FeatureSpace.feature("float32", layers.Lambda(lambda x: x * 2), "float")})
    np.testing.assert_array_equal(doubled({"x": [1.0, 2.0]}), [[2], [4]])


@pytest.mark.parametrize(
    "act, error, message",
    [
        (lambda: FeatureSpace({}), ValueError, "`features`"),
        (lambda: FeatureSpace({"a": "flaot"}), ValueError, "Did you mean 'float'"),
        (lambda: FeatureSpace({"a": "float"}, output_mode="list"), ValueError, "`output_mode`"),
        (lambda: FeatureSpace({"age": "float"}, crosses=[("age", "agee")]), ValueError, "Did you mean 'age'"),
        (lambda: FeatureSpace({"a": "float"}, crosses=[("a", "a")], crossing_dim=None), ValueError, "`crossing_dim`"),
        (lambda: FeatureSpace.string_hashed(3, output_mode="onehot"), ValueError, "Did you mean 'one_hot'"),
        (lambda: FeatureSpace({"a": "float_normalized"})({"a": [1.0]}), ValueError, r"call `adapt\(data\)` first"),
        (lambda: FeatureSpace({"age": "float"})({"aeg": [1.0]}), ValueError, "Did you mean 'aeg'"),
        (lambda: FeatureSpace({"a": "float"})([1.0]), ValueError, "expected a dict"),
        (lambda: FeatureSpace({"a": "float"})({"a": ["x"]}), ValueError, "expects float32. Got text"),
        (lambda: FeatureSpace({"a": "string_hashed"})({"a": [1]}), ValueError, "expects string. Got int"),
        (lambda: FeatureSpace({"a": "integer_hashed"})({"a": [1.5]}), ValueError, "expects integers"),
        (lambda: encoded(FeatureSpace.string_hashed(3, "int"), ["a"]), ValueError, "output_mode='int'"),
        (lambda: FeatureSpace({"a": "float_normalized"}).adapt(iter([])), TypeError, "gone through again"),
        (lambda: FeatureSpace({"a": "float"}, crosses=[("a", "a")])({"a": [1.0]}), ValueError, "has numbers"),
    ],
)
def test_wrong_uses_are_named(act, error, message):
    with pytest.raises(error, match=message):
        act()


@pytest.mark.medium
def test_census_income_is_learned():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    folder = Path(os.environ.get("KERAX_DATASETS_DIR", "")) / "tabular"
    if not (folder / "adult-train.csv").is_file():
        pytest.skip("KERAX_DATASETS_DIR names no folder with the census data")
    names = "age workclass weight education years marital job relationship race sex gain loss hours country income"
    frame = pandas.read_csv(folder / "adult-train.csv", names=names.split(), skipinitialspace=True)
    y = frame.pop("income").str.contains(">50K").to_numpy("float32")
    text = "workclass education marital job relationship race sex"
    space = FeatureSpace(
        dict.fromkeys(text.split(), "string_categorical")
        | dict.fromkeys(("gain", "loss", "hours"), "float_normalized")
        | {"age": FeatureSpace.float_discretized(20), "years": "integer_categorical", "country": "string_hashed"},
        crosses=[("education", "job")],
        crossing_dim=64,
    )
    space.adapt(frame[:20_000])
    x = space(frame)
    inputs = space.get_encoded_features()
    model = kerax.Model(inputs, layers.Dense(1, activation="sigmoid")(inputs))
    model.compile(kerax.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    model.fit(x[:20_000], y[:20_000], batch_size=512, epochs=5, verbose=0)
    assert model.evaluate(x[20_000:], y[20_000:], batch_size=512, verbose=0)[1] > 0.84
