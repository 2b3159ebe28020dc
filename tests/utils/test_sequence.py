"""Sequences of one length and the parts of a batch."""

import jax
import keras
import numpy as np
import pytest

from kerax import config, utils
from kerax.utils import sequence


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("maxlen", [None, 2])
def test_padding_is_that_of_keras(padding, truncating, maxlen):
    for rows in ([[1, 2, 3], [4], []], [[[1, 2], [3, 4], [5, 6]], [[7, 8]]]):
        options = {"maxlen": maxlen, "padding": padding, "truncating": truncating, "value": 9}
        ours, theirs = sequence.pad_sequences(rows, **options), keras.utils.pad_sequences(rows, **options)
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def test_batches_and_norms_are_those_of_keras():
    x = np.array([[1.0, 2.0], [0.0, 0.0]])
    np.testing.assert_array_equal(utils.normalize(x, axis=0), [[1, 1], [0, 0]])
    for options in ({}, {"order": 1}):
        np.testing.assert_allclose(utils.normalize(x, **options), keras.utils.normalize(x, **options))
        within = jax.jit(lambda x, options=options: utils.normalize(x, **options))  # as in a loss of one's own
        np.testing.assert_allclose(within(x), utils.normalize(x, **options), rtol=1e-6)
    for args in ((1,), ([1],), (1, 2), (1, 2, 3)):
        assert utils.pack_x_y_sample_weight(*args) == keras.utils.pack_x_y_sample_weight(*args)
    for data in (1, (1,), [1, 2], (1, 2, 3)):
        assert utils.unpack_x_y_sample_weight(data) == keras.utils.unpack_x_y_sample_weight(data)
    with pytest.raises(ValueError, match="Got 4 parts"):
        utils.unpack_x_y_sample_weight((1, 2, 3, 4))
    with pytest.raises(ValueError, match="`padding` must be"):
        utils.pad_sequences([[1]], padding="mid")
    with pytest.raises(ValueError, match="one shape"):
        utils.pad_sequences([[[1]], [[1, 2]]])


def test_settings_of_loops_and_backend():
    try:
        config.set_max_epochs(2)
        config.set_max_steps_per_epoch(3)
        config.disable_interactive_logging()
        assert (config.max_epochs(), config.max_steps_per_epoch()) == (2, 3)
        assert not config.is_interactive_logging_enabled()
    finally:
        config.set_max_epochs(None)
        config.set_max_steps_per_epoch(None)
        config.enable_interactive_logging()
    assert config.max_epochs() is None and config.is_interactive_logging_enabled()
    config.set_backend("jax")
    assert not config.is_nnx_enabled()
    with pytest.raises(ValueError, match="only 'jax'"):
        config.set_backend("torch")
    with pytest.raises(ValueError, match="set_max_epochs: expected"):
        config.set_max_epochs(0)
