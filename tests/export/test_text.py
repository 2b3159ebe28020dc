"""Text that models take: what their files make of it is what the layers do."""

import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.export import ExportError
from tests.export.test_formats import ENDINGS, needs, run_by_name

COLORS = ["red", "green", "blue", "gray"]
TEXTS = ["The red fox, and the green!", "a\tBLUE  sky: gray?", "", "Red red RED fox élan É", "the sky"]
WORDS = ["the", "red", "fox", "sky", "blue", "the red", "red fox", "élan"]
WEIGHTS = np.linspace(0.5, 2.0, len(WORDS)).tolist()


def one(layer, *more, shape=(1,)):
    return lambda: kerax.Sequential([kerax.Input(shape, dtype="string", name="text"), layer(), *(m() for m in more)])


def mixed():
    """Text and numbers, and a layer on text in a model inside."""
    text, color = kerax.Input((1,), dtype="string", name="text"), kerax.Input((1,), dtype="string", name="color")
    size = kerax.Input((2,), name="size")
    inner = kerax.Sequential([kerax.Input((1,), dtype="string"), vectorization(output_sequence_length=6)()])
    inner.add(layers.Embedding(20, 3))
    inner.add(layers.GlobalAveragePooling1D())
    found = layers.StringLookup(vocabulary=COLORS, output_mode="one_hot")(color)
    y = layers.Dense(4)(layers.Concatenate()([inner(text), found, size]))
    return kerax.Model({"text": text, "size": size, "color": color}, {"y": y, "z": layers.Dense(1)(size)})


def crossing():
    texts = [kerax.Input((1,), dtype="string", name=name) for name in ("text", "color")]
    number = kerax.Input((1,), dtype="int32", name="number")
    return kerax.Model([*texts, number], layers.HashedCrossing(7, output_mode="one_hot")([*texts, number]))


def lookup(**options):
    return lambda: layers.StringLookup(vocabulary=COLORS, **options)


def vectorization(**options):
    return lambda: layers.TextVectorization(vocabulary=WORDS, **options)


EMBEDDED = (lambda: layers.Embedding(20, 3), lambda: layers.GlobalAveragePooling1D())
MODELS = {
    "lookup": one(lookup()),
    "lookup, one axis": one(lookup(), shape=()),
    "lookup, mask": one(lookup(mask_token=""), shape=(3,)),
    "lookup, all known": one(lookup(num_oov_indices=0), shape=(3,)),
    "lookup, hashed": one(lookup(num_oov_indices=3), shape=(3,)),
    "lookup, salt": one(lookup(num_oov_indices=3, salt=[3, 4]), shape=(3,)),
    "lookup, one_hot": one(lookup(output_mode="one_hot", mask_token="")),
    "lookup, one_hot of one axis": one(lookup(output_mode="one_hot"), shape=()),
    "lookup, multi_hot": one(lookup(output_mode="multi_hot"), lambda: layers.Dense(2), shape=(3,)),
    "lookup, sparse": one(lookup(output_mode="multi_hot", sparse=True), lambda: layers.Dense(2), shape=(3,)),
    "lookup, count": one(lookup(output_mode="count", mask_token="", max_tokens=9, pad_to_max_tokens=True), shape=(3,)),
    "lookup, tf_idf": one(lookup(output_mode="tf_idf", idf_weights=[1.0, 0.5, 2.0, 3.0]), shape=(3,)),
    "vectorization": one(vectorization(), *EMBEDDED),
    "vectorization, length": one(vectorization(output_sequence_length=4), *EMBEDDED),
    "vectorization, one axis": one(vectorization(output_sequence_length=9), shape=()),
    "vectorization, multi_hot": one(vectorization(output_mode="multi_hot"), lambda: layers.Dense(3)),
    "vectorization, count": one(vectorization(output_mode="count", standardize="strip_punctuation")),
    "vectorization, tf_idf": one(vectorization(output_mode="tf_idf", idf_weights=WEIGHTS, standardize="lower")),
    "vectorization, ngrams": one(vectorization(ngrams=2)),
    "vectorization, pairs": one(vectorization(ngrams=(2,), output_mode="count")),
    "vectorization, tokens": one(vectorization(split=None, output_sequence_length=5), shape=(3,)),
    "vectorization, joined tokens": one(vectorization(split=None, ngrams=2, standardize=None), shape=(3,)),
    "vectorization, characters": one(
        lambda: layers.TextVectorization(vocabulary=list("abcdeé"), split="character", output_mode="count")
    ),
    "hashing": one(lambda: layers.Hashing(11, mask_value="")),
    "hashing, salt": one(lambda: layers.Hashing(11, salt=5, output_mode="multi_hot"), shape=(3,)),
    "crossing": crossing,
    "mixed": mixed,
}
NO_HASH = "no hash of strings"
REFUSED = {
    "onnx": {
        "lookup, hashed": NO_HASH,
        "lookup, salt": NO_HASH,
        "hashing": NO_HASH,
        "hashing, salt": NO_HASH,
        "vectorization, characters": "splits no strings into characters",
        "crossing": "'cross'",
    },
    "tf_saved_model": {},
}
FAST = [("onnx", "lookup"), ("onnx", "vectorization"), ("onnx", "hashing")]


