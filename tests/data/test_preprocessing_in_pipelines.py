"""Preprocessing layers inside the pipelines of other libraries: TensorFlow's, grain's, PyTorch's."""

import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.utils import FeatureSpace

X = np.random.default_rng(0).random((8, 6, 6, 3)).astype("f")
TEXTS = np.array(["a b", "b", "c a b", "", "a", "b c", "c", "z z"])


def text_layer(**options):
    return layers.TextVectorization(vocabulary=["a", "b", "c"], **options)


def cases():
    """Layers, data, and the shape that a pipeline of batches of 4 must know."""
    integers = np.arange(8)
    return {
        "Rescaling": (layers.Rescaling(1 / 255), X, (None, 6, 6, 3)),
        "Resizing": (layers.Resizing(4, 5), X, (None, 4, 5, 3)),
        "CenterCrop": (layers.CenterCrop(2, 2), X, (None, 2, 2, 3)),
        "Normalization": (layers.Normalization(mean=1.0, variance=4.0), X, (None, 6, 6, 3)),
        "RandomFlip": (layers.RandomFlip(seed=1), X, (None, 6, 6, 3)),
        "StringLookup": (layers.StringLookup(vocabulary=["a", "b"]), TEXTS, (None,)),
        "StringLookup, all known": (layers.StringLookup(vocabulary=list(TEXTS), num_oov_indices=0), TEXTS, (None,)),
        "StringLookup, inverted": (layers.StringLookup(vocabulary=["a", "b"], invert=True), integers, (None,)),
        "IntegerLookup": (layers.IntegerLookup(vocabulary=[3, 4], output_mode="one_hot"), integers, (None, 3)),
        "Hashing": (layers.Hashing(5), TEXTS, (None,)),
        "Discretization": (layers.Discretization([2.0, 4.0]), integers, (None,)),
        "CategoryEncoding": (layers.CategoryEncoding(8, "one_hot"), integers, (None, 8)),
        "TextVectorization": (text_layer(), TEXTS, (None, None)),
        "TextVectorization, cut": (text_layer(output_sequence_length=4), TEXTS, (None, 4)),
        "TextVectorization, counted": (text_layer(output_mode="count"), TEXTS, (None, 4)),
    }


@pytest.mark.parametrize("name", cases())
def test_inside_a_map_of_tensorflow(name):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    layer, data, shape = cases()[name]
    batches = tf.data.Dataset.from_tensor_slices(data).batch(4).map(layer, num_parallel_calls=2)
    assert tuple(batches.element_spec.shape) == shape
    for batch, start in zip(batches.as_numpy_iterator(), (0, 4), strict=True):
        if name == "RandomFlip":
            np.testing.assert_allclose(batch.sum((1, 2)), data[start : start + 4].sum((1, 2)), rtol=1e-5)
        elif batch.dtype == object:
            assert [text.decode() for text in batch] == np.asarray(layer(data[start : start + 4])).tolist()
        else:
            np.testing.assert_allclose(batch, layer(data[start : start + 4]), rtol=1e-6)


def test_models_dicts_and_feature_spaces_inside_a_map():
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    augment = kerax.Sequential([layers.Rescaling(2.0), layers.RandomFlip()])
    data = tf.data.Dataset.from_tensor_slices((X, np.arange(8))).batch(4)
    x, _ = next(iter(data.map(lambda x, y: (augment(x, training=False), y))))
    np.testing.assert_allclose(x, 2 * X[:4])
    space = FeatureSpace({"word": FeatureSpace.string_categorical(num_oov_indices=1), "size": "float_normalized"})
    table = {"word": TEXTS, "size": np.arange(8.0, dtype="f")}
    space.adapt(tf.data.Dataset.from_tensor_slices(table))
    batches = tf.data.Dataset.from_tensor_slices(table).batch(4).map(space)
    assert batches.element_spec.shape[1] == space(table).shape[1]
    np.testing.assert_allclose(np.concatenate(list(batches.as_numpy_iterator())), space(table), rtol=1e-5)
    single = next(iter(tf.data.Dataset.from_tensor_slices(table).map(space)))
    np.testing.assert_allclose(single, space(table)[0], rtol=1e-5)
    model = kerax.Sequential([layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(tf.data.Dataset.zip((batches, tf.data.Dataset.from_tensor_slices(np.ones((8, 1))).batch(4))), verbose=0)


def test_inside_a_map_of_grain():
    grain = pytest.importorskip("grain", reason="grain is not installed")
    lookup = layers.StringLookup(vocabulary=["a", "b"])
    data = grain.MapDataset.source(TEXTS.tolist()).map(lambda text: lookup([text])[0]).batch(4)
    np.testing.assert_array_equal(np.concatenate(list(data)), lookup(TEXTS))
    images = grain.MapDataset.source(X).map(layers.Rescaling(2.0)).map(np.asarray).batch(4)
    np.testing.assert_allclose(images[0], 2 * X[:4])


def test_as_a_transform_of_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Pictures(torch.utils.data.Dataset):
        transform = layers.Resizing(3, 3)

        def __len__(self):
            return len(X)

        def __getitem__(self, index):
            return np.asarray(self.transform(torch.tensor(X[index])))

    batch = next(iter(torch.utils.data.DataLoader(Pictures(), 4)))
    np.testing.assert_allclose(batch, layers.Resizing(3, 3)(X[:4]), rtol=1e-5)


@pytest.mark.medium
def test_transformations_of_images_inside_map():
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    images = np.random.default_rng(0).uniform(0, 255, (4, 6, 5, 3)).astype("float32")
    boxes = np.array([[[1, 1, 4, 3]]] * 4, "float32")
    layer = layers.RandomTranslation(0.3, 0.3, bounding_box_format="xyxy")

    def both(images, boxes):
        drawn = layer.get_random_transformation(images)
        labels = tf.zeros(tf.shape(boxes)[:2])
        moved = layer.transform_bounding_boxes({"boxes": boxes, "labels": labels}, drawn)
        return drawn["translations"], layer.transform_images(images, drawn), moved["boxes"]

    data = tf.data.Dataset.from_tensor_slices((images, boxes)).batch(2).map(both)
    moves = []
    for number, (drawn, found, moved) in enumerate(data):
        rows = slice(2 * number, 2 * number + 2)
        drawn = {"translations": drawn.numpy(), "input_shape": (2, 6, 5, 3)}
        np.testing.assert_allclose(found.numpy(), layer.transform_images(images[rows], drawn), atol=1e-3)
        given = {"boxes": boxes[rows], "labels": np.zeros((2, 1))}
        np.testing.assert_allclose(moved.numpy(), layer.transform_bounding_boxes(given, drawn)["boxes"], atol=1e-5)
        moves.append(drawn["translations"])
    assert len(np.unique(np.concatenate(moves))) == 8  # other ones for each image of each batch


@pytest.mark.medium
def test_seeds_that_are_drawn_inside_map():
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    layer = layers.RandAugment(num_ops=2)
    data = tf.data.Dataset.from_tensor_slices(np.zeros((6, 8, 8, 3), "float32")).batch(2)
    drawn = list(data.map(layer.get_random_transformation))
    assert drawn[0]["layer_idxes"].shape == (2, 2) and drawn[0]["seed"].dtype == tf.uint32
    assert len(np.unique([one["seed"].numpy() for one in drawn])) > 6
    again = {name: np.asarray(value) for name, value in drawn[0].items()}
    assert layer.transform_images(np.ones((2, 8, 8, 3)), again).shape == (2, 8, 8, 3)
