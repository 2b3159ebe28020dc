"""Ops: against Keras over a table, on symbolic tensors and variables, control flow, names."""

import inspect

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from kerax import ops
from kerax.core.symbolic import KerasTensor
from kerax.core.variable import Variable
from tests.ops import test_more_ops as more

A = np.array([[0.3, -1.2, 2.5], [1.5, 0.4, -0.7]], "float32")
B = np.array([[1.1, 0.6, -0.2], [-0.5, 2.0, 0.9]], "float32")
P = np.abs(A) + 0.1  # positive
U = np.clip(A / 3, -0.9, 0.9)  # within (-1, 1)
S = A @ A.T + np.eye(2, dtype="float32")  # positive definite
I = np.array([[3, 0, 2], [1, 2, 0]], "int32")  # noqa: E741
T = np.arange(24, dtype="float32").reshape(2, 3, 4)
IMAGES = np.sin(np.arange(2 * 6 * 7 * 4, dtype="float32")).reshape(2, 6, 7, 4)
KERNEL = np.cos(np.arange(3 * 2 * 4 * 5, dtype="float32")).reshape(3, 2, 4, 5)
TARGET, OUTPUT = np.float32([[0, 1, 0], [0.5, 0, 0.5]]), np.float32([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])

UNARY = {
    "A": "abs absolute arctan arcsinh ceil conj cos cosh deg2rad exp exp2 expm1 floor imag isfinite isinf isnan "
    "negative rad2deg ravel real reciprocal sign sin sinc sinh square tan tanh trunc erf erfc zeros_like ones_like "
    "copy relu relu6 silu softplus sigmoid tanh_shrink gelu celu elu selu log_sigmoid hard_sigmoid softmax log_softmax "
    "sum mean std var max min prod amax amin all any argmax argmin median logsumexp sort argsort cumsum cumprod "
    "average count_nonzero flip transpose squeeze trace diagonal diff norm normalize nan_to_num layer_normalization "
    "rms_normalization swish stop_gradient logical_not convert_to_tensor array size".split(),
    "P": "log log10 log1p log2 sqrt rsqrt".split(),
    "U": "arccos arcsin arctanh erfinv".split(),
    "S": "cholesky det inv diag".split(),
    "I": ["bitwise_not"],
}
BINARY = (
    "add arctan2 divide divide_no_nan equal floor_divide greater greater_equal hypot inner kron less less_equal "
    "logaddexp logical_and logical_or logical_xor maximum minimum mod multiply not_equal outer subtract true_divide "
    "isclose allclose"
).split()
CASES = [
    *[(name, (globals()[x],), {}) for x, names in UNARY.items() for name in names],
    *[(name, (A, B), {}) for name in BINARY],
    *[(name, (I, I + 1), {}) for name in ("bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift")],
    *[(name, (T,), {"axis": 1}) for name in ("argmax", "argmin", "cumsum", "cumprod", "flip", "argsort", "softmax")],
    *[
        (name, (T,), {"axis": (0, 2), "keepdims": True})
        for name in ("sum", "mean", "std", "var", "max", "min", "prod", "all", "any", "logsumexp", "median")
    ],
    ("power", (P, B), {}),
    ("vdot", (A[0], B[0]), {}),
    ("dot", (A, B.T), {}),
    ("matmul", (A, B.T), {}),
    ("tensordot", (T, T), {"axes": [[1, 2], [1, 2]]}),
    ("einsum", ("ij,kj->ik", A, B), {}),
    ("cross", (A, B), {}),
    ("quantile", (A, [0.25, 0.5]), {"axis": 1}),
    ("average", (A,), {"axis": 0, "weights": np.float32([1, 3])}),
    ("bincount", (I,), {"minlength": 5}),
    ("bincount", (I[0],), {"weights": A[0]}),
    ("round", (A,), {"decimals": 1}),
    ("clip", (A, -0.5, 1.0), {}),
    ("nonzero", (I,), {}),
    ("max", (A,), {"initial": 10.0}),
    ("zeros", ((2, 3),), {}),
    ("ones", ((2,), "int32"), {}),
    ("full", ((2, 3), 4.0), {}),
    ("full_like", (A, 2), {}),
    ("eye", (3,), {"M": 4, "k": 1}),
    ("identity", (3,), {}),
    ("tri", (3,), {"k": 1}),
    ("arange", (2, 9, 3), {}),
    ("arange", (5,), {"dtype": "float32"}),
    ("linspace", (0.0, 1.0), {"num": 5}),
    ("logspace", (0.0, 2.0), {"num": 3}),
    ("reshape", (A, (3, -1)), {}),
    ("reshape", (A, [6]), {}),
    ("transpose", (T, (1, 0, 2)), {}),
    ("moveaxis", (T, 0, -1), {}),
    ("swapaxes", (T, 0, 2), {}),
    ("expand_dims", (A, 1), {}),
    ("squeeze", (A[None], 0), {}),
    ("broadcast_to", (A, (4, 2, 3)), {}),
    ("concatenate", ([A, B],), {"axis": 1}),
    ("stack", ([A, B],), {"axis": 1}),
    ("hstack", ([A, B],), {}),
    ("vstack", ([A, B],), {}),
    ("append", (A, B), {"axis": 0}),
    ("split", (T, 2), {"axis": 2}),
    ("split", (T, [1, 3]), {"axis": 2}),
    ("unstack", (T,), {"axis": 1}),
    ("tile", (A, (2, 1)), {}),
    ("repeat", (A, 2), {"axis": 1}),
    ("pad", (A, ((1, 0), (0, 2))), {"constant_values": 3.0}),
    ("pad", (A, ((1, 0), (0, 2))), {"mode": "reflect"}),
    ("roll", (A, 1), {"axis": 1}),
    ("rot90", (A,), {}),
    ("take", (T, [1, 0]), {"axis": 1}),
    ("take_along_axis", (A, I % 2), {"axis": 0}),
    ("where", (A > 0, A, B), {}),
    ("select", ([A > 1, A > 0], [A, B], 9), {}),
    ("searchsorted", (np.float32([1, 2, 3]), np.float32([0.5, 2, 9])), {"side": "right"}),
    ("digitize", (A, np.float32([0, 1])), {}),
    ("diff", (T,), {"n": 2}),
    ("diag", (A[0],), {"k": 1}),
    ("tril", (T,), {"k": 1}),
    ("triu", (T,), {}),
    ("meshgrid", (A[0], B[0]), {"indexing": "ij"}),
    ("cast", (A, "int32"), {}),
    ("slice", (T, (0, 1, 1), (2, 2, 3)), {}),
    ("slice_update", (T, (0, 1, 1), np.ones((1, 2, 2), "float32")), {}),
    ("scatter", (np.array([[0, 1], [1, 2]]), np.float32([5, 6]), (2, 3)), {}),
    ("scatter_update", (A, [[0, 1], [1, 2]], np.float32([5, 6])), {}),
    ("scatter_update", (A, [[0, 1], [1, 2]], np.float32([5, 6])), {"reduction": "add"}),
    ("segment_sum", (T[0], np.array([0, 2, 0])), {"num_segments": 3}),
    ("segment_max", (T[0], np.array([0, 1, 0])), {"num_segments": 2}),
    ("segment_min", (T[0], np.array([0, 1, 0])), {"num_segments": 2}),
    ("top_k", (A, 2), {}),
    ("in_top_k", (np.array([0, 1]), A, 2), {}),
    ("norm", (A,), {"ord": 1, "axis": 1}),
    ("solve", (S, A), {}),
    ("svd", (A,), {"compute_uv": False}),
    ("one_hot", (I, 4), {"axis": 1}),
    ("multi_hot", (I, 4), {}),
    ("binary_crossentropy", (TARGET, OUTPUT), {}),
    ("binary_crossentropy", (TARGET, A), {"from_logits": True}),
    ("categorical_crossentropy", (TARGET, OUTPUT), {}),
    ("categorical_crossentropy", (TARGET, A), {"from_logits": True}),
    ("sparse_categorical_crossentropy", (np.array([0, 2]), OUTPUT), {}),
    ("sparse_categorical_crossentropy", (np.array([0, 5]), A), {"from_logits": True}),
    ("conv", (IMAGES, KERNEL), {"strides": 2, "padding": "same"}),
    ("conv", (IMAGES, KERNEL[:, :, :2, :4]), {"dilation_rate": (1, 2)}),
    ("conv", (IMAGES[:, 0], KERNEL[:, 0]), {"padding": "same"}),
    ("conv", (IMAGES.transpose(0, 3, 1, 2), KERNEL), {"data_format": "channels_first"}),
    ("depthwise_conv", (IMAGES, KERNEL), {"strides": (1, 2)}),
    ("separable_conv", (IMAGES, KERNEL, np.ones((1, 1, 20, 3), "float32")), {"padding": "same"}),
    ("max_pool", (IMAGES, (2, 2)), {"strides": 2, "padding": "same"}),
    ("max_pool", (IMAGES, (2, 3)), {"strides": 1}),
    ("average_pool", (IMAGES, (2, 2)), {"strides": (2, 2), "padding": "same"}),
    ("average_pool", (IMAGES[:, 0], (3,)), {"strides": (2,)}),
    ("normalize", (A,), {"axis": 0, "order": 1}),
    ("moments", (T, [0, 1]), {"keepdims": True}),
    ("batch_normalization", (A, A[0], P[0], -1), {"offset": B[0], "scale": B[1]}),
    ("layer_normalization", (A, B[0], B[1]), {"epsilon": 1e-3}),
    ("rms_normalization", (A, B[0]), {}),
    ("dot_product_attention", (IMAGES, IMAGES, IMAGES), {"is_causal": True}),
]


