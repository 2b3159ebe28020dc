"""Film reviews, praising or not: 50,000 texts as word numbers."""

import json
from pathlib import Path

import numpy as np

from kerax.datasets import sources
from kerax.datasets.words import prepare


def load_data(
    path="imdb.npz",
    num_words=None,
    skip_top=0,
    maxlen=None,
    seed=113,
    start_char=1,
    oov_char=2,
    index_from=3,
    **kwargs,
):
    """IMDB reviews: 25,000 for training, 25,000 for testing. Downloaded once, 17 MB.

    Args:
        path: Name of the file in the cache, or the path of one.
        num_words: Words that are this rare or rarer become `oov_char`.
        skip_top: Words that are more frequent than this become `oov_char`.
        maxlen: Only texts shorter than this are kept.
        seed: Of the order.
        start_char: Number put before each text, or `None`.
        oov_char: Number in place of words that are left out; `None` leaves nothing there.
        index_from: What is added to the words' numbers, `get_word_index()` being without it.

    Returns: `(x_train, y_train), (x_test, y_test)`: object arrays of lists of word numbers; labels 0 (bad) and 1.

    Source: Maas et al. 2011, https://ai.stanford.edu/~amaas/data/sentiment/
    """
    if kwargs:
        raise TypeError(f"imdb.load_data: unknown argument {next(iter(kwargs))!r}.")
    digest = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
    arrays = sources.read_npz(sources.fetch(path, sources.GOOGLE + "imdb.npz", digest, "imdb"))
    # One generator for both parts, training first: the order of the texts is Keras's for every seed.
    generator = np.random.RandomState(seed)
    rows, labels, counts = [], [], []
    for part in ("train", "test"):
        order = np.arange(len(arrays[f"x_{part}"]))
        generator.shuffle(order)
        rows += arrays[f"x_{part}"][order].tolist()
        labels.append(arrays[f"y_{part}"][order])
        counts.append(len(order) if not maxlen else _num_shorter(arrays[f"x_{part}"], maxlen, start_char))
    if 0 in counts:
        raise ValueError(f"imdb.load_data: no text is shorter than `maxlen`={maxlen}. Make it larger.")
    # Together, so that "rare" means the same in both parts; `counts` says where they meet.
    options = (num_words, skip_top, maxlen, start_char, oov_char, index_from, "imdb.load_data")
    x, y = prepare(rows, np.concatenate(labels), *options)
    return (x[: counts[0]], y[: counts[0]]), (x[counts[0] :], y[counts[0] :])


def _num_shorter(rows, maxlen: int, start_char) -> int:
    return sum(len(row) + (start_char is not None) < maxlen for row in rows)


def get_word_index(path="imdb_word_index.json") -> dict[str, int]:
    """The number of each word, by how often it occurs, 1 the most frequent. Downloaded once, 1.6 MB."""
    origin, digest = sources.GOOGLE + "imdb_word_index.json", "bfafd718b763782e994055a2d397834f"
    return json.loads(Path(sources.fetch(path, origin, digest, "imdb")).read_text(encoding="utf-8"))
