"""Models made int8 after training: by one call, layer by layer, by a policy, by filters, saved and loaded again."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(57)
x = numbers.normal(size=(64, 16)).astype("float32")
y = (x @ numbers.normal(size=(16, 1))).astype("float32")


def make():
    model = keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(32, activation="relu", name="first"),
            layers.Dense(1, name="last"),
        ]
    )
    start(model)
    return model


model = make()
model.compile(optimizer=keras.optimizers.Adam(1e-2), loss="mse")
history = model.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0)
y_fp32 = model.predict(x, verbose=0)
model.quantize("int8")
y_int8 = model.predict(x, verbose=0)
error = ops.mean(ops.square(y_fp32 - y_int8))
model.save("int8.keras")
loaded = keras.saving.load_model("int8.keras")

filtered = make()
filtered.quantize("int8", filters="first")
four = make()
four.quantize("int4")

attention = keras.Sequential([keras.Input((4, 8)), layers.EinsumDense("abc,cd->abd", (None, 8)), layers.Flatten()])
embedding = layers.Embedding(10, 6)
embedding.build()
embedding.embeddings.assign(numbers.normal(size=(10, 6)))
start(attention, 1)
before = [attention.predict(x.reshape(64, 4, 4).repeat(2, 2)[:3], verbose=0), np.asarray(embedding(np.arange(4)))]
attention.quantize("int8")
embedding.quantize("int8")
after = [attention.predict(x.reshape(64, 4, 4).repeat(2, 2)[:3], verbose=0), np.asarray(embedding(np.arange(4)))]


values, scales = keras.quantizers.abs_max_quantize(x[:4], axis=-1)
results = {
    "history": history.history,
    "int8": y_int8[:5],
    "error": float(error),
    "loaded": loaded.predict(x[:5], verbose=0),
    "policies": [layer.dtype_policy.name for layer in loaded.layers],
    "filtered": [layer.dtype_policy.name for layer in filtered.layers],
    "outputs": [filtered.predict(x[:3], verbose=0), four.predict(x[:3], verbose=0)],
    "before": before,
    "after": after,
    "dtypes": [str(weight.dtype) for weight in loaded.layers[0].weights],
    "names": [weight.name for weight in loaded.layers[0].weights],
    "values": np.asarray(values).tolist(),
    "scales": np.asarray(scales),
}
