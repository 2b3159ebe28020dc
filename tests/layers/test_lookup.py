import json
import zipfile

import jax
import numpy as np
import pytest

from kerax import Input, Model, Sequential, layers, saving
from kerax.core import registry
from kerax.layers import hashing, lookup

NUMBERS, WORDS = [12, 36, 1138, 42], ["a", "b", "c", "d"]


def both(numbers):
    """The same input for both lookups: integers, and words for them."""
    words = dict(zip(NUMBERS, WORDS))
    return np.array(numbers), np.vectorize(lambda number: words.get(number, "z"), otypes=[object])(np.array(numbers))


@pytest.mark.parametrize(
    "mode, data, expected",
    [
        ("int", [[12, 1138, 42], [42, 1000, 36]], [[1, 3, 4], [4, 0, 2]]),
        ("one_hot", [12, 36, 1138, 42, 7], np.eye(5)[[1, 2, 3, 4, 0]]),
        ("multi_hot", [[12, 1138, 42, 42], [42, 7, 36, 7]], [[0, 1, 0, 1, 1], [1, 0, 1, 0, 1]]),
        ("count", [[12, 1138, 42, 42], [42, 7, 36, 7]], [[0, 1, 0, 1, 2], [2, 0, 1, 0, 1]]),
    ],
)
def test_documented_outputs(mode, data, expected):
    numbers, words = both(data)
    layer = layers.IntegerLookup(vocabulary=NUMBERS, output_mode=mode)
    np.testing.assert_array_equal(layer(numbers), expected)
    np.testing.assert_array_equal(jax.jit(lambda x: layer.apply({}, x)[0])(numbers), expected)
    outputs = layers.StringLookup(vocabulary=WORDS, output_mode=mode)(words)
    assert isinstance(outputs, np.ndarray)
    np.testing.assert_array_equal(outputs, expected)


@pytest.mark.parametrize("with_unknown, unknown", [(False, 1.0), (True, 1.8)])
def test_tf_idf_weighs_counts(with_unknown, unknown):
    numbers, words = both([[12, 1138, 42, 42], [42, 7, 36, 7]])
    weights = [0.9] * with_unknown + [0.25, 0.75, 0.6, 0.4]
    expected = [[0, 0.25, 0, 0.6, 0.8], [unknown, 0, 0.75, 0, 0.4]]
    for cls, special, vocabulary, data in (
        (layers.IntegerLookup, [-1], NUMBERS, numbers),
        (layers.StringLookup, ["[UNK]"], WORDS, words),
    ):
        layer = cls(vocabulary=special * with_unknown + vocabulary, idf_weights=weights, output_mode="tf_idf")
        np.testing.assert_allclose(layer(data), expected, rtol=1e-6)


def test_adapt_orders_by_frequency_then_by_inverse_order():
    data = np.array([[12, 1138, 42], [42, 1000, 36]])
    layer = layers.IntegerLookup()
    for source in (data, data.tolist(), [data[:1], data[1:]], [(data, None)]):
        layer.adapt(source)
        assert layer.get_vocabulary() == [-1, 42, 1138, 1000, 36, 12]
    np.testing.assert_array_equal(layer(data), [[5, 2, 1], [1, 3, 4]])
    layer.adapt([data[:1], data[1:]], steps=1)
    assert layer.get_vocabulary(include_special_tokens=False) == [1138, 42, 12]
    text = layers.StringLookup(max_tokens=3, mask_token="")
    text.adapt([["b", "a", "a"], ["", "[UNK]", "c"]])
    assert text.get_vocabulary() == ["", "[UNK]", "a"]
    assert text.vocabulary_size() == 3
    text.reset_state()
    assert text.get_vocabulary() == ["", "[UNK]"]


def test_adapted_tf_idf_follows_its_formula():
    layer = layers.StringLookup(output_mode="tf_idf")
    layer.adapt([["a", "a"], ["a", "b"], ["c", "b"]])
    assert layer.get_vocabulary() == ["[UNK]", "a", "b", "c"]
    idf = np.log(1 + 3 / (1 + np.array([2, 2, 1])))
    np.testing.assert_allclose(layer([["a", "a", "c", "x"]]), [[idf.mean(), 2 * idf[0], 0, idf[2]]], rtol=1e-6)
    again = layers.StringLookup.from_config(json.loads(json.dumps(layer.get_config())))
    np.testing.assert_allclose(again([["b", "x"]]), layer([["b", "x"]]))


