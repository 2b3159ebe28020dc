import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import kerax
from kerax import data as data_module
from kerax.data import ArraySource, BatchSource, make_source, unpack_x_y_sample_weight
from tests.indexed import Indexed

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(10, 3)).astype("float32")
Y = (X @ np.array([[1.0], [2.0], [-1.0]])).astype("float32")
BATCHES = [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 10, 4)]


def shapes(source):
    return jax.tree.map(lambda spec: (spec.shape, np.dtype(spec.dtype).name), source.spec(False).arrays)


class TestArrays:
    def test_batches_and_their_form(self):
        source = make_source(X, Y, batch_size=4)
        assert isinstance(source, ArraySource)
        assert (source.num_rows, source.num_batches) == (10, 3)
        assert shapes(source) == (((4, 3), "float32"), ((4, 1), "float32"))
        assert make_source(X, Y, batch_size=40).spec(False).arrays[0].shape == (10, 3)
        assert make_source(X).batch_size == 32

    def test_wide_dtypes_become_those_that_jax_computes_in(self):
        source = make_source(X.astype("float64"), np.arange(10), np.ones(10))
        assert [leaf.dtype.name for leaf in source.rows] == ["float32", "int32", "float32"]
        assert make_source(X.astype("float16")).rows.dtype == np.float16
        assert make_source(np.ones((3, 2), bool)).rows.dtype == bool
        assert make_source(np.ones((3, 2), np.uint8)).rows.dtype == np.uint8

    def test_arrays_of_a_fitting_dtype_are_not_copied(self):
        assert make_source(X).rows is X
        on_device = jnp.asarray(X)
        assert make_source(on_device).rows is on_device

    def test_nested_structures_keep_their_form(self):
        source = make_source({"b": (X, [X, X]), "a": X}, {"out": Y}, batch_size=5)
        assert shapes(source)[0]["b"][1][0] == ((5, 3), "float32")
        assert shapes(source)[1] == {"out": ((5, 1), "float32")}

    def test_frames_and_series(self):
        frame = pd.DataFrame({"one": [1.5, 2.5, 3.5], "two": [1, 2, 3]})
        source = make_source(frame, frame["two"], batch_size=2)
        assert shapes(source) == (((2, 2), "float32"), ((2, 1), "int32"))
        np.testing.assert_array_equal(source.rows[0], frame.to_numpy())
        columns = make_source({name: frame[name] for name in frame})
        assert columns.rows["one"].shape == (3, 1)

    def test_lists_of_numbers(self):
        assert make_source([[1.0, 2.0], [3.0, 4.0]], [0, 1]).rows[0].shape == (2, 2)
        assert make_source([1, 2, 3]).rows.shape == (3,)
        assert make_source([[1.0, 2.0], [3.0, 4.0]], [0, 1]).rows[1].dtype == np.int32

    def test_a_list_of_arrays_is_several_inputs(self):
        assert isinstance(make_source([X, X]).rows[0], list)

    def test_split_holds_the_last_rows_out(self):
        train, held_out = make_source(X, Y, np.arange(10)).split(0.3)
        assert (train.num_rows, held_out.num_rows) == (7, 3)
        np.testing.assert_array_equal(held_out.rows[2], [7, 8, 9])
        with pytest.raises(ValueError, match="empty"):
            make_source(X[:1]).split(0.5)

    def test_class_weights_become_sample_weights(self):
        labels = np.array([0, 2, 1, 2])
        source = make_source(X[:4], labels, class_weight={0: 0.5, 2: 3.0})
        np.testing.assert_array_equal(source.rows[2], [0.5, 3.0, 1.0, 3.0])
        one_hot = make_source(X[:4], np.eye(3)[labels], class_weight={0: 0.5, 2: 3.0})
        np.testing.assert_array_equal(one_hot.rows[2], [0.5, 3.0, 1.0, 3.0])
        column = make_source(X[:4], labels[:, None], np.full(4, 2.0), class_weight={0: 0.5})
        np.testing.assert_array_equal(column.rows[2], [1.0, 2.0, 2.0, 2.0])

    def test_unpacking(self):
        assert unpack_x_y_sample_weight(1) == (1, None, None)
        assert unpack_x_y_sample_weight((1,)) == (1, None, None)
        assert unpack_x_y_sample_weight((1, 2)) == (1, 2, None)
        assert unpack_x_y_sample_weight([1, 2, 3]) == (1, 2, 3)

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (dict(x=X, y=Y[:3]), "same number of samples.*10.*3"),
            (dict(x={"a": X, "b": X[:2]}), "same number of samples"),
            (dict(x=X[:0]), "empty"),
            (dict(x=X, batch_size=0), "batch_size"),
            (dict(x=np.float32(3)), "scalar"),
            (dict(x=np.array(["a"])), "numbers first"),
            (dict(x=pd.DataFrame({"a": ["x", "y"]})), "numbers first"),
            (dict(x=[[1.0], [1.0, 2.0]]), "equal length"),
            (dict(x=None), "Got None"),
            (dict(x=object()), "generator"),
            (dict(x=X, y=[Y, Y], class_weight={0: 1.0}), "one target"),
        ],
    )
    def test_errors(self, arguments, message):
        with pytest.raises((ValueError, TypeError), match=message):
            make_source(**arguments)


