"""What `plan` predicts on eight devices against what is there. Run by `test_planning.py` in a process that has them."""

import jax
import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.core.tracking import walk
from kerax.distribution import FSDP, DeviceMesh, LayoutMap, ModelParallel, layouts
from kerax.train.state import state_variables

X, Y = np.random.default_rng(0).normal(size=(64, 64)).astype("float32"), np.zeros(64, "int32")


def make_model(depth=6, keep="everything"):
    model = kerax.Sequential(
        [
            kerax.Input((64,)),
            layers.Stack(layers.Dense(64, "tanh"), depth, keep) if depth else layers.Dense(64),
            layers.Dense(1024),
        ]
    )
    model.compile("adam", kerax.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def tensor_parallel(devices):
    rules = LayoutMap(DeviceMesh((4, 2), ("data", "model"), devices))
    rules[".*/dense/kernel"] = (None, "model")
    return ModelParallel(layout_map=rules)


def on_first_device(model) -> int:
    """Bytes of the training state on one device."""
    arrays = [variable.peek() for variable in jax.tree.leaves(state_variables(model))]
    return sum(array.addressable_shards[0].data.nbytes for array in arrays)


@pytest.mark.parametrize("distribution", ["data", "fsdp", tensor_parallel])
def test_memory_is_what_is_there(distribution):
    model = make_model()
    plan = model.plan("cpu:8", (X, Y), distribution=distribution)
    assert all(variable._value is None for path, variable in walk(model) if "kernel" in path[-1])  # nothing was made
    predicted = sum(plan.memory[kind] for kind in ("weights", "optimizer"))
    spread = {"data": lambda: kerax.distribution.DataParallel(), "fsdp": lambda: FSDP()}.get(
        distribution, lambda: tensor_parallel(jax.devices())
    )()
    with spread.scope():
        model.fit(X, Y, batch_size=64, verbose=0)
        assert predicted == pytest.approx(on_first_device(model), rel=0.1)
    whole = 4 * 3 * model.count_params()
    if distribution == "fsdp":
        assert predicted <= 1.1 * whole / 8
    if distribution == "data":
        assert predicted == pytest.approx(whole, rel=0.01)
    assert plan.total_memory > predicted + plan.memory["temporary"]
    assert plan.memory["activations"] > 0


def test_layouts_are_made_from_the_model_that_is_planned():
    model = make_model()

    def spread(devices):
        rules = layouts.convolutional(model, DeviceMesh((2, 4), ("data", "model"), devices))
        assert len(rules) >= 3
        return ModelParallel(layout_map=rules)

    plan = model.plan("cpu:8", (X, Y), distribution=spread)
    whole = 4 * 3 * model.count_params()
    assert plan.memory["weights"] + plan.memory["optimizer"] == pytest.approx(whole / 4, rel=0.02)
    assert plan.distribution == "ModelParallel (2, 4)"


def test_operations_are_the_models():
    plan = make_model().plan("cpu:8", (X, Y), distribution="data")
    needed = 3 * 2 * 64 * (6 * 64 * 64 + 64 * 1024)
    assert plan.model_flops == needed
    assert 8 * plan.flops == pytest.approx(needed, rel=0.15)  # no gradient of the input
    again = make_model(keep="nothing").plan("cpu:8", (X, Y), distribution="data")
    assert again.model_flops == needed
    assert again.flops > plan.flops


def test_messages_are_the_gradients_and_the_weights():
    data, shards = make_model().plan("cpu:8", (X, Y), distribution=["data", "fsdp"])
    size = 4 * make_model().layers[-1].count_params() + 4 * 6 * (64 * 64 + 64)
    reduced = sum(t.num_bytes for t in data.traffic if t.kind == "all-reduce")
    assert reduced == pytest.approx(size, rel=0.05)
    assert {t.axes for t in data.traffic} == {("batch",)}
    gathered = sum(t.num_bytes for t in shards.traffic if t.kind == "all-gather")
    assert gathered >= 0.9 * size  # once for the forward pass; XLA may keep them for the other one
    text = str(make_model().plan("cpu:8", (X, Y), distribution=["data", "fsdp"]))
    assert len(text.splitlines()) == 3 and "DataParallel" in text and "FSDP" in text


def test_other_batches_and_wrong_calls():
    model = make_model(0)
    plan = model.plan("cpu:8", (X, Y), batch_size=128)
    assert plan.batch_size == 128 and plan.num_devices == 8 and plan.fits is None and plan.step_time is None
    assert "total" in str(plan) and "batch 128" in str(plan)
    for arguments, message in (
        ({"topology": "cpu:9"}, "there are 8 such devices"),
        ({"topology": "cpu:8", "batch_size": "largest"}, "nobody knows how much memory"),
        ({"topology": "cpu:8", "distribution": "all"}, "`distribution` must be one of"),
        ({"topology": None}, "name a `topology`"),
    ):
        with pytest.raises(ValueError, match=message):
            model.plan(batch=(X, Y), **arguments)
    with pytest.raises(ValueError, match="call `compile"):
        kerax.Sequential([layers.Dense(3)]).plan("cpu:8", (X, Y))


@pytest.mark.parametrize("shards", [False, True])
def test_a_stack_spread_over_devices_is_the_stack_on_one(shards):
    def train(spread):
        kerax.utils.set_random_seed(3)
        model = make_model(depth=3)
        if spread is None:
            return model.fit(X, Y, batch_size=32, shuffle=False, verbose=0).history["loss"], model.get_weights()
        with spread.scope():
            return model.fit(X, Y, batch_size=32, shuffle=False, verbose=0).history["loss"], model.get_weights()

    rules = LayoutMap(DeviceMesh((4, 2), ("data", "model")))
    rules[".*stack/kernel"] = (None, "model")  # of one block
    spread = FSDP(layout_map=rules, min_size=16) if shards else ModelParallel(layout_map=rules)
    model = make_model(depth=3)
    (kernel, *_) = model.weights
    assert spread.get_variable_layout(kernel).axes == (None, "data" if shards else None, "model")
    (loss, weights), (expected_loss, expected) = train(spread), train(None)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    for value, wanted in zip(weights, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-6)