@pytest.mark.slow
def test_values_are_those_of_keras():
    def compute(module, cases):
        return [jax.tree.leaves(getattr(module, name)(*args, **options)) for name, args, options in cases]

    eager = [case for case in CASES if case[0] in ("nonzero", "bincount", "size", "array", "allclose", "meshgrid")]
    pure = [case for case in CASES if not any(case is other for other in eager)]
    ours = compute(ops, eager) + jax.jit(lambda: compute(ops, pure))()
    theirs = compute(keras.ops, eager) + jax.jit(lambda: compute(keras.ops, pure))()
    for case, values, expectations in zip(eager + pure, ours, theirs, strict=True):
        message = f"{case[0]} {case[2]}"
        assert len(values) == len(expectations), message
        for value, expected in zip(values, expectations, strict=True):
            np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-6, err_msg=message)
            assert jnp.asarray(value).dtype == jnp.asarray(expected).dtype, message


def test_every_op_is_tested_and_has_the_arguments_of_keras():
    public = {name for name in dir(ops) if not name.startswith("_") and inspect.isfunction(getattr(ops, name))}
    elsewhere = set(
        "lift shape ndim dtype is_tensor convert_to_numpy cond switch while_loop fori_loop scan associative_scan map "
        "vectorized_map qr eigh empty arccosh".split()
    )
    since_3_15 = {"gammainc", "column_stack", "matrix_power"}  # in a file of their own
    activations = set(
        "glu hard_shrink hard_silu hard_swish hard_tanh leaky_relu soft_shrink softsign sparse_plus sparse_sigmoid "
        "sparsemax squareplus threshold".split()
    )
    tested = {name for name, _, _ in CASES + more.CASES + more.EAGER}
    own = {"lift", "linear_crossentropy"}  # Keras has none of the second, which is tested beside the losses
    assert public - elsewhere - more.ELSEWHERE - activations - tested - own == since_3_15
    for name in public - own - activations - since_3_15:
        ours = inspect.signature(getattr(ops, name)).parameters
        theirs = inspect.signature(getattr(keras.ops, name)).parameters
        shared = [parameter for parameter in theirs if parameter in ours]
        assert shared == [
            p for p in theirs if p in ours or p not in ("kwargs", "flash_attention", "attn_logits_soft_cap")
        ], name
        for parameter in shared:
            assert ours[parameter].default == theirs[parameter].default, name


