"""Tickets with a title, a text and tags in; a priority and a department out: dicts of losses, weights and targets."""

import keras
import numpy as np
from keras import layers

from tests.ported.start import start

numbers = np.random.default_rng(8)
num_tickets = 96
data = {
    "title": numbers.integers(0, 20, (num_tickets, 5)),
    "body": numbers.integers(0, 20, (num_tickets, 9)),
    "tags": numbers.integers(0, 2, (num_tickets, 4)).astype("float32"),
}
targets = {
    "priority": numbers.random((num_tickets, 1)).astype("float32"),
    "department": np.eye(3, dtype="float32")[numbers.integers(0, 3, num_tickets)],
}

title = keras.Input(shape=(None,), name="title")
body = keras.Input(shape=(None,), name="body")
tags = keras.Input(shape=(4,), name="tags")
title_features = layers.GlobalMaxPooling1D()(layers.Embedding(20, 6)(title))
body_features = layers.GlobalAveragePooling1D()(layers.Embedding(20, 6)(body))
features = layers.concatenate([title_features, body_features, tags])
features = layers.PReLU()(layers.Dense(8)(features))
priority = layers.Dense(1, name="priority", activation="sigmoid")(features)
department = layers.Dense(3, name="department")(features)
model = keras.Model(
    inputs={"title": title, "body": body, "tags": tags},
    outputs={"priority": priority, "department": department},
)
start(model)

model.compile(
    optimizer=keras.optimizers.RMSprop(5e-3, momentum=0.5),
    loss={
        "priority": keras.losses.LogCosh(),
        "department": keras.losses.CategoricalCrossentropy(from_logits=True),
    },
    loss_weights={"priority": 1.0, "department": 0.2},
    metrics={"priority": ["mae", "mse"], "department": ["accuracy", keras.metrics.TopKCategoricalAccuracy(k=2)]},
)
history = model.fit(data, targets, epochs=2, batch_size=32, shuffle=False, verbose=0)
sample_weight = {"priority": np.linspace(0, 1, num_tickets), "department": np.linspace(1, 0, num_tickets)}
weighted = model.evaluate(data, targets, sample_weight=sample_weight, verbose=0, return_dict=True)

lists = keras.Model([title, body, tags], [priority, department])
lists.compile("sgd", loss=["mse", keras.losses.CategoricalFocalCrossentropy(from_logits=True)], loss_weights=[2.0, 1.0])
parts = lists.evaluate(list(data.values()), list(targets.values()), verbose=0)

results = {
    "history": history.history,
    "weighted": weighted,
    "parts": parts,
    "predictions": model.predict(data, verbose=0),
    "names": [lists.output_names, sorted(model.output_names)],
}