class Loader:
    """Looks like `torch.utils.data.DataLoader`: re-iterable, with a length, batches as lists of tensors."""

    class Tensor:
        def __init__(self, array):
            self._array = array
            self.shape = array.shape

        def __array__(self, dtype=None, copy=None):
            return np.asarray(self._array, dtype)

        def __iter__(self):
            return iter(self._array)

    def __init__(self):
        self.starts = 0

    def __len__(self):
        return len(BATCHES)

    def __iter__(self):
        self.starts += 1
        return ([self.Tensor(x), self.Tensor(y)] for x, y in BATCHES)


def indexed():
    return Indexed(BATCHES)


class Reiterable:
    def __iter__(self):
        return iter(BATCHES)


def generator():
    yield from BATCHES


def rows_of(source):
    return [jax.tree.map(np.asarray, batch) for batch, _ in source.epoch()]


class TestBatches:
    @pytest.mark.parametrize("make", [Loader, indexed, Reiterable, lambda: generator, generator, lambda: iter(BATCHES)])
    def test_every_source_gives_the_same_batches(self, make):
        source = make_source(make())
        assert isinstance(source, BatchSource)
        assert shapes(source) == (((4, 3), "float32"), ((4, 1), "float32"))
        for found, expected in zip(rows_of(source), BATCHES, strict=True):
            np.testing.assert_array_equal(found[0], expected[0])
            np.testing.assert_array_equal(found[1], expected[1])

    @pytest.mark.parametrize("make", [Loader, indexed, Reiterable, lambda: generator])
    def test_sources_that_can_start_again_do(self, make):
        source = make_source(make())
        assert [len(rows_of(source)) for _ in range(3)] == [3, 3, 3]

    def test_a_generator_goes_on_where_it_stopped(self):
        source = make_source(generator())
        epoch = source.epoch()
        next(epoch)
        assert len(rows_of(source)) == 2
        assert rows_of(source) == []

    def test_looking_at_the_first_batch_loses_none_and_starts_once(self):
        loader = Loader()
        source = make_source(loader)
        source.spec(False)
        source.spec(False)
        assert len(rows_of(source)) == 3 and loader.starts == 1

    def test_number_of_batches_where_known(self):
        assert make_source(Loader()).num_batches == 3
        assert make_source(indexed()).num_batches == 3
        assert make_source(generator()).num_batches is None

    def test_inputs_alone_and_weights(self):
        assert len(rows_of(make_source(iter([X])))[0]) == 1
        assert len(rows_of(make_source(iter([(X, Y, None)])))[0]) == 2
        assert len(rows_of(make_source(iter([(X, Y, np.ones(10))])))[0]) == 3
        batch = rows_of(make_source(iter([({"a": X, "b": X}, Y)])))[0]
        assert set(batch[0]) == {"a", "b"}

    def test_class_weights(self):
        batch = rows_of(make_source(iter([(X[:3], np.array([0, 1, 1]))]), class_weight={1: 5.0}))[0]
        np.testing.assert_array_equal(batch[2], [1.0, 5.0, 5.0])

    def test_frames_in_batches(self):
        frame = pd.DataFrame(X)
        batch = rows_of(make_source(iter([(frame, frame[0])])))[0]
        assert batch[0].shape == (10, 3) and batch[1].shape == (10, 1)

    @pytest.mark.parametrize(
        "make, message",
        [
            (lambda: make_source(iter([])).spec(False).arrays, "empty"),
            (lambda: make_source([]), "empty"),
            (lambda: make_source(generator(), Y), "`y` must be left out"),
            (lambda: make_source(iter([(1, 2, 3, 4)])).spec(False).arrays, "4 parts"),
            (lambda: make_source(iter([(np.array(["a"]), Y)])).spec(False).arrays, "numbers first"),
        ],
    )
    def test_errors(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    def test_an_empty_sequence_of_batches(self):
        with pytest.raises(ValueError, match="empty"):
            make_source(Indexed([]))


class TestFit:
    def make(self):
        model = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(1, kernel_initializer="ones")])
        model.compile(kerax.optimizers.SGD(0.1), "mse")
        return model

    @pytest.mark.medium
    def test_every_source_trains_alike(self):
        expected = self.make()
        losses = expected.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"]
        frame = pd.DataFrame(X)
        by_index = indexed()
        for x, y in (
            (Loader(), None),
            (by_index, None),
            (Reiterable(), None),
            (generator, None),
            (frame, pd.Series(Y[:, 0])),
            (X.tolist(), Y.tolist()),
            (jnp.asarray(X), jnp.asarray(Y)),
        ):
            model = self.make()
            found = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"]
            np.testing.assert_allclose(found, losses, rtol=1e-5)
            for one, two in zip(model.get_weights(), expected.get_weights()):
                np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
        assert by_index.ends == 2

    def test_a_generator_that_ends_early_is_said_and_ends_training(self):
        model = self.make()
        with pytest.warns(UserWarning, match="ran out"):
            history = model.fit(generator(), steps_per_epoch=2, epochs=5, verbose=0)
        assert len(history.epoch) == 2

    def test_a_generator_without_steps_is_one_epoch(self):
        model = self.make()
        with pytest.warns(UserWarning, match="ran out"):
            history = model.fit(generator(), epochs=3, verbose=0)
        assert len(history.epoch) == 1

    def test_batches_of_another_structure_are_refused(self):
        model = self.make()
        with pytest.raises(ValueError, match="structure of the first"):
            model.fit(iter([(X, Y), (X, Y, np.ones(10))]), verbose=0)

    @pytest.mark.medium
    def test_evaluate_and_predict_take_every_source(self):
        model = self.make()
        expected, outputs = model.evaluate(X, Y, verbose=0), model.predict(X, verbose=0)
        for make in (Loader, indexed, Reiterable, lambda: generator, generator):
            assert model.evaluate(make(), verbose=0) == pytest.approx(expected, rel=1e-5)
            np.testing.assert_allclose(model.predict(make(), verbose=0), outputs, rtol=1e-5)
        np.testing.assert_allclose(model.predict(generator(), steps=1, verbose=0), outputs[:4], rtol=1e-5)

    def test_validation_on_a_generator_of_each_epoch(self):
        model = self.make()
        history = model.fit(X, Y, epochs=2, verbose=0, validation_data=Reiterable()).history
        assert len(history["val_loss"]) == 2


