"""The training steps of `programs.py` in Flax NNX, as its guides write them, with cuDNN's attention on a GPU."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from contenders.programs_by_hand import arrays, attention

half = jnp.bfloat16


def training(make: Callable, optimizer: Any, batch: tuple) -> tuple[Callable, Any, Any]:
    """A step `(state, batch) -> (state, loss)` of a module of logits, its state's specs and those of the batch."""

    def begin():
        model = make(nnx.Rngs(0))
        return model, nnx.Optimizer(model, optimizer, wrt=nnx.Param)

    graph, state = nnx.split(nnx.eval_shape(begin))

    def loss_of(model, inputs, targets):
        logits = model(inputs).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    def step(state, batch):
        model, optimizer = nnx.merge(graph, state)
        loss, gradients = nnx.value_and_grad(loss_of)(model, *batch)
        optimizer.update(model, gradients)
        return nnx.state((model, optimizer)), loss

    return step, state, batch


class Block(nnx.Module):
    """Attention and a GELU network, each behind a normalization and added to its input."""

    def __init__(self, width, heads, is_causal, by_tanh, platform, rngs):
        attend = lambda query, key, value, **_: attention(query, key, value, is_causal, platform)
        self.by_tanh = by_tanh
        options = {"dtype": half, "rngs": rngs}
        self.norm_1, self.norm_2 = nnx.LayerNorm(width, **options), nnx.LayerNorm(width, **options)
        self.attention = nnx.MultiHeadAttention(heads, width, decode=False, attention_fn=attend, **options)
        self.expand, self.contract = nnx.Linear(width, 4 * width, **options), nnx.Linear(4 * width, width, **options)

    def __call__(self, x):
        x = x + self.attention(self.norm_1(x))
        return x + self.contract(nnx.gelu(self.expand(self.norm_2(x)), approximate=self.by_tanh))


