"""Data in the forms in which people have it: every one trains, evaluates and predicts as the plain array does."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from jax.experimental.sparse import BCOO

import kerax
from kerax import layers, ops
from kerax.core.host_arrays import to_numpy
from kerax.data import ArraySource, make_source

RNG = np.random.default_rng(0)
X = RNG.random((20, 4)).astype("f")
Y = (X.sum(1, keepdims=True) > 2).astype("f")
LABELS = Y[:, 0].astype("int64")
FRAME = pd.DataFrame(X, columns=list("abcd"))


def make():
    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(1, "sigmoid", kernel_initializer="ones")])
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def model():
    """One for all, so that its programs are compiled once."""
    return make()


def results(model, x, y, **options):
    model.set_weights([np.ones((4, 1)), np.zeros(1)])
    history = model.fit(x, y, batch_size=5, shuffle=False, epochs=2, verbose=0, **options).history
    scores = model.evaluate(x, y, batch_size=5, verbose=0)
    outputs = model.predict(x, batch_size=5, verbose=0)
    return [*history["loss"], *history.get("val_loss", []), *scores, *np.ravel(outputs)]


def rows(x, y):
    """All rows as they come to a model."""
    source = make_source(x, y, batch_size=6)
    if isinstance(source, ArraySource):
        return source.rows
    return jax.tree.map(lambda *parts: np.concatenate(parts), *[batch for batch, _ in source.epoch()])


def check(x, y, plain_x=X, plain_y=Y, rtol=1e-6):
    for found, expected in zip(rows(x, y), (plain_x, plain_y), strict=True):
        np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=rtol)
        assert found.dtype.isnative


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


ARRAYS = {
    "big-endian": (X.astype(">f4"), Y.astype(">f8")),
    "big-endian labels": (X, LABELS[:, None].astype(">i4")),
    "read-only": (frozen(X), frozen(Y)),
    "strided": (np.repeat(X, 2, 1)[:, ::2], np.repeat(Y, 3, 0)[::3]),
    "backwards": (X[::-1].copy()[::-1], Y[::-1].copy()[::-1]),
    "by columns": (np.asfortranarray(X), Y),
    "objects": (X.astype(object), Y.astype(object)),
    "lists": (X.tolist(), Y.tolist()),
    "lists of NumPy's numbers": ([list(row) for row in X], list(LABELS)),
    "frames": (FRAME, pd.DataFrame(Y)),
    "odd indices": (FRAME.set_index(pd.Index(range(40, 0, -2))), pd.Series(LABELS, index=list("abcdefghijklmnopqrst"))),
    "nullable targets": (FRAME, pd.Series(LABELS).astype("Int64")),
    "categories as targets": (FRAME, pd.Series(pd.Categorical(LABELS))),
    "booleans as targets": (FRAME, pd.Series(LABELS > 0)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_forms_of_arrays_are_the_plain_array(name):
    check(*ARRAYS[name])


def test_files_in_memory_and_half_precision(tmp_path):
    np.save(tmp_path / "x.npy", X)
    check(np.load(tmp_path / "x.npy", mmap_mode="r"), Y)
    check(X.astype("f2"), Y.astype("f2"), X.astype("f2").astype("f"), rtol=1e-3)


@pytest.mark.parametrize(
    "column, values",
    [
        (X[:, 1] > 0.5, X[:, 1] > 0.5),
        (pd.array((X[:, 1] * 9).astype(int), "Int64"), (X[:, 1] * 9).astype(int)),
        (pd.array(X[:, 1] > 0.5, "boolean"), X[:, 1] > 0.5),
        (pd.array(X[:, 1], "Float32"), X[:, 1]),
        (pd.Categorical((X[:, 1] * 3).astype(int)), (X[:, 1] * 3).astype(int)),
        ((X[:, 1] * 100).astype("int8"), (X[:, 1] * 100).astype("int8")),
    ],
)
def test_columns_of_several_types(column, values):
    frame, plain = FRAME.copy(), X.copy()
    frame["b"], plain[:, 1] = column, values
    check(frame, Y, plain, rtol=1e-5)


def test_missing_numbers_are_nan_and_text_is_named(model):
    frame = FRAME.copy()
    frame["a"] = pd.array([None, *[1] * 19], "Int64")
    assert np.isnan(to_numpy(frame)).sum() == 1
    assert np.isnan(to_numpy(frame["a"])[0])
    frame["c"] = pd.Categorical(["x", "y"] * 10)
    frame["d"] = pd.date_range("2020", periods=20)
    with pytest.raises(ValueError, match=r"fit: `x` .*'c' \(category\), 'd' \(datetime64"):
        model.fit(frame, Y, verbose=0)
    with pytest.raises(ValueError, match="datetime64"):
        model.fit(frame["d"].to_numpy(), Y, verbose=0)


SPARSE = np.where(X > 0.5, X, 0)
KINDS = "csr_matrix csc_matrix coo_matrix lil_matrix dok_matrix bsr_matrix dia_matrix csr_array coo_array".split()


def sparse(kind):
    return BCOO.fromdense(jnp.asarray(SPARSE)) if kind == "BCOO" else getattr(sp, kind)(SPARSE)


@pytest.mark.parametrize("kind", [*KINDS, "BCOO"])
def test_sparse_matrices_are_their_dense_ones(kind):
    check(sparse(kind), Y, SPARSE)


@pytest.mark.medium
@pytest.mark.parametrize("options", [{}, {"class_weight": {0: 1.0, 1: 3.0}}, {"validation_split": 0.25}])
def test_every_form_trains_evaluates_and_predicts(model, options):
    expected, mixed = results(model, X, Y, **options), FRAME.copy()
    mixed["b"] = pd.array(X[:, 1], "Float32")
    for x, y in ((X.astype(">f4"), Y.astype(object)), (mixed, pd.Series(LABELS).astype("Int64")), (Tensor(X, True), Y)):
        np.testing.assert_allclose(results(model, x, y, **options), expected, rtol=1e-5)
    expected = results(model, SPARSE, Y, **options)
    for kind in ("csr_matrix", "BCOO"):
        np.testing.assert_allclose(results(model, sparse(kind), Y, **options), expected, rtol=1e-5)


@pytest.mark.medium
def test_sparse_parts_of_the_data(model):
    check(X, sp.csc_matrix(Y))
    plain, weights = results(model, SPARSE, LABELS, sample_weight=np.arange(20.0)), np.arange(20.0)
    np.testing.assert_allclose(results(model, sp.csr_matrix(SPARSE), LABELS, sample_weight=weights), plain, rtol=1e-5)
    validated = results(model, X, Y, validation_data=(sp.csr_matrix(SPARSE), Y))
    np.testing.assert_allclose(validated, results(model, X, Y, validation_data=(SPARSE, Y)), rtol=1e-5)
    first, second = kerax.Input((4,), name="a"), kerax.Input((4,), name="b")
    add = kerax.Model({"a": first, "b": second}, layers.Add()([first, second]))
    np.testing.assert_allclose(add.predict({"a": sp.coo_matrix(SPARSE), "b": X}, verbose=0), SPARSE + X)
    with pytest.raises(ValueError, match=r"same number of samples. Got \(20, 4\), \(19, 1\)"):
        model.fit(sp.csr_matrix(X), Y[:19], verbose=0)
    # Batches of them, which loaders of rows give.
    batches = ((sp.csr_matrix(SPARSE[i : i + 5]), Y[i : i + 5]) for i in range(0, 20, 5))
    assert model.evaluate(batches, verbose=0) == pytest.approx(model.evaluate(SPARSE, Y, batch_size=5, verbose=0))


class Seen(layers.Layer):
    """Notes what it is called with."""

    def call(self, x):
        self.found = {*getattr(self, "found", ()), type(x).__name__}
        return x


@pytest.mark.medium
@pytest.mark.parametrize("form", ["sequential", "functional"])
def test_sparse_matrices_stay_sparse_where_the_input_is(form, model):
    wide = np.zeros((20, 40), "float32")  # 4 elements in a row, or fewer
    wide[:, ::10] = X * (X > 0.3)
    seen = Seen()

    def make(is_sparse):
        stack = [kerax.Input((40,), sparse=is_sparse), seen, layers.Dense(1, "sigmoid", kernel_initializer="ones")]
        model = kerax.Sequential(stack)
        model = kerax.Model(model.inputs, model.outputs) if form == "functional" else model
        model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
        return model

    def results(model, x):
        options = {"batch_size": 8, "verbose": 0}  # a last batch of 4
        kerax.utils.set_random_seed(0)  # of the order
        fitted = model.fit(x, Y, class_weight={1: 2.0}, validation_data=(x, Y), epochs=2, **options).history
        return fitted, model.evaluate(x, Y, **options), model.predict(x, **options), model.get_weights()

    expected = jax.tree.leaves(results(make(False), wide))
    seen.found = set()
    found = jax.tree.leaves(results(make(True), sp.csr_matrix(wide)))
    for ours, plain in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)
    assert seen.found == {"BCOO"}


def test_rows_of_sparse_batches_have_one_form():
    wide = sp.random(20, 40, 0.1, format="csr", random_state=0)
    twice = sp.coo_matrix((np.ones(2), ([3, 3], [5, 5])), (20, 40))
    for matrix in (wide, wide.tocoo(), twice):
        batches = [x for (x, _), _ in make_source(matrix, Y, batch_size=8, sparse_inputs=lambda x: [x]).epoch()]
        assert len({(batch.values.shape[1], batch.num_columns) for batch in batches}) == 1
        dense = np.concatenate([batch.to_bcoo().todense() for batch in batches])
        np.testing.assert_allclose(dense, matrix.toarray(), rtol=1e-6)
    # Half of the columns take as much room as all of them.
    full = sp.csr_matrix(np.ones((20, 40)))
    assert make_source(full, Y, sparse_inputs=lambda x: [x]).sample()[0].shape == (20, 40)


def test_rows_of_sparse_matrices_are_shuffled():
    source = make_source(sp.csr_matrix(X), Y, batch_size=5)
    first, again, other = (np.concatenate([b[0] for b, _ in source.epoch((0, n))]) for n in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other) and not np.array_equal(first, X)
    np.testing.assert_allclose(np.sort(other, 0), np.sort(X, 0))


def test_lists_in_structures_are_arrays():
    first, second = kerax.Input((1,), name="a"), kerax.Input((1,), name="b")
    model = kerax.Model({"a": first, "b": second}, layers.Add()([first, second]))
    np.testing.assert_array_equal(model.predict({"a": [1, 2], "b": [3, 4]}, verbose=0).ravel(), [4, 6])


class Tensor:
    """What PyTorch's tensors are to those who read them."""

    def __init__(self, array, requires_grad=False, dtype="torch.float32"):
        self.array, self.requires_grad, self.dtype = array, requires_grad, dtype
        self.shape = array.shape

    def detach(self):
        return Tensor(self.array, dtype=self.dtype)

    def cpu(self):
        return self

    resolve_conj = resolve_neg = cpu

    def float(self):
        return Tensor(self.array)

    def numpy(self):
        assert not self.requires_grad
        return self.array

    def __array__(self, dtype=None, copy=None):
        assert not self.requires_grad
        assert self.dtype != "torch.bfloat16"
        return self.array

    def __iter__(self):
        return iter(self.array)


