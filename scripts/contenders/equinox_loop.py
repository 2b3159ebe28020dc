"""Equinox, as its examples write it: modules for one sample, `vmap` over the batch."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.random import split


class LSTM(eqx.Module):
    """The last output of an LSTM, and a dense layer."""

    cell: eqx.nn.LSTMCell
    out: eqx.nn.Linear

    def __call__(self, x):
        zeros = jnp.zeros(self.cell.hidden_size)
        (h, _), _ = lax.scan(lambda carry, row: (self.cell(row, carry), None), (zeros, zeros), x)
        return self.out(h)


class CNN(eqx.Module):
    """Two convolutions with pooling, two dense layers."""

    parts: list

    def __call__(self, x):
        first, second, pool, hidden, out = self.parts
        x = x.transpose(2, 0, 1)
        for convolution in (first, second):
            x = pool(jax.nn.relu(convolution(x)))
        return out(jax.nn.relu(hidden(x.reshape(-1))))


class Block(eqx.Module):
    """A transformer block."""

    norms: list
    attention: eqx.nn.MultiheadAttention
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __call__(self, h):
        first, second = (jax.vmap(norm) for norm in self.norms)
        a = first(h)
        h = h + self.attention(a, a, a, mask=jnp.tril(jnp.ones((len(h), len(h)), bool)))
        a = jax.nn.gelu(jax.vmap(self.up)(second(h)), approximate=False)
        return h + jax.vmap(self.down)(a)


class GPT(eqx.Module):
    """A small causal transformer."""

    tokens: eqx.nn.Embedding
    positions: jax.Array
    blocks: list
    norm: eqx.nn.LayerNorm
    out: eqx.nn.Linear

    def __call__(self, x):
        h = jax.vmap(self.tokens)(x) + self.positions
        for block in self.blocks:
            h = block(h)
        return jax.vmap(self.out)(jax.vmap(self.norm)(h))


def make_model(work):
    """The workload's model."""
    keys = iter(split(jax.random.key(0), 64))
    nn = eqx.nn
    if work.model == "mlp":
        return nn.MLP(work.features, work.classes, work.hidden, 1, key=next(keys))
    if work.model == "cnn":
        convolutions = [nn.Conv2d(1, 32, 3, key=next(keys)), nn.Conv2d(32, 64, 3, key=next(keys)), nn.MaxPool2d(2, 2)]
        return CNN([*convolutions, nn.Linear(1600, 128, key=next(keys)), nn.Linear(128, work.classes, key=next(keys))])
    if work.model == "lstm":
        cell = nn.LSTMCell(work.features, work.hidden, key=next(keys))
        return LSTM(cell, nn.Linear(work.hidden, work.classes, key=next(keys)))
    width = work.width

    def block():
        norms = [nn.LayerNorm(width), nn.LayerNorm(width)]
        biases = dict(use_query_bias=True, use_key_bias=True, use_value_bias=True, use_output_bias=True)
        attention = nn.MultiheadAttention(work.num_heads, width, **biases, key=next(keys))
        up, down = nn.Linear(width, 4 * width, key=next(keys)), nn.Linear(4 * width, width, key=next(keys))
        return Block(norms, attention, up, down)

    tokens = nn.Embedding(work.vocabulary, width, key=next(keys))
    positions = 0.02 * jax.random.normal(next(keys), (work.length, width))
    blocks = [block() for _ in range(work.num_layers)]
    return GPT(tokens, positions, blocks, nn.LayerNorm(width), nn.Linear(width, work.vocabulary, key=next(keys)))


def build(work, contender: str):
    """A function that does one epoch, evaluation or prediction and returns its loss."""
    from contenders.workloads import EPSILON, LEARNING_RATE

    model = make_model(work)
    batches = [slice(at, at + work.batch) for at in range(0, len(work.x), work.batch)]

    def loss_fn(model, x, y):
        logits = jax.vmap(model)(x)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        return loss, (logits.argmax(-1) == y).mean()

    if work.task == "predict":
        predict = eqx.filter_jit(lambda model, x: jax.nn.softmax(jax.vmap(model)(x)))
        return lambda: float(np.concatenate([predict(model, work.x[rows]) for rows in batches])[:, 0].mean())
    if work.task == "evaluate":
        evaluate = eqx.filter_jit(loss_fn)
        return lambda: float(np.mean([evaluate(model, work.x[rows], work.y[rows])[0] for rows in batches]))
    optimizer = optax.adam(LEARNING_RATE, eps=EPSILON)
    state = [model, optimizer.init(eqx.filter(model, eqx.is_inexact_array))]

    @eqx.filter_jit(donate="all-except-first")
    def step(data, model, slots, total):
        (loss, accuracy), grads = eqx.filter_value_and_grad(loss_fn, has_aux=True)(model, *data)
        updates, slots = optimizer.update(grads, slots)
        return eqx.apply_updates(model, updates), slots, (total[0] + loss, total[1] + accuracy)

    def run():
        total = jnp.zeros(()), jnp.zeros(())
        for rows in work.order():
            *state[:], total = step((work.x[rows], work.y[rows]), *state, total)
        return float(total[0]) / work.num_steps

    return run
