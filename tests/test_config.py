"""Process-wide settings and dtype policies."""

import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import config, dtype_policies, layers, ops
from kerax.ops.attention import uses_fused_attention


def test_floatx_epsilon_and_layout_are_set_and_checked():
    dtype_policies.forget_dtype_policy()
    assert (config.floatx(), config.epsilon(), config.image_data_format()) == ("float32", 1e-7, "channels_last")
    assert config.backend() == "jax"
    try:
        config.set_floatx("bfloat16")
        config.set_epsilon(1e-5)
        config.set_image_data_format("channels_first")
        assert kerax.layers.Dense(1).dtype == "bfloat16"
        assert config.epsilon() == 1e-5
        assert layers.Conv2D(1, 3).data_format == "channels_first"
    finally:
        config.set_floatx("float32")
        config.set_epsilon(1e-7)
        config.set_image_data_format("channels_last")
    with pytest.raises(ValueError, match="set_floatx"):
        config.set_floatx("int32")
    with pytest.raises(ValueError, match="channels_first"):
        config.set_image_data_format("rows")


@pytest.mark.parametrize(
    "name, compute, variable",
    [
        ("float32", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("float16", "float16", "float16"),
        ("mixed_bfloat16", "bfloat16", "float32"),
        ("mixed_float16", "float16", "float32"),
    ],
)
def test_policies_name_compute_and_variable_dtypes(name, compute, variable):
    policy = kerax.DTypePolicy(name)
    assert (policy.compute_dtype, policy.variable_dtype) == (compute, variable)
    assert kerax.DTypePolicy.from_config(policy.get_config()) == policy
    try:
        config.set_dtype_policy(name)
        assert layers.Dense(1).compute_dtype == compute
        assert config.dtype_policy() == policy
    finally:
        dtype_policies.forget_dtype_policy()


def test_an_unknown_policy_gets_a_suggestion():
    with pytest.raises(ValueError, match="Did you mean 'mixed_bfloat16'"):
        kerax.DTypePolicy("mixed_bfloat")


def test_attention_uses_the_fused_kernel_where_it_is_allowed_and_fits(monkeypatch):
    def goes_to_cudnn(shape=(1, 4, 2, 8), dtype="bfloat16", asked=None):
        heads = jnp.zeros(shape, dtype)
        return uses_fused_attention(asked, heads, heads, heads)

    assert config.is_flash_attention_enabled() is None and not goes_to_cudnn()
    capability = "9.0"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [types.SimpleNamespace(compute_capability=capability)])
    try:
        assert goes_to_cudnn()
        capability = "7.5"
        assert not goes_to_cudnn() and goes_to_cudnn(asked=True)
        capability = "8.0"
        config.enable_flash_attention()
        assert config.is_flash_attention_enabled() is True and goes_to_cudnn()
        for options in ({"dtype": "float32"}, {"shape": (1, 4, 2, 6)}, {"shape": (1, 4, 2, 136)}, {"asked": False}):
            assert not goes_to_cudnn(**options), options
        calls = []
        monkeypatch.setattr(jax.nn, "dot_product_attention", lambda q, *a, **k: calls.append(k) or q)
        layer = layers.MultiHeadAttention(2, 8, dtype="mixed_bfloat16")
        layer(jnp.ones((1, 4, 3)), jnp.ones((1, 4, 3)))
        ops.dot_product_attention(*[jnp.ones((1, 4, 2, 8), "bfloat16")] * 3)
        assert [call["implementation"] for call in calls if "implementation" in call] == ["cudnn"] * 2
        # A mask of the keys alone has the axis of the queries in full, which the kernel insists on.
        layer(jnp.ones((2, 4, 3)), jnp.ones((2, 4, 3)), key_mask=jnp.ones((2, 4), bool))
        assert calls.pop()["mask"].shape == (2, 1, 4, 4)
        dropping = layers.MultiHeadAttention(2, 8, dropout=0.5, dtype="mixed_bfloat16", seed=1)
        dropping(jnp.ones((1, 4, 3)), jnp.ones((1, 4, 3)), training=True)
        assert len(calls) == 2
        config.disable_flash_attention()
        assert config.is_flash_attention_enabled() is False and not goes_to_cudnn()
    finally:
        config._flash_attention = None


def test_interactive_logging_chooses_lines(capsys, monkeypatch):
    from kerax.callbacks import progress

    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delitem(__import__("sys").modules, "IPython", raising=False)
    assert progress._surroundings() == "bar"
    try:
        config.disable_interactive_logging()
        assert not kerax.utils.is_interactive_logging_enabled()
        assert progress._surroundings() == "lines"
    finally:
        config.enable_interactive_logging()


@pytest.mark.medium
def test_limits_of_epochs_and_steps_are_obeyed():
    x, y = np.ones((10, 2), "f"), np.ones((10, 1), "f")
    model = kerax.Sequential([kerax.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")

    class Count(kerax.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.train, self.test = 0, 0

        def on_train_batch_end(self, batch, logs=None):
            self.train += 1

        def on_test_batch_end(self, batch, logs=None):
            self.test += 1

    try:
        config.set_max_epochs(2)
        config.set_max_steps_per_epoch(3)
        counts = Count()
        with pytest.warns(UserWarning, match="limits"):
            history = model.fit(x, y, batch_size=2, epochs=4, validation_data=(x, y), callbacks=[counts], verbose=0)
        # As in Keras: the second epoch goes on in the pass and ends with the data.
        assert len(history.epoch) == 2 and (counts.train, counts.test) == (5, 6)
        with pytest.warns(UserWarning, match="limits the steps to 3 of 5"):
            assert model.predict(x, batch_size=2, verbose=0).shape == (6, 1)
        with pytest.warns(UserWarning, match="limits the steps to 3 of 5"):
            model.evaluate(x, y, batch_size=2, verbose=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.fit(x, y, batch_size=5, epochs=2, verbose=0)
            model.evaluate(x, y, batch_size=2, steps=2, verbose=0)
    finally:
        config.set_max_epochs(None)
        config.set_max_steps_per_epoch(None)
    for setter in (config.set_max_epochs, config.set_max_steps_per_epoch):
        with pytest.raises(ValueError, match="at least 1"):
            setter(0)


def test_there_is_one_backend():
    config.set_backend("jax")
    assert not config.is_nnx_enabled()
    with pytest.raises(ValueError, match="only 'jax'"):
        config.set_backend("torch")


def test_tracebacks_are_filtered_unless_told_otherwise():
    assert config.is_traceback_filtering_enabled()
    config.disable_traceback_filtering()
    assert not config.is_traceback_filtering_enabled()
    config.enable_traceback_filtering()
    assert config.is_traceback_filtering_enabled()
