"""`kerax benchmark`: what a training step costs on this machine, beside the same step written by hand in JAX."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

import kerax
from kerax.cli.config import ConfigError, program_name
from kerax.utils import set_random_seed

_DESCRIPTION = """Trains a small classifier with kerax's `fit`, and with two loops written by hand in JAX: `loop`, a
jitted step that is given one batch after the other from the host, and `scan`, all steps in one program with the data on
the device. All see the same batches, use Adam, and compute loss and accuracy at every step. They take turns, so that
whatever else the machine does falls on all alike. scripts/benchmark.py of the repository compares more models and
libraries."""


def benchmark(arguments: Sequence[str]):
    """Times training steps and prints a table. Raises `ConfigError` for numbers out of range."""
    parser = argparse.ArgumentParser(program_name(), description=_DESCRIPTION)
    parser.add_argument("--widths", type=int, nargs="+", default=[784, 128, 10], help="of the input and the layers")
    parser.add_argument("--batch_size", type=int, default=32, help="rows per step, default 32")
    parser.add_argument("--steps", type=int, default=500, help="steps per round, default 500")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args(arguments)
    if min(*given.widths, given.batch_size, given.steps, given.rounds) < 1 or len(given.widths) < 2:
        raise ConfigError("expected at least two widths, and numbers of at least 1.")
    found = compare(given.widths, given.batch_size, given.steps, given.rounds)
    if given.json:
        print(json.dumps(found))
        return
    device = jax.devices()[0]
    print(f"MLP {'-'.join(map(str, given.widths))}, batches of {given.batch_size}, {device.device_kind}")
    print(f"{'':<8}{'us per step':>12}{'of loop':>9}{'loss':>9}")
    for name, numbers in found.items():
        print(f"{name:<8}{numbers['us_per_step']:>12.1f}{numbers['ratio']:>9.2f}{numbers['loss']:>9.4f}")
    print(_explained(found["kerax"]["ratio"], found["scan"]["ratio"]))


def _explained(kerax_ratio: float, scan_ratio: float) -> str:
    """What the table says, in words."""
    least = "the least that this machine needs for the arithmetic; what a loop takes beyond it are calls and copies"
    lines = [
        f"loop: a jitted step, called with each batch. scan: {scan_ratio:.2f} of its time, {least}.",
        f"kerax: `fit` takes {kerax_ratio:.2f} of the loop's time. "
        + ("That is as fast as it gets here. " if kerax_ratio <= 1.15 * scan_ratio else "")
        + "Equal losses show that all computed the same.",
    ]
    return "\n".join(lines)


def compare(widths: Sequence[int], batch_size: int, steps: int, rounds: int) -> dict[str, dict[str, float]]:
    """`{name: {"us_per_step", "ratio", "loss"}}`: medians over the rounds, the ratio to `loop` of the same round, and
    the loss of the last round's steps."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, widths[-1], steps * batch_size).astype(np.int32)
    centres = draw.standard_normal((widths[-1], widths[0]), dtype=np.float32)
    rows = 0.3 * centres[labels] + draw.standard_normal((len(labels), widths[0]), dtype=np.float32)
    model = _build_model(widths)
    weights = [jnp.asarray(weight) for weight in model.get_weights()]
    contenders = {
        "loop": _loop(weights, rows, labels, batch_size),
        "scan": _scan(weights, rows, labels, batch_size),
        "kerax": lambda: model.fit(rows, labels, batch_size=batch_size, shuffle=False, verbose=0).history["loss"][0],
    }
    for run in contenders.values():
        run()  # compiles, and all take the first steps, so that losses stay comparable
    times: dict[str, list[float]] = {name: [] for name in contenders}
    losses = {}
    for _ in range(rounds):
        for name, run in contenders.items():
            began = time.perf_counter()
            losses[name] = float(run())  # a number on the host: the time includes what was still computed
            times[name].append(time.perf_counter() - began)
    return {
        name: {
            "us_per_step": 1e6 * statistics.median(spent) / steps,
            # Of rounds that ran one after the other: a median of ratios, not a ratio of medians.
            "ratio": statistics.median(own / other for own, other in zip(spent, times["loop"], strict=True)),
            "loss": losses[name],
        }
        for name, spent in times.items()
    }


def _build_model(widths: Sequence[int]) -> kerax.Model:
    set_random_seed(0)
    hidden = [kerax.layers.Dense(width, activation="relu") for width in widths[1:-1]]
    model = kerax.Sequential([kerax.Input((widths[0],)), *hidden, kerax.layers.Dense(widths[-1])])
    loss = kerax.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(kerax.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return model


# kerax's default, which is Keras's; optax's own is 1e-8.
_optimizer = optax.adam(1e-3, eps=1e-7)


def _step(weights, slots, x, y):
    """One step as one writes it by hand: new weights and slots, the batch's loss and accuracy."""

    def loss_of(weights):
        outputs = x
        for index in range(0, len(weights) - 2, 2):
            outputs = jax.nn.relu(outputs @ weights[index] + weights[index + 1])
        logits = outputs @ weights[-2] + weights[-1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), logits

    (loss, logits), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights)
    updates, slots = _optimizer.update(gradients, slots)
    return optax.apply_updates(weights, updates), slots, loss, jnp.mean(jnp.argmax(logits, -1) == y)


def _loop(weights: list, rows: np.ndarray, labels: np.ndarray, batch_size: int) -> Callable[[], float]:
    step = jax.jit(_step)
    held = [weights, _optimizer.init(weights)]

    def run():
        losses = []
        for start in range(0, len(rows), batch_size):
            # From the host each time, as a loop without a feed does it.
            batch = rows[start : start + batch_size], labels[start : start + batch_size]
            held[0], held[1], loss, accuracy = step(*held, *batch)
            losses.append((loss, accuracy))  # not read here: that would wait for every step
        return float(np.mean([float(loss) for loss, _ in losses]))

    return run


def _scan(weights: list, rows: np.ndarray, labels: np.ndarray, batch_size: int) -> Callable[[], float]:
    x, y = jnp.asarray(rows).reshape(-1, batch_size, rows.shape[1]), jnp.asarray(labels).reshape(-1, batch_size)

    @jax.jit
    def epoch(weights, slots):
        def body(carry, batch):
            weights, slots, loss, accuracy = _step(*carry, *batch)
            return (weights, slots), (loss, accuracy)

        (weights, slots), (losses, _) = jax.lax.scan(body, (weights, slots), (x, y))
        return weights, slots, losses.mean()

    held = [weights, _optimizer.init(weights)]

    def run():
        held[0], held[1], loss = epoch(*held)
        return float(loss)

    return run
