"""Sources of batches: other libraries' loaders, `PyDataset`, reading ahead, positions."""

import threading
import time

import jax
import numpy as np
import pytest

import kerax
from kerax.data import make_source
from kerax.data.prefetch import Prefetch
from kerax.data.source import BatchSpec
from kerax.train.feed import HostBuffers

X = np.arange(40, dtype="float32").reshape(10, 4)
Y = np.arange(10, dtype="int32")


def firsts(source, order=None):
    """The first label of each batch of a pass."""
    return [int(np.asarray(batch[1]).reshape(-1)[0]) for batch, _ in source.epoch(order)]


class Batches(kerax.utils.PyDataset):
    """Batches of two rows; some take longer than those after them."""

    def __init__(self, num=5, **kwargs):
        super().__init__(**kwargs)
        self.num, self.begun, self.ended = num, 0, 0

    def __len__(self):
        return self.num

    def __getitem__(self, index):
        time.sleep(0.01 if index == 0 else 0.0)
        return X[2 * index : 2 * index + 2], Y[2 * index : 2 * index + 2]

    def on_epoch_begin(self):
        self.begun += 1

    def on_epoch_end(self):
        self.ended += 1


def tiny_model():
    model = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(1)])
    model.compile(kerax.optimizers.SGD(1e-4), "mse")
    return model


class TestPyDataset:
    @pytest.mark.parametrize("workers", [0, 1, 3])
    def test_batches_come_in_order_however_many_threads_make_them(self, workers):
        assert firsts(make_source(Batches(workers=workers, max_queue_size=2))) == [0, 2, 4, 6, 8]

    @pytest.mark.slow
    def test_processes(self):
        assert firsts(make_source(Batches(workers=2, use_multiprocessing=True))) == [0, 2, 4, 6, 8]

    def test_the_order_is_drawn_anew_for_each_pass(self):
        source = make_source(Batches())
        orders = [firsts(source, (7, number)) for number in (0, 1, 0)]
        assert orders[0] == orders[2] != orders[1]
        assert sorted(orders[1]) == [0, 2, 4, 6, 8]

    def test_fit_calls_the_hooks_and_shuffles(self):
        data = Batches()
        tiny_model().fit(data, epochs=3, verbose=0)
        assert (data.begun, data.ended) == (3, 3)

    def test_no_workers_are_no_processes_either(self):
        class Unpicklable(Batches):
            def __reduce__(self):
                raise TypeError("no")

        assert firsts(make_source(Unpicklable(workers=0, use_multiprocessing=True))) == [0, 2, 4, 6, 8]

    @pytest.mark.medium
    def test_a_data_set_without_end(self):
        class Endless(Batches):
            num_batches = None

            def __getitem__(self, index):
                return super().__getitem__(index % 5)

        history = tiny_model().fit(Endless(), steps_per_epoch=7, epochs=2, verbose=0)
        assert len(history.epoch) == 2

    def test_wrong_arguments(self):
        with pytest.raises(ValueError, match="`workers` must be an integer of at least 0. Got -1"):
            Batches(workers=-1)
        with pytest.raises(NotImplementedError, match="__len__"):
            len(kerax.utils.PyDataset())


class TestLibraries:
    def test_torch(self):
        torch = pytest.importorskip("torch")
        data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
        source = make_source(torch.utils.data.DataLoader(data, batch_size=4))
        assert source.num_batches == 3 and firsts(source) == firsts(source) == [0, 4, 8]

    @pytest.mark.medium
    def test_grain(self):
        grain = pytest.importorskip("grain")
        rows = grain.MapDataset.source([(x, y) for x, y in zip(X, Y)])
        for data in (rows.batch(4), rows.to_iter_dataset().batch(4)):
            assert firsts(make_source(data)) == [0, 4, 8]
        loader = grain.DataLoader(
            data_source=[(x, y) for x, y in zip(X, Y)],
            sampler=grain.samplers.IndexSampler(10, num_epochs=1),
            operations=[grain.transforms.Batch(4)],
        )
        assert firsts(make_source(loader)) == [0, 4, 8]
        assert np.isfinite(tiny_model().fit(rows.batch(4), epochs=2, verbose=0).history["loss"]).all()

    def test_hugging_face(self):
        datasets = pytest.importorskip("datasets")
        table = datasets.Dataset.from_dict({"features": X, "label": Y})
        source = make_source(table, batch_size=4)
        assert source.num_batches == 3 and firsts(source) == [0, 4, 8]
        batch, _ = next(source.epoch())
        assert batch[0].shape == (4, 4) and batch[0].dtype == np.float32
        rows = [int(y) for batch, _ in source.epoch((3, 0)) for y in batch[1]]
        assert sorted(rows) == list(range(10)) != rows
        two = datasets.Dataset.from_dict({"a": X, "b": X[:, :2], "labels": Y})
        assert set(next(make_source(two).epoch())[0][0]) == {"a", "b"}
        assert np.isfinite(tiny_model().fit(table, batch_size=4, epochs=2, verbose=0).history["loss"]).all()

    def test_something_like_a_tf_data_set(self):
        class Tensor:
            def __init__(self, value):
                self.value = value

            def __array__(self, dtype=None, copy=None):
                return self.value

        class Data:
            def __iter__(self):
                return ((Tensor(X[i : i + 5]), Tensor(Y[i : i + 5])) for i in (0, 5))

            def __len__(self):
                raise TypeError("the dataset length is unknown")

            def cardinality(self):
                return np.int64(2)

        source = make_source(Data())
        assert source.num_batches == 2 and firsts(source) == firsts(source) == [0, 5]


