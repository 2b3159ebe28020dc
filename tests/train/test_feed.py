"""Blocks of batches: the same rows wherever they lie, whatever the length of the data."""

import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax.data import BatchSpec, make_source
from kerax.train import feed


def lying_at(array, start):
    """A copy that begins so many bytes after a multiple of 64."""
    memory = np.empty(array.nbytes + 128, np.uint8)
    begin = -memory.ctypes.data % 64 + start
    copy = memory[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def rows_of(pieces):
    """The first column of every batch that the pieces hold, filled up rows included."""
    batches = (batch[0] if isinstance(batch, tuple) else batch for piece in pieces for batch, _ in piece.batches())
    return [np.asarray(x[:, 0]).tolist() for x in batches]


X = np.arange(70, dtype="float32")[:, None] * np.ones((1, 16), "float32")


class TestFeed:
    @pytest.mark.parametrize("room", [1, 3, 64])
    def test_a_pass_gives_every_row_once_and_the_rest_alone(self, room):
        batches = rows_of(feed.Feed(make_source(X, batch_size=16), room).pieces(None, 0, lambda step: 5))
        assert [row for batch in batches for row in batch] == list(range(70))
        assert list(map(len, batches)) == [16, 16, 16, 16, 6]

    @pytest.mark.parametrize("make", [lambda: X, lambda: (X[i : i + 16] for i in range(0, 70, 16))])
    def test_a_smaller_batch_is_filled_up_with_its_last_row(self, make):
        source = make_source(make(), batch_size=16 if isinstance(make(), np.ndarray) else None)
        pieces = list(feed.Feed(source, 3, fills_up=True).pieces(None, 0, lambda step: 1))
        assert {piece.spec.num_rows for piece in pieces} == {16}
        assert rows_of(pieces)[-1] == [64, 65, 66, 67, 68, 69] + [69] * 10
        assert pieces[-1].num_rows == 6

    def test_epochs_go_on_where_the_last_one_stopped_and_end_with_a_pass(self):
        one = feed.Feed(make_source(X, batch_size=16), 4)
        found = [rows_of(one.pieces(3, 0, lambda step: 2)) for _ in range(3)]
        assert [[batch[0] for batch in epoch] for epoch in found] == [[0, 16, 32], [48, 64], [0, 16, 32]]

    def test_a_position_is_gone_on_from(self):
        order = lambda: (4, (7, 4))
        whole = list(feed.Feed(make_source(X, batch_size=16), 4, begin_pass=order).pieces(None, 0, lambda step: 1))
        resumed = feed.Feed(make_source(X, batch_size=16), 4, begin_pass=order)
        resumed.resume_at(whole[1].position)
        assert rows_of(resumed.pieces(None, 2, lambda step: 9)) == rows_of(whole)[2:]

    def test_a_run_that_had_ended_a_pass_begins_the_next(self):
        resumed = feed.Feed(make_source(X, batch_size=16), 4)
        resumed.resume_at({"pass": 0, "batch": 5})
        assert len(rows_of(resumed.pieces(None, 0, lambda step: 1))) == 5

    def test_few_rows_are_one_batch_of_at_most_twice_as_many(self):
        sizes = [make_source(X[:n], batch_size=32).for_inference().spec(True).num_rows for n in (1, 2, 3, 5, 9, 16, 17)]
        assert sizes == [1, 4, 4, 8, 16, 32, 32]

    def test_blocks_hold_four_megabytes_or_eight_large_batches(self):
        def room(*shape):
            return feed.room_for(BatchSpec(np.empty(shape, "float32")))

        assert (room(32, 8), room(32, 784), room(256, 784, 4), room(256, 224, 224, 3)) == (64, 41, 8, 1)

    @pytest.mark.parametrize("make", [feed.HostBuffers, feed.DeviceBuffers])
    @pytest.mark.parametrize("rows", [slice(16, 70), np.random.default_rng(0).permutation(70)[:54].astype("int32")])
    def test_all_buffers_give_the_same_block(self, make, rows):
        block = make(BatchSpec(X[:16]), 4, X).gather(rows)
        expected = X[rows]
        np.testing.assert_array_equal(np.asarray(block).reshape(-1, 16)[:54], expected)
        np.testing.assert_array_equal(np.asarray(block)[3, 6:], np.repeat(expected[-1:], 10, 0))

    def test_rows_that_lie_well_are_read_where_they_are_unless_someone_may_change_them(self):
        rows = lying_at(X, 0)
        assert np.shares_memory(feed.HostBuffers(BatchSpec(X[:16]), 2, rows, True).gather(slice(16, 48)), rows)
        assert not np.shares_memory(feed.HostBuffers(BatchSpec(X[:16]), 2, rows).gather(slice(16, 48)), rows)


class TestPrograms:
    """Programs know forms of batches only."""

    @pytest.mark.medium
    @pytest.mark.optimized
    @pytest.mark.parametrize("kind", ["dense", "convolution", "batch statistics"])
    def test_another_number_of_rows_is_no_other_program(self, kind, compilations):
        middle = {"dense": [], "batch statistics": [kerax.layers.BatchNormalization()]}.get(
            kind, [kerax.layers.Reshape((4, 4, 1)), kerax.layers.Conv2D(2, 3), kerax.layers.Flatten()]
        )
        model = kerax.Sequential([kerax.Input((16,)), *middle, kerax.layers.Dense(1)])
        model.compile("sgd", "mse", metrics=["mae"])
        x = np.random.default_rng(0).normal(size=(640, 16)).astype("float32")
        y = x[:, :1]
        model.fit(x, y, verbose=0), model.evaluate(x, y, verbose=0), model.predict(x, verbose=0)
        for rows, new in ((480, 0), (400, 1), (336, 0), (17, 1), (640, 0), (49, 0)):
            with compilations() as found:
                model.fit(x[:rows], y[:rows], verbose=0)
            assert len(found) <= (2 if rows == 49 else new), (rows, found)
            with compilations() as found:
                results = model.evaluate(x[:rows], y[:rows], verbose=0)
                outputs = model.predict(x[:rows], verbose=0)
            assert found == [], rows
            np.testing.assert_allclose(outputs, model(x[:rows]), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(results[0], np.mean((outputs - y[:rows]) ** 2), rtol=1e-4)
            np.testing.assert_allclose(results[1], np.mean(abs(outputs - y[:rows])), rtol=1e-4)


@pytest.mark.medium
@pytest.mark.optimized
@pytest.mark.parametrize("start", [0, 16, 60])
def test_evaluation_and_prediction_find_every_row(start):
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(70, 5, 4)).astype("float32"), draw.normal(size=(70, 1)).astype("float32")
    model = kerax.Sequential([kerax.Input((5, 4)), kerax.layers.Flatten(), kerax.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    expected = np.asarray(model(x))
    for batch_size in (3, 7, 32, 100):
        found = model.predict(lying_at(x, start), batch_size=batch_size, verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        loss, error = model.evaluate(lying_at(x, start), lying_at(y, 4), batch_size=batch_size, verbose=0)
        assert loss == pytest.approx(np.mean((expected - y) ** 2), rel=1e-5)
        assert error == pytest.approx(np.mean(abs(expected - y)), rel=1e-5)


@pytest.mark.optimized
@pytest.mark.parametrize("rows", [64, 70])
def test_inputs_may_lie_in_different_ways(rows):
    draw = np.random.default_rng(0)
    x = {"a": draw.normal(size=(rows, 1)).astype("float32"), "b": draw.normal(size=(rows, 20)).astype("float32")}
    inputs = {"a": kerax.Input((1,), name="a"), "b": kerax.Input((20,), name="b")}
    model = kerax.Model(inputs, kerax.layers.Dense(1)(kerax.layers.Concatenate()([inputs["a"], inputs["b"]])))
    model.compile("sgd", "mse")
    expected = np.asarray(model(x))
    np.testing.assert_allclose(model.predict(x, batch_size=8, verbose=0), expected, rtol=1e-5, atol=1e-6)
    loss = model.evaluate(x, np.zeros((rows, 1), "float32"), batch_size=8, verbose=0)
    assert loss == pytest.approx(np.mean(expected**2), rel=1e-5)


@pytest.mark.medium
@pytest.mark.optimized
def test_training_gives_the_same_bits_wherever_the_rows_lie():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(70, 5, 4)).astype("float32"), draw.normal(size=(70, 1)).astype("float32")

    def weights(x, y, **options):
        kerax.utils.set_random_seed(3)
        model = kerax.Sequential([kerax.Input((5, 4)), kerax.layers.Flatten(), kerax.layers.Dense(1)])
        model.compile("adam", "mse")
        model.fit(x, y, batch_size=8, epochs=2, verbose=0, **options)
        return model.get_weights()

    expected = weights(lying_at(x, 0), lying_at(y, 0))
    for others in (
        weights(lying_at(x, 16), lying_at(y, 32)),
        weights(np.asfortranarray(x), lying_at(y, 4)),
        weights(lying_at(x, 60), lying_at(y, 0)),
    ):
        for found, wanted in zip(others, expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    for found, wanted in zip(weights(jnp.array(x), jnp.array(y)), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_what_a_hook_does_to_the_rows_concerns_the_next_epoch():
    x, y = lying_at(np.ones((64, 20), "float32"), 16), lying_at(np.ones((64, 1), "float32"), 0)
    model = kerax.Sequential([kerax.Input((20,)), kerax.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(kerax.optimizers.SGD(0.0), "mse")

    def change(epoch, logs):
        x[:], y[:] = 2.0, 3.0

    hook = kerax.callbacks.LambdaCallback(on_epoch_end=change)
    history = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[hook]).history
    assert history["loss"] == [1.0, 9.0]


@pytest.mark.medium
def test_nan_is_traced_to_its_row(capsys):
    x = lying_at(np.ones((40, 20), "float32"), 16)
    x[17, 3] = np.nan
    model = kerax.Sequential([kerax.Input((20,)), kerax.layers.Dense(1)])
    model.compile("sgd", "mse")
    guard = kerax.callbacks.TerminateOnNaN()
    model.fit(x, np.zeros((40, 1), "float32"), batch_size=8, shuffle=False, verbose=0, callbacks=[guard])
    assert "`x` of the batch holds NaN or infinity, first in row 1 " in capsys.readouterr().out


class TestLastBatchOfAnEvaluation:
    """Rows that fill the last batch up count for nothing, whatever is evaluated; else it has its own program."""

    def evaluated(self, model, x, y, **options):
        found = model.evaluate(x, y, batch_size=16, verbose=0, return_dict=True, **options)
        expected = model.evaluate(x, y, batch_size=len(x), verbose=0, return_dict=True, **options)  # no filling up
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=2e-5, abs=1e-6), name
        return next(p for k, p in model.compilation.programs.items() if k[0] == "test")

    @pytest.mark.medium
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize(
        "loss", ["mse", "huber", kerax.losses.MeanSquaredError(reduction="mean_with_sample_weight")], ids=str
    )
    def test_losses_and_weights(self, loss, weighted):
        if not isinstance(loss, str) and weighted:
            pytest.skip("a mean of batches' means is not that of all rows")
        draw = np.random.default_rng(0)
        x, y = draw.normal(size=(43, 5)).astype("float32"), draw.normal(size=(43, 2)).astype("float32")
        model = kerax.Sequential([kerax.Input((5,)), kerax.layers.Dense(2, kernel_regularizer="l2")])
        model.compile("sgd", loss, metrics=["mae", "cosine_similarity"], weighted_metrics=["mse"])
        options = {"sample_weight": draw.random(43).astype("float32")} if weighted else {}
        assert self.evaluated(model, x, y, **options).fills_up

    @pytest.mark.medium
    def test_sequences_with_masks(self):
        tokens = np.random.default_rng(0).integers(0, 5, (43, 6))
        model = kerax.Sequential(
            [kerax.Input((6,)), kerax.layers.Embedding(5, 3, mask_zero=True), kerax.layers.Dense(5)]
        )
        loss = kerax.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, metrics=["accuracy"])
        one = model.evaluate(tokens[:11], tokens[:11], batch_size=16, verbose=0)
        np.testing.assert_allclose(one, model.test_on_batch(tokens[:11], tokens[:11]), rtol=1e-5)
        assert next(p for k, p in model.compilation.programs.items() if k[0] == "test").fills_up

    @pytest.mark.medium
    @pytest.mark.parametrize("kind", ["loss", "metric", "added", "step"])
    def test_what_is_one_number_for_a_batch_has_a_program_of_its_own(self, kind):
        class Adds(kerax.layers.Layer):
            def call(self, inputs):
                self.add_loss(jnp.max(inputs))
                return inputs

        class Own(kerax.Sequential):
            def test_step(self, state, data):
                return super().test_step(state, data)

        def largest(y_true, y_pred):
            return jnp.max(abs(y_true - y_pred))

        draw = np.random.default_rng(0)
        x, y = draw.normal(size=(43, 5)).astype("float32"), draw.normal(size=(43, 2)).astype("float32")
        made = Own if kind == "step" else kerax.Sequential
        model = made([kerax.Input((5,)), *([Adds()] if kind == "added" else []), kerax.layers.Dense(2)])
        model.compile("sgd", largest if kind == "loss" else "mse", metrics=[largest] if kind == "metric" else [])
        found = model.evaluate(x, y, batch_size=16, verbose=0)
        batches = [model.test_on_batch(x[i : i + 16], y[i : i + 16]) for i in (0, 16, 32)]
        sizes = [16, 16, 11]
        if kind == "metric":  # each batch's number counts once
            np.testing.assert_allclose(found[1], np.mean([batch[1] for batch in batches]), rtol=1e-5)
            found, batches = found[0], [batch[0] for batch in batches]
        np.testing.assert_allclose(found, np.average(batches, weights=sizes), rtol=1e-5)
        assert not next(
            p for k, p in model.compilation.programs.items() if k[0] == "test" and p.spec.num_rows == 16
        ).fills_up
