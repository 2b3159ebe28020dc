"""The product of inputs' last axes with a kernel's first ones."""

import math

import jax.numpy as jnp

from kerax import config


def project(inputs, kernel, num_contracted: int = 1):
    """`inputs (..., *contracted) @ kernel (*contracted, *new)`, shape `(..., *new)`.

    On CPU as one plain matrix product: XLA's CPU backend then needs no transposed copies. Forward and gradient,
    best of 12, ms: `(32,128,256) @ (256,512)` 13.2 as a batched product, 9.2 as a plain one; in a GPT step the plain
    products save 40%. Elsewhere the axes stay apart, so that sharded ones are never merged.
    """
    free, new = inputs.shape[:-num_contracted], kernel.shape[num_contracted:]
    if config.target_platform() != "cpu":
        return jnp.tensordot(inputs, kernel, num_contracted)
    features = math.prod(kernel.shape[:num_contracted])
    return (inputs.reshape(-1, features) @ kernel.reshape(features, -1)).reshape(*free, *new)
