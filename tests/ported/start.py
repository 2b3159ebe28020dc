"""The same start for a model in either library."""

import numpy as np


def start(model, seed=0):
    """Sets the matrices and kernels of a built model, in the order of its weights, from NumPy draws; vectors stay."""
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        shape = tuple(variable.shape)
        if len(shape) > 1:
            variable.assign(generator.normal(0, np.prod(shape[:-1]) ** -0.5, shape).astype("float32"))
