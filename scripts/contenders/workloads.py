"""The workloads: data, initial weights and sizes, in NumPy, the same for all contenders."""

import numpy as np

LEARNING_RATE, EPSILON = 1e-3, 1e-7
SIZES = {
    "tiny": dict(model="mlp", features=8, hidden=8, num_steps=1000, batch=32),  # nothing but overhead
    "mlp": dict(model="mlp", features=784, hidden=128, num_steps=600, batch=32),
    "cnn": dict(model="cnn", num_steps=30, batch=128),
    "lstm": dict(model="lstm", length=64, features=16, hidden=64, num_steps=40, batch=64),
    "gpt": dict(model="gpt", length=128, width=128, num_layers=4, num_heads=4, vocabulary=65, num_steps=8, batch=16),
    "predict": dict(model="mlp", features=784, hidden=128, num_steps=600, batch=32, task="predict"),
    "evaluate": dict(model="mlp", features=784, hidden=128, num_steps=600, batch=32, task="evaluate"),
}


class Workload:
    """A model's sizes as attributes, with `x`, `y` and the initial `weights` in the order of Keras's `get_weights`.

    Args:
        name: One of `SIZES`.
        num_steps: Number of steps in place of the workload's own.
    """

    def __init__(self, name: str, num_steps: int | None = None):
        self.name, self.task, self.classes = name, "fit", 10
        vars(self).update(SIZES[name])
        self.num_steps = num_steps or self.num_steps
        draw = np.random.default_rng(0)
        rows = self.num_steps * self.batch
        self.y = draw.integers(0, self.classes, rows).astype(np.int32)
        if self.model == "gpt":
            self.x = draw.integers(0, self.vocabulary, (rows, self.length)).astype(np.int32)
            self.y = np.roll(self.x, -1, axis=1)
        else:
            shape = {"mlp": lambda: (self.features,), "cnn": lambda: (28, 28, 1), "lstm": self._series}[self.model]()
            centres = draw.standard_normal((self.classes, *shape), dtype=np.float32)
            self.x = 0.3 * centres[self.y] + draw.standard_normal((rows, *shape), dtype=np.float32)
        self._draw = np.random.default_rng(1)
        self.weights = getattr(self, f"_{self.model}")()

    def order(self) -> np.ndarray:
        """Row numbers of a shuffled pass, `(steps, batch)`."""
        return self._draw.permutation(len(self.x)).astype(np.int32).reshape(self.num_steps, self.batch)

    def _series(self):
        return self.length, self.features

    def _kernel(self, *shape, fans=None) -> np.ndarray:
        fan_in, fan_out = fans or (np.prod(shape[:-1]), shape[-1])
        limit = np.sqrt(6.0 / (fan_in + fan_out))
        return self._draw.uniform(-limit, limit, shape).astype(np.float32)

    def _dense(self, fan_in: int, fan_out: int) -> list[np.ndarray]:
        return [self._kernel(fan_in, fan_out), np.zeros(fan_out, np.float32)]

    def _mlp(self) -> list[np.ndarray]:
        return self._dense(self.features, self.hidden) + self._dense(self.hidden, self.classes)

    def _cnn(self) -> list[np.ndarray]:
        first = [self._kernel(3, 3, 1, 32), np.zeros(32, np.float32)]
        second = [self._kernel(3, 3, 32, 64), np.zeros(64, np.float32)]
        return first + second + self._dense(1600, 128) + self._dense(128, self.classes)

    def _lstm(self) -> list[np.ndarray]:
        bias = np.zeros(4 * self.hidden, np.float32)
        bias[self.hidden : 2 * self.hidden] = 1.0  # of the forget gate
        kernels = [self._kernel(size, 4 * self.hidden) for size in (self.features, self.hidden)]
        return [*kernels, bias, *self._dense(self.hidden, self.classes)]

    def _gpt(self) -> list[np.ndarray]:
        width, heads = self.width, self.num_heads
        size = width // heads

        def small(*shape):
            return (0.02 * self._draw.standard_normal(shape)).astype(np.float32)

        norm = [np.ones(width, np.float32), np.zeros(width, np.float32)]
        weights = [small(self.vocabulary, width), small(self.length, width)]
        for _ in range(self.num_layers):
            projections = [part for _ in range(3) for part in (small(width, heads, size), small(heads, size) * 0)]
            attention = [*projections, small(heads, size, width), np.zeros(width, np.float32)]
            feed_forward = [small(width, 4 * width), small(4 * width) * 0, small(4 * width, width), small(width) * 0]
            weights += [*norm, *attention, *norm, *feed_forward]
        return [*weights, *norm, small(width, self.vocabulary), np.zeros(self.vocabulary, np.float32)]
