"""One table of all public layers: how to make each one, in kerax or in Keras, and what to call it on.

A new layer gets at least one line here; `tests/test_cases.py` then checks it under every transformation and, with the
same weights, against Keras.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Case:
    """One layer with one set of arguments.

    Attributes:
        make: Makes the layer from a module of layers, `kerax.layers` or `keras.layers`.
        shapes: Shapes of the inputs; a list of shapes is one input that is a list.
        high: For integer inputs, the bound they stay below.
        call: More arguments of the call; arrays, or shapes of random ones as tuples.
        training: Whether `training=True` gives one result that Keras's must equal.
        has_seed: Whether the layer draws random numbers when `training=True`.
        agrees: Whether outputs are compared with Keras.
        slow: Whether the case is left out by `-m "not slow"`.
    """

    make: Callable
    shapes: tuple
    high: int | None = None
    call: dict = field(default_factory=dict)
    training: bool = False
    has_seed: bool = False
    agrees: bool = True
    slow: bool = False


def case(make, *shapes, **kwargs):
    return Case(make, shapes, **kwargs)


def mask(*shape):
    """Some positions true, the first always."""
    values = np.arange(np.prod(shape)).reshape(shape) % 3 != 2
    values[..., 0] = True
    return values


SEQUENCE, IMAGE = (3, 5, 4), (2, 7, 6, 4)

CASES = {
    "Dense": case(lambda L: L.Dense(3), (2, 4)),
    "Dense-relu-3d": case(lambda L: L.Dense(3, activation="relu", use_bias=False), SEQUENCE),
    "Dense-options": case(
        lambda L: L.Dense(3, "tanh", kernel_regularizer="l2", bias_initializer="ones", kernel_constraint="non_neg"),
        (2, 4),
    ),
    "EinsumDense": case(lambda L: L.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d"), SEQUENCE),
    "EinsumDense-ellipsis": case(
        lambda L: L.EinsumDense("...x,xy->...y", 3, bias_axes="y", activation="relu"), SEQUENCE
    ),
    "EinsumDense-heads": case(lambda L: L.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"), SEQUENCE),
    "EinsumDense-odd": case(lambda L: L.EinsumDense("abc,bd->acd", (4, 3), bias_axes="c"), SEQUENCE, slow=True),
    "EinsumDense-right": case(lambda L: L.EinsumDense("ab...,bc->ac...", (3,), bias_axes="c"), SEQUENCE, slow=True),
    "Activation": case(lambda L: L.Activation("gelu"), (2, 4)),
    "ReLU": case(lambda L: L.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2), (2, 4)),
    "LeakyReLU": case(lambda L: L.LeakyReLU(), (2, 4)),
    "PReLU": case(lambda L: L.PReLU("uniform", shared_axes=[1]), SEQUENCE),
    "ELU": case(lambda L: L.ELU(0.5), (2, 4)),
    "Softmax": case(lambda L: L.Softmax(), (2, 4)),
    "Softmax-mask": case(lambda L: L.Softmax(axis=(1, 2)), SEQUENCE, call={"mask": mask(3, 5, 4)}, slow=True),
    "Flatten": case(lambda L: L.Flatten(), IMAGE),
    "Flatten-first": case(lambda L: L.Flatten(data_format="channels_first"), IMAGE),
    "Reshape": case(lambda L: L.Reshape((2, -1)), SEQUENCE),
    "Permute": case(lambda L: L.Permute((2, 1)), SEQUENCE),
    "RepeatVector": case(lambda L: L.RepeatVector(3), (2, 4)),
    "Identity": case(lambda L: L.Identity(), (2, 4)),
    "UpSampling2D": case(lambda L: L.UpSampling2D((2, 3)), IMAGE),
    "UpSampling2D-bilinear": case(lambda L: L.UpSampling2D(2, interpolation="bilinear"), IMAGE, slow=True),
    "UpSampling2D-first": case(lambda L: L.UpSampling2D(2, data_format="channels_first"), IMAGE, slow=True),
    "ZeroPadding2D": case(lambda L: L.ZeroPadding2D(((1, 2), (0, 3))), IMAGE),
    "ZeroPadding2D-first": case(lambda L: L.ZeroPadding2D((1, 2), data_format="channels_first"), IMAGE, slow=True),
    "Dropout": case(lambda L: L.Dropout(0.4), SEQUENCE, has_seed=True),
    "Dropout-seed": case(lambda L: L.Dropout(0.4, noise_shape=(None, 1, 4), seed=7), SEQUENCE, has_seed=True),
    "SpatialDropout1D": case(lambda L: L.SpatialDropout1D(0.4), SEQUENCE, has_seed=True),
    "SpatialDropout2D": case(lambda L: L.SpatialDropout2D(0.4), IMAGE, has_seed=True),
    "GaussianNoise": case(lambda L: L.GaussianNoise(0.4), SEQUENCE, has_seed=True),
    "GaussianDropout": case(lambda L: L.GaussianDropout(0.4), SEQUENCE, has_seed=True),
    "Embedding": case(lambda L: L.Embedding(9, 4, mask_zero=True), (3, 5), high=9),
    "Masking": case(lambda L: L.Masking(), SEQUENCE),
    "Conv1D": case(lambda L: L.Conv1D(5, 3), SEQUENCE),
    "Conv1D-causal": case(lambda L: L.Conv1D(4, 2, padding="causal", dilation_rate=2, activation="relu"), SEQUENCE),
    "Conv1D-causal-strides": case(lambda L: L.Conv1D(4, 3, strides=2, padding="causal"), SEQUENCE, slow=True),
    "Conv1D-first": case(lambda L: L.Conv1D(4, 3, padding="same", data_format="channels_first"), SEQUENCE, slow=True),
    "Conv2D": case(lambda L: L.Conv2D(5, 3), IMAGE),
    "Conv2D-same": case(lambda L: L.Conv2D(5, (2, 3), padding="same", activation="relu"), IMAGE),
    "Conv2D-strides": case(lambda L: L.Conv2D(5, 3, strides=(2, 1), padding="same", use_bias=False), IMAGE, slow=True),
    "Conv2D-dilation": case(lambda L: L.Conv2D(5, 2, dilation_rate=2), IMAGE),
    "Conv2D-groups": case(lambda L: L.Conv2D(6, 3, groups=2, padding="same"), IMAGE),
    "Conv2D-first": case(lambda L: L.Conv2D(5, 3, data_format="channels_first"), IMAGE, slow=True),
    "Conv2D-pointwise": case(lambda L: L.Conv2D(5, 1), IMAGE, slow=True),
    "MaxPooling1D": case(lambda L: L.MaxPooling1D(), SEQUENCE),
    "MaxPooling1D-same": case(lambda L: L.MaxPooling1D(3, strides=2, padding="same"), SEQUENCE),
    "MaxPooling2D": case(lambda L: L.MaxPooling2D(), IMAGE),
    "MaxPooling2D-strides": case(lambda L: L.MaxPooling2D(3, strides=2), IMAGE),
    "MaxPooling2D-same-first": case(
        lambda L: L.MaxPooling2D(2, padding="same", data_format="channels_first"), IMAGE, slow=True
    ),
    "MaxPooling2D-first": case(lambda L: L.MaxPooling2D(2, data_format="channels_first"), IMAGE, slow=True),
    "AveragePooling1D": case(lambda L: L.AveragePooling1D(2), SEQUENCE),
    "AveragePooling2D": case(lambda L: L.AveragePooling2D((2, 3)), IMAGE),
    "AveragePooling2D-same": case(lambda L: L.AveragePooling2D(3, strides=2, padding="same"), IMAGE, slow=True),
    "GlobalAveragePooling1D": case(lambda L: L.GlobalAveragePooling1D(), SEQUENCE),
    "GlobalAveragePooling1D-mask": case(lambda L: L.GlobalAveragePooling1D(), SEQUENCE, call={"mask": mask(3, 5)}),
    "GlobalAveragePooling2D": case(lambda L: L.GlobalAveragePooling2D(keepdims=True), IMAGE),
    "GlobalMaxPooling1D": case(lambda L: L.GlobalMaxPooling1D(), SEQUENCE),
    "GlobalMaxPooling2D": case(lambda L: L.GlobalMaxPooling2D(data_format="channels_first"), IMAGE),
    "BatchNormalization": case(lambda L: L.BatchNormalization(momentum=0.7), SEQUENCE, training=True),
    "BatchNormalization-mask": case(
        lambda L: L.BatchNormalization(), SEQUENCE, call={"mask": mask(3, 5)}, training=True
    ),
    "BatchNormalization-axis": case(lambda L: L.BatchNormalization(1, scale=False), IMAGE, training=True, slow=True),
    "BatchNormalization-frozen": case(lambda L: L.BatchNormalization(trainable=False), (2, 4), training=True),
    "BatchNormalization-renorm": case(
        lambda L: L.BatchNormalization(renorm=True, renorm_clipping={"rmax": 3.0, "rmin": 0.3, "dmax": 5.0}),
        SEQUENCE,
        training=True,
        slow=True,
    ),
    "LayerNormalization": case(lambda L: L.LayerNormalization(), SEQUENCE),
    "LayerNormalization-axes": case(lambda L: L.LayerNormalization([1, 3], center=False), IMAGE, slow=True),
    "RMSNormalization": case(lambda L: L.RMSNormalization(), SEQUENCE),
    "GroupNormalization": case(lambda L: L.GroupNormalization(2), IMAGE),
    "GroupNormalization-first": case(lambda L: L.GroupNormalization(-1, axis=1), IMAGE, slow=True),
    "SimpleRNNCell": case(lambda L: L.SimpleRNNCell(3), (2, 4), [(2, 3)]),
    "LSTMCell": case(lambda L: L.LSTMCell(3), (2, 4), [(2, 3), (2, 3)]),
    "GRUCell": case(lambda L: L.GRUCell(3, use_bias=False), (2, 4), [(2, 3)]),
    "StackedRNNCells": case(
        lambda L: L.StackedRNNCells([L.GRUCell(3), L.GRUCell(2)]), (2, 4), [(2, 3), (2, 2)], slow=True
    ),
    "SimpleRNN": case(lambda L: L.SimpleRNN(3), SEQUENCE),
    "SimpleRNN-unroll": case(lambda L: L.SimpleRNN(3, return_sequences=True, unroll=True), SEQUENCE, slow=True),
    "LSTM": case(lambda L: L.LSTM(3), SEQUENCE),
    "LSTM-all": case(
        lambda L: L.LSTM(3, return_sequences=True, return_state=True, go_backwards=True),
        SEQUENCE,
        call={"mask": mask(3, 5), "initial_state": [(3, 3), (3, 3)]},
    ),
    "LSTM-mask": case(lambda L: L.LSTM(3, unit_forget_bias=False), SEQUENCE, call={"mask": mask(3, 5)}),
    "LSTM-dropout": case(lambda L: L.LSTM(3, dropout=0.2, recurrent_dropout=0.3, seed=1), SEQUENCE, has_seed=True),
    "GRU": case(lambda L: L.GRU(3, bias_initializer="uniform"), SEQUENCE),
    "GRU-before": case(
        lambda L: L.GRU(3, reset_after=False, return_sequences=True, zero_output_for_mask=True),
        SEQUENCE,
        call={"mask": mask(3, 5)},
        slow=True,
    ),
    "GRU-backwards": case(lambda L: L.GRU(3, go_backwards=True, return_state=True), SEQUENCE, slow=True),
    "RNN": case(lambda L: L.RNN([L.LSTMCell(3), L.LSTMCell(2)], return_sequences=True, return_state=True), SEQUENCE),
    "RNN-mask": case(
        lambda L: L.RNN([L.LSTMCell(3), L.LSTMCell(2)], return_sequences=True),
        SEQUENCE,
        call={"mask": mask(3, 5)},
        slow=True,
    ),
    "Bidirectional": case(
        lambda L: L.Bidirectional(L.LSTM(3, return_sequences=True)), SEQUENCE, call={"mask": mask(3, 5)}
    ),
    "Bidirectional-sum": case(
        lambda L: L.Bidirectional(L.GRU(3, return_state=True), merge_mode="sum"), SEQUENCE, slow=True
    ),
    "Bidirectional-none": case(lambda L: L.Bidirectional(L.SimpleRNN(3), merge_mode=None), SEQUENCE, slow=True),
    "Bidirectional-mul": case(
        lambda L: L.Bidirectional(L.SimpleRNN(3), "mul", backward_layer=L.SimpleRNN(3, go_backwards=True)),
        SEQUENCE,
        slow=True,
    ),
    "Bidirectional-ave": case(lambda L: L.Bidirectional(L.GRU(3), merge_mode="ave"), SEQUENCE, slow=True),
    "TimeDistributed": case(lambda L: L.TimeDistributed(L.Dense(3)), SEQUENCE),
    "TimeDistributed-conv": case(lambda L: L.TimeDistributed(L.Conv1D(3, 2)), (2, 3, 5, 4), slow=True),
    "MultiHeadAttention": case(lambda L: L.MultiHeadAttention(2, 3, bias_initializer="uniform"), (2, 5, 4), (2, 3, 6)),
    "MultiHeadAttention-masks": case(
        lambda L: L.MultiHeadAttention(2, 3, value_dim=2, output_shape=7),
        (2, 5, 4),
        (2, 3, 6),
        (2, 3, 5),
        call={"attention_mask": mask(2, 5, 3), "return_attention_scores": True},
    ),
    "MultiHeadAttention-causal": case(
        lambda L: L.MultiHeadAttention(2, 3, sliding_window=2, use_gate=True, use_bias=False),
        (2, 5, 4),
        (2, 5, 4),
        call={"use_causal_mask": True},
    ),
    "MultiHeadAttention-axes": case(lambda L: L.MultiHeadAttention(2, 3, attention_axes=(2,)), IMAGE, IMAGE, slow=True),
    "MultiHeadAttention-2d": case(lambda L: L.MultiHeadAttention(2, 3), (2, 3, 2, 4), (2, 2, 3, 4), slow=True),
    "MultiHeadAttention-dropout": case(
        lambda L: L.MultiHeadAttention(2, 3, dropout=0.3, seed=1), (2, 5, 4), (2, 3, 6), has_seed=True, slow=True
    ),
    "Add": case(lambda L: L.Add(), [SEQUENCE, SEQUENCE, SEQUENCE]),
    "Add-broadcast": case(lambda L: L.Add(), [SEQUENCE, (3, 4)]),
    "Subtract": case(lambda L: L.Subtract(), [SEQUENCE, SEQUENCE]),
    "Multiply": case(lambda L: L.Multiply(), [SEQUENCE, (3, 5, 1)]),
    "Average": case(lambda L: L.Average(), [SEQUENCE, SEQUENCE, SEQUENCE]),
    "Maximum": case(lambda L: L.Maximum(), [SEQUENCE, SEQUENCE]),
    "Minimum": case(lambda L: L.Minimum(), [SEQUENCE, SEQUENCE]),
    "Concatenate": case(lambda L: L.Concatenate(axis=1), [SEQUENCE, (3, 2, 4)]),
    "Dot": case(lambda L: L.Dot(axes=(2, 1)), [SEQUENCE, (3, 4, 6)]),
    "Dot-cosine": case(lambda L: L.Dot(axes=-1, normalize=True), [(3, 4), (3, 4)], slow=True),
    "Lambda": case(lambda L: L.Lambda("tanh" if "kerax" in L.__name__ else np.tanh), (2, 4), agrees=False),
    "Rescaling": case(lambda L: L.Rescaling(0.1, offset=2.0), (2, 4)),
    "Normalization": case(lambda L: L.Normalization(), (2, 4)),
    "Normalization-given": case(
        lambda L: L.Normalization(axis=-1, mean=[1.0, 2, 3, 4], variance=[2.0, 3, 4, 5]), (2, 4)
    ),
    "Normalization-invert": case(
        lambda L: L.Normalization(axis=None, mean=1.0, variance=4.0, invert=True), (2, 4), slow=True
    ),
}
