import jax
import numpy as np
import pytest

from kerax import layers
from kerax.layers import hashing

SENTENCE = "The quick brown fox jumps over the lazy dog. " * 10
FINGERPRINTS = {  # of the first n characters, by Google's implementation
    0: 11160318154034397263,
    1: 1366698271136253306,
    3: 9622071900453499901,
    4: 17648915545525335717,
    7: 18103137151329643399,
    8: 5102859526078303239,
    16: 4320848957565769301,
    17: 14385391840113208765,
    32: 13139644296358924898,
    33: 17464935208016327638,
    64: 10142713867129616544,
    65: 8330986144681106620,
    128: 6548702730867532314,
    129: 18093668623211604690,
    200: 640913882323733241,
}
LETTERS = [["A"], ["B"], ["C"], ["D"], ["E"]]
NUMBERS = np.array([0, 7, -3, 123456, 2**31 - 1, -(2**31), -10, 10, 99, 100])


def test_fingerprint_equals_farmhash_for_every_kind_of_length():
    texts = np.array([SENTENCE[:n] for n in FINGERPRINTS], object)
    assert hashing.hash_text(texts, None).tolist() == list(FINGERPRINTS.values())


def test_siphash_gives_the_vector_of_its_paper():
    message = np.arange(15, dtype=np.uint64)[None]
    assert hashing.siphash24(message, (0x0706050403020100, 0x0F0E0D0C0B0A0908))[0] == 0xA129CA6149BE45E5


@pytest.mark.parametrize(
    "options, expected",
    [({}, [1, 0, 1, 1, 2]), ({"salt": [133, 137]}, [1, 2, 1, 0, 2]), ({"salt": 133}, [0, 0, 2, 1, 0])],
)
def test_text_gets_the_bins_that_keras_documents(options, expected):
    outputs = layers.Hashing(3, **options)(LETTERS)
    assert isinstance(outputs, np.ndarray) and outputs.shape == (5, 1)
    assert outputs.ravel().tolist() == expected
    assert layers.Hashing(3, **options)(np.array([b"A", b"B"])).tolist() == expected[:2]


def test_mask_value_has_bin_0_for_itself():
    layer = layers.Hashing(num_bins=3, mask_value="")
    assert layer([["A"], ["B"], [""], ["C"], ["D"]]).ravel().tolist() == [1, 1, 0, 2, 2]
    outputs = np.asarray(layers.Hashing(3, mask_value=7)(NUMBERS))
    assert ((outputs == 0) == (NUMBERS == 7)).all()


@pytest.mark.medium
@pytest.mark.parametrize("salt", [None, 5])
def test_integers_hash_like_their_digits_in_a_compiled_call_too(salt):
    layer = layers.Hashing(7, salt=salt)
    expected = layer(NUMBERS.astype(str))
    np.testing.assert_array_equal(layer(NUMBERS), expected)
    np.testing.assert_array_equal(jax.jit(lambda x: layer.apply({}, x)[0])(NUMBERS), expected)
    np.testing.assert_array_equal(layer(NUMBERS * 2**20), layer((NUMBERS * 2**20).astype(str)))


def test_encoded_outputs():
    np.testing.assert_array_equal(layers.Hashing(3, output_mode="one_hot")(LETTERS[:2]), [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(layers.Hashing(3, output_mode="count")([["A", "C", "E"]]), [[0, 2, 1]])
    np.testing.assert_array_equal(layers.Hashing(3, output_mode="multi_hot")([["A", "C", "E"]]), [[0, 1, 1]])


def test_crossing_gives_the_bins_that_keras_documents():
    letters, numbers = np.array(list("ABABA")), np.array([101, 101, 101, 102, 102])
    assert layers.HashedCrossing(5)((letters, numbers)).tolist() == [1, 4, 1, 1, 3]
    outputs = layers.HashedCrossing(5, output_mode="one_hot")((letters, numbers))
    np.testing.assert_array_equal(outputs, np.eye(5)[[1, 4, 1, 1, 3]])


@pytest.mark.medium
def test_crossing_of_integers_is_the_same_compiled_and_on_the_host():
    layer = layers.HashedCrossing(5)
    other = NUMBERS[::-1].copy()
    expected = layer.call_on_host([NUMBERS, other])
    np.testing.assert_array_equal(layer([NUMBERS, other]), expected)
    np.testing.assert_array_equal(jax.jit(lambda a, b: layer.apply({}, [a, b])[0])(NUMBERS, other), expected)
    assert layer([NUMBERS[:, None], other[:, None]]).shape == (10, 1)
    assert layer([np.array(3), np.array(4)]).shape == ()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`num_bins` must be an integer of at least 1"):
        layers.Hashing(0)
    with pytest.raises(ValueError, match="`num_bins` must be at least 2"):
        layers.Hashing(1, mask_value="")
    with pytest.raises(ValueError, match="`salt` must be one or two integers"):
        layers.Hashing(3, salt=[1, 2, 3])
    with pytest.raises(ValueError, match="must be an integer for integer inputs"):
        layers.Hashing(3, mask_value="")(np.array([1]))
    with pytest.raises(ValueError, match="not a mixture"):
        layers.Hashing(3)(np.array(["a", 1], object))
    with pytest.raises(ValueError, match="at least two features"):
        layers.HashedCrossing(3)([np.array([1])])
    with pytest.raises(ValueError, match="one shape"):
        layers.HashedCrossing(3)([np.array([1]), np.array([1, 2])])
    with pytest.raises(ValueError, match="Cross them before"):
        jax.jit(lambda x: layers.HashedCrossing(3)([x, np.array(["a"])]))(np.array([1]))


@pytest.mark.parametrize("salt", [None, (3, 5)])
def test_texts_are_hashed_alike_alone_and_among_others(salt):
    texts = ["", "a", "ab", "\0", "a\0b", "ä", "日本語", "x" * 17, "y" * 40, "z" * 70, "w" * 200, "a"]
    together = hashing.hash_text(np.array(texts, object), salt)
    alone = [hashing.hash_text(np.array([text], object), salt)[0] for text in texts]
    assert together.tolist() == alone and together[1] == together[-1]
    # Beside bytes apart, as JAX takes them.
    rows = [np.frombuffer(text.encode(), np.uint8).astype(np.uint64)[None] for text in texts]
    assert [int(hashing.hash_rows(row, salt)[0]) for row in rows] == together.tolist()


def test_text_of_every_kind_is_the_same_text():
    words = ["one", "two", "one", "dreißig"]
    layer = layers.Hashing(11)
    kinds = [words, tuple(words), np.array(words), np.array(words, object), np.array([w.encode() for w in words])]
    kinds.append([np.str_(word) for word in words])
    for kind in kinds:
        np.testing.assert_array_equal(layer(kind), layer(np.array(words, object)))
    with pytest.raises(ValueError, match="mixture"):
        layer(np.array(["a", 3], object))


def test_floats_are_cut_as_in_keras():
    np.testing.assert_array_equal(layers.Hashing(5)(np.array([1.0, 2.0, 3.7])), layers.Hashing(5)(np.array([1, 2, 3])))
    assert layers.Hashing(5)(layers.Input((4,))).shape == (None, 4)


def test_features_that_are_no_categories_are_refused():
    with pytest.raises(ValueError, match="must be text or integers. Got dtype float"):
        layers.HashedCrossing(4)([np.array([1.5]), np.array([2])])
