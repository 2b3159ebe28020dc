"""Laws of distributions on eight devices. Run by `test_distribution.py` in a process that has them."""

import shutil

import jax
import numpy as np
import pytest

import kerax
from kerax import distribution, layers
from kerax.distribution import FSDP, DataParallel, DeviceMesh, LayoutMap, ModelParallel

X = np.random.default_rng(0).normal(size=(100, 16)).astype("float32")
Y = np.random.default_rng(1).integers(0, 4, 100)
IMAGES = np.random.default_rng(2).normal(size=(64, 8, 8, 3)).astype("float32")


def layouts(mesh, **rules) -> LayoutMap:
    found = LayoutMap(mesh)
    for name, axes in rules.items():
        found[f".*/{name}/kernel"] = axes
    return found


def strategies() -> dict:
    line, grid = DeviceMesh((8,), ("data",)), DeviceMesh((4, 2), ("data", "model"))
    cube = DeviceMesh((2, 2, -1), ("data", "shard", "model"))
    return {
        "data": DataParallel(line),
        "weights": FSDP(line, min_size=16),
        "model": ModelParallel(layout_map=layouts(grid, dense=(None, "model"), dense_1=("model", None))),
        "both": FSDP(layout_map=layouts(grid, dense=(None, "model")), min_size=16),
        "cube": FSDP(layout_map=layouts(cube, dense=(None, "model")), batch_dim_name=("data", "shard"), min_size=16),
    }


STRATEGIES = strategies()


def make_model():
    kerax.utils.set_random_seed(1)
    model = kerax.Sequential(
        [
            kerax.Input((16,)),
            layers.Dense(64, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Dense(64, activation="relu"),
            layers.Dense(4, activation="softmax"),
        ]
    )
    adam = kerax.optimizers.Adam(epsilon=1e-3)  # with the usual one, rounding of gradients near 0 becomes whole steps
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def batches():
    for start in range(0, 96, 16):
        yield X[start : start + 16], Y[start : start + 16]


def everything(active, resident: bool):
    """What comes out of training, evaluation and prediction, in all the ways that data comes in."""
    with pytest.MonkeyPatch.context() as patch:
        if not resident:
            patch.setattr(kerax.config, "_resident_bytes", 0)
        model = make_model()
        histories = [
            model.fit(X, Y, batch_size=16, epochs=3, verbose=0, validation_split=0.2).history,
            model.fit(batches(), verbose=0).history,
        ]
        return {
            "histories": histories,
            "on a batch": model.train_on_batch(X[:16], Y[:16], return_dict=True),
            "evaluated": model.evaluate(X, Y, verbose=0, batch_size=24),
            "evaluated by batches": model.evaluate(batches(), verbose=0),
            "predicted": model.predict(X, verbose=0, batch_size=24),
            "predicted few": model.predict(X[:5], verbose=0),
            "weights": model.get_weights(),
            "slots": [variable.numpy() for variable in model.optimizer.variables],
        }


@pytest.fixture(scope="module")
def alone():
    return everything(None, True)


@pytest.mark.parametrize(
    ("name", "resident"), [*((name, True) for name in STRATEGIES), ("data", False), ("both", False)]
)
def test_eight_devices_equal_one(name, resident, alone):
    with STRATEGIES[name].scope():
        found = everything(STRATEGIES[name], resident)
    for what, expected in alone.items():
        for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found[what]), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6, err_msg=what)


@pytest.mark.parametrize("way", ["resident", "streamed", "batches"])
def test_nan_is_traced_to_its_row(way, monkeypatch, capsys):
    x = X.copy()
    x[53, 2] = np.nan  # row 5 of the fourth batch
    parts = ((x[start : start + 16], Y[start : start + 16]) for start in range(0, 96, 16))
    if way == "streamed":
        monkeypatch.setattr(kerax.config, "_resident_bytes", 0)
    guard = kerax.callbacks.TerminateOnNaN()
    with STRATEGIES["data"].scope():
        model = make_model()
        data = (parts,) if way == "batches" else (x, Y)
        model.fit(*data, batch_size=None if way == "batches" else 16, shuffle=False, verbose=0, callbacks=[guard])
    assert "`x` of the batch holds NaN or infinity, first in row 5 " in capsys.readouterr().out
    assert int(model.optimizer.iterations.value) == 3


