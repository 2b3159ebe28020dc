"""Hand-written JAX: `jax` is a jitted step in a Python loop, `jax_fused` has the data on the device and one scan."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax


def mlp(work, weights, x):
    """Two dense layers."""
    w1, b1, w2, b2 = weights
    return jax.nn.relu(x @ w1 + b1) @ w2 + b2


def cnn(work, weights, x):
    """Two convolutions with pooling, two dense layers."""
    for kernel, bias in (weights[0:2], weights[2:4]):
        x = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = lax.reduce_window(jax.nn.relu(x + bias), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return mlp(work, weights[4:], x.reshape(len(x), -1))


def lstm(work, weights, x):
    """The last output of an LSTM, and a dense layer."""
    kernel, recurrent, bias, w, b = weights

    def step(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(x @ kernel + h @ recurrent + bias, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), None

    zeros = jnp.zeros((x.shape[0], work.hidden))
    (h, _), _ = lax.scan(step, (zeros, zeros), x.swapaxes(0, 1))
    return h @ w + b


def gpt(work, weights, x):
    """A small causal transformer."""
    take = iter(weights)

    def norm(h):
        scale, shift = next(take), next(take)
        mean = h.mean(-1, keepdims=True)
        return (h - mean) * lax.rsqrt(h.var(-1, keepdims=True) + 1e-5) * scale + shift

    h = next(take)[x] + next(take)
    for _ in range(work.num_layers):
        a = norm(h)
        q, k, v = (jnp.einsum("btd,dhs->bths", a, next(take)) + next(take) for _ in range(3))
        attended = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        h = h + jnp.einsum("bths,hsd->btd", attended, next(take)) + next(take)
        a = jax.nn.gelu(norm(h) @ next(take) + next(take), approximate=False)
        h = h + a @ next(take) + next(take)
    return norm(h) @ next(take) + next(take)


MODELS = {"mlp": mlp, "cnn": cnn, "lstm": lstm, "gpt": gpt}


def build(work, contender: str):
    """A function that does one epoch, evaluation or prediction and returns its loss."""
    from contenders.workloads import EPSILON, LEARNING_RATE

    def forward(weights, x):
        return MODELS[work.model](work, weights, x)

    def loss_and_accuracy(weights, x, y):
        logits = forward(weights, x)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        return loss, (logits.argmax(-1) == y).mean()

    optimizer = optax.adam(LEARNING_RATE, eps=EPSILON)

    def step(state, x, y):
        weights, slots, total, hits = state
        (loss, accuracy), grads = jax.value_and_grad(loss_and_accuracy, has_aux=True)(weights, x, y)
        updates, slots = optimizer.update(grads, slots)
        return optax.apply_updates(weights, updates), slots, total + loss, hits + accuracy

    weights = [jnp.asarray(array) for array in work.weights]
    zero = jnp.zeros(())
    batches = [slice(at, at + work.batch) for at in range(0, len(work.x), work.batch)]
    if work.task == "predict":
        predict = jax.jit(lambda weights, x: jax.nn.softmax(forward(weights, x)))
        on_device = jnp.asarray(work.x)
        if contender == "jax_fused":
            return lambda: float(np.asarray(predict(weights, on_device))[:, 0].mean())
        return lambda: float(np.concatenate([predict(weights, work.x[rows]) for rows in batches])[:, 0].mean())
    if work.task == "evaluate":
        evaluate = jax.jit(loss_and_accuracy)
        data = jnp.asarray(work.x), jnp.asarray(work.y)
        if contender == "jax_fused":
            return lambda: float(evaluate(weights, *data)[0])
        return lambda: float(np.mean([evaluate(weights, work.x[rows], work.y[rows])[0] for rows in batches]))
    state = [(weights, optimizer.init(weights), zero, zero)]
    if contender == "jax_fused":
        data = jnp.asarray(work.x), jnp.asarray(work.y)

        def epoch(state, x, y, order):
            return lax.scan(lambda state, rows: (step(state, x[rows], y[rows]), None), state, order)[0]

        fused = jax.jit(epoch, donate_argnums=0)

        def run():
            state[0] = fused((*state[0][:2], zero + 0, zero + 0), *data, work.order())
            return float(state[0][2]) / work.num_steps

        return run
    jitted = jax.jit(step, donate_argnums=0)

    def run_loop():
        current = (*state[0][:2], zero + 0, zero + 0)
        for number, rows in enumerate(work.order(), 1):
            current = jitted(current, work.x[rows], work.y[rows])
            if contender == "jax_reading":
                float(current[2]) / number
        state[0] = current
        return float(current[2]) / work.num_steps

    return run_loop
