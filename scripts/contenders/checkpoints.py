"""What saving costs the loop that trains: kerax's checkpoints, plain orbax, Keras's files, a copy of the state."""

import importlib.util
import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np


def timed(function) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def make(module, width: int, depth: int):
    """A trained model: `depth` layers of `width` times `width` weights, with Adam's two slots for each."""
    layers = [module.layers.Dense(width) for _ in range(depth)]
    model = module.Sequential([module.Input((width,)), *layers])
    model.compile("adam", "mse")
    model.fit(np.zeros((2, width), "float32"), np.zeros((2, width), "float32"), verbose=0)
    return model


def measure(width: int, depth: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds for which each way of saving holds the caller up, and until the file is complete: medians of rounds."""
    import orbax.checkpoint as ocp

    import kerax

    model = make(kerax, width, depth)
    state = [jnp.copy(leaf) for leaf in jax.tree.leaves(model.get_state_tree())]
    keras_model = None
    if importlib.util.find_spec("keras"):
        import keras

        keras_model = make(keras, width, depth)
    found: dict[str, list[tuple[float, float]]] = {}

    def note(name: str, blocking: float, total: float):
        found.setdefault(name, []).append((blocking, total))

    with tempfile.TemporaryDirectory() as folder, kerax.checkpoint.Checkpointer(Path(folder, "kerax")) as saver:
        plain = ocp.CheckpointManager(Path(folder, "orbax"), options=ocp.CheckpointManagerOptions(max_to_keep=1))

        class Save(kerax.callbacks.Callback):
            """Saves after each batch, while training owns the arrays."""

            def on_train_batch_end(self, batch, logs=None):
                logs["loss"]  # the step is done
                copying = timed(lambda: jax.block_until_ready([jnp.copy(leaf) for leaf in state]))
                note("copy on the device", copying, copying)
                begun = time.perf_counter()
                saver.save(model)
                blocking = time.perf_counter() - begun
                saver.wait()
                note("kerax checkpoint", blocking, time.perf_counter() - begun)
                begun = time.perf_counter()
                plain.save(batch, args=ocp.args.StandardSave({str(i): leaf for i, leaf in enumerate(state)}))
                blocking = time.perf_counter() - begun
                plain.wait_until_finished()
                note("orbax CheckpointManager", blocking, time.perf_counter() - begun)
                for name, saved in (("kerax .keras", model), ("Keras .keras", keras_model)):
                    if saved is not None:
                        seconds = timed(lambda saved=saved: saved.save(str(Path(folder, "m.keras")), overwrite=True))
                        note(name, seconds, seconds)

        data = np.zeros((rounds + 1, width), "float32")  # the first round is thrown away
        model.fit(data, data, batch_size=1, verbose=0, callbacks=[Save()])
        plain.close()
    return {name: tuple(map(statistics.median, zip(*values[1:], strict=True))) for name, values in found.items()}


def table(rounds: int) -> str:
    """Two sizes of model, in ms, with the ratio of the time blocked to a copy of the state."""
    lines = []
    for name, width, depth in (("0.3 MB", 64, 6), ("200 MB", 2048, 4)):
        rows = measure(width, depth, rounds)
        copy = rows["copy on the device"][0]
        lines += [
            f"\n{name} of state, medians of {rounds}",
            "| | blocks, ms | x copy | complete, ms |",
            "|---|---|---|---|",
        ]
        lines += [f"| {n} | {b * 1e3:.1f} | {b / copy:.2f} | {t * 1e3:.0f} |" for n, (b, t) in rows.items()]
    return "\n".join(lines)
