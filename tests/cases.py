"""One table of all public layers: how to make each one, in kerax or in Keras, and what to call it on.

A new layer gets at least one line here; `tests/test_cases.py` then checks it under every transformation and, with the
same weights, against Keras.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from kerax.saving import register_keras_serializable


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


@register_keras_serializable("tests")
def scale_inputs(params, state, inputs):
    return inputs * params["scale"] + state["offset"], state


@register_keras_serializable("tests")
def init_scale(inputs):
    return {"scale": np.ones(inputs.shape[-1], "float32")}, {"offset": np.zeros((), "float32")}


SEQUENCE, IMAGE, COLORS = (3, 5, 4), (2, 7, 6, 4), (2, 7, 6, 3)
VOLUME, FILM = (2, 4, 5, 3, 2), (2, 3, 5, 4, 2)

CASES = {
    # Newer than the Keras that is compared with.
    "TernaryDense": case(lambda L: L.TernaryDense(3, activation="relu"), (2, 4), agrees=False),
    "ReconstructPatches2D": case(lambda L: L.ReconstructPatches2D(2), (2, 3, 2, 12), agrees=False),
    "ReconstructPatches3D": case(lambda L: L.ReconstructPatches3D((1, 2, 2)), (1, 2, 2, 2, 8), agrees=False),
    "Dense": case(lambda L: L.Dense(3), (2, 4)),
    "Dense-relu-3d": case(lambda L: L.Dense(3, activation="relu", use_bias=False), SEQUENCE),
    "Dense-options": case(
        lambda L: L.Dense(3, "tanh", kernel_regularizer="l2", bias_initializer="ones", kernel_constraint="non_neg"),
        (2, 4),
    ),
    "Dense-lora": case(lambda L: L.Dense(3, lora_rank=2), SEQUENCE),
    "Dense-int8": case(lambda L: L.Dense(3, dtype="int8_from_float32"), SEQUENCE),
    "Dense-int4": case(lambda L: L.Dense(3, dtype="int4/2_from_float32"), (2, 4), slow=True),
    "Dense-float8": case(lambda L: L.Dense(3, dtype="float8_from_float32"), (2, 4), slow=True, agrees=False),
    "Dense-gptq": case(lambda L: L.Dense(3, dtype="gptq/4/2_from_float32"), (2, 4), slow=True, agrees=False),
    "EinsumDense-lora": case(
        lambda L: L.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de", lora_rank=2), SEQUENCE, slow=True
    ),
    "EinsumDense-int4": case(
        lambda L: L.EinsumDense("abc,cde->abde", (None, 2, 3), dtype="int4_from_float32"), SEQUENCE, slow=True
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
    "ZeroPadding1D": case(lambda L: L.ZeroPadding1D((1, 2)), SEQUENCE),
    "ZeroPadding1D-first": case(lambda L: L.ZeroPadding1D(2, data_format="channels_first"), SEQUENCE, slow=True),
    "ZeroPadding3D": case(lambda L: L.ZeroPadding3D((1, 0, 2)), VOLUME),
    "ZeroPadding3D-first": case(
        lambda L: L.ZeroPadding3D(((1, 0), (0, 2), (1, 1)), data_format="channels_first"), VOLUME, slow=True
    ),
    "Cropping1D": case(lambda L: L.Cropping1D((1, 2)), SEQUENCE),
    "Cropping2D": case(lambda L: L.Cropping2D(((1, 2), (0, 3))), IMAGE),
    "Cropping2D-first": case(lambda L: L.Cropping2D((1, 1), data_format="channels_first"), IMAGE, slow=True),
    "Cropping3D": case(lambda L: L.Cropping3D(1), VOLUME),
    "Cropping3D-first": case(
        lambda L: L.Cropping3D(((1, 0), (0, 1), (0, 1)), data_format="channels_first"), VOLUME, slow=True
    ),
    "UpSampling1D": case(lambda L: L.UpSampling1D(3), SEQUENCE),
    "UpSampling3D": case(lambda L: L.UpSampling3D((2, 1, 3)), VOLUME),
    "UpSampling3D-first": case(lambda L: L.UpSampling3D(2, data_format="channels_first"), VOLUME, slow=True),
    "ActivityRegularization": case(lambda L: L.ActivityRegularization(0.1, 0.2), (2, 4)),
    "Dropout": case(lambda L: L.Dropout(0.4), SEQUENCE, has_seed=True),
    "Dropout-seed": case(lambda L: L.Dropout(0.4, noise_shape=(None, 1, 4), seed=7), SEQUENCE, has_seed=True),
    "SpatialDropout1D": case(lambda L: L.SpatialDropout1D(0.4), SEQUENCE, has_seed=True),
    "SpatialDropout2D": case(lambda L: L.SpatialDropout2D(0.4), IMAGE, has_seed=True),
    "SpatialDropout3D": case(lambda L: L.SpatialDropout3D(0.4), VOLUME, has_seed=True),
    "AlphaDropout": case(lambda L: L.AlphaDropout(0.4, noise_shape=(None, 1, 4)), SEQUENCE, has_seed=True),
    "GaussianNoise": case(lambda L: L.GaussianNoise(0.4), SEQUENCE, has_seed=True),
    "GaussianDropout": case(lambda L: L.GaussianDropout(0.4), SEQUENCE, has_seed=True),
    "Embedding": case(lambda L: L.Embedding(9, 4, mask_zero=True), (3, 5), high=9),
    "Embedding-lora": case(lambda L: L.Embedding(9, 4, lora_rank=2), (3, 5), high=9, slow=True),
    "Embedding-int4": case(lambda L: L.Embedding(9, 4, dtype="int4/2_from_float32"), (3, 5), high=9, slow=True),
    "ReversibleEmbedding": case(lambda L: L.ReversibleEmbedding(9, 4, mask_zero=True), (3, 5), high=9),
    "ReversibleEmbedding-reverse": case(
        lambda L: L.ReversibleEmbedding(9, 4, logit_soft_cap=2.0, lora_rank=2), SEQUENCE, call={"reverse": True}
    ),
    "ReversibleEmbedding-untied": case(
        lambda L: L.ReversibleEmbedding(9, 4, tie_weights=False),
        SEQUENCE,
        call={"reverse": True},
        slow=True,
    ),
    "Masking": case(lambda L: L.Masking(), SEQUENCE),
    "Conv1D": case(lambda L: L.Conv1D(5, 3), SEQUENCE),
    "Conv1D-causal": case(lambda L: L.Conv1D(4, 2, padding="causal", dilation_rate=2, activation="relu"), SEQUENCE),
    "Conv1D-causal-strides": case(lambda L: L.Conv1D(4, 3, strides=2, padding="causal"), SEQUENCE, slow=True),
    "Conv1D-groups": case(lambda L: L.Conv1D(4, 2, padding="causal", groups=2), SEQUENCE, slow=True),
    "Conv1D-first": case(lambda L: L.Conv1D(4, 3, padding="same", data_format="channels_first"), SEQUENCE, slow=True),
    "Conv2D": case(lambda L: L.Conv2D(5, 3), IMAGE),
    "Conv2D-same": case(lambda L: L.Conv2D(5, (2, 3), padding="same", activation="relu"), IMAGE),
    "Conv2D-strides": case(lambda L: L.Conv2D(5, 3, strides=(2, 1), padding="same", use_bias=False), IMAGE, slow=True),
    "Conv2D-dilation": case(lambda L: L.Conv2D(5, 2, dilation_rate=2), IMAGE),
    "Conv2D-groups": case(lambda L: L.Conv2D(6, 3, groups=2, padding="same"), IMAGE),
    "Conv2D-first": case(lambda L: L.Conv2D(5, 3, data_format="channels_first"), IMAGE, slow=True),
    "Conv2D-first-groups": case(
        lambda L: L.Conv2D(4, 2, strides=2, padding="same", groups=2, data_format="channels_first"),
        (2, 4, 6, 5),
        slow=True,
    ),
    "Conv2D-pointwise": case(lambda L: L.Conv2D(5, 1), IMAGE, slow=True),
    "Conv3D": case(lambda L: L.Conv3D(3, (2, 3, 1)), VOLUME),
    "Conv3D-groups": case(lambda L: L.Conv3D(4, 2, padding="same", groups=2), VOLUME, slow=True),
    "Conv3D-strides": case(lambda L: L.Conv3D(3, 3, strides=(1, 2, 2), padding="same"), VOLUME, slow=True),
    "Conv3D-first": case(
        lambda L: L.Conv3D(3, 2, dilation_rate=(1, 2, 1), data_format="channels_first"), (2, 2, 3, 5, 4), slow=True
    ),
    "DepthwiseConv1D": case(lambda L: L.DepthwiseConv1D(3, strides=2, bias_initializer="uniform"), SEQUENCE),
    "DepthwiseConv1D-dilation": case(lambda L: L.DepthwiseConv1D(2, dilation_rate=2), SEQUENCE, slow=True),
    "DepthwiseConv1D-first": case(
        lambda L: L.DepthwiseConv1D(2, padding="same", depth_multiplier=2, data_format="channels_first"),
        SEQUENCE,
        slow=True,
    ),
    "DepthwiseConv2D": case(lambda L: L.DepthwiseConv2D(3, depth_multiplier=2, activation="relu"), IMAGE),
    "DepthwiseConv2D-same": case(
        lambda L: L.DepthwiseConv2D((2, 3), strides=(2, 1), padding="same", use_bias=False), IMAGE, slow=True
    ),
    "DepthwiseConv2D-dilation": case(
        lambda L: L.DepthwiseConv2D(2, strides=2, dilation_rate=(2, 1), padding="same"), IMAGE, slow=True
    ),
    "DepthwiseConv2D-first": case(lambda L: L.DepthwiseConv2D(2, data_format="channels_first"), IMAGE, slow=True),
    "SeparableConv1D": case(lambda L: L.SeparableConv1D(3, 2, padding="same"), SEQUENCE),
    "SeparableConv1D-dilation": case(
        lambda L: L.SeparableConv1D(3, 2, dilation_rate=2, activation="tanh", use_bias=False), SEQUENCE, slow=True
    ),
    "SeparableConv2D": case(lambda L: L.SeparableConv2D(5, (2, 3), depth_multiplier=2), IMAGE),
    "SeparableConv2D-first": case(
        lambda L: L.SeparableConv2D(5, 3, strides=2, padding="same", data_format="channels_first"), IMAGE, slow=True
    ),
    "Conv1DTranspose": case(lambda L: L.Conv1DTranspose(3, 3, strides=2, padding="same"), SEQUENCE),
    "Conv1DTranspose-first": case(
        lambda L: L.Conv1DTranspose(3, 2, strides=3, data_format="channels_first"), SEQUENCE, slow=True
    ),
    "Conv1DTranspose-dilation": case(
        lambda L: L.Conv1DTranspose(3, 3, dilation_rate=2, padding="same", activation="relu"), SEQUENCE, slow=True
    ),
    "Conv2DTranspose": case(lambda L: L.Conv2DTranspose(3, (2, 3), strides=(2, 1), use_bias=False), IMAGE),
    "Conv2DTranspose-output": case(
        lambda L: L.Conv2DTranspose(3, (3, 4), strides=2, padding="same", output_padding=(1, 0)), IMAGE, slow=True
    ),
    "Conv2DTranspose-first": case(
        lambda L: L.Conv2DTranspose(3, 2, dilation_rate=(2, 1), data_format="channels_first"), IMAGE, slow=True
    ),
    "Conv3DTranspose": case(lambda L: L.Conv3DTranspose(2, 2, strides=(1, 2, 2), output_padding=(0, 1, 0)), VOLUME),
    "Conv3DTranspose-same": case(
        lambda L: L.Conv3DTranspose(2, (3, 2, 2), strides=2, padding="same", data_format="channels_first"),
        (2, 2, 2, 3, 2),
        slow=True,
    ),
    "MaxPooling1D": case(lambda L: L.MaxPooling1D(), SEQUENCE),
    "MaxPooling1D-same": case(lambda L: L.MaxPooling1D(3, strides=2, padding="same"), SEQUENCE),
    "MaxPooling1D-first": case(lambda L: L.MaxPooling1D(2, data_format="channels_first"), SEQUENCE, slow=True),
    "MaxPooling2D": case(lambda L: L.MaxPooling2D(), IMAGE),
    "MaxPooling2D-strides": case(lambda L: L.MaxPooling2D(3, strides=2), IMAGE),
    "MaxPooling2D-same-first": case(
        lambda L: L.MaxPooling2D(2, padding="same", data_format="channels_first"), IMAGE, slow=True
    ),
    "MaxPooling2D-first": case(lambda L: L.MaxPooling2D(2, data_format="channels_first"), IMAGE, slow=True),
    "AveragePooling1D": case(lambda L: L.AveragePooling1D(2), SEQUENCE),
    "AveragePooling1D-same-first": case(
        lambda L: L.AveragePooling1D(3, strides=2, padding="same", data_format="channels_first"), SEQUENCE, slow=True
    ),
    "AveragePooling2D": case(lambda L: L.AveragePooling2D((2, 3)), IMAGE),
    "AveragePooling2D-same": case(lambda L: L.AveragePooling2D(3, strides=2, padding="same"), IMAGE, slow=True),
    "MaxPooling3D": case(lambda L: L.MaxPooling3D((2, 1, 3)), VOLUME),
    "MaxPooling3D-strides": case(lambda L: L.MaxPooling3D(2, strides=(1, 2, 1), padding="same"), VOLUME, slow=True),
    "AveragePooling3D": case(lambda L: L.AveragePooling3D(2), VOLUME),
    "AveragePooling3D-first": case(
        lambda L: L.AveragePooling3D(2, strides=1, padding="same", data_format="channels_first"), VOLUME, slow=True
    ),
    "AdaptiveAveragePooling1D": case(lambda L: L.AdaptiveAveragePooling1D(3), SEQUENCE),
    "AdaptiveAveragePooling2D": case(lambda L: L.AdaptiveAveragePooling2D((3, 2)), IMAGE),
    "AdaptiveAveragePooling2D-first": case(
        lambda L: L.AdaptiveAveragePooling2D(3, data_format="channels_first"), IMAGE, slow=True
    ),
    "AdaptiveAveragePooling3D": case(lambda L: L.AdaptiveAveragePooling3D((2, 3, 4)), VOLUME),
    "AdaptiveMaxPooling1D": case(lambda L: L.AdaptiveMaxPooling1D(9), SEQUENCE),
    "AdaptiveMaxPooling2D": case(lambda L: L.AdaptiveMaxPooling2D((3, 2)), IMAGE),
    "AdaptiveMaxPooling2D-first": case(
        lambda L: L.AdaptiveMaxPooling2D((3, 2), data_format="channels_first"), IMAGE, slow=True
    ),
    "AdaptiveMaxPooling3D": case(lambda L: L.AdaptiveMaxPooling3D((2, 3, 2)), VOLUME),
    "GlobalAveragePooling1D": case(lambda L: L.GlobalAveragePooling1D(), SEQUENCE),
    "GlobalAveragePooling1D-mask": case(lambda L: L.GlobalAveragePooling1D(), SEQUENCE, call={"mask": mask(3, 5)}),
    "GlobalAveragePooling2D": case(lambda L: L.GlobalAveragePooling2D(keepdims=True), IMAGE),
    "GlobalAveragePooling1D-first": case(
        lambda L: L.GlobalAveragePooling1D(data_format="channels_first", keepdims=True), SEQUENCE, slow=True
    ),
    "GlobalMaxPooling1D": case(lambda L: L.GlobalMaxPooling1D(), SEQUENCE),
    "GlobalMaxPooling2D": case(lambda L: L.GlobalMaxPooling2D(data_format="channels_first"), IMAGE),
    "GlobalAveragePooling3D": case(lambda L: L.GlobalAveragePooling3D(data_format="channels_first"), VOLUME),
    "GlobalMaxPooling3D": case(lambda L: L.GlobalMaxPooling3D(keepdims=True), VOLUME),
    "BatchNormalization": case(lambda L: L.BatchNormalization(momentum=0.7), SEQUENCE, training=True),
    "BatchNormalization-mask": case(
        lambda L: L.BatchNormalization(), SEQUENCE, call={"mask": mask(3, 5)}, training=True
    ),
    "BatchNormalization-axis": case(lambda L: L.BatchNormalization(1, scale=False), IMAGE, training=True, slow=True),
    "BatchNormalization-frozen": case(lambda L: L.BatchNormalization(trainable=False), (2, 4), training=True),
    "BatchNormalization-synchronized": case(
        lambda L: L.BatchNormalization(synchronized=True, center=False),
        SEQUENCE,
        training=True,
        agrees=False,
        slow=True,
    ),
    "BatchNormalization-renorm": case(
        lambda L: L.BatchNormalization(renorm=True, renorm_clipping={"rmax": 3.0, "rmin": 0.3, "dmax": 5.0}),
        SEQUENCE,
        training=True,
        slow=True,
    ),
    "LayerNormalization": case(lambda L: L.LayerNormalization(), SEQUENCE),
    "LayerNormalization-axes": case(lambda L: L.LayerNormalization([1, 3], center=False), IMAGE, slow=True),
    "RMSNormalization": case(lambda L: L.RMSNormalization(), SEQUENCE),
    "RMSNormalization-offset": case(lambda L: L.RMSNormalization(offset=1.0), SEQUENCE, agrees=False, slow=True),
    "UnitNormalization": case(lambda L: L.UnitNormalization(), SEQUENCE),
    "UnitNormalization-axes": case(lambda L: L.UnitNormalization([1, 2]), SEQUENCE, slow=True),
    "SpectralNormalization": case(
        lambda L: L.SpectralNormalization(L.Conv2D(5, 2), power_iterations=2), IMAGE, training=True
    ),
    "SpectralNormalization-embedding": case(
        lambda L: L.SpectralNormalization(L.Embedding(9, 4)), (3, 5), high=9, agrees=False
    ),
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
    "LSTM-unroll": case(
        lambda L: L.LSTM(3, return_sequences=True, unroll=True, go_backwards=True),
        SEQUENCE,
        call={"mask": mask(3, 5)},
        slow=True,
    ),
    "LSTM-dropout": case(lambda L: L.LSTM(3, dropout=0.2, recurrent_dropout=0.3, seed=1), SEQUENCE, has_seed=True),
    "GRU": case(lambda L: L.GRU(3, bias_initializer="uniform"), SEQUENCE),
    "GRU-before": case(
        lambda L: L.GRU(3, reset_after=False, return_sequences=True, zero_output_for_mask=True),
        SEQUENCE,
        call={"mask": mask(3, 5)},
        slow=True,
    ),
    "GRU-backwards": case(lambda L: L.GRU(3, go_backwards=True, return_state=True), SEQUENCE, slow=True),
    "GRU-dropout": case(
        lambda L: L.GRU(3, dropout=0.2, recurrent_dropout=0.3, seed=1), SEQUENCE, has_seed=True, slow=True
    ),
    "RNN": case(lambda L: L.RNN([L.LSTMCell(3), L.LSTMCell(2)], return_sequences=True, return_state=True), SEQUENCE),
    "RNN-mask": case(
        lambda L: L.RNN([L.LSTMCell(3), L.LSTMCell(2)], return_sequences=True),
        SEQUENCE,
        call={"mask": mask(3, 5)},
        slow=True,
    ),
    "ConvLSTM1D": case(lambda L: L.ConvLSTM1D(2, 2, return_sequences=True), FILM[:3] + FILM[-1:]),
    "ConvLSTM1D-options": case(
        lambda L: L.ConvLSTM1D(2, 3, dilation_rate=2, padding="same", use_bias=False, go_backwards=True),
        FILM[:3] + FILM[-1:],
        slow=True,
    ),
    "ConvLSTM2D": case(
        lambda L: L.ConvLSTM2D(2, (3, 2), strides=(2, 1), padding="same", return_state=True, bias_initializer="ones"),
        FILM,
    ),
    "ConvLSTM2D-first": case(
        lambda L: L.ConvLSTM2D(2, 2, data_format="channels_first", unit_forget_bias=False, activation="relu"),
        FILM,
        call={"initial_state": [(2, 2, 3, 1), (2, 2, 3, 1)]},
        slow=True,
    ),
    "ConvLSTM2D-dropout": case(
        lambda L: L.ConvLSTM2D(2, 2, dropout=0.2, recurrent_dropout=0.3, seed=1), FILM, has_seed=True, slow=True
    ),
    "ConvLSTM3D": case(lambda L: L.ConvLSTM3D(2, 2), (2, 3, 2, 3, 2, 1)),
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
    "MultiHeadAttention-padding": case(
        lambda L: L.MultiHeadAttention(2, 3),
        (2, 5, 4),
        (2, 5, 4),
        call={"value_mask": mask(2, 5), "key_mask": mask(2, 5), "use_causal_mask": True},
        slow=True,
    ),
    "MultiHeadAttention-axes": case(lambda L: L.MultiHeadAttention(2, 3, attention_axes=(2,)), IMAGE, IMAGE, slow=True),
    "MultiHeadAttention-2d": case(lambda L: L.MultiHeadAttention(2, 3), (2, 3, 2, 4), (2, 2, 3, 4), slow=True),
    "MultiHeadAttention-dropout": case(
        lambda L: L.MultiHeadAttention(2, 3, dropout=0.3, seed=1), (2, 5, 4), (2, 3, 6), has_seed=True, slow=True
    ),
    "GroupQueryAttention": case(
        lambda L: L.GroupQueryAttention(3, 4, 2, bias_initializer="uniform"), (2, 5, 4), (2, 3, 4)
    ),
    "GroupQueryAttention-masks": case(
        lambda L: L.GroupQueryAttention(3, 4, 1, use_gate=True, use_bias=False),
        (2, 5, 4),
        (2, 3, 4),
        (2, 3, 4),
        call={"attention_mask": mask(2, 5, 3), "return_attention_scores": True},
        slow=True,
    ),
    "GroupQueryAttention-causal": case(
        lambda L: L.GroupQueryAttention(3, 4, 4, sliding_window=2),
        (2, 5, 4),
        (2, 5, 4),
        call={"use_causal_mask": True, "value_mask": mask(2, 5)},
        slow=True,
    ),
    "GroupQueryAttention-dropout": case(
        lambda L: L.GroupQueryAttention(3, 2, 1, dropout=0.3, seed=1), (2, 5, 4), (2, 3, 4), has_seed=True, slow=True
    ),
    # Of language models, which Keras does not have.
    "MultiHeadAttention-rotary": case(
        lambda L: L.MultiHeadAttention(
            2, 4, rotary=L.RotaryEmbedding(), query_key_normalization="rms", logit_soft_cap=2.0, use_output_bias=False
        ),
        (2, 5, 4),
        (2, 5, 4),
        call={"use_causal_mask": True},
        agrees=False,
    ),
    "GroupQueryAttention-scale": case(
        lambda L: L.GroupQueryAttention(
            4, 4, 2, rotary=L.RotaryEmbedding(), query_key_normalization=L.RMSNormalization((-2, -1)), scale=0.3
        ),
        (2, 5, 4),
        (2, 5, 4),
        agrees=False,
        slow=True,
    ),
    "RotaryEmbedding": case(lambda L: L.RotaryEmbedding(), (2, 5, 3, 4), agrees=False),
    "RotaryEmbedding-yarn": case(
        lambda L: L.RotaryEmbedding(
            scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}, rotary_dim=4
        ),
        (2, 5, 3, 6),
        agrees=False,
        slow=True,
    ),
    "PositionEmbedding": case(lambda L: L.PositionEmbedding(7), SEQUENCE, agrees=False),
    "SinePositionEncoding": case(lambda L: L.SinePositionEncoding(), SEQUENCE, agrees=False),
    "FeedForward": case(lambda L: L.FeedForward(6, dropout=0.2), SEQUENCE, agrees=False),
    "GatedFeedForward": case(lambda L: L.GatedFeedForward(6), SEQUENCE, agrees=False),
    "DecoderBlock": case(lambda L: L.DecoderBlock(2, 1, 4, 6, rotary=L.RotaryEmbedding()), (3, 5, 4), agrees=False),
    "DecoderBlock-norms": case(
        lambda L: L.DecoderBlock(
            2, normalization="layer", gated=False, use_bias=True, post_norms=True, sliding_window=3, dropout=0.1
        ),
        (3, 5, 4),
        agrees=False,
        slow=True,
    ),
    "EncoderBlock": case(lambda L: L.EncoderBlock(2, 6), (3, 5, 4), call={"padding_mask": mask(3, 5)}, agrees=False),
    "EncoderBlock-first": case(
        lambda L: L.EncoderBlock(2, 6, normalize_first=True, dropout=0.1),
        (3, 5, 4),
        agrees=False,
        slow=True,
    ),
    "Attention": case(lambda L: L.Attention(), [(2, 5, 4), (2, 3, 4)]),
    "Attention-masks": case(
        lambda L: L.Attention(use_scale=True),
        [(2, 5, 4), (2, 5, 6), (2, 5, 4)],
        call={"mask": [mask(2, 5), mask(2, 5)], "use_causal_mask": True, "return_attention_scores": True},
    ),
    "Attention-concat": case(
        lambda L: L.Attention(use_scale=True, score_mode="concat"), [(2, 5, 4), (2, 3, 4)], slow=True
    ),
    "Attention-dropout": case(
        lambda L: L.Attention(dropout=0.3, seed=1), [(2, 5, 4), (2, 3, 4)], has_seed=True, slow=True
    ),
    "AdditiveAttention": case(
        lambda L: L.AdditiveAttention(), [(2, 5, 4), (2, 3, 4)], call={"mask": [mask(2, 5), mask(2, 3)]}
    ),
    "AdditiveAttention-plain": case(
        lambda L: L.AdditiveAttention(use_scale=False),
        [(2, 5, 4), (2, 5, 4)],
        call={"use_causal_mask": True},
        slow=True,
    ),
    "Add": case(lambda L: L.Add(), [SEQUENCE, SEQUENCE, SEQUENCE]),
    "Add-broadcast": case(lambda L: L.Add(), [SEQUENCE, (3, 4)]),
    "Subtract": case(lambda L: L.Subtract(), [SEQUENCE, SEQUENCE]),
    "Multiply": case(lambda L: L.Multiply(), [SEQUENCE, (3, 5, 1)]),
    "Average": case(lambda L: L.Average(), [SEQUENCE, SEQUENCE, SEQUENCE]),
    "Maximum": case(lambda L: L.Maximum(), [SEQUENCE, SEQUENCE]),
    "Minimum": case(lambda L: L.Minimum(), [SEQUENCE, SEQUENCE]),
    "Concatenate": case(lambda L: L.Concatenate(axis=1), [SEQUENCE, (3, 2, 4)]),
    "Concatenate-batch": case(lambda L: L.Concatenate(axis=-1), [SEQUENCE, (3, 5, 1), (3, 5, 2)], slow=True),
    "Dot": case(lambda L: L.Dot(axes=(2, 1)), [SEQUENCE, (3, 4, 6)]),
    "Dot-cosine": case(lambda L: L.Dot(axes=-1, normalize=True), [(3, 4), (3, 4)], slow=True),
    "JaxLayer": case(lambda L: L.JaxLayer(scale_inputs, init_scale), (2, 4), agrees=False),
    "Lambda": case(lambda L: L.Lambda("tanh" if "kerax" in L.__name__ else np.tanh), (2, 4), agrees=False),
    "Rescaling": case(lambda L: L.Rescaling(0.1, offset=2.0), (2, 4)),
    "Normalization": case(lambda L: L.Normalization(), (2, 4)),
    "Normalization-given": case(
        lambda L: L.Normalization(axis=-1, mean=[1.0, 2, 3, 4], variance=[2.0, 3, 4, 5]), (2, 4)
    ),
    "Normalization-invert": case(
        lambda L: L.Normalization(axis=None, mean=1.0, variance=4.0, invert=True), (2, 4), slow=True
    ),
    "Discretization": case(lambda L: L.Discretization([-0.5, 0.0, 1.0], output_mode="multi_hot"), (2, 4)),
    "CategoryEncoding": case(lambda L: L.CategoryEncoding(5), (3, 4), high=5),
    "CategoryEncoding-count": case(
        lambda L: L.CategoryEncoding(5, "count"), (3, 4), high=5, call={"count_weights": (3, 4)}, slow=True
    ),
    "Hashing": case(lambda L: L.Hashing(3, output_mode="count"), (3, 4), high=50, agrees=False),
    "HashedCrossing": case(lambda L: L.HashedCrossing(3, output_mode="one_hot"), [(3,), (3,)], high=50, agrees=False),
    "IntegerLookup": case(
        lambda L: L.IntegerLookup(vocabulary=[7, 2, 5], output_mode="count"), (3, 4), high=9, agrees=False
    ),
    "Resizing": case(lambda L: L.Resizing(4, 5), IMAGE),
    "Resizing-crop": case(lambda L: L.Resizing(4, 5, "bicubic", crop_to_aspect_ratio=True), IMAGE, slow=True),
    "Resizing-pad": case(lambda L: L.Resizing(9, 5, pad_to_aspect_ratio=True), IMAGE, slow=True),
    "CenterCrop": case(lambda L: L.CenterCrop(4, 3), IMAGE),
    "RandomCrop": case(lambda L: L.RandomCrop(4, 3, seed=1), IMAGE, has_seed=True, agrees=False),
    "RandomFlip": case(lambda L: L.RandomFlip(seed=1), IMAGE, has_seed=True),
    "RandomRotation": case(lambda L: L.RandomRotation(0.2, seed=1), IMAGE, has_seed=True),
    "RandomTranslation": case(lambda L: L.RandomTranslation(0.2, 0.3), IMAGE, has_seed=True),
    "RandomZoom": case(lambda L: L.RandomZoom(0.2, seed=1), IMAGE, has_seed=True),
    "RandomShear": case(lambda L: L.RandomShear(0.2, 0.1, seed=1), IMAGE, has_seed=True),
    "RandomPerspective": case(lambda L: L.RandomPerspective((1.0, 1.0), 0.3, seed=1), IMAGE, has_seed=True),
    "RandomElasticTransform": case(lambda L: L.RandomElasticTransform((1.0, 1.0), seed=1), IMAGE, has_seed=True),
    "RandomBrightness": case(lambda L: L.RandomBrightness(0.2), COLORS, has_seed=True),
    "RandomContrast": case(lambda L: L.RandomContrast((0.2, 0.3)), COLORS, has_seed=True),
    "RandomSaturation": case(lambda L: L.RandomSaturation(0.3), COLORS, has_seed=True),
    "RandomHue": case(lambda L: L.RandomHue(0.3), COLORS, has_seed=True),
    "RandomColorDegeneration": case(lambda L: L.RandomColorDegeneration(0.3), COLORS, has_seed=True),
    "RandomColorJitter": case(lambda L: L.RandomColorJitter((0, 1), 0.2, 0.2), COLORS, has_seed=True),
    "RandomGrayscale": case(lambda L: L.RandomGrayscale(1.0), COLORS, has_seed=True),
    "RandomInvert": case(lambda L: L.RandomInvert((1.0, 1.0)), COLORS, has_seed=True),
    "RandomPosterization": case(lambda L: L.RandomPosterization(3), COLORS, has_seed=True),
    "RandomSharpness": case(lambda L: L.RandomSharpness(0.3), COLORS, has_seed=True),
    "RandomGaussianBlur": case(lambda L: L.RandomGaussianBlur((1.0, 1.0)), COLORS, has_seed=True),
    "RandomErasing": case(lambda L: L.RandomErasing((1.0, 1.0)), COLORS, has_seed=True),
    "Solarization": case(lambda L: L.Solarization(0.2, 0.3), COLORS, has_seed=True),
    "AutoContrast": case(lambda L: L.AutoContrast((-3, 3)), COLORS),
    "Equalization": case(lambda L: L.Equalization((-4, 4)), COLORS, agrees=False),
    "ContrastLimitedAdaptiveHistogramEqualization": case(
        lambda L: L.ContrastLimitedAdaptiveHistogramEqualization((-4, 4), tile_grid_size=(2, 2)), COLORS
    ),
    "MixUp": case(lambda L: L.MixUp(seed=1), COLORS, has_seed=True),
    # Of two images half of the seeds leave each where it is.
    "CutMix": case(lambda L: L.CutMix(seed=2), COLORS, has_seed=True),
    "RandAugment": case(lambda L: L.RandAugment((-4, 4), num_ops=1), COLORS, has_seed=True, slow=True),
    "AugMix": case(lambda L: L.AugMix((-4, 4), chain_depth=1), COLORS, has_seed=True, slow=True),
    "MaxNumBoundingBoxes": case(lambda L: L.MaxNumBoundingBoxes(3), COLORS, agrees=False),
    "Pipeline": case(
        lambda L: L.Pipeline([L.RandomFlip(), L.AutoContrast((-3, 3))]), COLORS, has_seed=True, agrees=False
    ),
    "MelSpectrogram": case(lambda L: L.MelSpectrogram(32, 8, num_mel_bins=4, power_to_db=False), (2, 100)),
    "STFTSpectrogram": case(lambda L: L.STFTSpectrogram("magnitude", 20), (2, 100, 2), training=True),
}
