"""Which play of Shakespeare's a speech is from: 5,261 speeches of nine plays."""

import itertools

import numpy as np

from kerax.datasets import shakespeare, sources

# The first words of each play in the text, which has no titles.
_OPENINGS = {
    "Coriolanus": "Before we proceed any further",
    "Richard III": "Now is the winter of our discontent",
    "Richard II": "Old John of Gaunt, time-honour'd",
    "Romeo and Juliet": "Gregory, o' my word",
    "Henry VI, part 3": "I wonder how the king escaped",
    "The Winter's Tale": "If you shall chance, Camillo",
    "Measure for Measure": "Escalus.\n",
    "The Taming of the Shrew": "I'll pheeze you",
    "The Tempest": "Boatswain!",
}
PLAYS = tuple(_OPENINGS)


def load_data(min_words=8, test_split: float = 0.2, seed=113):
    """Speeches without their speakers' names, and the play that each is from. Downloaded once, 1.1 MB. Not in Keras.

    The most frequent play makes up 16 % of the test part, which is what a constant answer reaches.

    Args:
        min_words: Shorter speeches are left out.
        test_split: Fraction of the speeches for testing.
        seed: Of the order.

    Returns: `(x_train, y_train), (x_test, y_test)`: texts, `(speeches,)`, and uint8 indices in `PLAYS`.

    Source: the text of `shakespeare.load_text`.
    """
    text = shakespeare.load_text()
    # From the speaker's name, which stands before the first words.
    starts = [text.rfind("\n\n", 0, text.index(opening)) + 1 for opening in _OPENINGS.values()]
    speeches, plays = [], []
    for play, (start, end) in enumerate(itertools.pairwise([*starts, len(text)])):
        for part in text[start:end].split("\n\n"):
            # What has no name before it, such as a stage direction, is no speech.
            _, colon, speech = part.partition(":\n")
            if colon and len(speech.split()) >= min_words:
                speeches.append(" ".join(speech.split()))
                plays.append(play)
    return sources.split(test_split, seed, np.array(speeches), np.array(plays, np.uint8))
