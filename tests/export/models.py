"""Models of several kinds, each with inputs for a batch of any size."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import kerax
from kerax import layers


def mlp():
    return kerax.Sequential(
        [
            kerax.Input((8,), name="features"),
            layers.Dense(16, activation="relu"),
            layers.Dropout(0.2),
            layers.LayerNormalization(),
            layers.Dense(16, activation="gelu"),
            layers.Dense(3, activation="softmax"),
        ]
    )


def cnn():
    return kerax.Sequential(
        [
            kerax.Input((12, 12, 1), name="image"),
            layers.Conv2D(8, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.SeparableConv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.AveragePooling2D(2, padding="same"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax"),
        ]
    )


def lstm():
    return kerax.Sequential(
        [
            kerax.Input((9,), dtype="int32", name="tokens"),
            layers.Embedding(50, 8, mask_zero=True),
            layers.LSTM(6),
            layers.Dense(4),
        ]
    )


def transformer():
    tokens = kerax.Input((10,), dtype="int32", name="tokens")
    x = layers.Embedding(50, 16, mask_zero=True)(tokens) + layers.Embedding(10, 16)(kerax.ops.arange(10))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x, use_causal_mask=True))
    x = layers.LayerNormalization()(x + layers.Dense(16)(layers.Dense(32, activation="gelu")(x)))
    return kerax.Model(tokens, layers.Dense(5)(layers.GlobalAveragePooling1D()(x)))


def two():
    numbers, series = kerax.Input((6,), name="numbers"), kerax.Input((7, 3), name="series")
    y = layers.Bidirectional(layers.GRU(4, return_sequences=True))(series)
    y = layers.GlobalMaxPooling1D()(layers.Conv1D(4, 3, padding="causal")(y))
    z = layers.Concatenate()([layers.Dense(4, activation="swish")(numbers), y])
    outputs = {"score": layers.Dense(1, activation="sigmoid")(z), "kind": layers.Dense(3)(z)}
    return kerax.Model({"numbers": numbers, "series": series}, outputs)


def unet():
    image = kerax.Input((8, 8, 1), name="image")
    a = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    b = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.MaxPooling2D()(a))
    c = layers.Concatenate()([a, layers.Conv2DTranspose(4, 2, strides=2)(b)])
    return kerax.Model(
        image, [layers.Conv2D(1, 1, activation="sigmoid")(c), layers.UpSampling2D(2, interpolation="bilinear")(b)]
    )


def quantized():
    model = mlp()
    model.quantize("int8")
    return model


def adapted():
    model = mlp()
    layer = model.layers[0]
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.random.default_rng(3).normal(size=layer.lora_kernel_b.shape))
    return model


def preprocessing():
    return kerax.Sequential(
        [
            kerax.Input((10, 10, 3), dtype="uint8", name="image"),
            layers.Rescaling(1 / 255.0),
            layers.Resizing(6, 6),
            layers.RandomFlip(),
            layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.1, 0.2, 0.3]),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def gpt(stacked=False):
    """The one that `scripts/train_gpt.py` trains, with its blocks one after the other or in one loop."""
    scripts = str(Path(__file__).parents[2] / "scripts")
    if scripts not in sys.path:
        sys.path.append(scripts)
    script = importlib.import_module("train_gpt")
    sizes = {"length": 12, "vocabulary": 50, "width": 16, "heads": 2, "layers": 2, "keep": "everything"}
    return script.build_model(SimpleNamespace(**sizes, tied=True, dropout=0.1, bias=True, stacked=stacked))


def stacked_gpt():
    return gpt(stacked=True)


MODELS = {
    make.__name__: make
    for make in (mlp, cnn, lstm, transformer, two, unet, quantized, adapted, preprocessing, gpt, stacked_gpt)
}


def make(name):
    """A model, whose statistics are not those of a new one: a mistake with them shows."""
    kerax.utils.set_random_seed(0)
    model = MODELS[name]()
    rng = np.random.default_rng(7)
    for weight in model.weights:
        if "moving" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.path.endswith(("bias", "beta")):
            weight.assign(weight.numpy() + rng.normal(0, 0.05, weight.shape))
    return model


def inputs(model, batch):
    """Inputs of a model, by their names."""
    rng = np.random.default_rng(batch)
    made = {}
    for tensor in model.inputs:
        shape = (batch, *tensor.shape[1:])
        if tensor.dtype == "uint8":
            made[tensor.operation.name] = rng.integers(0, 256, shape).astype("uint8")
        elif tensor.dtype == "int32":
            made[tensor.operation.name] = rng.integers(0, 50, shape).astype("int32")
        else:
            made[tensor.operation.name] = rng.normal(size=shape).astype("float32")
    return made