class Stateful:
    """An iterable that saves its own position, as torchdata's loader does."""

    def __init__(self):
        self.position = self.begin = 0

    def __iter__(self):
        for position in range(self.begin, 5):
            self.position = position
            yield X[2 * position : 2 * position + 2], Y[2 * position : 2 * position + 2]
        self.begin = 0

    def state_dict(self):
        return {"position": self.position + 1}

    def load_state_dict(self, state):
        self.begin = state["position"]


class Plain:
    """An iterable without a position."""

    def __iter__(self):
        return ((X[i : i + 2], Y[i : i + 2]) for i in range(0, 10, 2))


def grain_rows():
    grain = pytest.importorskip("grain")
    return grain.MapDataset.source([(x, y) for x, y in zip(X, Y)]).shuffle(seed=3).batch(2)


class TestPositions:
    @pytest.mark.parametrize("make", [Batches, Stateful, grain_rows, Plain])
    @pytest.mark.filterwarnings("ignore:Plain cannot tell its position")
    def test_a_restored_source_gives_the_batches_that_were_left(self, make):
        whole = firsts(make_source(make()))
        source = make_source(make())
        positions = [position for _, (_, position) in zip(range(2), source.epoch())]
        resumed = make_source(make())
        resumed.set_state(positions[-1])
        assert firsts(resumed) == whole[2:]
        assert firsts(resumed) == whole

    def test_batches_that_were_read_ahead_are_not_counted(self):
        source = make_source(Batches())
        with Prefetch(source.epoch()) as ahead:
            time.sleep(0.1)
            position = ahead.take(2)[-1][1]
        resumed = make_source(Batches())
        resumed.set_state(position)
        assert firsts(resumed) == [4, 6, 8]

    def test_a_source_without_a_position_says_that_batches_are_left_out(self):
        source = make_source(Plain())
        source.set_state({"count": 3})
        with pytest.warns(UserWarning, match="Plain cannot tell its position: the first 3 batches"):
            assert firsts(source) == [6, 8]


class TestPrefetch:
    def test_items_come_in_order_and_like_ones_together(self):
        with Prefetch(iter([1, 3, 4, 6, 5])) as ahead:
            time.sleep(0.05)
            taken = [ahead.take(3, like=lambda a, b: a % 2 == b % 2) for _ in range(4)]
        assert taken == [[1, 3], [4, 6], [5], []]

    def test_no_more_than_the_limit_is_drawn(self):
        numbers = iter(range(10))
        with Prefetch(numbers, limit=4) as ahead:
            assert [item for _ in range(9) for item in ahead.take(9)] == [0, 1, 2, 3]
        assert next(numbers) == 4

    def test_it_waits_when_enough_is_ready(self):
        drawn = []

        def numbers():
            for number in range(100):
                drawn.append(number)
                yield np.zeros(100)

        with Prefetch(numbers(), ahead=5):
            time.sleep(0.1)
            assert len(drawn) <= 6
        drawn.clear()
        with Prefetch(numbers(), ahead_bytes=1600):
            time.sleep(0.1)
            assert len(drawn) <= 3

    def test_an_error_comes_after_the_items_before_it(self):
        def numbers():
            yield 1
            raise RuntimeError("broken source")

        with Prefetch(numbers()) as ahead:
            time.sleep(0.05)
            assert ahead.take(5) == [1]
            with pytest.raises(RuntimeError, match="broken source"):
                ahead.take(1)

    def test_fit_leaves_no_thread_behind_and_nothing_of_a_generator_is_lost(self):
        def endless():
            for number in range(1000):
                yield X[:2] + number, np.full(2, number)

        batches, before = endless(), threading.active_count()
        tiny_model().fit(batches, steps_per_epoch=3, epochs=2, verbose=0)
        assert next(batches)[1][0] == 6
        assert threading.active_count() == before

    def test_a_source_that_breaks_keeps_the_weights_so_far(self):
        def breaks():
            yield X[:2], Y[:2]
            yield X[2:4], Y[2:4]
            raise OSError("disk gone")

        model = tiny_model()
        with pytest.raises(OSError, match="disk gone"):
            model.fit(breaks(), verbose=0)
        assert int(model.optimizer.iterations.value) == 2
        assert np.isfinite(model.predict(X, verbose=0)).all()


def test_buffers_hold_batches_side_by_side():
    buffers = HostBuffers(BatchSpec(jax.tree.map(lambda a: a[:2], (X, Y))), 3)
    block = buffers.join([(X[:2], Y[:2]), (X[6:8], Y[6:8])])
    np.testing.assert_array_equal(block[1][1], Y[6:8])
    assert block[0].ctypes.data % 64 == 0
    kept = block[0][:2].copy()
    for _ in range(2):  # the next two are other buffers
        buffers.join([(X[4:6], Y[4:6])])
    np.testing.assert_array_equal(block[0][:2], kept)
