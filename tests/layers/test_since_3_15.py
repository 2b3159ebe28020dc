"""Layers that Keras has since 3.15: their formulas in NumPy."""

import jax
import numpy as np
import pytest

import kerax
from kerax import layers, ops

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("threshold", [None, 0.0, 0.3])
@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6)])
def test_ternary_dense(threshold, shape):
    layer = layers.TernaryDense(5, threshold, bias_initializer="ones")
    x = RNG.normal(size=shape).astype("float32")
    found = layer(x)
    kernel = np.asarray(layer.kernel)
    limit = 0.5 * np.abs(kernel).mean() if threshold is None else threshold
    ternary = np.sign(kernel) * (np.abs(kernel) > limit)
    np.testing.assert_allclose(found, np.abs(kernel).mean() * (x @ ternary) + 1, rtol=1e-5, atol=1e-6)
    # Straight through: as if the ternary kernel were the kernel; and through its mean size.
    _, gradient = jax.value_and_grad(lambda params: layer.apply({"params": params, "state": {}}, x)[0].sum())(
        layer.variables_tree()["params"]
    )
    ones = x.reshape(-1, 6).sum(0)[:, None] * np.ones((1, 5), "float32")
    expected = np.abs(kernel).mean() * ones + np.sign(kernel) / kernel.size * (ones * ternary).sum()
    np.testing.assert_allclose(gradient["kernel"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.medium
def test_ternary_dense_trains_and_goes_through_files(tmp_path):
    model = kerax.Sequential([kerax.Input((6,)), layers.TernaryDense(8, activation="relu"), layers.Dense(1)])
    model.compile("adam", "mse")
    x = RNG.normal(size=(32, 6)).astype("float32")
    losses = model.fit(x, x[:, :1], epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        kerax.saving.load_model(tmp_path / "model.keras").predict(x, verbose=0), model.predict(x, verbose=0)
    )
    for arguments in ({"units": 0}, {"units": 2, "threshold": -1.0}):
        with pytest.raises(ValueError):
            layers.TernaryDense(**arguments)


CASES = {
    "tiles": (2, {}, (2, 6, 8, 3)),
    "uneven": ((2, 4), {"padding": "same", "output_size": (5, 7)}, (2, 5, 7, 3)),
    "overlapping": (3, {"strides": 1}, (2, 6, 7, 2)),
    "first": (2, {"data_format": "channels_first"}, (2, 3, 6, 8)),
    "volumes": ((1, 2, 2), {}, (1, 2, 4, 6, 3)),
    "uneven volumes": (2, {"padding": "same", "output_size": (3, 4, 5)}, (1, 3, 4, 5, 2)),
}


@pytest.mark.medium
@pytest.mark.parametrize("name", CASES)
def test_patches_become_the_images_they_came_from(name):
    size, options, shape = CASES[name]
    images = RNG.normal(size=shape).astype("float32")
    layer = (layers.ReconstructPatches2D if len(shape) == 4 else layers.ReconstructPatches3D)(size, **options)
    extracting = {key: value for key, value in options.items() if key != "output_size"}
    extract = ops.image.extract_patches if len(shape) == 4 else ops.image.extract_patches_3d
    patches = extract(images, size, **extracting)
    np.testing.assert_allclose(layer(patches), images, rtol=1e-5, atol=1e-6)
    again = type(layer).from_config(layer.get_config())
    inputs = kerax.Input(patches.shape[1:])
    assert again(inputs).shape == (None, *shape[1:])
    with pytest.raises(ValueError, match=r"reconstruct_patches|size"):
        layer(patches[:, :-1] if name == "first" else patches[..., :-1])
