"""Optimizers with schedules, clipping, weight decay, moving averages of weights and accumulated gradients."""

import keras
import numpy as np
from keras import layers, optimizers

from tests.ported.start import start

numbers = np.random.default_rng(11)
x = numbers.normal(size=(64, 4)).astype("float32")
y = np.sin(x.sum(axis=1, keepdims=True)).astype("float32")

schedules = optimizers.schedules
cases = {
    "warmup": optimizers.AdamW(
        schedules.CosineDecay(0.0, decay_steps=10, warmup_target=0.02, warmup_steps=3), weight_decay=0.1
    ),
    "clipped": optimizers.SGD(
        schedules.PiecewiseConstantDecay([3, 6], [0.1, 0.05, 0.01]), momentum=0.9, global_clipnorm=0.5
    ),
    "averaged": optimizers.Adam(
        schedules.ExponentialDecay(0.05, 4, 0.9, staircase=True), use_ema=True, ema_momentum=0.8, clipvalue=0.1
    ),
    "accumulated": optimizers.Lion(1e-3, gradient_accumulation_steps=2),
}
results = {}
for name, optimizer in cases.items():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6, activation="swish"), layers.Dense(1)])
    start(model)
    if name == "warmup":
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, "mse")
    history = model.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0)
    results[name] = {
        "history": history.history,
        "weights": model.get_weights(),
        "iterations": int(optimizer.iterations),
        "learning_rate": float(optimizer.learning_rate),
        "config": sorted(optimizer.get_config()),
    }