def test_counts_go_on_beyond_the_digits_of_float32():
    class FromFar(kerax.metrics.Mean):
        def update_state(self, y_true, y_pred, sample_weight=None):
            super().update_state(y_true[:, 0], sample_weight)

        def reset_state(self):
            super().reset_state()
            self.count.assign(2.0**24)

    with STRATEGIES["data"].scope():
        model = kerax.Sequential([kerax.Input((16,)), layers.Dense(1)])
        metric = FromFar(name="far")
        model.compile("sgd", "mse", metrics=[metric])
        model.evaluate(X[:72], np.ones((72, 1)), batch_size=8, verbose=0)
    assert int(metric.count.raw) + int(metric.count.rest.raw) == 2**24 + 72


def test_images_with_batch_statistics_and_gradients_of_convolutions():
    def train():
        kerax.utils.set_random_seed(1)
        model = kerax.Sequential(
            [
                kerax.Input((8, 8, 3)),
                layers.Conv2D(8, 3, activation="relu"),
                layers.BatchNormalization(),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dense(4),
            ]
        )
        model.compile("sgd", "mse")
        history = model.fit(IMAGES, np.ones((64, 4)), batch_size=16, epochs=2, verbose=0).history
        return history["loss"], model.get_weights()

    expected = train()
    with FSDP(min_size=16).scope():
        found = train()
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("saved", ["data", "both"])
def test_a_checkpoint_of_one_layout_is_restored_under_every_other(saved, tmp_path):
    with STRATEGIES[saved].scope():
        model = make_model()
        model.fit(X, Y, batch_size=16, verbose=0)
        kerax.checkpoint.save(tmp_path / "run", model)
        expected = model.get_weights() + [variable.numpy() for variable in model.optimizer.variables]
    for active in (None, *STRATEGIES.values()):
        distribution.set_distribution(active)
        try:
            fresh = make_model()
            kerax.checkpoint.restore(tmp_path / "run", fresh)
            variables = [*fresh.variables, *fresh.optimizer.variables]
            for a, variable in zip(expected, variables, strict=True):
                np.testing.assert_array_equal(a, variable.numpy())
                if active is not None:
                    assert variable.value.sharding == active.variable_sharding(variable)
        finally:
            distribution.set_distribution(None)