def test_ops_work_on_variables_lists_and_symbolic_tensors():
    variable = Variable(A)
    np.testing.assert_allclose(ops.sum(variable), A.sum(), rtol=1e-6)
    np.testing.assert_allclose(ops.add(variable, [1.0, 2.0, 3.0]), A + [1, 2, 3], rtol=1e-6)
    np.testing.assert_allclose(ops.concatenate([variable, A]), np.concatenate([A, A]))
    x = KerasTensor((None, 4))
    for result, shape in [
        (ops.sum(x, axis=-1), (None,)),
        (ops.concatenate([x, x], axis=-1), (None, 8)),
        (ops.reshape(x, (-1, 2, 2)), (None, 2, 2)),
        (ops.reshape(x, (ops.shape(x)[0], 2, 2)), (None, 2, 2)),
        (ops.einsum("bi,ij->bj", x, np.ones((4, 3), "f")), (None, 3)),
        (ops.top_k(x, 2)[1], (None, 2)),
        (ops.conv(KerasTensor((None, 8, 3)), np.ones((3, 3, 5), "f"), padding="same"), (None, 8, 5)),
        (ops.where(x > 0, x, 0.0), (None, 4)),
        (ops.split(x, 2, axis=1)[0], (None, 2)),
        (ops.gelu(x), (None, 4)),
    ]:
        assert isinstance(result, KerasTensor) and result.shape == shape
    assert ops.shape(x) == (None, 4) and ops.ndim(x) == 2 and ops.dtype(x) == "float32"
    assert ops.is_tensor(x) and not ops.is_tensor(variable)
    assert isinstance(ops.convert_to_numpy(variable), np.ndarray)


