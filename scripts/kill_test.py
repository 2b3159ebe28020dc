"""Trains, is killed again and again at random moments, is started again each time, and compares the end to the bit.

    python scripts/kill_test.py --kills 50

The run is an MLP with dropout and batch normalization on the bundled digits, with early stopping, a learning rate that
falls on plateaus and a CSV log, saved every few batches. SIGKILL comes while it computes, saves, validates or deletes.
After each kill every step in the folder must be readable, and the next life must begin at the latest.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np


def train(folder: str, result: str, epochs: int, pause: float):
    """One life: goes on from what is in `folder`, and writes weights, optimizer state and history to `result`."""
    import jax

    import kerax
    from kerax import callbacks, layers

    class Slow(callbacks.Callback):
        """Makes room for kills between two batches."""

        def on_train_begin(self, logs=None):
            print(f"BEGIN {kerax.checkpoint.latest_step(folder)}", flush=True)

        def on_train_batch_end(self, batch, logs=None):
            time.sleep(pause)

    kerax.utils.set_random_seed(0)
    (x, y), (x_val, y_val) = kerax.datasets.digits.load_data()
    model = kerax.Sequential(
        [
            kerax.Input((64,)),
            layers.Dense(32, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(10),
        ]
    )
    loss = kerax.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(kerax.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    history = model.fit(
        x.reshape(-1, 64) / 16.0,
        y,
        epochs=epochs,
        verbose=0,
        validation_data=(x_val.reshape(-1, 64) / 16.0, y_val),
        callbacks=[
            Slow(),
            callbacks.ReduceLROnPlateau("val_loss", patience=1),
            callbacks.EarlyStopping("val_loss", patience=epochs, restore_best_weights=True),
            callbacks.CSVLogger(result + ".csv"),
            callbacks.BackupAndRestore(folder, save_freq=7, double_checkpoint=True, delete_checkpoint=False),
        ],
    )
    leaves = {str(index): np.asarray(leaf) for index, leaf in enumerate(jax.tree.leaves(model.get_state_tree()))}
    np.savez(result + ".npz", **leaves)
    with open(result + ".json", "w") as file:
        json.dump({"history": history.history, "epoch": history.epoch}, file)


def start(folder: str, result: str, arguments) -> subprocess.Popen:
    command = [sys.executable, __file__, "--folder", folder, "--result", result]
    command += ["--epochs", str(arguments.epochs), "--pause", str(arguments.pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def same(first: str, second: str) -> bool:
    """Whether two results are the same to the bit."""
    with np.load(first + ".npz") as a, np.load(second + ".npz") as b:
        arrays = a.files == b.files and all(a[name].tobytes() == b[name].tobytes() for name in a.files)
    texts = [[open(result + ending).read() for ending in (".json", ".csv")] for result in (first, second)]
    return arrays and texts[0] == texts[1]


def main(arguments):
    import kerax

    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as place:
        whole, killed = os.path.join(place, "whole"), os.path.join(place, "killed")
        start(os.path.join(place, "undisturbed"), whole, arguments).communicate()
        folder, kills, lives, unreadable, stale = os.path.join(place, "folder"), 0, 0, 0, 0
        while not os.path.exists(killed + ".json"):
            expected = kerax.checkpoint.latest_step(folder)
            process, lives = start(folder, killed, arguments), lives + 1
            began = process.stdout.readline().split()
            stale += bool(began) and began[-1] != str(expected)
            if kills < arguments.kills:
                time.sleep(draw.uniform(0, arguments.life))
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
            process.communicate()
            for step in kerax.checkpoint.all_steps(folder):
                try:
                    kerax.checkpoint.restore_arrays(folder, step)
                except ValueError as error:
                    unreadable += 1
                    print(error)
        is_same = same(whole, killed)
    print(
        f"{kills} kills in {lives} lives; unreadable checkpoints {unreadable}; restarts not at the latest step {stale}"
    )
    print(f"weights, optimizer state, history and log as without kills: {is_same}")
    return 0 if is_same and not unreadable and not stale else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="number of kills")
    parser.add_argument("--life", type=float, default=1.0, help="most seconds of training between two kills")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--pause", type=float, default=0.004, help="seconds to sleep after each batch")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--result", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder is not None:
        train(given.folder, given.result, given.epochs, given.pause)
    else:
        sys.exit(main(given))
