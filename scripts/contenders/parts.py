"""What a step costs by the number of arrays in the model, and layers against the same computation in plain JAX."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import kerax
from kerax import layers as L


def leaves(counts=(10, 100, 1000), num_steps: int = 200, rounds: int = 5) -> str:
    """A table of microseconds per step: `fit`, `fit` with a callback at each batch, and a hand-written loop."""
    lines = ["| arrays in the model | kerax fit | with a batch callback | hand-written loop |", "|---|---|---|---|"]
    for count in counts:
        runs = _leaf_runs(count, num_steps)
        best = _interleaved(runs, rounds)
        lines.append(f"| {count} | " + " | ".join(f"{1e6 * seconds / num_steps:.0f}" for seconds in best) + " |")
    return "\n".join(lines)


class Scales(L.Layer):
    """Many weights of one number each."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def build(self, input_shape):
        self.scales = [self.add_weight(shape=(), initializer="ones", name=f"scale_{i}") for i in range(self.count)]

    def call(self, inputs):
        return inputs * jnp.mean(jnp.stack([scale.value for scale in self.scales]))


def _leaf_runs(count: int, num_steps: int) -> list:
    x, y = np.ones((num_steps, 4), np.float32), np.zeros((num_steps, 4), np.float32)
    nested = [Scales(10) for _ in range(count // 10)]
    model = kerax.Sequential([kerax.Input((4,)), *nested])
    model.compile(kerax.optimizers.SGD(1e-6), "mse")

    class Watch(kerax.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            pass

    optimizer = optax.sgd(1e-6)
    params = {f"block_{i}": {f"scale_{j}": jnp.ones(()) for j in range(10)} for i in range(count // 10)}
    state = [(params, optimizer.init(params), jnp.zeros(()))]

    def step(state, x, y):
        params, slots, total = state

        def loss_fn(params):
            h = x
            for block in params.values():
                h = h * jnp.mean(jnp.stack(list(block.values())))
            return jnp.mean((h - y) ** 2)

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, slots = optimizer.update(grads, slots)
        return optax.apply_updates(params, updates), slots, total + loss

    jitted = jax.jit(step, donate_argnums=0)

    def loop():
        current = state[0]
        for index in range(num_steps):
            current = jitted(current, x[index : index + 1], y[index : index + 1])
        float(current[2])
        state[0] = current

    return [
        lambda: model.fit(x, y, batch_size=1, verbose=0),
        lambda: model.fit(x, y, batch_size=1, verbose=0, callbacks=[Watch()]),
        loop,
    ]


def _interleaved(runs: list, rounds: int, clock=time.perf_counter) -> list[float]:
    best = [float("inf")] * len(runs)
    for turn in range(rounds + 2):  # the first two compile, and find the pace
        for index, run in enumerate(runs):
            start = clock()
            run()
            if turn > 1:
                best[index] = min(best[index], clock() - start)
    return best


def layers(rounds: int = 15) -> str:
    """A table of kerax's time over that of the same computation written in JAX, forward and both gradients."""
    lines = ["| layer | input | kerax / plain JAX, wall | CPU |", "|---|---|---|---|"]
    for name, layer, x, plain in _layer_cases():
        variables = layer.init(0, x)
        params = jax.tree.leaves(variables["params"])
        state = variables["state"]

        def ours(params, x, layer=layer, state=state):
            return layer.apply({"params": params, "state": state}, x, training=True)[0]

        runs = [_run(ours, variables["params"], x), _run(plain, params, x)]
        walls, cpus = _interleaved(runs, rounds), _interleaved(runs, rounds, time.process_time)
        lines.append(f"| {name} | {x.shape} | {walls[0] / walls[1]:.2f} | {cpus[0] / cpus[1]:.2f} |")
    return "\n".join(lines)


def _run(function, params, x):
    """What computes the gradients of a sum of squares by the weights, and by the input if it is floating."""
    wanted = (0, 1) if jnp.issubdtype(x.dtype, jnp.floating) else 0
    gradient = jax.jit(jax.grad(lambda params, x: jnp.sum(function(params, x) ** 2), wanted))
    return lambda: jax.block_until_ready(gradient(params, x))


def _layer_cases():
    draw = np.random.default_rng(0)

    def floats(*shape):
        return jnp.asarray(draw.standard_normal(shape, dtype=np.float32))

    def convolution(weights, x):
        bias, kernel = weights
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias

    def lstm(weights, x):
        bias, kernel, recurrent = weights

        def step(carry, x):
            i, f, g, o = jnp.split(x @ kernel + carry[0] @ recurrent + bias, 4, axis=-1)
            c = jax.nn.sigmoid(f) * carry[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zeros = jnp.zeros((x.shape[0], recurrent.shape[0]))
        return lax.scan(step, (zeros, zeros), x.swapaxes(0, 1))[0][0]

    def gru(weights, x):
        (input_bias, bias), kernel, recurrent = weights[0], *weights[1:]

        def step(h, x):
            xz, xr, xh = jnp.split(x @ kernel + input_bias, 3, axis=-1)
            hz, hr, hh = jnp.split(h @ recurrent + bias, 3, axis=-1)
            z = jax.nn.sigmoid(xz + hz)
            return z * h + (1 - z) * jnp.tanh(xh + jax.nn.sigmoid(xr + hr) * hh), None

        return lax.scan(step, jnp.zeros((x.shape[0], recurrent.shape[0])), x.swapaxes(0, 1))[0]

    def attention(weights, x):
        bk, wk, bo, wo, bq, wq, bv, wv = weights
        q, k, v = (jnp.einsum("btd,dhs->bths", x, w) + b for w, b in ((wq, bq), (wk, bk), (wv, bv)))
        return jnp.einsum("bths,hsd->btd", jax.nn.dot_product_attention(q, k, v), wo) + bo

    def normalization(weights, x):
        beta, gamma = weights
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) * lax.rsqrt(variance + 1e-3) * gamma + beta

    yield "Conv2D", L.Conv2D(32, 3, padding="same"), floats(32, 28, 28, 16), convolution
    yield "LSTM", L.LSTM(64), floats(64, 64, 32), lstm
    yield "GRU", L.GRU(64), floats(64, 64, 32), gru
    x = floats(16, 128, 128)
    attend = L.MultiHeadAttention(4, 32)

    class SelfAttention(L.Layer):
        def __init__(self):
            super().__init__()
            self.attend = attend

        def call(self, inputs):
            return self.attend(inputs, inputs)

    yield "MultiHeadAttention", SelfAttention(), x, attention
    yield "BatchNormalization", L.BatchNormalization(), floats(64, 28, 28, 32), normalization
    einsum = L.EinsumDense("abc,cd->abd", output_shape=(None, 256), bias_axes="d")
    yield "EinsumDense", einsum, x, lambda weights, x: jnp.einsum("abc,cd->abd", x, weights[1]) + weights[0]
    tokens = jnp.asarray(draw.integers(0, 5000, (64, 128)))
    yield "Embedding", L.Embedding(5000, 64), tokens, lambda weights, x: weights[0][x]
