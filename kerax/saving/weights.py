"""Loading weights from a file by the kind that its name tells."""

import os

from kerax.saving import legacy_h5, weights_h5


def load_weights(model, filepath, skip_mismatch=False, **kwargs):
    """Reads the weights of a model from a `.weights.h5` file, or from an older `.h5` or `.hdf5` file of Keras's.

    Args:
        skip_mismatch: Whether to skip what does not fit, with a warning that lists it.
        by_name: For older files: whether to match layers by name instead of by order.

    Raises:
        ValueError: listing everything that does not fit, changing nothing; or if the file is none of these.
        FileNotFoundError: if there is no such file.
    """
    by_name = kwargs.pop("by_name", None)
    if kwargs:
        raise TypeError(f"load_weights: unknown argument {next(iter(kwargs))!r}.")
    path = os.fspath(filepath)
    if path.endswith((".h5", ".hdf5")) and not path.endswith(".weights.h5"):
        legacy_h5.load_weights(model, path, skip_mismatch, bool(by_name))
        return
    if by_name:
        raise ValueError(f"load_weights: `by_name` is for older '.h5' files. Got {path!r}.")
    weights_h5.load_weights(model, path, skip_mismatch)
