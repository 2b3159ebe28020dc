"""A table with numbers and categories from pandas: preprocessing layers, one input for each column."""

import keras
import numpy as np
import pandas as pd
from keras import layers

from tests.ported.start import start

generator = np.random.default_rng(1)
num_rows = 224
jobs = ["clerk", "farmer", "nurse", "teacher"]
frame = pd.DataFrame(
    {
        "age": generator.integers(18, 80, num_rows),
        "hours": generator.normal(40, 8, num_rows),
        "job": generator.choice(jobs, num_rows),
    }
)
frame["income"] = ((frame["age"] > 40) ^ (frame["job"] == "nurse")).astype(int)
frame["job"] = frame["job"].map({job: index for index, job in enumerate(jobs)})
train, test = frame[:160], frame[160:]


def split(table):
    table = table.copy()
    target = table.pop("income")
    return {name: table[[name]].to_numpy("float32") for name in table}, target.to_numpy()


x_train, y_train = split(train)
x_test, y_test = split(test)

inputs, encoded = {}, []
for name in ["age", "hours"]:
    inputs[name] = keras.Input(shape=(1,), name=name)
    normalization = layers.Normalization(axis=-1)
    normalization.adapt(x_train[name])
    encoded.append(normalization(inputs[name]))
buckets = layers.Discretization(bin_boundaries=[30.0, 45.0, 60.0], output_mode="one_hot")
encoded.append(buckets(inputs["age"]))
inputs["job"] = keras.Input(shape=(1,), name="job")
encoded.append(layers.CategoryEncoding(num_tokens=len(jobs), output_mode="one_hot")(inputs["job"]))
x = layers.concatenate(encoded)
x = layers.Dense(16, activation="gelu")(x)
x = layers.LayerNormalization()(x)
outputs = layers.Dense(1, activation="sigmoid")(x)
model = keras.Model(inputs, outputs)
start(model)

model.compile(
    optimizer=keras.optimizers.RMSprop(1e-2),
    loss=keras.losses.BinaryCrossentropy(label_smoothing=0.05),
    metrics=[
        keras.metrics.BinaryAccuracy(),
        keras.metrics.AUC(name="auc"),
        keras.metrics.Precision(),
        keras.metrics.Recall(name="recall"),
    ],
)
history = model.fit(
    x_train, y_train, epochs=3, shuffle=False, validation_split=0.2, class_weight={0: 1.0, 1: 2.0}, verbose=0
)
results = {
    "history": history.history,
    "test": model.evaluate(x_test, y_test, return_dict=True, verbose=0),
    "row": model.predict({name: column[:1] for name, column in x_test.items()}, verbose=0),
    "encoded": model.predict(x_test, verbose=0)[:, 0],
    "buckets": np.asarray(buckets(x_test["age"][:5])),
}