@pytest.mark.medium
def test_unknown_tokens_share_several_indices():
    layer = layers.IntegerLookup(vocabulary=NUMBERS, num_oov_indices=2)
    np.testing.assert_array_equal(layer(np.array([[12, 1138, 42], [37, 1000, 36]])), [[2, 4, 5], [1, 0, 3]])
    unknown = np.array([100, 300, 700, 1100, 1700, 2000])
    spread = layers.IntegerLookup(vocabulary=[10, 20, 30], num_oov_indices=4, oov_method="farmhash")
    assert spread(unknown).tolist() == [3, 3, 2, 2, 0, 1]
    assert jax.jit(lambda x: spread.apply({}, x)[0])(unknown).tolist() == [3, 3, 2, 2, 0, 1]
    words = np.array(["x", "y", "a"], object)
    text = layers.StringLookup(vocabulary=WORDS, num_oov_indices=3, mask_token="")
    expected = 1 + hashing.hash_text(words[:2], None) % np.uint64(3)
    assert text(words).tolist() == [*expected.tolist(), 4]


def test_mask_has_index_0_or_is_left_out():
    assert layers.StringLookup(vocabulary=WORDS, mask_token="")(["", "a", "z"]).tolist() == [0, 2, 1]
    counts = layers.StringLookup(vocabulary=WORDS, mask_token="", output_mode="count")([["", "a", "z"]])
    assert counts.tolist() == [[1, 1, 0, 0, 0]]
    numbers = layers.IntegerLookup(vocabulary=NUMBERS, mask_token=0)
    assert numbers([0, 12, 5]).tolist() == [0, 2, 1]
    assert numbers.get_vocabulary() == [0, -1, *NUMBERS]
    counts = layers.IntegerLookup(vocabulary=NUMBERS, mask_token=0, output_mode="count")([[0, 12, 5]])
    assert counts.tolist() == [[1, 1, 0, 0, 0]]


@pytest.mark.medium
def test_invert_undoes():
    numbers, words = both([[12, 1138, 42], [42, 1000, 36]])
    there = layers.IntegerLookup(vocabulary=NUMBERS)
    back = layers.IntegerLookup(vocabulary=there.get_vocabulary(), invert=True)
    expected = [[12, 1138, 42], [42, -1, 36]]
    assert back(there(numbers)).tolist() == expected
    assert jax.jit(lambda x: back.apply({}, x)[0])(there(numbers)).tolist() == expected
    assert back([-5, 99]).tolist() == [-1, -1]
    text = layers.StringLookup(vocabulary=WORDS, invert=True)
    assert text(layers.StringLookup(vocabulary=WORDS)(words)).tolist() == [["a", "c", "d"], ["d", "[UNK]", "b"]]
    assert text(jax.numpy.array([1, -1])).tolist() == ["a", "[UNK]"]


