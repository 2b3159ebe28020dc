"""News of 1987 by topic: 11,228 texts as word numbers."""

import json
from pathlib import Path

from kerax.datasets import sources
from kerax.datasets.words import prepare

_TOPICS = (
    "cocoa grain veg-oil earn acq wheat copper housing money-supply coffee sugar trade reserves ship cotton carcass "
    "crude nat-gas cpi money-fx interest gnp meal-feed alum oilseed gold tin strategic-metal livestock retail ipi "
    "iron-steel rubber heat jobs lei bop zinc orange pet-chem dlr gas silver wpi hog lead"
)


def load_data(
    path="reuters.npz",
    num_words=None,
    skip_top=0,
    maxlen=None,
    test_split: float = 0.2,
    seed=113,
    start_char=1,
    oov_char=2,
    index_from=3,
):
    """Reuters news in 46 topics. Downloaded once, 2 MB.

    Args:
        test_split: Fraction of the texts for testing.
        All others as in `imdb.load_data`.

    Returns: `(x_train, y_train), (x_test, y_test)`: object arrays of lists of word numbers; labels from 0 to 45, whose
        names `get_label_names()` gives.

    Source: Lewis 1997, Reuters-21578, http://www.daviddlewis.com/resources/testcollections/reuters21578/
    """
    digest = "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916"
    arrays = sources.read_npz(sources.fetch(path, sources.GOOGLE + "reuters.npz", digest, "reuters"))
    if not 0 <= test_split < 1:
        raise ValueError(f"reuters.load_data: `test_split` must be at least 0 and below 1. Got {test_split}.")
    # Shuffled before texts are left out, as in Keras: `maxlen` keeps the order of the others.
    rows, labels = sources.shuffled(seed, arrays["x"], arrays["y"])
    options = (num_words, skip_top, maxlen, start_char, oov_char, index_from if index_from else 0, "reuters.load_data")
    x, y = prepare(rows, labels, *options)
    cut = int(len(x) * (1 - test_split))
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


def get_word_index(path="reuters_word_index.json") -> dict[str, int]:
    """The number of each word, by how often it occurs, 1 the most frequent. Downloaded once, 0.5 MB."""
    origin, digest = sources.GOOGLE + "reuters_word_index.json", "4d44cc38712099c9e383dc6e5f11a921"
    return json.loads(Path(sources.fetch(path, origin, digest, "reuters")).read_text(encoding="utf-8"))


def get_label_names() -> tuple[str, ...]:
    """The names of the 46 topics, in the order of their labels."""
    return tuple(_TOPICS.split())
