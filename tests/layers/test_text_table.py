import numpy as np
import pytest

from kerax.layers.text_table import TextTable, pack

RNG = np.random.default_rng(0)
LENGTHS = [1, 3, 7, 8, 9, 15, 16, 17, 40]


def words(letters, lengths, count=600):
    return ["".join(RNG.choice(list(letters), RNG.choice(lengths))) for _ in range(count)]


KINDS = {
    "ascii": words("abcd", LENGTHS),
    "accents and Chinese": words("ae\u00e9\u6f22", LENGTHS),
    "long ones": words("ab", [2, 200]),
    "zeros inside": [*words("ab", [2]), "a\0b", "", "a"],
    "half of a character": [*words("ab", [2]), "\ud800"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_found_as_by_a_dict(kind):
    texts = KINDS[kind]
    indices = {text: index for index, text in enumerate(dict.fromkeys(texts[::2]), 3)}
    table, expected = TextTable(indices), [indices.get(text, 1) for text in texts]
    assert table.find(np.array(texts, object), 1).tolist() == expected
    assert table.find(np.array(texts, object)[:20], 1).tolist() == expected[:20]  # few are found one by one
    for fixed in (np.array(texts), np.array(texts).astype(">U250")):
        assert table.find(fixed, 1).tolist() == [indices.get(text, 1) for text in fixed.tolist()]


def test_texts_with_one_number_are_told_apart(monkeypatch):
    monkeypatch.setattr("kerax.layers.text_table.PackedText.keys", lambda packed: packed.lengths.astype(np.int64))
    one, two, three = "a" * 12, "b" * 12, "c" * 13
    texts = np.array([one, two, three] * 100)
    assert TextTable({one: 5, three: 6}).find(texts, 0).tolist() == [5, 0, 6] * 100
    assert TextTable({one: 5, two: 6}).find(texts, 0).tolist() == [5, 6, 0] * 100


@pytest.mark.parametrize("kind", [object, str])
def test_packed_texts_are_their_bytes(kind):
    packed = pack(np.array(["abcdefghij", "", "xyz"], kind))
    assert packed.lengths.tolist() == [10, 0, 3]
    assert [int(word).to_bytes(8, "little").rstrip(b"\0") for word in packed.word(8)] == [b"ij", b"", b""]
    assert pack(np.array([], kind)).lengths.tolist() == []