def test_tensors_that_need_gradients_or_have_no_dtype_in_numpy():
    check(Tensor(X, requires_grad=True), Tensor(Y))
    assert to_numpy(Tensor(X, dtype="torch.bfloat16")).dtype == jnp.bfloat16
    layer = layers.Dense(2)
    np.testing.assert_allclose(layer(Tensor(X, requires_grad=True)), layer(X))
    np.testing.assert_allclose(ops.add(Tensor(X), 1), X + 1)
    np.testing.assert_allclose(ops.convert_to_tensor(Tensor(X)), X)


def test_torch_itself():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, y = torch.tensor(X), torch.tensor(Y)
    for tensor in (x, torch.tensor(X, requires_grad=True), torch.nn.Parameter(x), torch.tensor(X.T.copy()).t()):
        check(tensor, y)
    check(x.bfloat16(), y, np.asarray(jnp.asarray(X).astype(jnp.bfloat16).astype("f")), rtol=1e-2)


def test_polars_and_arrow():
    polars = pytest.importorskip("polars", reason="Polars is not installed")
    arrow = pytest.importorskip("pyarrow", reason="PyArrow is not installed")
    columns = {name: X[:, i] for i, name in enumerate("abcd")}
    check(polars.DataFrame(columns), polars.Series(LABELS))
    check(polars.DataFrame(columns | {"b": X[:, 1] > 0.5}), Y, np.stack([X[:, 0], X[:, 1] > 0.5, *X.T[2:]], 1))
    chunks = arrow.chunked_array([arrow.array(LABELS[:5]), arrow.array(LABELS[5:])])
    check(arrow.table(columns), chunks)


