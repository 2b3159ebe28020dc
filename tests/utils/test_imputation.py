"""Missing values that `FeatureSpace` fills where it is asked to."""

import numpy as np
import pytest

import kerax
from kerax.utils import FeatureSpace

NAN = float("nan")


def frame():
    pd = pytest.importorskip("pandas")
    return pd.DataFrame(
        {
            "size": [1.0, None, 3.0, 11.0],
            "town": ["x", None, "y", "x"],
            "rooms": pd.array([2, None, 2, 5], dtype="Int64"),
        }
    )


KINDS = {"size": "float", "town": "string_categorical", "rooms": "integer_categorical"}


@pytest.mark.parametrize(("strategy", "size"), [("median", 3.0), ("mean", 5.0), (4, 4.0)])
def test_all_features(strategy, size, tmp_path):
    space = FeatureSpace(KINDS, impute=strategy)
    space.adapt(frame())
    filled = {"size": [1.0, size, 3.0, 11.0], "town": ["x", "", "y", "x"], "rooms": [2, 2, 2, 5]}
    if strategy == 4:
        filled["rooms"][1] = 4
    np.testing.assert_array_equal(space(frame()), space(filled))
    assert space({"size": NAN, "town": "y", "rooms": 2})[-space.preprocessors["town"].vocabulary_size() - 1] == size
    space.save(tmp_path / "space.keras")
    loaded = kerax.saving.load_model(tmp_path / "space.keras")
    np.testing.assert_array_equal(loaded(frame()), space(frame()))


@pytest.mark.parametrize("missing", [None, NAN], ids=["None", "nan"])
def test_a_dict_names_features_and_the_others_stay_errors(missing):
    columns = {"a": [1.0, missing, 5.0], "b": [1.0, 2.0, 3.0]}
    space = FeatureSpace({"a": "float_normalized", "b": "float"}, impute={"a": "mean"})
    space.adapt(columns)
    np.testing.assert_allclose(space(columns)[:, 0], [-1.2247449, 0, 1.2247449], rtol=1e-6)
    with pytest.raises(ValueError, match="'b' has 1 missing values of 3.*impute='median'"):
        space({"a": [1.0, 2.0, 3.0], "b": [1.0, missing, 3.0]})


def test_text_by_a_dict_has_the_word_that_was_given():
    space = FeatureSpace({"town": "string_categorical"}, impute={"town": "nowhere"})
    space.adapt({"town": ["x", None, "y"]})
    assert "nowhere" in space.preprocessors["town"].get_vocabulary()
    np.testing.assert_array_equal(space({"town": [None, "x"]}), space({"town": ["nowhere", "x"]}))


def test_batches_and_graphs(tmp_path):
    rows = np.array([[1.0], [NAN], [3.0], [8.0]], np.float32)
    space = FeatureSpace({"a": "float_rescaled", "b": "float_discretized"}, impute={"a": "median", "b": 2.0})
    space.adapt([({"a": rows[:2], "b": rows[:2]}, None), ({"a": rows[2:], "b": rows[2:]}, None)])
    assert space.filling("a") == 3.0
    model = kerax.Model(space.get_inputs(), space.get_encoded_features())
    data = {"a": rows, "b": rows}
    np.testing.assert_allclose(model.predict(data, verbose=0), space(data), rtol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = kerax.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(data, verbose=0), space(data), rtol=1e-6)


def test_bad_arguments():
    with pytest.raises(ValueError, match="no feature. Did you mean 'size'"):
        FeatureSpace({"size": "float"}, impute={"sizes": "mean"})
    with pytest.raises(ValueError, match="must be 'mean', 'median' or a number for 'size'. Got 'mode'"):
        FeatureSpace({"size": "float"}, impute="mode")
    with pytest.raises(ValueError, match="a whole number for 'rooms'. Got 0.5"):
        FeatureSpace(KINDS, impute=0.5)
    space = FeatureSpace({"size": "float"}, impute="mean")
    with pytest.raises(ValueError, match="call `adapt"):
        space({"size": [1.0]})
    with pytest.raises(ValueError, match="'size' cannot be filled: all of its values are missing"):
        space.adapt({"size": [None, NAN]})
    assert "impute" not in FeatureSpace({"size": "float"}).get_config()  # Keras does not know it
