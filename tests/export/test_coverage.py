"""Which layers and ops can be written in which format: all but those in these lists."""

import jax
import numpy as np
import pytest

import kerax
from kerax import ops
from kerax.core.input_spec import InputSpec
from kerax.export import ExportError, formats
from kerax.export.archive import ExportArchive
from kerax.export.endpoints import Endpoint
from tests import cases
from tests.export.test_formats import ENDINGS, needs
from tests.ops import test_image_ops, test_more_ops, test_ops

# Not called with arrays alone, or made by data first.
ELSEWHERE = {"LSTM-all", "ConvLSTM2D-first", "Normalization"}
_SINGULAR = dict.fromkeys(("svd", "pinv", "matrix_rank", "lstsq"), "no singular values")
_COMPLEX = dict.fromkeys(("polar", "view_as_complex"), "complex outputs")
# By the op's name, or with the number of its case where others of its cases work.
OPS_WITHOUT = {
    "onnx": _SINGULAR
    | _COMPLEX
    | dict.fromkeys(("nextafter", "signbit", "ldexp", "view"), "the bits of floats are not read")
    | {"eig": "no eigenvalues", "view_as_real": "complex inputs"},
    "litert": _SINGULAR
    | _COMPLEX
    | dict.fromkeys(("fft", "fft2", "ifft2", "irfft", "istft"), "no complex numbers")
    | dict.fromkeys(("rfft", "stft#0", "stft#1"), "real transforms of powers of two only")
    | {"eig": "no eigenvalues", "nextafter": "no integers without sign"},
    "tf_saved_model": _SINGULAR | {"eig": "no eigenvalues"},
}
LAYERS_WITHOUT = {
    "litert": {
        "Dense-float8": "no floats of 8 bits",
        "Hashing": "no integers without sign",
        "HashedCrossing": "no integers without sign",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "litert", "tf_saved_model"])
@pytest.mark.parametrize("name", [name for name in cases.CASES if name not in ELSEWHERE])
def test_layers(name, format, tmp_path):
    needs(format)
    case = cases.CASES[name]
    rng = np.random.default_rng(0)
    kerax.utils.set_random_seed(0)
    layer = case.make(kerax.layers)
    dtype = "int32" if case.high else "float32"

    def each(make):
        return [[make(s) for s in shape] if isinstance(shape, list) else make(shape) for shape in case.shapes]

    def array(shape):
        return rng.integers(0, case.high, shape).astype(dtype) if case.high else rng.normal(size=shape).astype(dtype)

    def is_shape(value):
        return isinstance(value, tuple) and value and all(isinstance(size, int) for size in value)

    call = {k: rng.normal(size=v).astype("float32") if is_shape(v) else v for k, v in case.call.items()}
    layer(*each(array), **call)
    archive = ExportArchive()
    archive.track(layer)
    # Arrays given by hand have a batch of their own, which the inputs' must then be.
    has_batch = bool(call) or format == "litert"
    signature = each(lambda s: InputSpec(shape=(s[0] if has_batch else None, *s[1:]), dtype=dtype))
    archive.add_endpoint("serve", lambda *inputs: layer(*inputs, training=False, **call), signature)
    path = tmp_path / f"layer{ENDINGS[format]}"
    if name in LAYERS_WITHOUT.get(format, ()):
        with pytest.raises(ValueError):
            archive.write_out(path, format=format, verbose=False)
        assert not path.exists()
        return
    archive.write_out(path, format=format, verbose=False)


TABLE = [
    *((ops, *case) for case in test_ops.CASES + test_more_ops.CASES),
    *((ops.image, *case) for case in test_image_ops.CASES),
]


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "litert", "tf_saved_model"])
@pytest.mark.parametrize("index", range(len(TABLE)))
def test_ops(index, format, tmp_path, monkeypatch):
    needs(format)
    module, name, args, kwargs = TABLE[index]
    leaves, form = jax.tree.flatten(args)
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray) and leaf.ndim]
    given = [leaves[place].astype(jax.dtypes.canonicalize_dtype(leaves[place].dtype)) for place in places]

    def function(*arrays):
        filled = list(leaves)
        for place, value in zip(places, arrays):
            filled[place] = value
        return jax.tree.leaves(getattr(module, name)(*jax.tree.unflatten(form, filled), **kwargs))

    try:
        outputs = jax.eval_shape(function, *given)
    except jax.errors.JAXTypeError:
        pytest.skip("its shapes depend on values")
    if format == "litert" and any(output.size == 0 for output in outputs):
        pytest.skip("LiteRT has no empty arrays")
    specs = [InputSpec(shape=array.shape, dtype=array.dtype.name) for array in given]
    monkeypatch.setattr(formats, "_made_up", lambda endpoint, shapes: given)
    path = tmp_path / f"op{ENDINGS[format]}"

    def write():
        formats.write([Endpoint("serve", function, [], specs)], path, format, verbose=False)

    if not {name, f"{name}#{[row[1] for row in TABLE[:index]].count(name)}"} & OPS_WITHOUT[format].keys():
        write()
        return
    with pytest.raises(ExportError):
        write()
    assert not path.exists()


@pytest.mark.parametrize(("format", "share"), [("onnx", 0.97), ("litert", 0.92), ("tf_saved_model", 0.98)])
def test_most_layers_and_ops_can_be_written(format, share):
    """Of those that the other tests write, with the lists that they keep."""
    names = {name for _, name, *_ in TABLE}
    layers = set(cases.CASES) - ELSEWHERE
    ops_without = {name.partition("#")[0] for name in OPS_WITHOUT[format]}
    assert ops_without <= names and set(LAYERS_WITHOUT.get(format, ())) <= layers
    missing = len(ops_without) + len(LAYERS_WITHOUT.get(format, ()))
    assert 1 - missing / (len(names) + len(layers)) >= share