class Transformer(nnx.Module):
    """Embedded tokens or patches, blocks and a last normalization; what comes before and after is given."""

    def __init__(self, before, after, width, heads, layers, is_causal, by_tanh, platform, rngs):
        self.before, self.after = before, after
        self.blocks = nnx.List([Block(width, heads, is_causal, by_tanh, platform, rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, dtype=half, rngs=rngs)

    def __call__(self, x):
        x = self.before(x)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.before.attend(x) if self.after is None else self.after(x)


class Tokens(nnx.Module):
    """Vectors of tokens and of their positions."""

    def __init__(self, vocabulary, length, width, rngs):
        self.table = nnx.Embed(vocabulary, width, dtype=half, rngs=rngs)
        self.positions = nnx.Embed(length, width, dtype=half, rngs=rngs) if length else None

    def __call__(self, tokens):
        x = self.table(tokens)
        return x if self.positions is None else x + self.positions(jnp.arange(tokens.shape[1]))

    def attend(self, x):
        return self.table.attend(x)


def gpt(rows: int, platform: str, vocabulary: int, length: int, width: int, heads: int, layers: int) -> tuple:
    """GPT-2."""

    def make(rngs):
        before = Tokens(vocabulary, length, width, rngs)
        return Transformer(before, None, width, heads, layers, True, True, platform, rngs)

    decays = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    adam = optax.adamw(optax.cosine_decay_schedule(6e-4, 1000), b2=0.95, weight_decay=0.1, mask=decays)
    tokens = (rows, length), "int32"
    return training(make, optax.chain(optax.clip_by_global_norm(1.0), adam), arrays(tokens, tokens))


class Patches(nnx.Module):
    """Vectors of patches of 16 x 16."""

    def __init__(self, rngs):
        self.cut = nnx.Conv(3, 768, (16, 16), strides=16, dtype=half, rngs=rngs)

    def __call__(self, images):
        x = self.cut(images)
        return x.reshape(len(x), -1, 768)


class Classes(nnx.Module):
    """Logits for the mean of all positions."""

    def __init__(self, rngs):
        self.project = nnx.Linear(768, 1000, dtype=half, rngs=rngs)

    def __call__(self, x):
        return self.project(x.mean(1))


def vit(rows: int, platform: str) -> tuple:
    """ViT-B/16."""
    make = lambda rngs: Transformer(Patches(rngs), Classes(rngs), 768, 12, 12, False, False, platform, rngs)
    batch = arrays(((rows, 224, 224, 3), "float32"), ((rows,), "int32"))
    return training(make, optax.adamw(1e-3, weight_decay=4e-3), batch)


def bert(rows: int, platform: str) -> tuple:
    """BERT-base."""

    def make(rngs):
        after = nnx.Linear(768, 30522, dtype=half, rngs=rngs)
        return Transformer(Tokens(30522, None, 768, rngs), after, 768, 12, 12, False, False, platform, rngs)

    tokens = (rows, 128), "int32"
    return training(make, optax.adamw(1e-4, weight_decay=4e-3), arrays(tokens, tokens))


class Normalized(nnx.Module):
    """A convolution and batch normalization of its outputs."""

    def __init__(self, channels, filters, size, rngs, stride=1):
        self.convolution = nnx.Conv(channels, filters, (size, size), strides=stride, dtype=half, rngs=rngs)
        self.norm = nnx.BatchNorm(filters, dtype=half, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.convolution(x))


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut."""

    def __init__(self, channels, filters, stride, is_first, rngs):
        self.shortcut = Normalized(channels, 4 * filters, 1, rngs, stride) if is_first else None
        self.first = Normalized(channels, filters, 1, rngs, stride)
        self.second, self.third = Normalized(filters, filters, 3, rngs), Normalized(filters, 4 * filters, 1, rngs)

    def __call__(self, x):
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return nnx.relu(shortcut + self.third(nnx.relu(self.second(nnx.relu(self.first(x))))))


class ResNet(nnx.Module):
    """ResNet-50, as Keras has it."""

    def __init__(self, rngs):
        self.stem, blocks, channels = Normalized(3, 64, 7, rngs, 2), [], 64
        for stage, depth in enumerate((3, 4, 6, 3)):
            for index in range(depth):
                stride = 2 if stage and not index else 1
                blocks.append(Bottleneck(channels, 64 * 2**stage, stride, not index, rngs))
                channels = 4 * 64 * 2**stage
        self.blocks, self.classes = nnx.List(blocks), nnx.Linear(channels, 1000, dtype=half, rngs=rngs)

    def __call__(self, images):
        x = nnx.relu(self.stem((images.astype(jnp.float32) - 120) / 60))
        x = nnx.max_pool(x, (3, 3), (2, 2), "SAME")
        for block in self.blocks:
            x = block(x)
        return self.classes(x.mean((1, 2)))


def resnet(rows: int, platform: str) -> tuple:
    """ResNet-50."""
    del platform
    batch = arrays(((rows, 224, 224, 3), "uint8"), ((rows,), "int32"))
    return training(ResNet, optax.sgd(0.1, momentum=0.9, nesterov=True), batch)


class UNet(nnx.Module):
    """A U-Net with batch normalization."""

    def __init__(self, widths, classes, rngs):
        shapes = zip((3, *widths[:-1]), widths, strict=True)
        twice = lambda channels, filters: nnx.Sequential(
            Normalized(channels, filters, 3, rngs), nnx.relu, Normalized(filters, filters, 3, rngs), nnx.relu
        )
        pairs = list(itertools.pairwise(widths))
        self.down = nnx.List([twice(channels, filters) for channels, filters in shapes])
        self.up = nnx.List([nnx.ConvTranspose(b, a, (2, 2), (2, 2), dtype=half, rngs=rngs) for a, b in pairs])
        self.join = nnx.List([twice(2 * filters, filters) for filters in widths[:-1]])
        self.classes = nnx.Conv(widths[0], classes, (1, 1), dtype=half, rngs=rngs)

    def __call__(self, x):
        kept = []
        for index, layers in enumerate(self.down):
            x = layers(nnx.max_pool(x, (2, 2), (2, 2)) if index else x)
            kept.append(x)
        for index in reversed(range(len(self.up))):
            x = self.join[index](jnp.concatenate([kept[index], self.up[index](x)], -1))
        return self.classes(x)


def unet(rows: int, platform: str, size: int, widths: tuple[int, ...], classes: int) -> tuple:
    """A U-Net."""
    del platform
    batch = arrays(((rows, size, size, 3), "float32"), ((rows, size, size), "int32"))
    return training(functools.partial(UNet, widths, classes), optax.adam(1e-3), batch)


class LSTM(nnx.Module):
    """512 units and classes."""

    def __init__(self, rngs):
        self.rnn, self.classes = nnx.RNN(nnx.OptimizedLSTMCell(64, 512, rngs=rngs)), nnx.Linear(512, 10, rngs=rngs)

    def __call__(self, x):
        return self.classes(self.rnn(x)[:, -1])


def lstm(rows: int, platform: str) -> tuple:
    """One layer of 512 units over 128 steps of 64 features."""
    del platform
    return training(LSTM, optax.adam(1e-3), arrays(((rows, 128, 64), "float32"), ((rows,), "int32")))


def mlp(rows: int, platform: str) -> tuple:
    """784-512-512-10."""
    del platform

    def make(rngs):
        dense = lambda *sizes: nnx.Linear(*sizes, rngs=rngs)
        return nnx.Sequential(dense(784, 512), nnx.relu, dense(512, 512), nnx.relu, dense(512, 10))

    return training(make, optax.adam(1e-3), arrays(((rows, 784), "float32"), ((rows,), "int32")))