def test_python_numbers_keep_half_precision():
    x = jnp.ones(3, jnp.bfloat16)
    for result in (ops.add(x, 2.0), ops.multiply(2.0, x), ops.maximum(x, 0.5), ops.mean(x), ops.layer_normalization(x)):
        assert result.dtype == jnp.bfloat16


def test_lift_makes_a_function_an_op():
    double = ops.lift(lambda x: 2 * x, "double")
    assert double(KerasTensor((None, 3))).shape == (None, 3)
    np.testing.assert_array_equal(double(Variable(A)), 2 * A)


@pytest.mark.medium
def test_control_flow():
    assert int(ops.while_loop(lambda i, s: i < 5, lambda i, s: (i + 1, s + i), (0, 0))[1]) == 10
    assert int(ops.while_loop(lambda i: i < 5, lambda i: i + 1, 0, maximum_iterations=3)) == 3
    assert int(ops.fori_loop(0, 4, lambda i, s: s + i, 0)) == 6
    assert float(ops.cond(True, lambda: 1.0, lambda: 2.0)) == 1
    assert float(ops.switch(1, [lambda x: x, lambda x: -x], 3.0)) == -3
    carry, sums = ops.scan(lambda c, x: (c + x, c + x), 0.0, np.arange(4.0, dtype="f"))
    assert float(carry) == 6 and list(sums) == [0, 1, 3, 6]
    assert list(ops.associative_scan(lambda a, b: a + b, jnp.arange(4))) == [0, 1, 3, 6]


def test_solve_takes_one_vector_for_each_matrix():
    matrices, vectors = np.stack([S, 2 * S]), np.stack([A[0, : len(S)], A[1, : len(S)]])
    found = ops.solve(matrices, vectors)
    np.testing.assert_allclose(np.einsum("bij,bj->bi", matrices, found), vectors, rtol=1e-4, atol=1e-5)
    assert ops.solve(KerasTensor((4, 3, 3)), KerasTensor((4, 3))).shape == (4, 3)
    assert list(ops.map(lambda x: 2 * x, jnp.arange(3))) == [0, 2, 4]
    np.testing.assert_array_equal(ops.vectorized_map(lambda x: x[0] * x[1], (A, B)), A * B)


def test_linear_algebra_by_identities():
    q, r = ops.qr(A)
    np.testing.assert_allclose(q @ r, A, atol=1e-5)
    values, vectors = ops.eigh(S)
    np.testing.assert_allclose(vectors @ np.diag(values) @ vectors.T, S, atol=1e-5)
    np.testing.assert_allclose(ops.arccosh([1.0, 2.0]), np.arccosh([1, 2]), rtol=1e-6)


def test_gradients_stop_and_masked_logits_stay_finite():
    assert float(jax.grad(lambda x: ops.stop_gradient(x) * x)(3.0)) == 3
    value = ops.sparse_categorical_crossentropy([0], np.float32([[0.0, -np.inf]]), from_logits=True)
    assert float(value[0]) == 0
    with pytest.raises(ValueError, match=r"expected `target` of shape \(2, 3\)"):
        ops.categorical_crossentropy(np.zeros((2, 1)), OUTPUT)
    with pytest.raises(ValueError, match="multiple of the kernel's"):
        ops.conv(IMAGES, np.zeros((3, 3, 3, 5), "f"))


def test_pooling_by_hand():
    rows = np.float32([[[1], [5], [2], [4], [9]]])
    np.testing.assert_array_equal(ops.max_pool(rows, 2)[0, :, 0], [5, 4])
    np.testing.assert_array_equal(ops.average_pool(rows, 2, padding="same")[0, :, 0], [3, 3, 9])
    assert ops.max_pool(rows.astype("int32"), 2).dtype == jnp.int32
