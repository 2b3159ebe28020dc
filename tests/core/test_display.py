"""What layers and training states show in a notebook."""

import jax
import jax.numpy as jnp
import numpy as np

import kerax
from kerax import layers
from kerax.core import display


def test_a_layer_shows_its_arguments_and_weights():
    layer = layers.Dense(3, activation="relu", name="<b>")
    assert "(unbuilt)" in layer._repr_html_() and "<table><thead><tr><th>weight" not in layer._repr_html_()
    layer.build((None, 4))
    page = layer._repr_html_()
    assert "<b>Dense</b> &lt;b&gt;" in page and "(unbuilt)" not in page
    assert (
        "<tr><td>units</td><td>3</td></tr>" in page and "<tr><td>activation</td><td>&#x27;relu&#x27;</td></tr>" in page
    )
    assert "<td>(4, 3)</td><td>float32</td><td style='text-align:right'>48 B</td><td>yes</td>" in page
    layer.trainable = False
    assert "<td>no</td>" in layer._repr_html_() and "<td>yes</td>" not in layer._repr_html_()
    assert "<td>rate</td>" in layers.Dropout(0.5)._repr_html_()


def test_a_train_state_shows_its_trees_with_sizes():
    state = kerax.TrainState(
        {"dense": {"kernel": jnp.zeros((4, 3))}}, {"key": jax.random.key(0)}, (), {"loss": np.zeros(2)}
    )
    page = state._repr_html_()
    assert "<b>params</b> 1 arrays, 12 numbers, 48 B" in page and "<td>dense/kernel</td><td>(4, 3)</td>" in page
    assert "<b>opt_state</b> 0 arrays, 0 numbers, 0 B" in page and page.count("<details>") == 3
    abstract = kerax.TrainState(*jax.eval_shape(lambda: tuple(state)))
    assert "<td>dense/kernel</td><td>(4, 3)</td>" in abstract._repr_html_()


def test_long_trees_are_cut():
    page = display.tree_page({f"w{index:03d}": np.zeros(1) for index in range(100)}, "params")
    assert "… and 40 more" in page and page.count("<tr>") == 62


def test_bytes_have_units_of_1024():
    assert [display.format_bytes(count) for count in (5, 2048, 3 * 2**20)] == ["5 B", "2.00 KB", "3.00 MB"]