def inputs(model, name, batch):
    rng = np.random.default_rng(batch)
    given = {}
    for tensor in model.inputs:
        shape = (batch, *tensor.shape[1:])
        if tensor.dtype == "int32":
            values = rng.integers(0, 9, shape).astype("int32")
        elif tensor.dtype != "string":
            values = rng.normal(size=shape).astype("float32")
        elif batch == 2:
            values = np.full(shape, "", object)
        elif "vectorization" in name or tensor.operation.name == "color":
            values = np.resize(np.array(TEXTS if tensor.operation.name == "text" else COLORS, object), shape)
        else:
            words = COLORS if "known" in name else [*COLORS, "", "pink", "Ünknown"]
            values = rng.choice(np.array(words, object), shape)
        given[tensor.operation.name] = values
    return given


@pytest.mark.parametrize(
    ("format", "name"),
    [
        pytest.param(format, name, marks=() if (format, name) in FAST else pytest.mark.slow)
        for format in REFUSED
        for name in MODELS
    ],
)
def test_files_make_of_text_what_layers_do(format, name, tmp_path):
    needs(format)
    kerax.utils.set_random_seed(0)
    model = MODELS[name]()
    path = str(tmp_path / f"model{ENDINGS[format]}")
    if name in REFUSED[format]:
        with pytest.raises(ExportError, match=REFUSED[format][name]):
            model.export(path, format, verbose=False)
        assert list(tmp_path.iterdir()) == []
        return
    model.export(path, format, verbose=False)
    for batch in (1, 5) if "known" in name else (1, 5, 2):
        given = inputs(model, name, batch)
        expected = model.predict_on_batch(given if len(given) > 1 else next(iter(given.values())))
        found = run_by_name(format, path, given)
        if batch == 2 and name in ("vectorization", "vectorization, ngrams"):
            continue  # rows without a token, of which there is no average: it is enough that files run
        for key, values in (expected if isinstance(expected, dict) else {"output_0": expected}).items():
            assert values.shape == found[key].shape
            np.testing.assert_allclose(found[key], values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("format", ["jax", "litert", "openvino"])
def test_formats_without_strings_name_the_layer(format, tmp_path):
    needs(format)
    with pytest.raises(ExportError, match=rf"{format}.*StringLookup.*no strings.*before.*tf_saved_model"):
        MODELS["lookup"]().export(tmp_path / f"model{ENDINGS[format]}", format)
    assert list(tmp_path.iterdir()) == []


def test_what_reads_text_otherwise_is_refused(tmp_path):
    function = one(lambda: layers.TextVectorization(standardize=np.strings.upper, vocabulary=WORDS))()
    with pytest.raises(ExportError, match="TextVectorization.*`standardize` is a function"):
        function.export(tmp_path / "model.onnx", "onnx")

    class Reading(kerax.Model):
        def call(self, x):
            return x

    archive = kerax.export.ExportArchive()
    spec = kerax.InputSpec(shape=(None, 1), dtype="string")
    for reader in (Reading(), lambda x: x):
        with pytest.raises(ExportError, match="reads text itself"):
            archive.add_endpoint("serve", reader, [spec])
    model = one(lambda: layers.StringLookup(), lambda: layers.Embedding(9, 2))()
    with pytest.raises(ValueError, match="no vocabulary"):
        model.export(tmp_path / "model.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []
