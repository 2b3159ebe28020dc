"""One of several processes that train together: `python worker.py NUMBER COUNT PORT FOLDER STRATEGY [KILL_AT]`.

Prints one JSON line with what came out.
"""

import json
import os
import signal
import sys

import jax

number, count, port, folder, strategy, *kill_at = sys.argv[1:]
number, count = int(number), int(count)
jax.config.update("jax_num_cpu_devices", 1)

import numpy as np  # noqa: E402

import kerax  # noqa: E402
from kerax import distribution, layers  # noqa: E402

if count > 1:
    distribution.initialize(f"localhost:{port}", count, number)


class Kill(kerax.callbacks.Callback):
    """Ends the process without notice after some batches."""

    def on_train_batch_end(self, batch, logs=None):
        if number == 1 and int(self.model.compilation.training.num_steps) == int(kill_at[0]):
            os.kill(os.getpid(), signal.SIGKILL)


def make_model():
    model = kerax.Sequential(
        [
            kerax.Input((8,)),
            layers.Dense(32, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(kerax.optimizers.Adam(epsilon=1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def weights_of(model):
    return [variable.numpy().astype(float).ravel().tolist() for variable in model.variables]


def uneven():
    """Batches of which this process has a share that is not as large as the other's."""
    for start, middle, stop in ((0, 8, 16), (16, 17, 24), (24, 32, 32)):
        mine = slice(start, stop) if count == 1 else (slice(start, middle), slice(middle, stop))[number]
        if mine.start < mine.stop:
            yield x[mine], y[mine]


def with_uneven_shares(model):
    both = slice(None) if count == 1 else slice(3 * number, 3 + 6 * number)  # 3 rows of 9, and 6
    return {
        "fit": model.fit(list(uneven()), verbose=0).history,
        "evaluate": model.evaluate(uneven(), verbose=0),
        "predict": model.predict(uneven(), verbose=0).astype(float).tolist(),
        "on a batch": float(model.train_on_batch(x[:9][both], y[:9][both])[0]),
    }


kerax.utils.set_random_seed(7)
x = np.random.default_rng(0).normal(size=(80, 8)).astype("float32")
y = (x.sum(1) > 0).astype("int32") + (x[:, 0] > 1)
active = distribution.FSDP(min_size=16) if strategy == "fsdp" else distribution.DataParallel()
with active.scope():
    model = make_model()
    watching = [
        kerax.callbacks.CSVLogger(os.path.join(folder, "log.csv")),
        kerax.callbacks.BackupAndRestore(os.path.join(folder, "run"), save_freq=3, delete_checkpoint=False),
        kerax.callbacks.ModelCheckpoint(os.path.join(folder, "best.weights.h5"), save_weights_only=True),
    ]
    if kill_at:
        watching.append(Kill())
    history = model.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=watching, validation_data=(x[:30], y[:30]))
    share = distribution.process_batch_size(16)
    rows = slice(number * share, (number + 1) * share)
    batches = ((x[i : i + 16][rows], y[i : i + 16][rows]) for i in range(0, 80, 16))
    more = model.fit(batches, verbose=0)
    kerax.checkpoint.save(os.path.join(folder, "saved"), model)
    found = {
        "history": history.history,
        "more": more.history,
        "evaluate": model.evaluate(x[:50], y[:50], verbose=0, batch_size=16),
        "predict": model.predict(x[:50], verbose=0, batch_size=16).astype(float).tolist(),
        "weights": weights_of(model),
        "held": max(
            shard.data.size / max(leaf.size, 1)
            for leaf in [model.layers[0].kernel._value]
            for shard in leaf.addressable_shards
        ),
    }
    kerax.utils.set_random_seed(8)
    fresh = make_model()
    kerax.checkpoint.restore(os.path.join(folder, "saved"), fresh)
    found["restored"] = weights_of(fresh)
    # Last, for it trains; and once, for it compiles many programs.
    found["shares"] = with_uneven_shares(model) if strategy == "data" else None
print("RESULT" + json.dumps(found), flush=True)
