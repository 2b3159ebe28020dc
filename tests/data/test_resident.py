"""Rows that programs read where they lie in the host's memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import config
from kerax.core import placement
from kerax.data import resident
from kerax.train import engine, sweeps


@pytest.fixture(autouse=True)
def small_arrays_too(monkeypatch):
    monkeypatch.setattr(resident, "_COPIED", 0)


def lying_at(array, start):
    """A copy that begins so many bytes after a multiple of 64."""
    memory = np.empty(array.nbytes + 128, np.uint8)
    begin = -memory.ctypes.data % 64 + start
    copy = memory[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class TestRows:
    @pytest.mark.parametrize("dtype", ["float32", "int32", "uint8", "float16", "bool"])
    def test_every_row_is_found_wherever_the_array_begins(self, dtype):
        array = np.random.default_rng(0).integers(0, 200, (9, 5, 13)).astype(dtype)
        rows = np.array([8, 0, 3, 0, 7, 1, 8], np.int32)
        take = jax.jit(lambda data, rows: resident.take_rows(data, rows))
        starts = range(0, 64, array.itemsize) if dtype == "float16" else (0, array.itemsize, 16, 48)
        for start in starts:
            placed = resident.place_rows({"x": lying_at(array, start)})
            assert isinstance(placed["x"], resident.ShiftedRows)
            np.testing.assert_array_equal(take(placed, rows)["x"], array[rows])
        assert take._cache_size() == 1  # where it begins is no other program

    def test_two_rows_are_enough(self):
        array = lying_at(np.arange(40, dtype="float32").reshape(2, 20), 4)
        placed = resident.place_rows(array)
        assert isinstance(placed, resident.ShiftedRows)
        np.testing.assert_array_equal(
            jax.jit(resident.take_rows)(placed, np.array([1, 0, 1], np.int32)), array[[1, 0, 1]]
        )

    def test_rows_side_by_side_are_found_wherever_they_begin(self):
        array = np.random.default_rng(0).normal(size=(9, 17)).astype("float32")
        for count in (1, 4, 8, 9):
            cut = jax.jit(lambda data, start, count=count: resident.slice_rows(data, start, count))
            for begin in (0, 4, 60):
                placed = resident.place_rows(lying_at(array, begin))
                for start in range(10 - count):
                    np.testing.assert_array_equal(cut(placed, start), array[start : start + count])

    def test_no_number_is_copied_but_those_of_two_rows(self):
        array = lying_at(np.zeros((50, 20), "float32"), 16)
        placed = resident.place_rows(array)
        assert np.shares_memory(placed.numbers, array)
        assert jnp.asarray(placed.edges).shape == (2, 20)
        assert isinstance(resident.place_rows(jnp.array(array)), jax.Array)

    @pytest.mark.parametrize(
        "array",
        [
            lying_at(np.ones((50, 2), "float32"), 16),  # a row may end before the next multiple of 64
            lying_at(np.ones(50, "float32"), 16),
            lying_at(np.ones((1, 20), "float32"), 16),
        ],
    )
    def test_short_rows_are_copied(self, array):
        placed = resident.place_rows(array)
        assert placement.is_aligned(placed)
        np.testing.assert_array_equal(placed, array)

    @pytest.mark.parametrize(
        "array",
        [
            np.arange(2000, dtype="float32").reshape(50, 40)[:, ::2],
            np.asfortranarray(np.arange(1000, dtype="float32").reshape(50, 20)),
            np.broadcast_to(np.arange(20, dtype="float32"), (50, 20)),
        ],
    )
    def test_rows_out_of_line_are_put_in_line(self, array):
        placed, rows = resident.place_rows(array), np.array([49, 0, 7], np.int32)
        assert isinstance(placed, resident.ShiftedRows)
        np.testing.assert_array_equal(jax.jit(resident.take_rows)(placed, rows), array[rows])

    def test_small_arrays_are_copied(self, monkeypatch):
        array = lying_at(np.zeros((50, 20), "float32"), 16)
        monkeypatch.setattr(resident, "_COPIED", array.nbytes)
        assert placement.is_aligned(resident.place_rows(array))
        monkeypatch.setattr(resident, "_COPIED", array.nbytes - 1)
        assert isinstance(resident.place_rows(array), resident.ShiftedRows)

    def test_what_may_be_copied_is_limited(self, monkeypatch):
        monkeypatch.setattr(config, "_resident_bytes", 5000)
        strided = np.zeros((50, 80), "float32")[:, ::2]
        assert not resident.has_readable_rows((strided,))
        assert not resident.fits_on_device((lying_at(np.zeros((50, 40), "float32"), 16),))
        for start in (0, 16):
            assert resident.has_readable_rows((lying_at(np.zeros((50, 40), "float32"), start), np.zeros(50, "int32")))
        monkeypatch.setattr(config, "_resident_bytes", 0)
        for start in (0, 16):
            assert not resident.has_readable_rows((lying_at(np.zeros((50, 40), "float32"), start),))
        assert resident.has_readable_rows((jnp.zeros((50, 40)),))

    @pytest.mark.parametrize("offset", [0, 16])
    def test_files_are_read_ahead_by_the_host(self, offset, tmp_path, monkeypatch):
        (tmp_path / "rows").write_bytes(bytes(16 + 50 * 80))
        rows = np.memmap(tmp_path / "rows", "float32", "r", offset, (50, 20))
        copied = resident.place_rows(np.asarray(rows)).numbers
        assert resident._is_on_disk(np.asarray(rows)) and not resident._is_on_disk(copied)
        assert resident.has_readable_rows((np.asarray(rows),))
        monkeypatch.setattr(config, "_resident_bytes", 3999)
        assert not resident.has_readable_rows((np.asarray(rows)[:],))


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
def test_several_groups_in_one_dispatch_give_the_same(monkeypatch):
    monkeypatch.setattr(sweeps, "_GROUP_BYTES", {"cpu": 1200})
    monkeypatch.setattr(engine.Pace, "target", 1e6)  # however long a batch took
    dispatched, counts = engine.Pace.dispatched, []

    def note(pace, program, count, *others):
        counts.append(count)
        return dispatched(pace, program, count, *others)

    monkeypatch.setattr(engine.Pace, "dispatched", note)
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(161, 20)).astype("float32"), draw.normal(size=(161, 1)).astype("float32")
    model = kerax.Sequential([kerax.Input((20,)), kerax.layers.Dense(1)])
    model.compile("sgd", "mse")
    expected = np.asarray(model(x))
    for _ in range(2):  # the second time, a batch's time is known
        found = model.predict(lying_at(x, 16), batch_size=4, verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        loss = model.evaluate(lying_at(x, 16), lying_at(y, 4), batch_size=4, verbose=0)
        assert loss == pytest.approx(np.mean((expected - y) ** 2), rel=1e-5)
    group = counts[0]
    assert 1 < group < 20 and max(counts) >= 2 * group
    assert counts[-1] < group  # those left over


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
    for found, wanted in zip(weights(jnp.array(x), jnp.array(y)), expected, strict=True):  # another program
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)


def test_what_a_hook_does_to_the_rows_concerns_the_next_epoch():
    x, y = lying_at(np.ones((64, 20), "float32"), 16), lying_at(np.ones((64, 1), "float32"), 0)
    model = kerax.Sequential([kerax.Input((20,)), kerax.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(kerax.optimizers.SGD(0.0), "mse")
    were_ready = []

    def change(epoch, logs):
        were_ready.append(logs._step.rows.token.is_ready())
        x[:], y[:] = 2.0, 3.0

    hook = kerax.callbacks.LambdaCallback(on_epoch_end=change)
    history = model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[hook]).history
    assert history["loss"] == [1.0, 9.0] and were_ready[0]


def test_nan_is_traced_to_its_row_in_shifted_rows(capsys):
    x = lying_at(np.ones((40, 20), "float32"), 16)
    x[17, 3] = np.nan
    model = kerax.Sequential([kerax.Input((20,)), kerax.layers.Dense(1)])
    model.compile("sgd", "mse")
    guard = kerax.callbacks.TerminateOnNaN()
    model.fit(x, np.zeros((40, 1), "float32"), batch_size=8, shuffle=False, verbose=0, callbacks=[guard])
    assert "`x` of the batch holds NaN or infinity, first in row 1 " in capsys.readouterr().out
