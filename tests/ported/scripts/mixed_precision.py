"""Half precision by a global policy and by the policy of a layer; variables and losses stay in single precision."""

import keras
import numpy as np
from keras import layers

from tests.ported.start import start

numbers = np.random.default_rng(12)
x = numbers.normal(size=(64, 8)).astype("float32")
y = numbers.integers(0, 3, 64)

results = {}
for policy in ["mixed_bfloat16", "mixed_float16"]:
    keras.mixed_precision.set_global_policy(policy)
    inputs = keras.Input((8,))
    hidden = layers.Dense(16, activation="relu")(inputs)
    hidden = layers.LayerNormalization()(hidden)
    logits = layers.Dense(3, name="logits")(hidden)
    outputs = layers.Activation("softmax", dtype="float32", name="predictions")(logits)
    model = keras.Model(inputs, outputs)
    start(model)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, epochs=2, batch_size=32, shuffle=False, verbose=0)
    results[policy] = {
        "history": history.history,
        "predictions": model.predict(x, verbose=0),
        "compute": [layer.compute_dtype for layer in model.layers[1:]],
        "variables": sorted({weight.dtype for weight in model.weights}),
        "optimizer": type(model.optimizer).__name__,
        "logits": str(keras.Model(inputs, logits)(x[:1]).dtype),
    }
keras.mixed_precision.set_global_policy("float32")
