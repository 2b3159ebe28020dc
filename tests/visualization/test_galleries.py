"""Galleries: which images, titles and legends the figure has, and that files are written."""

import numpy as np
import pytest

from kerax.visualization import plot_bounding_box_gallery, plot_image_gallery, plot_segmentation_mask_gallery

plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
IMAGES = np.random.default_rng(0).uniform(0, 1, (5, 6, 8, 3)).astype("f")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def shown(figure):
    return [axis.images[0].get_array() for axis in figure.axes if axis.images]


def test_every_image_is_shown():
    figure = plot_image_gallery(IMAGES, value_range=(0, 1), show=False)
    assert len(figure.axes) == 6 and len(shown(figure)) == 5
    np.testing.assert_allclose(shown(figure)[3], IMAGES[3] * 255, atol=1)
    wide = plot_image_gallery(np.moveaxis(IMAGES, -1, 1), rows=1, cols=3, show=False, data_format="channels_first")
    assert len(shown(wide)) == 3
    grey = plot_image_gallery(IMAGES[..., :1], cols=5, value_range=(0, 1), show=False)
    assert len(shown(grey)) == 5 and shown(grey)[0].shape == (6, 8)


def test_titles_say_labels_and_predictions():
    figure = plot_image_gallery(IMAGES, [0, 1, 0, 1, 2], np.ones(5, int), {0: "cat", 1: "dog"}, show=False)
    titles = [axis.get_title() for axis in figure.axes][:5]
    assert titles[0] == "Label: cat  Pred: dog" and titles[4] == "Label: Unknown  Pred: dog"


def test_files_are_written_and_nothing_stays_open(tmp_path):
    assert plot_image_gallery(IMAGES, path=tmp_path / "a.png") is None
    assert (tmp_path / "a.png").stat().st_size > 500 and plt.get_fignums() == []
    plot_image_gallery(IMAGES)  # shown
    assert plt.get_fignums() == []


def test_boxes_and_their_legend():
    boxes = {"boxes": np.array([[[1, 1, 5, 4]]] * 5, "f"), "labels": np.zeros((5, 1), int)}
    options = dict(value_range=(0, 1), line_thickness=1, show=False)
    figure = plot_bounding_box_gallery(IMAGES, "xyxy", boxes, legend=True, **options)
    assert tuple(shown(figure)[0][1, 1]) == (0, 188, 212)
    assert [text.get_text() for text in figure.legends[0].texts] == ["Ground Truth", "Prediction"]
    both = plot_bounding_box_gallery(IMAGES, "xyxy", boxes, boxes, rows=1, **options)
    assert tuple(shown(both)[0][1, 1]) == (255, 235, 59)
    with pytest.raises(ValueError, match="`legend_handles`"):
        plot_bounding_box_gallery(IMAGES, "xyxy", legend=True, legend_handles=[1])


def test_masks_stand_beside_their_images():
    masks = np.ones((5, 6, 8, 1), int)
    figure = plot_segmentation_mask_gallery(IMAGES * 255, 2, y_true=masks, y_pred=masks * 0, show=False)
    assert len(shown(figure)) == 15
    np.testing.assert_allclose(shown(figure)[3], (IMAGES * 255)[1], atol=1)
    assert not np.array_equal(shown(figure)[4], shown(figure)[5])


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`label_map`"):
        plot_image_gallery(IMAGES, y_true=[1])
    with pytest.raises(ValueError, match="`path` or `show"):
        plot_image_gallery(IMAGES, path="x.png", show=True)
    with pytest.raises(ValueError, match="must be a batch"):
        plot_image_gallery(IMAGES[0])
