"""The less common ops: against Keras over a table, on symbolic tensors, and by identities."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax
from kerax import config, ops
from kerax.core.jaxprs import equations
from kerax.core.symbolic import KerasTensor
from kerax.core.variable import Variable

A = np.array([[0.3, -1.2, 2.5], [1.5, 0.4, -0.7]], "float32")
B = np.array([[1.1, 0.6, -0.2], [-0.5, 2.0, 0.9]], "float32")
N = np.where(A > 2, np.nan, A).astype("float32")
I = np.array([[3, 0, 2], [1, 2, 0]], "int32")  # noqa: E741
Q = np.array([[2.0, 0.5, 0.1], [0.3, 1.5, 0.2], [0.1, 0.4, 1.2]], "float32")
T = np.arange(24, dtype="float32").reshape(2, 3, 4)
WAVE = np.sin(np.arange(40, dtype="float32")).reshape(2, 20)
SPECTRUM = tuple(np.asarray(part) for part in keras.ops.stft(WAVE, 8, 4, 10))
IMAGES = np.sin(np.arange(2 * 6 * 8 * 4, dtype="float32")).reshape(2, 6, 8, 4)
FIRST = IMAGES.transpose(0, 3, 1, 2)
KERNEL = np.cos(np.arange(3 * 2 * 5 * 4, dtype="float32")).reshape(3, 2, 5, 4)
LOGITS = np.sin(np.arange(48, dtype="float32") * 1.7).reshape(2, 6, 4)
NAN_REDUCTIONS = "nanmax nanmean nanmedian nanmin nanprod nanstd nansum nanvar".split()

CASES = [
    *[(name, (A,), {}) for name in "angle cbrt conjugate corrcoef fabs fliplr flipud i0 isneginf isposinf".split()],
    *[(name, (A,), {}) for name in "isreal signbit diagflat empty_like ptp trapezoid pinv matrix_rank rfft".split()],
    *[(name, (A, B), {}) for name in "fmax fmin fmod heaviside logaddexp2 nextafter cdist polar lstsq".split()],
    *[(name, (I, I + 1), {}) for name in "gcd lcm bitwise_left_shift bitwise_right_shift".split()],
    *[(name, (N,), {}) for name in [*NAN_REDUCTIONS, "nanargmax", "nanargmin", "nancumsum", "nancumprod"]],
    *[(name, (N,), {"axis": 1, "keepdims": True}) for name in [*NAN_REDUCTIONS, "nanargmax", "nanargmin"]],
    *[(name, (N, q), {"axis": 1}) for name, q in (("nanpercentile", [20, 50]), ("nanquantile", 0.3))],
    *[(name, (Q,), {}) for name in "slogdet logdet lu_factor cholesky_inverse".split()],
    *[(name, (5,), {}) for name in "bartlett blackman hamming hanning".split()],
    *[(name, ((A, B),), {}) for name in "fft fft2 ifft2 irfft".split()],
    ("bitwise_invert", (I,), {}),
    ("cholesky_inverse", (Q,), {"upper": True}),
    ("eig", (Q,), {}),
    ("solve_triangular", (Q, A.T), {"lower": True}),
    ("solve_triangular", (Q, A[0]), {}),
    ("matrix_rank", (np.ones((3, 3), "float32"),), {"tol": 0.1}),
    ("segment_prod", (A, np.array([1, 1])), {"num_segments": 3}),
    ("ldexp", (A, I), {}),
    ("percentile", (A, [25, 50]), {"axis": 1}),
    ("ptp", (T,), {"axis": 1, "keepdims": True}),
    ("trapezoid", (A,), {"x": B, "axis": 0}),
    ("argpartition", (A, 1), {}),
    ("correlate", (A[0], B[0]), {"mode": "same"}),
    ("histogram", (A[0],), {"bins": 4}),
    ("histogram", (A[0],), {"bins": 4, "range": (0.0, 2.0)}),
    ("isin", (A, A[0]), {"invert": True}),
    ("unravel_index", (np.array([3, 5]), (2, 3)), {}),
    ("vander", (A[0],), {"N": 2, "increasing": True}),
    ("geomspace", (1.0, 100.0), {"num": 5}),
    ("dstack", ([A, B],), {}),
    ("array_split", (A, 2), {"axis": 1}),
    ("hsplit", (T, [1, 2]), {}),
    ("vsplit", (T, 2), {}),
    ("dsplit", (T, 2), {}),
    ("get_item", (jnp.asarray(T), (0, slice(1, 3))), {}),
    ("view", (A, "int32"), {}),
    ("view_as_complex", (T[..., :2],), {}),
    ("view_as_real", (A + 1j * B,), {}),
    ("saturate_cast", (A * 300, "uint8"), {}),
    ("saturate_cast", (I - 1, "uint8"), {}),
    ("saturate_cast", (A * 1e10, "int32"), {}),
    ("psnr", (A, B, 2.0), {}),
    ("kaiser", (5, 8.0), {}),
    ("rfft", (A,), {"fft_length": 5}),
    ("irfft", ((A, B),), {"fft_length": 5}),
    ("extract_sequences", (WAVE, 5, 3), {}),
    ("stft", (WAVE, 8, 4, 10), {}),
    ("stft", (WAVE, 8, 4, 10), {"window": "hamming", "center": False}),
    ("stft", (WAVE, 8, 3, 8), {"window": None}),
    ("istft", (SPECTRUM, 8, 4, 10), {}),
    ("istft", (SPECTRUM, 8, 4, 10), {"length": 17}),
    ("rearrange", (IMAGES, "b (h p) w c -> b h w (p c)"), {"p": 2}),
    ("rearrange", (A, "i j -> (j i)"), {}),
    ("unfold", (FIRST, 3), {}),
    ("unfold", (FIRST, (3, 2)), {"stride": 2, "padding": 1, "dilation": (1, 2)}),
    ("fold", (np.cos(np.arange(2 * 36 * 16, dtype="float32")).reshape(2, 36, 16), 6, 3), {}),
    ("fold", (np.cos(np.arange(2 * 36 * 9, dtype="float32")).reshape(2, 36, 9), 6, 3), {"stride": 2, "padding": 1}),
    ("space_to_depth", (IMAGES, 2), {}),
    ("space_to_depth", (FIRST, 2), {"data_format": "channels_first"}),
    ("depth_to_space", (np.concatenate([IMAGES, IMAGES], -1), 2), {}),
    ("depth_to_space", (np.concatenate([FIRST, FIRST], 1), 2), {"data_format": "channels_first"}),
    ("adaptive_average_pool", (IMAGES, (4, 3)), {}),
    ("adaptive_max_pool", (IMAGES, (4, 3)), {}),
    ("adaptive_max_pool", (FIRST, 2), {"data_format": "channels_first"}),
    ("conv_transpose", (IMAGES, KERNEL), {"strides": 2, "padding": "same"}),
    ("conv_transpose", (IMAGES, KERNEL), {"strides": (2, 3), "output_padding": 1}),
    ("conv_transpose", (FIRST, KERNEL), {"dilation_rate": 2, "data_format": "channels_first"}),
    ("conv_transpose", (IMAGES[:, 0], KERNEL[:, 0]), {"strides": 3}),
    ("ctc_loss", (np.array([[1, 2, 0], [3, 3, 1]]), LOGITS, np.array([2, 3]), np.array([6, 5])), {}),
    ("ctc_decode", (LOGITS, np.array([6, 4])), {}),
    ("ctc_decode", (LOGITS, np.array([6, 4])), {"merge_repeated": False, "mask_index": 3}),
]
EAGER = [
    ("unique", (I,), {}),
    ("unique", (I,), {"return_index": True, "return_inverse": True, "return_counts": True}),
    ("unique", (I,), {"size": 6, "fill_value": 9}),
    ("unique", (I,), {"axis": 1, "return_counts": True}),
]
ELSEWHERE = {"custom_gradient", "vectorize", "jvp"}


@pytest.mark.medium
def test_values_are_those_of_keras():
    def compute(module, cases):
        return [jax.tree.leaves(getattr(module, name)(*args, **options)) for name, args, options in cases]

    eagerly = "eig bartlett blackman hamming hanning kaiser rearrange".split()
    pure = [case for case in CASES if case[0] not in eagerly]
    eager = [case for case in CASES if not any(case is other for other in pure)] + EAGER
    ours = compute(ops, eager) + jax.jit(lambda: compute(ops, pure))()
    theirs = compute(keras.ops, eager) + jax.jit(lambda: compute(keras.ops, pure))()
    for case, values, expectations in zip(eager + pure, ours, theirs, strict=True):
        message = f"{case[0]} {case[2]}"
        assert len(values) == len(expectations), message
        for value, expected in zip(values, expectations, strict=True):
            np.testing.assert_allclose(value, expected, rtol=3e-5, atol=5e-6, err_msg=message)
            assert jnp.asarray(value).dtype == jnp.asarray(expected).dtype, message


def test_symbolic_tensors():
    x, images = KerasTensor((None, 20)), KerasTensor((None, 6, 8, 4))
    for result, shape in [
        (ops.cbrt(x), (None, 20)),
        (ops.nanmax(x, axis=-1), (None,)),
        (ops.fft((x, x))[0], (None, 20)),
        (ops.rfft(x)[1], (None, 11)),
        (ops.stft(x, 8, 4, 10)[0], (None, 6, 6)),
        (ops.get_item(x, (slice(None), 0)), (None,)),
        (ops.logdet(KerasTensor((None, 3, 3))), (None,)),
        (ops.hsplit(x, 2)[1], (None, 10)),
        (ops.cdist(KerasTensor((None, 5, 3)), KerasTensor((None, 2, 3))), (None, 5, 2)),
        (ops.rearrange(images, "b h (w q) c -> b (h w) (q c)", q=2), (None, 24, 8)),
        (ops.space_to_depth(images, 2), (None, 3, 4, 16)),
        (ops.space_to_depth(kerax.KerasTensor((None, None, 6, 2)), 3), (None, None, 2, 18)),
        (
            ops.image.pad_images(kerax.KerasTensor((2, None, None, 3)), 1, 2, target_height=9, target_width=8),
            (2, 9, 8, 3),
        ),
        (ops.image.crop_images(kerax.KerasTensor((None, 8, 3)), 1, 2, 0, target_width=5), (None, 5, 3)),
        (ops.unfold(images, 2), (None, 24, 21)),
        (ops.adaptive_max_pool(images, 2), (None, 2, 2, 4)),
        (ops.conv_transpose(images, KERNEL, 2, "same"), (None, 12, 16, 5)),
        (ops.image.sobel_edges(images), (None, 6, 8, 4, 2)),
        (ops.image.ssim(images, images, filter_size=3), (None,)),
        (ops.unique(KerasTensor((6,), dtype="int32"), size=4), (4,)),
        (ops.ctc_decode(KerasTensor((3, 6, 4)), np.array([6, 6, 6]))[0], (1, 3, 6)),
    ]:
        assert isinstance(result, KerasTensor) and result.shape == shape
    np.testing.assert_allclose(ops.nansum(Variable(A)), A.sum(), rtol=1e-6)


def test_namespaces():
    for name in "cholesky det eig eigh inv jvp lstsq lu_factor norm pinv qr solve solve_triangular svd".split():
        assert getattr(ops.linalg, name) is getattr(ops, name)


def test_functions_of_functions():
    value, slope = ops.jvp(lambda x: x**2, (A,), (B,))
    np.testing.assert_allclose(slope, 2 * A * B, rtol=1e-6)
    np.testing.assert_allclose(value, A**2, rtol=1e-6)
    assert ops.jvp(lambda x: (x, 7), (A,), (B,), has_aux=True)[2] == 7
    reversed_gradient = ops.custom_gradient(lambda x: (x, lambda upstream: -upstream))
    assert float(jax.grad(reversed_gradient)(3.0)) == -1
    dot = ops.vectorize(lambda a, b: jnp.dot(a, b), signature="(n),(n)->()")
    np.testing.assert_allclose(dot(Variable(A), B), (A * B).sum(1), rtol=1e-6)


@pytest.mark.medium
def test_istft_undoes_stft():
    np.testing.assert_allclose(ops.istft(ops.stft(WAVE, 8, 2, 8), 8, 2, 8, length=20), WAVE, atol=1e-5)


@pytest.mark.medium
def test_distances_to_oneself_have_gradients():
    assert np.isfinite(jax.grad(lambda x: jnp.sum(ops.cdist(x, x)))(A)).all()


@pytest.mark.medium
def test_beam_search_finds_the_most_probable_labels():
    logits, lengths = LOGITS[:, :4, :3], np.array([4, 3])
    labels, scores = ops.ctc_decode(logits, lengths, strategy="beam_search", beam_width=60, top_paths=2)
    assert labels.shape == (2, 2, 4) and scores.shape == (2, 2)
    for path in range(2):
        sizes = (np.asarray(labels[path]) >= 0).sum(1)
        loss = ops.ctc_loss(np.maximum(labels[path], 0), logits, sizes, lengths)
        np.testing.assert_allclose(scores[:, path], -loss, rtol=1e-4)  # nothing was cut: the exact probability
    assert (scores[:, 0] >= scores[:, 1]).all()


@pytest.mark.medium
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_images_compared(dtype):
    images = np.random.default_rng(0).uniform(0, 1, (2, 14, 13, 3)).astype("float32")
    first = (images * 255).astype(dtype) if dtype == "uint8" else images
    second = (first * 0.9).astype(dtype)
    most = 255.0 if dtype == "uint8" else 1.0
    expected = keras.ops.image.ssim(first.astype("float32"), second.astype("float32"), max_val=most)
    np.testing.assert_allclose(ops.image.ssim(first, second, max_val=most), expected, rtol=1e-4)
    np.testing.assert_allclose(ops.image.ssim(first[0], second[0], max_val=most), expected[0], rtol=1e-4)
    assert float(ops.image.ssim(first[0], first[0], most)) == pytest.approx(1)


@pytest.mark.medium
def test_sobel_edges_are_those_of_keras():
    np.testing.assert_allclose(ops.image.sobel_edges(IMAGES), keras.ops.image.sobel_edges(IMAGES), atol=1e-5)
    theirs = keras.ops.image.sobel_edges(FIRST, data_format="channels_first")
    np.testing.assert_allclose(ops.image.sobel_edges(FIRST, data_format="channels_first"), theirs, atol=1e-5)
    assert ops.image.sobel_edges(IMAGES[0]).shape == (6, 8, 4, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.fft(A), r"pair \(real, imaginary\)"),
        (lambda: ops.fft((A, A[0])), "parts of one shape"),
        (lambda: ops.stft(WAVE, 8, 4, 6), "`fft_length` must be at least"),
        (lambda: ops.stft(WAVE, 8, 4, 8, window="foo"), "`window` must be 'hann'"),
        (lambda: ops.stft(WAVE, 8, 4, 8, window=np.ones(3)), r"shape \(8,\)"),
        (lambda: ops.rearrange(A, "i j -> i"), "the same axes"),
        (lambda: ops.rearrange(A, "i -> i"), "names 1 axes"),
        (lambda: ops.rearrange(A, "i (j k) -> i j k"), "does not fit the sizes"),
        (lambda: ops.rearrange(A, "i (j k) -> i j k", k=2), "does not fit the sizes"),
        (lambda: ops.fold(np.ones((1, 9, 3)), 4, 3), r"expected columns of shape \(1, 9, 4\)"),
        (lambda: ops.space_to_depth(IMAGES, 5), "height must be a multiple of 5"),
        (lambda: ops.depth_to_space(IMAGES, 3), "channels must be a multiple of 9"),
        (lambda: ops.psnr(A, A[0], 1.0), "one shape"),
        (lambda: ops.ctc_loss(I[0], LOGITS, [1], [1]), "expected `target`"),
        (lambda: ops.ctc_decode(LOGITS, [6, 6], strategy="foo"), "`strategy` must be"),
        (lambda: ops.ctc_decode(LOGITS, [6, 6], strategy="beam_search", beam_width=1, top_paths=2), "`top_paths`"),
        (lambda: ops.histogram(A, 3, (2.0, 1.0)), "low below high"),
        (lambda: ops.image.ssim(IMAGES, IMAGES), "at least filter_size=11"),
        (lambda: ops.image.ssim(IMAGES, IMAGES[:1]), "two images of one shape"),
        (lambda: ops.image.sobel_edges(A), "expected images"),
    ],
)
def test_wrong_calls_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.medium
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)], ids=str)
def test_capped_attention_scores(heads, key):
    query, memory = (jax.random.normal(key, (2, 5, count, 8)) * 3 for count in heads)
    plain = ops.dot_product_attention(query, memory, memory, is_causal=True)
    loose = ops.dot_product_attention(query, memory, memory, is_causal=True, attn_logits_soft_cap=1e6)
    np.testing.assert_allclose(loose, plain, rtol=1e-3, atol=1e-3)
    capped = ops.dot_product_attention(query, memory, memory, attn_logits_soft_cap=0.5)
    memory = np.repeat(memory, heads[0] // heads[1], axis=2)
    scores = 0.5 * np.tanh(np.einsum("bqhf,bkhf->bhqk", query, memory) / 8**0.5 / 0.5)
    expected = np.einsum("bhqk,bkhf->bqhf", jax.nn.softmax(scores), memory)
    np.testing.assert_allclose(capped, expected, rtol=1e-4, atol=1e-5)
    mask = np.tril(np.ones((5, 5), bool))[None, None]
    masked = ops.dot_product_attention(query, memory, memory, mask=mask, attn_logits_soft_cap=0.5)
    causal = ops.dot_product_attention(query, memory, memory, is_causal=True, attn_logits_soft_cap=0.5)
    np.testing.assert_allclose(masked, causal, rtol=1e-5)
    with pytest.raises(ValueError, match="has no `attn_logits_soft_cap`"):
        ops.dot_product_attention(query, memory, memory, flash_attention=True, attn_logits_soft_cap=1.0)


def test_namespaces_hold_their_ops():
    for name in ("reshape", "nanmax", "concatenate", "hamming", "size", "vectorize", "slogdet", "where"):
        assert getattr(ops.numpy, name) is getattr(ops, name)
    for name in ("psnr", "unfold", "ctc_loss", "polar", "depth_to_space"):
        assert getattr(ops.nn, name) is getattr(ops, name)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_places_of_a_window_are_counted_once_for_all_rows_and_channels(data_format):
    """XLA folds the count where it compiles: of 3 x 28 x 28 x 44 ones that took it minutes for one application."""
    x = jnp.ones((4, 9, 10, 7))

    def pool(x):
        return ops.average_pool(x, 3, 2, "same", data_format)

    with config.compiling_for("gpu"):
        jaxpr = jax.make_jaxpr(pool)(x).jaxpr
    sizes = [e.outvars[0].aval.size for e in equations(jaxpr) if e.primitive.name == "reduce_window_sum"]
    assert len(sizes) == 2 and min(sizes) * 28 <= max(sizes)
    np.testing.assert_allclose(pool(x), np.ones(pool(x).shape), rtol=1e-6)


@pytest.mark.parametrize("values", [[-0.0, 0.0], [0.0, -0.0], [-1.0, -0.0, 0.0], [np.nan, -0.0], [[3, 1], [2, 5]]])
def test_minus_zero_is_below_zero_as_in_keras(values):
    for dtype in ("float32", "float16", "bfloat16") if np.ndim(values) == 1 else ("int32",):
        for name in ("argmax", "argmin"):
            found, expected = (getattr(o, name)(jnp.asarray(values, dtype), axis=-1) for o in (ops, keras.ops))
            np.testing.assert_array_equal(found, expected, err_msg=f"{name} {dtype}")


def test_where_of_a_condition_alone_is_its_indices_in_graphs_too():
    inputs = kerax.Input((3,))
    rows, columns = ops.where(inputs > 0)
    assert (rows.shape, rows.dtype) == ((None,), "int32")
    model = kerax.Model(inputs, [rows, columns])
    for found, expected in zip(model(A), np.where(A > 0), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert ops.where(inputs > 0, inputs, 0.0).shape == (None, 3)


@pytest.mark.parametrize("library", [ops, keras.ops])
def test_a_softmax_over_one_value_is_warned_of(library):
    with pytest.warns(UserWarning, match=r"\(2, 1\)"):
        library.softmax(np.ones((2, 1), "float32"))
    for axis in (0, (0, 1)):
        library.softmax(np.ones((2, 1), "float32"), axis)


@pytest.mark.parametrize("library", [ops, keras.ops])
@pytest.mark.parametrize("block_size", [0, 1, -2])
def test_blocks_have_at_least_two_pixels_each_way(library, block_size):
    for function in (library.depth_to_space, library.space_to_depth):
        with pytest.raises(ValueError, match="block_size"):
            function(IMAGES, block_size)


def test_moments_of_half_precision_stay_finite():
    for values in ([60000.0, -60000.0], [60000.0, 65504.0]):
        found, expected = (o.moments(np.array(values, "float16"), 0) for o in (ops, keras.ops))
        assert np.isfinite(np.asarray(found)).all()
        np.testing.assert_array_equal(found, expected)


def test_layer_normalization_knows_rms_scaling():
    for gamma in (None, np.full((3,), 2.0, "float32")):
        with pytest.warns(UserWarning, match="rms"):
            found, expected = (o.layer_normalization(A, gamma, rms_scaling=True) for o in (ops, keras.ops))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_scale_of_the_inputs_shape_multiplies_them():
    found = ops.rms_normalization(A, scale=B)
    np.testing.assert_allclose(found, np.asarray(ops.rms_normalization(A)) * B, rtol=1e-6)
    assert ops.rms_normalization(kerax.Input((2, 3)), kerax.Input((2, 3))).shape == (None, 2, 3)


@pytest.mark.parametrize("axis", [-1, 0, (0, 1)])
def test_rms_normalization_takes_a_number_as_scale(axis):
    found, expected = (o.rms_normalization(A, scale=2.0, axis=axis) for o in (ops, keras.ops))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