def test_the_module_offers_what_the_loop_needs():
    assert all(hasattr(data_module, name) for name in ("ArraySource", "BatchSource", "make_source"))


class TestClassWeights:
    """Labels of all forms are weighed as their classes say, place by place."""

    WEIGHTS = {0: 1.0, np.int64(1): 5.0, 2: 0.5}
    TABLE = np.array([1, 5, 0.5], "f4")

    def loss_of(self, loss, y, units=3, shape=(4, 4), **options):
        kerax.utils.set_random_seed(1)
        activation = "sigmoid" if units == 1 else "softmax"
        model = kerax.Sequential([kerax.Input((*shape, 2)), kerax.layers.Dense(units, activation=activation)])
        model.compile("sgd", loss)
        x = np.random.default_rng(0).normal(size=(12, *shape, 2)).astype("f4")
        if options.pop("as_batches", False):
            x, y = iter([(x, y)]), None
        return model.fit(x, y, batch_size=12, shuffle=False, verbose=0, **options).history["loss"][0]

    @pytest.mark.medium
    @pytest.mark.parametrize("shape", [(), (5,), (4, 4)])
    def test_labels_of_any_rank(self, shape):
        y = np.random.default_rng(1).integers(0, 3, (12, *shape))
        sparse, one_hot = "sparse_categorical_crossentropy", np.eye(3, dtype="f4")[y]
        expected = self.loss_of(sparse, y, shape=shape, sample_weight=self.TABLE[y])
        weights = {"shape": shape, "class_weight": self.WEIGHTS}
        assert self.loss_of(sparse, y, **weights) == pytest.approx(expected)
        assert self.loss_of(sparse, y[..., None], **weights) == pytest.approx(expected)
        assert self.loss_of("categorical_crossentropy", one_hot, **weights) == pytest.approx(expected, rel=1e-6)
        assert self.loss_of(sparse, y, as_batches=True, **weights) == pytest.approx(expected)

    def test_binary_maps_and_missing_classes(self):
        y = np.random.default_rng(1).integers(0, 2, (12, 4, 4, 1)).astype("f4")
        expected = self.loss_of("binary_crossentropy", y, 1, sample_weight=np.where(y[..., 0] > 0, 5.0, 1.0))
        assert self.loss_of("binary_crossentropy", y, 1, class_weight={1: 5.0}) == pytest.approx(expected)

    def test_times_sample_weights_of_rows(self):
        y, rows = np.random.default_rng(1).integers(0, 3, (12, 4, 4)), np.linspace(0, 1, 12, dtype="f4")
        sparse = "sparse_categorical_crossentropy"
        expected = self.loss_of(sparse, y, sample_weight=self.TABLE[y] * rows[:, None, None])
        assert self.loss_of(sparse, y, sample_weight=rows, class_weight=self.WEIGHTS) == pytest.approx(expected)
