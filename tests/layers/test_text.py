import json

import numpy as np
import pytest

from kerax import Input, layers


def tokens_of(texts, **options):
    """The tokens that a layer makes of texts."""
    layer = layers.TextVectorization(**options)
    layer.adapt(texts)
    vocabulary = layer.get_vocabulary()
    return [[vocabulary[index] for index in row if index] for row in layer(texts)]


def test_documented_example():
    layer = layers.TextVectorization(max_tokens=5000, output_sequence_length=4)
    layer.adapt(["foo bar", "bar baz", "baz bada boom"])
    outputs = layer([["foo qux bar"], ["qux baz"]])
    assert isinstance(outputs, np.ndarray) and outputs.dtype == "int32"
    assert outputs.tolist() == [[4, 1, 3, 0], [1, 2, 0, 0]]


def test_given_vocabulary():
    layer = layers.TextVectorization(vocabulary=["earth", "wind", "and", "fire"])
    assert layer.get_vocabulary() == ["", "[UNK]", "earth", "wind", "and", "fire"]
    assert layer.vocabulary_size() == 6
    assert layer(np.array(["fire wind", "earth"])).tolist() == [[5, 3], [2, 0]]
    assert layer("wind and").tolist() == [3, 4]
    layer.set_vocabulary(["x"])
    assert layer(["x wind"]).tolist() == [[2, 1]]


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, ["its", "a", "ÄTest"]),
        ({"standardize": "lower"}, ["it's", "a", "Ä-test!"]),
        ({"standardize": "strip_punctuation"}, ["Its", "a", "ÄTest"]),
        ({"standardize": None}, ["It's", "a", "Ä-Test!"]),
        ({"standardize": np.char.upper}, ["IT'S", "A", "Ä-TEST!"]),
        ({"standardize": None, "split": None}, ["It's a\tÄ-Test!"]),
        ({"standardize": None, "split": lambda texts: [text.split("-") for text in texts]}, ["It's a\tÄ", "Test!"]),
        ({"ngrams": 2}, ["its", "a", "ÄTest", "its a", "a ÄTest"]),
        ({"ngrams": (3,)}, ["its a ÄTest"]),
    ],
)
def test_steps_from_text_to_tokens(options, expected):
    if not options or "ngrams" in options:
        expected = [token.replace("T", "t") for token in expected]
    if "standardize" in options and callable(options["standardize"]):
        options = {"standardize": lambda texts: np.char.upper(texts.astype(str))}
    found = tokens_of(["It's a\tÄ-Test!"] if options.get("split", 1) is not None else [["It's a\tÄ-Test!"]], **options)
    assert found == [expected]


def test_characters_are_those_of_unicode():
    assert tokens_of(["aä b"], split="character") == [["a", "ä", " ", "b"]]


def test_vectors_leave_padding_out():
    texts = ["a b b", "c"]
    layer = layers.TextVectorization(vocabulary=["a", "b"], output_mode="count")
    assert layer(texts).tolist() == [[0, 1, 2], [1, 0, 0]]
    layer = layers.TextVectorization(4, vocabulary=["a", "b"], output_mode="multi_hot", pad_to_max_tokens=True)
    assert layer(texts).tolist() == [[0, 1, 1, 0], [1, 0, 0, 0]]
    layer = layers.TextVectorization(output_mode="tf_idf")
    layer.adapt(texts)
    idf = np.log(1 + 2 / 2)
    np.testing.assert_allclose(layer(["b b q"]), [[idf, 2 * idf, 0, 0]], rtol=1e-6)


def test_adapt_takes_batches():
    layer = layers.TextVectorization()
    for source in (["a b", "a"], np.array([["a b"], ["a"]]), (["a b"], ["a"]), iter([(np.array(["a b", "a"]), 1)])):
        layer.adapt(source)
        assert layer.get_vocabulary() == ["", "[UNK]", "a", "b"]
    layer.adapt(iter([np.array(["q"]), np.array(["r"])]), steps=1)
    assert layer.get_vocabulary(include_special_tokens=False) == ["q"]


def test_config_carries_what_was_adapted():
    layer = layers.TextVectorization(ngrams=2, output_mode="tf_idf")
    layer.adapt(["a b", "b c"])
    again = layers.TextVectorization.from_config(json.loads(json.dumps(layer.get_config())))
    np.testing.assert_array_equal(again(["b c d"]), layer(["b c d"]))
    assert again.get_vocabulary() == layer.get_vocabulary()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"ragged": True}, "`ragged` is not supported"),
        ({"sparse": True}, "`sparse=True` needs vectors"),
        ({"standardize": "upper"}, "`standardize` must be one of"),
        ({"split": "lines"}, "`split` must be one of"),
        ({"ngrams": 0}, "`ngrams` must be"),
        ({"output_mode": "one_hot"}, "`output_mode` must be one of"),
        ({"output_mode": "count", "output_sequence_length": 3}, "needs output_mode='int'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        layers.TextVectorization(**arguments)


def test_bad_calls_are_refused():
    layer = layers.TextVectorization(vocabulary=["a"])
    for wrong in (np.array([1]), Input((1,))):
        with pytest.raises(ValueError, match="Call this layer on the data before the model"):
            layer(wrong)
    with pytest.raises(ValueError, match="already need split=None"):
        layer([["a", "b"]])
    with pytest.raises(ValueError, match="there is no vocabulary yet"):
        layers.TextVectorization()(["a"])
    with pytest.raises(ValueError, match="Make a layer without"):
        layer.adapt(["a"])


def test_a_mark_inside_texts_changes_nothing():
    texts = ["One, two", "th\0ree. FOUR", "\0", ""]
    layer = layers.TextVectorization(output_mode="count")
    layer.adapt(texts)
    assert set(layer.get_vocabulary()) == {"[UNK]", "one", "two", "th\0ree", "four", "\0"}
    np.testing.assert_array_equal(layer(texts), np.concatenate([layer([text]) for text in texts]))


def test_functions_of_numpy_standardize():
    layer = layers.TextVectorization(standardize=np.strings.lower, vocabulary=["a", "b"])
    assert layer(["A b", "c"]).tolist() == [[2, 3], [1, 0]]
