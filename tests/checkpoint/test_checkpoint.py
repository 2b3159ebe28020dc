"""Checkpoints: the whole training state, restored strictly, in another process too."""

import subprocess
import sys

import jax
import numpy as np
import pytest

import kerax
from kerax import checkpoint, layers

pytestmark = pytest.mark.optimized  # compared with other processes, bit by bit

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 4)).astype("float32")
Y = RNG.integers(0, 3, 96)


def make(units=8):
    model = kerax.Sequential(
        [
            kerax.Input((4,)),
            layers.Dense(units, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(3),
        ]
    )
    model.compile("adam", kerax.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def leaves(model):
    return jax.tree.leaves(model.get_state_tree())


@pytest.mark.slow
def test_training_goes_on_as_if_it_had_never_stopped(tmp_path):
    kerax.utils.set_random_seed(0)
    whole = make()
    whole.fit(X, Y, epochs=2, verbose=0)
    checkpoint.save(tmp_path / "two", whole, metadata={"note": [1, "a"]})
    whole.fit(X, Y, epochs=2, verbose=0)

    resumed = make()
    checkpoint.restore(tmp_path / "two", resumed)
    assert checkpoint.restore_metadata(tmp_path / "two") == {"note": [1, "a"]}
    assert int(resumed.optimizer.iterations.value) == 6
    resumed.fit(X, Y, epochs=2, verbose=0)
    for first, second in zip(leaves(whole), leaves(resumed), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_a_new_process_restores_the_same_predictions(tmp_path):
    model = make()
    model.fit(X, Y, epochs=1, verbose=0)
    checkpoint.save(tmp_path / "saved", model)
    code = f"""
import numpy as np, sys
sys.path.insert(0, {str(__file__).rsplit("/", 1)[0]!r})
from test_checkpoint import X, make
from kerax import checkpoint
model = make()
checkpoint.restore({str(tmp_path / "saved")!r}, model)
np.save({str(tmp_path / "out.npy")!r}, model.predict(X, verbose=0))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), model.predict(X, verbose=0))


def test_restoring_is_strict_and_changes_nothing_on_failure(tmp_path):
    checkpoint.save(tmp_path / "eight", make(8))
    other = make(5)
    before = leaves(other)
    with pytest.raises(ValueError) as raised:
        checkpoint.restore(tmp_path / "eight", other)
    for part in (
        "params/dense/kernel: expected float32[4, 5], the checkpoint has float32[4, 8]",
        "batch_normalization",
    ):
        assert part in str(raised.value)
    for first, second in zip(before, leaves(other), strict=True):
        np.testing.assert_array_equal(first, second)
    checkpoint.restore(tmp_path / "eight", other, strict=False)  # what fits: the last bias and the key


def test_freezing_a_layer_does_not_hide_its_weights(tmp_path):
    model = make()
    checkpoint.save(tmp_path / "all", model)
    frozen = make()
    frozen.layers[0].trainable = False
    frozen.optimizer = None
    checkpoint.restore(tmp_path / "all", frozen)
    np.testing.assert_array_equal(frozen.get_weights()[0], model.get_weights()[0])


def test_save_replaces_checkpoints_only(tmp_path):
    model = make()
    checkpoint.save(tmp_path / "ck", model)
    checkpoint.save(tmp_path / "ck", model)
    with pytest.raises(ValueError, match="exists"):
        checkpoint.save(tmp_path / "ck", model, overwrite=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="left alone"):
        checkpoint.save(tmp_path / "mine", model)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    with pytest.raises(FileNotFoundError, match="no complete checkpoint"):
        checkpoint.restore(tmp_path / "mine", model)
    with pytest.raises(FileNotFoundError):
        checkpoint.restore_metadata(tmp_path / "nowhere")


def test_model_save_is_a_checkpoint(tmp_path):
    model = make()
    model.save(tmp_path / "folder")
    again = make()
    checkpoint.restore(tmp_path / "folder", again)
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])
    again = make()
    again.load_weights(tmp_path / "folder")
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])
    with pytest.raises(ValueError, match="the name of a model ends in"):
        model.save(tmp_path / "model.bin")
