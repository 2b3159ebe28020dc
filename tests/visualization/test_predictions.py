"""Confusion matrices and galleries of predictions."""

import numpy as np
import pytest

from kerax import visualization
from kerax.visualization import predictions

plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
colors = pytest.importorskip("matplotlib.colors", reason="matplotlib is not installed")
TRUE = np.array([0, 0, 1, 2, 2, 2])
GUESSED = np.array([0, 1, 1, 2, 0, 2])
MATRIX = [[1, 1, 0], [0, 1, 0], [1, 0, 2]]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_labels_and_probabilities_count_alike():
    sklearn = pytest.importorskip("sklearn.metrics")
    np.testing.assert_array_equal(visualization.confusion_matrix(TRUE, GUESSED), MATRIX)
    np.testing.assert_array_equal(sklearn.confusion_matrix(TRUE, GUESSED), MATRIX)
    one_hot, probabilities = np.eye(3)[TRUE], 0.1 + np.eye(3)[GUESSED]
    np.testing.assert_array_equal(visualization.confusion_matrix(one_hot, probabilities), MATRIX)
    np.testing.assert_array_equal(visualization.confusion_matrix(TRUE[:, None], GUESSED.astype("float32")), MATRIX)
    np.testing.assert_array_equal(
        visualization.confusion_matrix([0, 1, 1], np.array([[0.2], [0.7], [0.4]])), [[1, 0], [1, 1]]
    )
    assert visualization.confusion_matrix([0], [0], num_classes=4).shape == (4, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [0]), "`y_true` has 2 rows, `y_pred` 1."),
        (([0, 3], [0, 1], 3), r"labels must be in \[0, 3\)."),
        (([0, -1], [0, 1]), r"labels must be in \[0, 2\)."),
        ((np.zeros((2, 3, 4)), [0, 1]), r"`y_true` must be labels .* Got shape \(2, 3, 4\)."),
    ],
)
def test_what_is_no_labels_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        visualization.confusion_matrix(*arguments)


def test_the_matrix_is_drawn_with_its_numbers():
    figure = visualization.plot_confusion_matrix(TRUE, GUESSED, ["cat", "dog", "bird"])
    axis = figure.axes[0]
    texts = {text.get_position(): text.get_text() for text in axis.texts}
    assert texts == {(0, 0): "1", (1, 0): "1", (1, 1): "1", (0, 2): "1", (2, 2): "2"}
    np.testing.assert_allclose(axis.images[0].get_array(), np.array(MATRIX) / [[2], [1], [3]])
    assert axis.get_title() == "accuracy 0.6667 of 6"
    assert [label.get_text() for label in axis.get_yticklabels()] == ["cat", "dog", "bird"]
    shares = visualization.plot_confusion_matrix(TRUE, GUESSED, normalize=True).axes[0]
    assert sorted(text.get_text() for text in shares.texts) == ["0.33", "0.50", "0.50", "0.67", "1.00"]
    many = visualization.plot_confusion_matrix(np.arange(100), np.arange(100)).axes[0]
    assert not many.texts and len(many.get_xticks()) == 34
    with pytest.raises(ValueError, match="there are no examples"):
        visualization.plot_confusion_matrix([], [])
    with pytest.raises(ValueError, match="labels must be in"):
        visualization.plot_confusion_matrix(TRUE, GUESSED, ["cat", "dog"])


def test_the_gallery_tells_right_from_wrong():
    images = np.arange(6 * 4 * 4, dtype="f").reshape(6, 4, 4)
    probabilities = np.array([0.5, 0.7, 0.6, 0.9, 0.8, 0.75])[:, None] * np.eye(3)[GUESSED]
    figure = visualization.plot_prediction_gallery(images, TRUE, probabilities, ["cat", "dog", "bird"], cols=4)
    axes = figure.axes
    titles = [axis.get_title() for axis in axes]
    assert titles == ["cat 50%", "dog 70%\n(is cat)", "dog 60%", "bird 90%", "cat 80%\n(is bird)", "bird 75%", "", ""]
    assert [colors.to_hex(axis.title.get_color()) for axis in axes[:3]] == [
        predictions.RIGHT,
        predictions.WRONG,
        predictions.RIGHT,
    ]
    np.testing.assert_allclose(axes[2].images[0].get_array(), images[2] / 95)
    wrong = visualization.plot_prediction_gallery(images, TRUE, probabilities, only_wrong=True)
    assert [axis.get_title() for axis in wrong.axes] == ["0 80%\n(is 2)", "1 70%\n(is 0)"]  # the surest first
    plain = visualization.plot_prediction_gallery(
        np.zeros((2, 3, 4, 4), "uint8"), None, [1, 0], data_format="channels_first"
    )
    assert [axis.get_title() for axis in plain.axes] == ["1", "0"]
    with pytest.raises(ValueError, match="there is no image to draw that is wrong"):
        visualization.plot_prediction_gallery(images, TRUE, TRUE, only_wrong=True)
    with pytest.raises(ValueError, match="`only_wrong` needs `y_true`"):
        visualization.plot_prediction_gallery(images, None, TRUE, only_wrong=True)