def test_tensorflow_itself():
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    check(tf.constant(X), tf.Variable(Y))
    check(tf.sparse.from_dense(SPARSE), Y, SPARSE)
    model = kerax.Sequential([layers.Embedding(10, 3), layers.GlobalAveragePooling1D(), layers.Dense(1)])
    ragged = tf.ragged.constant([[1, 2, 3], [1], [4, 5], [2]])
    padded = np.array([[1, 2, 3], [1, 0, 0], [4, 5, 0], [2, 0, 0]])
    np.testing.assert_allclose(model.predict(ragged, verbose=0), model.predict(padded, verbose=0), rtol=1e-6)
    batches = tf.data.Dataset.from_tensor_slices(ragged).batch(4)
    np.testing.assert_allclose(model.predict(batches, verbose=0), model.predict(padded, verbose=0), rtol=1e-6)


@pytest.mark.parametrize("batch", [(X[:0], Y[:0]), None, (), [None]])
def test_batches_without_rows_are_said(model, batch):
    for call in (model.fit, model.evaluate, model.predict):
        with pytest.raises(ValueError, match=r"without rows|is empty"):
            call(iter([batch]), verbose=0)


def test_arrays_handed_out_are_the_callers_own(model):
    results(model, X, Y)
    model.set_weights([np.ones((4, 1)), np.zeros(1)])
    identity, data = kerax.Sequential([kerax.Input((4,)), layers.Identity()]), X.copy()
    handed_out = [
        *model.get_weights(),
        *model.layers[-1].get_weights(),
        model.layers[-1].kernel.numpy(),
        np.asarray(model.layers[-1].kernel),
        *(variable.numpy() for variable in model.optimizer.variables),
        model.predict(data, verbose=0),
        model.predict_on_batch(data),
        identity.predict(data, verbose=0),
        identity.predict_on_batch(data),
        ops.convert_to_numpy(model.layers[-1].kernel.value),
        ops.convert_to_numpy(data),
    ]
    before = model.predict(data, verbose=0)
    for array in handed_out:
        array[...] = 7
    np.testing.assert_array_equal(data, X)
    np.testing.assert_array_equal(model.predict(data, verbose=0), before)
    np.testing.assert_array_equal(model.get_weights()[0], np.ones((4, 1)))
