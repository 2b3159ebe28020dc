"""Nine plays of Shakespeare, a million characters: what comes next, and which play a speech is from."""

from pathlib import Path

import numpy as np

from kerax.datasets import sources

CHARACTERS = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def load_text() -> str:
    """The text, 1,115,394 characters. Downloaded once. Not in Keras.

    Source: Karpathy 2015, https://github.com/karpathy/char-rnn
    """
    name = "tinyshakespeare.txt"
    origin = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
    digest = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    return Path(sources.fetch(name, origin, digest, "text")).read_text(encoding="ascii")


def encode(text: str) -> np.ndarray:
    """The index of each character in `CHARACTERS`, uint8. Raises `ValueError` for one that is not among them."""
    try:
        return np.array([_INDICES[character] for character in text], np.uint8)
    except KeyError as error:
        raise ValueError(f"shakespeare.encode: {error.args[0]!r} is none of the characters {CHARACTERS!r}.") from None


_INDICES = {character: index for index, character in enumerate(CHARACTERS)}


def decode(indices) -> str:
    """The text for indices in `CHARACTERS`."""
    return "".join(CHARACTERS[int(index)] for index in indices)


def load_data(context=64, stride=None, test_split: float = 0.1):
    """Windows of characters, and for each character the next one; the last tenth of the text for testing.

    Args:
        context: Length of the windows.
        stride: Distance from the start of one to the next, in the part for training. Default: `context`, every
            character once. The part for testing always goes by whole windows.
        test_split: Fraction of the text for testing, its end.

    Returns: `(x_train, y_train), (x_test, y_test)`, uint8, `(windows, context)`: indices in `CHARACTERS`.

    Raises:
        ValueError: if a number is out of range.
    """
    stride = context if stride is None else stride
    if context < 1 or stride < 1 or not 0 < test_split < 1:
        raise ValueError(
            "shakespeare: `context` and `stride` must be at least 1, and `test_split` above 0 and below 1. "
            f"Got {context}, {stride} and {test_split}."
        )
    tokens = encode(load_text())
    cut = int(len(tokens) * (1 - test_split))
    # Cut before windows are made: none of those for training reaches into the text for testing.
    parts = (tokens[:cut], stride), (tokens[cut:], context)
    train, test = (np.lib.stride_tricks.sliding_window_view(part, context + 1)[::step] for part, step in parts)
    # Inputs and targets are the same window, one character apart.
    return (train[:, :-1].copy(), train[:, 1:].copy()), (test[:, :-1].copy(), test[:, 1:].copy())
