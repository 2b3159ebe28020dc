"""Flax NNX, as its guides write it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


class MLP(nnx.Module):
    """Two dense layers."""

    def __init__(self, work, rngs):
        self.hidden = nnx.Linear(work.features, work.hidden, rngs=rngs)
        self.out = nnx.Linear(work.hidden, work.classes, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.hidden(x)))


class CNN(nnx.Module):
    """Two convolutions with pooling, two dense layers."""

    def __init__(self, work, rngs):
        self.first = nnx.Conv(1, 32, (3, 3), padding="VALID", rngs=rngs)
        self.second = nnx.Conv(32, 64, (3, 3), padding="VALID", rngs=rngs)
        self.hidden, self.out = nnx.Linear(1600, 128, rngs=rngs), nnx.Linear(128, work.classes, rngs=rngs)

    def __call__(self, x):
        for convolution in (self.first, self.second):
            x = nnx.max_pool(nnx.relu(convolution(x)), (2, 2), (2, 2))
        return self.out(nnx.relu(self.hidden(x.reshape(len(x), -1))))


class LSTM(nnx.Module):
    """The last output of an LSTM, and a dense layer."""

    def __init__(self, work, rngs):
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(work.features, work.hidden, rngs=rngs))
        self.out = nnx.Linear(work.hidden, work.classes, rngs=rngs)

    def __call__(self, x):
        return self.out(self.rnn(x)[:, -1])


class Block(nnx.Module):
    """A transformer block."""

    def __init__(self, work, rngs):
        width = work.width
        self.norm1, self.norm2 = nnx.LayerNorm(width, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(work.num_heads, width, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(width, 4 * width, rngs=rngs), nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, h):
        h = h + self.attention(self.norm1(h), mask=nnx.make_causal_mask(h[..., 0]))
        return h + self.down(nnx.gelu(self.up(self.norm2(h)), approximate=False))


class GPT(nnx.Module):
    """A small causal transformer."""

    def __init__(self, work, rngs):
        self.tokens = nnx.Embed(work.vocabulary, work.width, rngs=rngs)
        self.positions = nnx.Embed(work.length, work.width, rngs=rngs)
        self.blocks = nnx.List([Block(work, rngs) for _ in range(work.num_layers)])
        self.norm, self.out = nnx.LayerNorm(work.width, rngs=rngs), nnx.Linear(work.width, work.vocabulary, rngs=rngs)

    def __call__(self, x):
        h = self.tokens(x) + self.positions(jnp.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        return self.out(self.norm(h))


def build(work, contender: str):
    """A function that does one epoch, evaluation or prediction and returns its loss."""
    from contenders.workloads import EPSILON, LEARNING_RATE

    model = {"mlp": MLP, "cnn": CNN, "lstm": LSTM, "gpt": GPT}[work.model](work, nnx.Rngs(0))
    metrics = nnx.MultiMetric(accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average("loss"))
    batches = [slice(at, at + work.batch) for at in range(0, len(work.x), work.batch)]

    def loss_fn(model, x, y):
        logits = model(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), logits

    if work.task == "predict":
        predict = nnx.jit(lambda model, x: jax.nn.softmax(model(x)))
        return lambda: float(np.concatenate([predict(model, work.x[rows]) for rows in batches])[:, 0].mean())

    @nnx.jit
    def evaluate(model, metrics, x, y):
        loss, logits = loss_fn(model, x, y)
        metrics.update(loss=loss, logits=logits, labels=y)

    optimizer = nnx.Optimizer(model, optax.adam(LEARNING_RATE, eps=EPSILON), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, metrics, x, y):
        (loss, logits), grads = nnx.value_and_grad(loss_fn, has_aux=True)(model, x, y)
        metrics.update(loss=loss, logits=logits, labels=y)
        optimizer.update(model, grads)

    def run():
        metrics.reset()
        for rows in batches if work.task == "evaluate" else work.order():
            if work.task == "evaluate":
                evaluate(model, metrics, work.x[rows], work.y[rows])
            else:
                step(model, optimizer, metrics, work.x[rows], work.y[rows])
        return float(metrics.compute()["loss"])

    return run