class Interrupt(kerax.callbacks.Callback):
    """Ends training by an exception after some batches in all."""

    def on_train_batch_end(self, batch, logs=None):
        if self.model.compilation.training.num_steps == 11:
            raise InterruptedError


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Folders of runs that eight devices began, ended in the midst of the second epoch, and what one device does."""

    def train(**arguments):
        model = make_model()
        history = model.fit(X, Y, batch_size=16, epochs=3, verbose=0, **arguments).history
        after = model.fit(X[:32], Y[:32], batch_size=16, verbose=0).history
        return {
            "history": history,
            "weights": model.get_weights(),
            "slots": [variable.numpy() for variable in model.optimizer.variables],
            "the masks of dropout afterwards": after,
        }, model

    folders = tmp_path_factory.mktemp("interrupted")
    callbacks = kerax.callbacks
    saving = [callbacks.BackupAndRestore(folders / "backup", save_freq=3)]
    saving.append(callbacks.OrbaxCheckpoint(folders / "orbax", save_freq=5))
    with STRATEGIES["data"].scope(), pytest.raises(InterruptedError):
        train(callbacks=[*saving, Interrupt()])
    return train, folders, train()[0]


@pytest.mark.filterwarnings("ignore:.*which is not there now")
@pytest.mark.parametrize("name", ["two", "one", "model", "alone"])
def test_a_run_goes_on_under_another_layout(name, interrupted, tmp_path):
    train, folders, expected = interrupted
    two, one = (DataParallel(devices=jax.devices()[:count]) for count in (2, 1))
    active = {"two": two, "one": one, "model": STRATEGIES["model"], "alone": None}[name]
    shutil.copytree(folders / "backup", tmp_path / "backup")
    distribution.set_distribution(active)
    try:
        if name == "two":
            found, model = train(resume=folders / "orbax")
        else:
            found, model = train(callbacks=[kerax.callbacks.BackupAndRestore(tmp_path / "backup")])
        for variable in () if active is None else (*model.variables, *model.optimizer.variables):
            layout = active.variable_sharding(variable)
            assert variable.value.sharding.is_equivalent_to(layout, variable.value.ndim)
    finally:
        distribution.set_distribution(None)
    for what, values in expected.items():
        for a, b in zip(jax.tree.leaves(values), jax.tree.leaves(found[what]), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6, err_msg=what)


def test_initial_weights_are_drawn_where_they_lie_and_are_those_of_one_device():
    expected = make_model().get_weights()
    with STRATEGIES["weights"].scope():
        model = make_model()
        assert model.layers[0].kernel.value.sharding.spec == jax.P(None, "data")
        for a, b in zip(expected, model.get_weights(), strict=True):
            np.testing.assert_allclose(b, a, rtol=0, atol=1e-7)  # XLA contracts the product and the sum


def test_fsdp_holds_an_eighth_of_the_state_on_each_device():
    with FSDP().scope():
        kerax.utils.set_random_seed(1)
        model = kerax.Sequential([kerax.Input((64,)), layers.Dense(512), layers.Dense(512), layers.Dense(8)])
        model.compile("adam", "mse")
        model.fit(np.ones((16, 64), "float32"), np.ones((16, 8), "float32"), batch_size=16, verbose=0)
        variables = [*model.variables, *model.optimizer.variables]
        whole = sum(variable.value.nbytes for variable in variables)
        first = sum(variable.value.addressable_shards[0].data.nbytes for variable in variables)
        assert first <= whole / 8 * 1.1


def test_weights_are_gathered_where_they_are_read_and_gradients_scattered():
    with FSDP(min_size=16).scope():
        model = make_model()
        model.fit(X, Y, batch_size=16, verbose=0)
        program = next(p for key, p in model.compilation.programs.items() if key[0] == "train")
        text = program.lower().compile().as_text()
        gathered = [line for line in text.splitlines() if " all-gather(" in line and "f32[64,64]" in line]
        assert len(gathered) == 2  # once for the outputs, once more for the gradient
        assert "reduce-scatter" in text or "all-reduce" in text


def test_layers_outputs_can_have_layouts():
    mesh = DeviceMesh((4, 2), ("data", "model"))
    rules = layouts(mesh, dense=(None, "model"))
    rules["dense/output"] = ("data", "model")
    seen = []
    with ModelParallel(layout_map=rules).scope():
        model = make_model()
        model.fit(X, Y, batch_size=16, verbose=0)
        dense = model.layers[0]
        jax.debug.inspect_array_sharding(dense(X[:16]), callback=seen.append)
    assert seen[0].is_equivalent_to(jax.NamedSharding(mesh.backend_mesh, jax.P("data", "model")), 2)


class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm, self.attention = layers.LayerNormalization(), layers.MultiHeadAttention(4, 4)
        self.widen, self.narrow = layers.Dense(32, activation="relu"), layers.Dense(16)

    def call(self, inputs):
        normed = self.norm(inputs)
        hidden = inputs + self.attention(normed, normed, use_causal_mask=True)
        return hidden + self.narrow(self.widen(hidden))


def make_transformer(stacked: bool):
    kerax.utils.set_random_seed(1)
    tokens = kerax.Input((8,), dtype="int32")
    hidden = layers.Embedding(24, 16)(tokens)
    hidden = layers.Stack(Block(), 2)(hidden) if stacked else Block()(hidden)
    hidden = layers.LayerNormalization(name="last")(hidden)
    model = kerax.Model(tokens, layers.Dense(24)(hidden))
    model.compile("sgd", kerax.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize("stacked", [False, True])
def test_preset_for_transformers(stacked):
    tokens = np.random.default_rng(0).integers(0, 24, (32, 8))

    def train():
        model = make_transformer(stacked)
        return model.fit(tokens, tokens, batch_size=16, epochs=2, verbose=0).history["loss"], model.get_weights()

    expected = train()
    mesh = DeviceMesh((2, 4), ("data", "model"))
    for sequence in (False, True):
        rules = distribution.layouts.transformer(make_transformer(stacked), mesh, sequence=sequence)
        cut = {rule.split("/")[-2] for rule in rules if not rule.endswith("output")}
        # Weights that lie stacked keep the names of attributes; those of layers have Keras's.
        parts = ("query_dense", "output_dense", "widen", "narrow")
        parts = parts if stacked else ("query", "attention_output", "dense", "dense_1")
        assert {*parts, "embedding"} <= cut
        assert any(rule.endswith("output") for rule in rules) == sequence
        for active in (ModelParallel(layout_map=rules), FSDP(layout_map=rules, min_size=16)):
            with active.scope():
                found = train()
            for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
                np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


def test_preset_for_convolutions():
    def make():
        kerax.utils.set_random_seed(1)
        model = kerax.Sequential(
            [kerax.Input((8, 8, 3)), layers.Conv2D(8, 3), layers.Conv2D(6, 3), layers.Flatten(), layers.Dense(4)]
        )
        model.compile("sgd", "mse")
        return model

    def train():
        model = make()
        return model.fit(IMAGES, np.ones((64, 4)), batch_size=16, verbose=0).history["loss"], model.get_weights()

    expected = train()
    rules = distribution.layouts.convolutional(make(), DeviceMesh((2, 4), ("data", "model")))
    assert [rule.split("/")[-2] for rule in rules] == ["conv2d", "conv2d", "dense", "dense"]  # 6 filters stay whole
    with ModelParallel(layout_map=rules).scope():
        found = train()
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


def test_activations_follow_logical_names():
    rules = LayoutMap(DeviceMesh((4, 2), ("data", "model")))
    rules.logical_axes = {"features": "model"}
    seen = []

    def function(x):
        x = distribution.constrain(x, ("batch", "features"))
        jax.debug.inspect_array_sharding(x, callback=seen.append)
        return x

    with ModelParallel(layout_map=rules).scope():
        jax.jit(function)(X[:16])
    assert seen[0].is_equivalent_to(jax.NamedSharding(rules.device_mesh.backend_mesh, jax.P("data", "model")), 2)


def uneven():
    for start, stop in ((0, 5), (5, 21), (21, 24), (24, 60)):
        yield X[start:stop], Y[start:stop]


def with_uneven_batches(active):
    distribution.set_distribution(active)
    try:
        model = make_model()
        losses = [
            model.fit(X[:n], Y[:n], batch_size=size, verbose=0).history["loss"] for n, size in ((44, 12), (3, 32))
        ]
        losses.append(model.fit(uneven(), verbose=0).history["loss"])
        losses.append(model.evaluate(uneven(), verbose=0))
        losses.append(model.train_on_batch(X[:7], Y[:7]))
        return [np.ravel(loss) for loss in losses] + [model.predict(X[:30], batch_size=11, verbose=0)]
    finally:
        distribution.set_distribution(None)


@pytest.mark.filterwarnings("ignore:.*cannot be spread")
@pytest.mark.parametrize("name", ["data", "model", "weights"])
def test_batches_that_the_devices_do_not_divide(name):
    for ours, alone in zip(with_uneven_batches(STRATEGIES[name]), with_uneven_batches(None), strict=True):
        np.testing.assert_allclose(ours, alone, rtol=1e-3, atol=1e-4)


class TestErrors:
    def test_meshes(self):
        with pytest.raises(ValueError, match="needs 6 devices. Got 8"):
            DeviceMesh((2, 3), ("a", "b"))
        with pytest.raises(ValueError, match="name of its own"):
            DeviceMesh((8,), ("a", "b"))

    def test_devices_that_are_not_there_are_named_when_they_are_used(self):
        mesh = DeviceMesh((2, 8), ("data", "model"), [f"{kind}:{i}" for kind in ("cpu", "gpu") for i in range(8)])
        rules = LayoutMap(mesh)
        rules[".*kernel"] = (None, "model")
        spread = ModelParallel(layout_map=rules)
        assert spread.get_variable_layout(kerax.Variable(np.ones((2, 8)), name="kernel")).axes == (None, "model")
        with pytest.raises(ValueError, match="no device 'gpu:0'"), spread.scope():
            make_model().fit(X, Y, verbose=0)

    def test_batches(self):
        with STRATEGIES["data"].scope(), pytest.warns(UserWarning, match="batch of 12 rows cannot be spread .*'data'"):
            make_model().fit(X, Y, batch_size=12, verbose=0)

    @pytest.mark.parametrize(
        ("rule", "axes", "message"),
        [
            (".*/dense_2/bias", (("data", "model"),), r"sequential/dense_2/bias: dimension 0.*size 4.*8 devices"),
            (".*/dense/bias", (None, "model"), r"sequential/dense/bias: the layout .* has 2 dimensions, the array 1"),
        ],
    )
    def test_rules(self, rule, axes, message):
        rules = LayoutMap(DeviceMesh((4, 2), ("data", "model")))
        rules[rule] = axes
        with ModelParallel(layout_map=rules).scope():
            with pytest.raises(ValueError, match=message):
                make_model().fit(X, Y, batch_size=16, verbose=0)

    def test_a_rule_that_matches_nothing(self):
        rules = LayoutMap(DeviceMesh((4, 2), ("data", "model")))
        rules["nothing/kernel"] = (None, "model")
        with ModelParallel(layout_map=rules).scope(), pytest.warns(UserWarning, match="nothing.*closest: .*kernel"):
            make_model().fit(X, Y, batch_size=16, verbose=0)

    def test_a_rule_may_leave_the_models_name_out(self):
        rules = LayoutMap(DeviceMesh((4, 2), ("data", "model")))
        rules["dense/kernel"] = (None, "model")
        with ModelParallel(layout_map=rules).scope():
            model = make_model()
            model.fit(X, Y, batch_size=16, verbose=0)
        found = {weight.path: weight.value.sharding.spec for weight in model.weights}
        assert found["sequential/dense/kernel"] == jax.P(None, "model") and found["sequential/dense/bias"] == jax.P()

    def test_several_rules(self):
        rules = LayoutMap(DeviceMesh((4, 2), ("data", "model")))
        rules[".*kernel"] = (None, "model")
        rules[".*dense/kernel"] = ("model", None)
        with pytest.raises(ValueError, match="matched by several rules"):
            rules["sequential/dense/kernel"]


def test_caches_are_spread_and_generation_is_the_same():
    def make():
        kerax.utils.set_random_seed(3)
        blocks = [layers.DecoderBlock(4, 2, 4, 16, rotary=layers.RotaryEmbedding()) for _ in range(2)]
        model = kerax.Sequential([layers.Embedding(11, 8), *blocks, layers.Dense(11)])
        model(np.zeros((4, 3), np.int32))
        return model

    prompts = [[1, 2, 3], [4, 5], [6], [7, 8, 9, 10]]
    expected = make().generate(prompts, 8)
    rules = layouts(DeviceMesh((4, 2), ("data", "model")), up_dense=(None, "model"))
    rules.logical_axes["heads"] = "model"
    distribution.set_distribution(ModelParallel(layout_map=rules, batch_dim_name="data"))
    try:
        model = make()
        np.testing.assert_array_equal(model.generate(prompts, 8), expected)
        for leaf in jax.tree.leaves(model.init_cache(4, 16)):
            assert leaf.sharding.spec[:2] == ("data", "model")
    finally:
        distribution.set_distribution(None)
