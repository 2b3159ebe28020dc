"""Texts as lists of word numbers: what IMDB and Reuters share."""

import numpy as np


def prepare(rows, labels, num_words, skip_top, maxlen, start_char, oov_char, index_from, who: str):
    """The texts as Keras hands them out.

    Args:
        rows: Lists of word numbers, which count words by how often they occur, 1 the most frequent.
        labels: One for each.
        num_words: Words that are this rare or rarer are left out. Default: Keras's: the greatest number there is.
        skip_top: Words that are more frequent than this are left out.
        maxlen: Only texts shorter than this are kept.
        start_char: Number put before each text, or `None`.
        oov_char: Number in place of words that are left out, or `None` for none.
        index_from: What is added to the words' numbers.

    Returns: an object array of lists of ints, and the labels.

    Raises:
        ValueError: if no text is short enough.
    """
    # `index_from` leaves room for the numbers that stand for the start and for unknown words.
    start = [] if start_char is None else [start_char]
    texts = [np.asarray(start + [word + (index_from or 0) for word in row], np.int64) for row in rows]
    if maxlen:
        kept = [index for index, text in enumerate(texts) if len(text) < maxlen]
        texts, labels = [texts[index] for index in kept], labels[kept]
        if not kept:
            raise ValueError(f"{who}: no text is shorter than `maxlen`={maxlen}. Make it larger.")
    most = num_words or max((int(text.max()) for text in texts if len(text)), default=0)
    # An object array, filled one by one: NumPy would make a matrix of lists that happen to be of one length.
    prepared = np.empty(len(texts), object)
    for index, text in enumerate(texts):
        is_kept = (text >= skip_top) & (text < most)
        prepared[index] = (text[is_kept] if oov_char is None else np.where(is_kept, text, oov_char)).tolist()
    return prepared, labels
