"""The bundled digits are scikit-learn's, split the same way everywhere."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

import kerax
from kerax.datasets import digits


def test_shapes_dtypes_and_ranges():
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    assert x_train.shape == (1437, 8, 8) and x_test.shape == (360, 8, 8)
    assert y_train.shape == (1437,) and y_test.shape == (360,)
    assert {array.dtype for array in (x_train, y_train, x_test, y_test)} == {np.dtype("uint8")}
    assert x_train.min() == 0 and x_train.max() == 16
    assert set(y_train) == set(y_test) == set(range(10))


def test_the_split_is_stratified():
    (_, y_train), (_, y_test) = digits.load_data()
    share = np.bincount(y_test) / (np.bincount(y_train) + np.bincount(y_test))
    np.testing.assert_allclose(share, 360 / 1797, atol=0.005)


def test_the_split_never_changes():
    arrays = [array for part in digits.load_data() for array in part]
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    assert digest == "28d636f2f47ec885bab6c1d883c883cd3f85cb5f6d0f1457558c6b672cc71adf"


def test_images_and_labels_are_those_of_scikit_learn():
    reference = pytest.importorskip("sklearn.datasets").load_digits()
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    images, labels = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    rows = np.column_stack([labels, images.reshape(len(images), -1)])
    expected = np.column_stack([reference.target, reference.data]).astype("uint8")
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])


def test_each_call_returns_fresh_arrays():
    (x_train, _), _ = digits.load_data()
    x_train[:] = 0
    (again, _), _ = digits.load_data()
    assert again.max() == 16


def test_datasets_are_loaded_on_first_use():
    code = "import sys, kerax.datasets as d; assert 'kerax.datasets.digits' not in sys.modules; d.digits.load_data()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_dataset_lists_the_known_ones():
    with pytest.raises(AttributeError, match="It has: abalone, .*digits"):
        _ = kerax.datasets.numbers