def test_vocabulary_from_a_file_and_padding(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("ä\nb\n")
    layer = layers.StringLookup(vocabulary=str(path), max_tokens=5, pad_to_max_tokens=True, output_mode="count")
    assert layer([["ä", "ä", "q"]]).tolist() == [[1, 2, 0, 0, 0]]
    assert layer(np.array([["ä".encode()]])).tolist() == [[0, 1, 0, 0, 0]]
    path.write_text("5\n6\n")
    assert layers.IntegerLookup(vocabulary=str(path))([6, 7]).tolist() == [2, 0]


def test_integers_beyond_32_bits_are_told_apart():
    layer = layers.IntegerLookup(vocabulary=[2**40, 0])
    assert layer(np.array([0, 2**40, 2**32])).tolist() == [2, 1, 0]


def test_large_vocabularies_stay_out_of_the_search_for_weights():
    layer = layers.StringLookup(vocabulary=[str(n) for n in range(1000)])
    assert layer.weights == []
    assert {"_tokens", "_table"} <= layer._untracked


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"max_tokens": 1}, "`max_tokens` must be an integer of at least 2"),
        ({"num_oov_indices": -1}, "`num_oov_indices` must be"),
        ({"pad_to_max_tokens": True}, "needs `max_tokens`"),
        ({"invert": True, "output_mode": "count"}, "needs output_mode='int'"),
        ({"idf_weights": [1.0], "vocabulary": ["a"]}, "need output_mode='tf_idf'"),
        ({"output_mode": "tf_idf", "vocabulary": ["a"]}, "`idf_weights` must come with a vocabulary"),
        ({"output_mode": "tf_idf", "vocabulary": ["a"], "idf_weights": [1, 2]}, "1 tokens need as many"),
        ({"vocabulary": []}, "at least one token"),
        ({"vocabulary": ["a", "a"]}, r"Got twice: \['a'\]"),
        ({"vocabulary": ["a", "[UNK]"], "invert": True}, "in an unexpected place, 1"),
        ({"vocabulary": ["a", ""], "mask_token": ""}, "in an unexpected place, 1"),
        ({"vocabulary": ["a", "b"], "max_tokens": 2}, "at most max_tokens=2 entries. Got 3"),
        ({"vocabulary": "nowhere.txt"}, "does not exist"),
        ({"vocabulary": [1, 2]}, "Use `IntegerLookup` for integers"),
        ({"sparse": True}, "`sparse=True` needs vectors"),
        ({"output_mode": "binary"}, "`output_mode` must be one of"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        layers.StringLookup(**arguments)


def test_bad_calls_are_refused():
    layer = layers.StringLookup(vocabulary=WORDS)
    for wrong in (np.array([1]), Input((2,))):
        with pytest.raises(ValueError, match="Call this layer on the data before the model"):
            layer(wrong)
    with pytest.raises(ValueError, match="Call this layer on the data before the model"):
        jax.jit(layer.__call__)(np.array([1]))
    with pytest.raises(ValueError, match="there is no vocabulary yet"):
        layers.StringLookup()(["a"])
    with pytest.raises(ValueError, match=r"must be in the vocabulary. Got \['z'\]"):
        layers.StringLookup(vocabulary=WORDS, num_oov_indices=0)(["a", "z"])
    with pytest.raises(ValueError, match=r"must be in the vocabulary. Got \[7\]"):
        layers.IntegerLookup(vocabulary=NUMBERS, num_oov_indices=0)([12, 7])
    with pytest.raises(ValueError, match="Make a layer without"):
        layer.adapt(["a"])
    with pytest.raises(ValueError, match="`adapt` got no data"):
        layers.StringLookup().adapt([])
    with pytest.raises(ValueError, match="Use `StringLookup` for text"):
        layers.IntegerLookup(vocabulary=NUMBERS)(["a"])
    with pytest.raises(ValueError, match="inputs must be integers"):
        layers.IntegerLookup(vocabulary=NUMBERS)(np.ones(2))
    with pytest.raises(ValueError, match="tokens must be integers. Got 1.5"):
        layers.IntegerLookup(vocabulary=[1.5])
    with pytest.raises(ValueError, match="`salt` needs oov_method='farmhash'"):
        layers.IntegerLookup(salt=1)


LOOKUPS = {
    "IntegerLookup": (lambda **kw: layers.IntegerLookup(**kw), [[1138, 12], [1138, 7]], "-1\n1138\n12\n7"),
    "StringLookup": (lambda **kw: layers.StringLookup(**kw), [["b", "ü x"], ["b", "c"]], "[UNK]\nb\nü x\nc"),
    "TextVectorization": (lambda **kw: layers.TextVectorization(**kw), ["b ü", "b c"], "\n[UNK]\nb\nü\nc"),
}


@pytest.mark.parametrize("mode", ["int", "tf_idf"])
@pytest.mark.parametrize("name", LOOKUPS)
def test_vocabularies_go_into_keras_files_and_back(name, mode, tmp_path):
    make, data, content = LOOKUPS[name]
    if mode == "tf_idf" and name == "TextVectorization":
        content = content[1:]  # no padding
    layer = make(output_mode=mode)
    layer.adapt(np.array(data))
    layer.save_assets(tmp_path)
    assert (tmp_path / "vocabulary.txt").read_bytes() == content.encode()
    store = {}
    layer.save_own_variables(store)
    assert list(store) == (["idf_weights"] if mode == "tf_idf" else [])
    again = make(output_mode=mode)  # as Keras's configs say it, which hold no vocabulary that was found
    again.load_own_variables(store)
    again.load_assets(tmp_path)
    other = make(output_mode=mode)
    other.load_assets(tmp_path)
    other.load_own_variables(store)
    for found in (again, other):
        assert found.get_vocabulary() == layer.get_vocabulary()
        np.testing.assert_array_equal(found(np.array(data)), layer(np.array(data)))
    again.adapt(np.array(data[:1]))  # still allowed
    assert again.get_vocabulary() != layer.get_vocabulary()


def test_given_vocabularies_stay_in_the_config(tmp_path):
    layer = layers.StringLookup(vocabulary=["a", "b"])
    layer.save_assets(tmp_path)
    assert not list(tmp_path.iterdir())
    layer.load_assets(tmp_path)
    (tmp_path / "vocabulary.txt").write_text("[UNK]\nc")
    layer.load_assets(tmp_path)
    assert layer.get_vocabulary() == ["[UNK]", "a", "b"]
    empty = layers.StringLookup()
    empty.save_assets(tmp_path / "nothing")
    (tmp_path / "vocabulary.txt").write_text("[UNK]")  # what Keras writes for it
    empty.load_assets(tmp_path)
    assert empty.vocabulary_size() == 1


@pytest.mark.parametrize("name", ["IntegerLookup", "StringLookup", "TextVectorization"])
def test_configs_that_are_not_trusted_cannot_read_files(name, tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text("7\n8\n")
    description = {"module": "keras.layers", "class_name": name, "config": {"vocabulary": str(path)}}
    named = f"name={registry.to_snake_case(name)}>: .* names a `vocabulary` file, '.*numbers.txt', .* safe_mode=False"
    with pytest.raises(ValueError, match=named):
        saving.deserialize_keras_object(description)
    nested = {"module": "keras", "class_name": Sequential.__name__, "config": {"name": "s", "layers": [description]}}
    with pytest.raises(ValueError, match="is not read"):
        saving.deserialize_keras_object(nested)
    layer = saving.deserialize_keras_object(description, safe_mode=False)
    assert [str(token) for token in layer.get_vocabulary()][-2:] == ["7", "8"]
    assert saving.deserialize_keras_object(nested, safe_mode=False).layers
    with registry.safe_mode_scope(True), pytest.raises(ValueError, match="is not read"):
        saving.deserialize_keras_object(description, safe_mode=False)
    with registry.safe_mode_scope(False):
        saving.deserialize_keras_object(description)
    assert not registry.in_safe_mode()


def test_bad_vocabulary_files_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "vocabulary.txt"
    for make, content, message in (
        (layers.StringLookup, b"\xff\xfe", "is not text in 'utf-8'"),
        (layers.IntegerLookup, b"one", "tokens must be integers. Got 'one'"),
        (layers.StringLookup, b"a\na", "every token of `vocabulary` must be there once"),
        (layers.StringLookup, b"", "must have at least one token"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            make().load_assets(tmp_path)
        with pytest.raises(ValueError, match=message):
            make(vocabulary=str(path))
    with pytest.raises(ValueError, match="does not exist, or is no plain file"):
        layers.StringLookup(vocabulary=str(tmp_path))
    monkeypatch.setattr(lookup, "MAX_BYTES", 3)
    path.write_text("abcd")
    with pytest.raises(ValueError, match="at most 3 bytes"):
        layers.StringLookup(vocabulary=path)
    link = tmp_path / "folder"
    link.mkdir()
    (link / "vocabulary.txt").symlink_to(path)
    with pytest.raises(ValueError, match="is no plain file"):
        layers.StringLookup().load_assets(link)
    layer = layers.StringLookup(vocabulary=["a", "b"], idf_weights=[1, 2], output_mode="tf_idf")
    with pytest.raises(ValueError, match="expected 3 `idf_weights`"):
        layer.load_own_variables({"idf_weights": np.ones(5)})


@pytest.mark.medium
def test_archives_whose_config_holds_no_vocabulary(tmp_path):
    """As Keras writes them for a vocabulary that `adapt` found."""
    lookup_layer = layers.IntegerLookup(name="numbers")
    lookup_layer.adapt([[3, 4], [4, 5]])
    inputs = Input((2,), dtype="int32")
    model = Model(inputs, lookup_layer(inputs))
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    for description in config["config"]["layers"]:
        if description["class_name"] == "IntegerLookup":
            description["config"] |= {"vocabulary": None, "idf_weights": None}
    members["config.json"] = json.dumps(config)
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    again = saving.load_model(tmp_path / "other.keras")
    numbers = np.array([[3, 9], [4, 4]])
    np.testing.assert_array_equal(again(numbers), model(numbers))
    assert again.get_layer("numbers").get_vocabulary() == [-1, 4, 5, 3]


@pytest.mark.parametrize("name", ["IntegerLookup", "StringLookup", "TextVectorization"])
def test_configs_of_keras_are_understood(name):
    """They hold more than the constructors take."""
    config = getattr(layers, name)().get_config() | {"vocabulary": None, "vocabulary_size": 7}
    if name != "TextVectorization":
        config |= {"oov_method": "floormod", "salt": None, "vocabulary_dtype": "int64"}
    again = getattr(layers, name).from_config(config)
    assert type(again).__name__ == name and again.get_vocabulary(include_special_tokens=False) == []


@pytest.mark.parametrize("num_oov_indices", [0, 1, 3])
@pytest.mark.parametrize("mask_token", [None, 7])
@pytest.mark.parametrize("scale", [1, 10**12])
def test_integers_are_found_on_the_host_as_in_a_compiled_call(num_oov_indices, mask_token, scale):
    layer = layers.IntegerLookup(
        vocabulary=[10 * scale, -20 * scale, 30], num_oov_indices=num_oov_indices, mask_token=mask_token
    )
    asked = [10 * scale, 30, -20 * scale] + ([] if mask_token is None else [7]) + [1, 5, 10] * bool(num_oov_indices)
    with jax.enable_x64(True):
        compiled = jax.jit(layer.call)(np.array(asked))
    np.testing.assert_array_equal(layer(np.array(asked)), compiled)


@pytest.mark.parametrize("mode", ["multi_hot", "count"])
@pytest.mark.parametrize("num_oov_indices", [0, 1, 2])
def test_vectors_leave_the_mask_out(mode, num_oov_indices):
    text = layers.StringLookup(vocabulary=["a", "b"], mask_token="", output_mode=mode, num_oov_indices=num_oov_indices)
    integers = layers.IntegerLookup(vocabulary=[1, 2], mask_token=0, output_mode=mode, num_oov_indices=num_oov_indices)
    for layer, rows in ((text, [["a", "", "b", "a"]]), (integers, np.array([[1, 0, 2, 1]]))):
        counts = [2, 1] if mode == "count" else [1, 1]
        np.testing.assert_array_equal(layer(rows), [[0] * num_oov_indices + counts])


def test_adapt_refuses_what_is_no_token():
    with pytest.raises(ValueError, match="tokens must be integers"):
        layers.IntegerLookup().adapt(np.array([1.5, 2]))
    layer = layers.StringLookup()
    layer.adapt([np.str_("b"), np.str_("b"), np.str_("a")])
    assert [type(token) for token in layer.get_vocabulary()] == [str, str, str]


def test_single_tokens_are_documents_as_in_keras():
    data = np.array([1, 1, 1, 2, 2, 3])
    ours = layers.IntegerLookup(output_mode="tf_idf")
    ours.adapt(data)
    documents = [[1]] * 3 + [[2]] * 2 + [[3]]
    again = layers.IntegerLookup(output_mode="tf_idf")
    again.adapt(np.array(documents))
    np.testing.assert_allclose(ours([[1, 2, 3, 4]]), again([[1, 2, 3, 4]]))
    np.testing.assert_allclose(ours([[1, 2, 4]])[0, 1:3], np.log1p([6 / 4, 6 / 3]), rtol=1e-6)


def test_the_token_of_unknown_ones_may_be_an_ordinary_one():
    integers = layers.IntegerLookup(vocabulary=[1, 2, 3], oov_token=1, mask_token=0)
    assert integers([0, 1, 2, 3, 9]).tolist() == [0, 2, 3, 4, 1]  # Keras 3.15 too


@pytest.mark.parametrize(
    "vocabulary, weights",
    [(["a", "b"], None), (["[UNK]", "a"], None), (["a", "b"], [1.0, 2.5]), (["[UNK]", "a"], [0.5, 2.5])],
)
def test_configs_have_the_vocabulary_as_it_was_given(vocabulary, weights):
    mode = "int" if weights is None else "tf_idf"
    layer = layers.StringLookup(vocabulary=vocabulary, idf_weights=weights, output_mode=mode)
    config = layer.get_config()
    assert config["vocabulary"] == vocabulary and config["idf_weights"] == weights
    again = layers.StringLookup.from_config(config)
    assert again.get_vocabulary() == layer.get_vocabulary()
    np.testing.assert_array_equal(again([["a", "z"]]), layer([["a", "z"]]))


def test_attributes_of_keras():
    layer = layers.IntegerLookup(oov_method="farmhash", num_oov_indices=2, salt=99, output_mode="tf_idf")
    assert layer.salt == [99, 99] and layer.idf_weights is None
    layer.adapt([[1, 1], [2, 1]])
    assert layer.idf_weights.shape == (layer.vocabulary_size(),)
