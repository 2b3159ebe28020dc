"""The training steps of `programs.py` in plain JAX and optax, written as well as their author could.

A model is a function of `weights` and inputs; `weights(name, *shape)` is the weight of that name.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

half = jnp.bfloat16
LEAST = np.asarray(-np.inf, half)


class Weights:
    """Weights by name. Without `known` they are declared by asking for them."""

    def __init__(self, known: dict | None = None, moving: dict | None = None):
        self._known, self._moving, self.declared, self.moved = known, moving, {}, {}

    def __call__(self, name: str, *shape: int) -> jax.Array:
        self.declared[name] = jax.ShapeDtypeStruct(shape, jnp.float32)
        return jnp.zeros(shape) if self._known is None else self._known[name]

    def move(self, name: str, value: jax.Array, momentum: float = 0.99):
        """Takes a batch's statistic into its moving average."""
        before = jnp.zeros_like(value) if self._moving is None else self._moving[name]
        self.moved[name] = momentum * before + (1 - momentum) * lax.stop_gradient(value)


def training(model: Callable, optimizer: Any, batch: tuple) -> tuple[Callable, Any, Any]:
    """A step `(state, batch) -> (state, loss)` of a model of logits, its state's specs and those of the batch."""

    def declare(inputs):
        weights = Weights()
        model(weights, inputs)
        return weights.declared, weights.moved

    found: list[dict] = []
    jax.eval_shape(lambda inputs: found.extend(declare(inputs)), batch[0])
    params = found[0]
    moving = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in found[1].items()}

    def loss(params, moving, inputs, targets):
        weights = Weights(params, moving)
        logits = model(weights, inputs).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean(), weights.moved

    def step(state, batch):
        params, slots, moving = state
        (value, moving), gradient = jax.value_and_grad(loss, has_aux=True)(params, moving, *batch)
        updates, slots = optimizer.update(gradient, slots, params)
        return (optax.apply_updates(params, updates), slots, moving), value

    return step, (params, jax.eval_shape(optimizer.init, params), moving), batch


def arrays(*shapes_and_dtypes) -> tuple:
    """Specs of a batch: `arrays(((2, 3), "float32"), ((2,), "int32"))`."""
    return tuple(jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes_and_dtypes)


# Transformers.


def dense(weights, name: str, x, width: int):
    """In half precision."""
    kernel, bias = weights(f"{name}_kernel", x.shape[-1], width), weights(f"{name}_bias", width)
    return x @ kernel.astype(half) + bias.astype(half)


def layer_norm(weights, name: str, x):
    """Computed in float32."""
    exact = x.astype(jnp.float32)
    mean = exact.mean(-1, keepdims=True)
    scale = lax.rsqrt(jnp.square(exact - mean).mean(-1, keepdims=True) + 1e-5)
    gamma, beta = weights(f"{name}_gamma", x.shape[-1]), weights(f"{name}_beta", x.shape[-1])
    return ((exact - mean) * scale * gamma + beta).astype(half)


def attention(query, key, value, is_causal: bool, platform: str):
    """Of `(rows, positions, heads, features)`: by cuDNN, or by Pallas' kernel where it takes the length."""
    if platform == "gpu":
        return jax.nn.dot_product_attention(query, key, value, is_causal=is_causal, implementation="cudnn")
    if query.shape[1] % 128:
        return jax.nn.dot_product_attention(query, key, value, is_causal=is_causal)
    from jax.experimental.pallas.ops.tpu import flash_attention

    shared = query.shape[2] // key.shape[2]
    query, key, value = (x.swapaxes(1, 2) for x in (query, jnp.repeat(key, shared, 2), jnp.repeat(value, shared, 2)))
    scale = query.shape[-1] ** -0.5
    return flash_attention.flash_attention(query, key, value, causal=is_causal, sm_scale=scale).swapaxes(1, 2)


def block(weights, name: str, x, heads: int, is_causal: bool, by_tanh: bool, platform: str):
    """Attention and a GELU network, each behind a normalization and added to its input."""
    width = x.shape[-1]
    normed = layer_norm(weights, f"{name}_norm_1", x)
    parts = [dense(weights, f"{name}_{part}", normed, width) for part in ("query", "key", "value")]
    split = [part.reshape(*x.shape[:2], heads, width // heads) for part in parts]
    attended = attention(*split, is_causal, platform).reshape(x.shape)
    x = x + dense(weights, f"{name}_output", attended, width)
    hidden = dense(weights, f"{name}_expand", layer_norm(weights, f"{name}_norm_2", x), 4 * width)
    return x + dense(weights, f"{name}_contract", jax.nn.gelu(hidden, approximate=by_tanh), width)


def gpt(rows: int, platform: str, vocabulary: int, length: int, width: int, heads: int, layers: int) -> tuple:
    """GPT-2."""

    def model(weights, tokens):
        table = weights("table", vocabulary, width)
        x = table[tokens].astype(half) + weights("positions", length, width).astype(half)
        for index in range(layers):
            x = block(weights, f"block_{index}", x, heads, True, True, platform)
        return layer_norm(weights, "norm", x) @ table.T.astype(half)

    decays = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    adam = optax.adamw(optax.cosine_decay_schedule(6e-4, 1000), b2=0.95, weight_decay=0.1, mask=decays)
    tokens = (rows, length), "int32"
    return training(model, optax.chain(optax.clip_by_global_norm(1.0), adam), arrays(tokens, tokens))


def vit(rows: int, platform: str) -> tuple:
    """ViT-B/16."""

    def model(weights, images):
        kernel, bias = weights("patch_kernel", 16, 16, 3, 768), weights("patch_bias", 768)
        x = convolve(images.astype(half), kernel, 16) + bias.astype(half)
        x = x.reshape(rows, 196, 768)
        for index in range(12):
            x = block(weights, f"block_{index}", x, 12, False, False, platform)
        return dense(weights, "classes", layer_norm(weights, "norm", x).mean(1), 1000)

    batch = arrays(((rows, 224, 224, 3), "float32"), ((rows,), "int32"))
    return training(model, optax.adamw(1e-3, weight_decay=4e-3), batch)


def bert(rows: int, platform: str) -> tuple:
    """BERT-base."""

    def model(weights, tokens):
        x = weights("table", 30522, 768)[tokens].astype(half)
        for index in range(12):
            x = block(weights, f"block_{index}", x, 12, False, False, platform)
        return dense(weights, "tokens", layer_norm(weights, "norm", x), 30522)

    tokens = (rows, 128), "int32"
    return training(model, optax.adamw(1e-4, weight_decay=4e-3), arrays(tokens, tokens))


def llama(
    rows: int, platform: str, length: int, vocabulary: int, width: int, inner: int, heads: int, groups: int, layers: int
) -> tuple:
    """Llama 3: normalization by the root of the mean square, rotary positions, shared keys, a gated network."""
    size = width // heads
    rates = 5e5 ** (-jnp.arange(0, size, 2) / size)

    def norm(weights, name, x):
        exact = x.astype(jnp.float32)
        scale = lax.rsqrt(jnp.square(exact).mean(-1, keepdims=True) + 1e-5)
        return (exact * scale * weights(f"{name}_gamma", width)).astype(half)

    def project(weights, name, x, features):
        return x @ weights(name, x.shape[-1], features).astype(half)

    def turn(x):
        angles = jnp.arange(length)[:, None, None] * rates
        first, second = jnp.split(x.astype(jnp.float32), 2, -1)
        cosine, sine = jnp.cos(angles), jnp.sin(angles)
        return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1).astype(half)

    def layer(weights, name, x):
        normed = norm(weights, f"{name}_norm_1", x)
        counts = {"query": heads, "key": groups, "value": groups}
        parts = [project(weights, f"{name}_{part}", normed, count * size) for part, count in counts.items()]
        query, key, value = (part.reshape(rows, length, -1, size) for part in parts)
        query, key = turn(query), turn(key)
        attended = attention(query, key, value, True, platform).reshape(x.shape)
        x = x + project(weights, f"{name}_output", attended, width)
        normed = norm(weights, f"{name}_norm_2", x)
        gate, up = (project(weights, f"{name}_{part}", normed, inner) for part in ("gate", "up"))
        return x + project(weights, f"{name}_down", jax.nn.silu(gate) * up, width)

    def model(weights, tokens):
        table = weights("table", vocabulary, width)
        x = table[tokens].astype(half)
        for index in range(layers):
            x = layer(weights, f"layer_{index}", x)
        return norm(weights, "norm", x) @ table.T.astype(half)

    tokens = (rows, length), "int32"
    return training(model, optax.adamw(1e-4, weight_decay=4e-3), arrays(tokens, tokens))


# Convolutions.


def convolve(x, kernel, stride: int = 1, padding: str = "SAME"):
    """Of images `(rows, height, width, channels)`, in their dtype."""
    names = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel.astype(x.dtype), (stride, stride), padding, dimension_numbers=names)


def normalized(weights, name: str, x, filters: int, size: int, stride: int = 1, epsilon: float = 1e-3):
    """A convolution with a bias and batch normalization of its outputs."""
    x = convolve(x, weights(f"{name}_kernel", size, size, x.shape[-1], filters), stride)
    x = x + weights(f"{name}_bias", filters).astype(half)
    exact = x.astype(jnp.float32)
    mean = exact.mean((0, 1, 2))
    variance = jnp.square(exact).mean((0, 1, 2)) - jnp.square(mean)
    weights.move(f"{name}_mean", mean)
    weights.move(f"{name}_variance", variance)
    scale = lax.rsqrt(variance + epsilon) * weights(f"{name}_gamma", filters)
    return (exact * scale + (weights(f"{name}_beta", filters) - mean * scale)).astype(half)


def resnet(rows: int, platform: str) -> tuple:
    """ResNet-50, as Keras has it."""
    del platform

    def bottleneck(weights, name, x, filters, stride, is_first):
        shortcut = normalized(weights, f"{name}_0", x, 4 * filters, 1, stride) if is_first else x
        x = jax.nn.relu(normalized(weights, f"{name}_1", x, filters, 1, stride))
        x = jax.nn.relu(normalized(weights, f"{name}_2", x, filters, 3))
        return jax.nn.relu(shortcut + normalized(weights, f"{name}_3", x, 4 * filters, 1))

    def model(weights, images):
        x = ((images.astype(jnp.float32) - 120) / 60).astype(half)
        x = jax.nn.relu(normalized(weights, "stem", x, 64, 7, 2))
        x = lax.reduce_window(x, LEAST, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        for stage, depth in enumerate((3, 4, 6, 3)):
            for index in range(depth):
                stride = 2 if stage and not index else 1
                x = bottleneck(weights, f"stage_{stage}_{index}", x, 64 * 2**stage, stride, not index)
        return dense(weights, "classes", x.mean((1, 2)), 1000)

    batch = arrays(((rows, 224, 224, 3), "uint8"), ((rows,), "int32"))
    return training(model, optax.sgd(0.1, momentum=0.9, nesterov=True), batch)


def unet(rows: int, platform: str, size: int, widths: tuple[int, ...], classes: int) -> tuple:
    """A U-Net with batch normalization."""
    del platform

    def twice(weights, name, x, filters):
        for index in range(2):
            x = jax.nn.relu(normalized(weights, f"{name}_{index}", x, filters, 3))
        return x

    def model(weights, images):
        x, kept = images.astype(half), []
        for level, filters in enumerate(widths[:-1]):
            x = twice(weights, f"down_{level}", x, filters)
            kept.append(x)
            x = lax.reduce_window(x, LEAST, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = twice(weights, "bottom", x, widths[-1])
        for level, filters in reversed(list(enumerate(widths[:-1]))):
            kernel, bias = weights(f"up_{level}", 2, 2, x.shape[-1], filters), weights(f"up_{level}_bias", filters)
            x = lax.conv_transpose(x, kernel.astype(half), (2, 2), "SAME") + bias.astype(half)
            x = twice(weights, f"join_{level}", jnp.concatenate([kept[level], x], -1), filters)
        return convolve(x, weights("classes", 1, 1, widths[0], classes)) + weights("classes_bias", classes).astype(half)

    batch = arrays(((rows, size, size, 3), "float32"), ((rows, size, size), "int32"))
    return training(model, optax.adam(1e-3), batch)


# In float32.


def mlp(rows: int, platform: str) -> tuple:
    """784-512-512-10."""
    del platform

    def model(weights, x):
        for index, width in enumerate((512, 512, 10)):
            x = x @ weights(f"kernel_{index}", x.shape[-1], width) + weights(f"bias_{index}", width)
            x = jax.nn.relu(x) if index < 2 else x
        return x

    return training(model, optax.adam(1e-3), arrays(((rows, 784), "float32"), ((rows,), "int32")))


def lstm(rows: int, platform: str) -> tuple:
    """512 units over 128 steps of 64 features, the inputs of all steps projected at once."""
    del platform

    def model(weights, x):
        projected = x.swapaxes(0, 1) @ weights("kernel", 64, 2048) + weights("bias", 2048)
        recurrent = weights("recurrent", 512, 2048)

        def step(carry, gates):
            hidden, cell = carry
            into, forget, new, out = jnp.split(gates + hidden @ recurrent, 4, -1)
            cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(into) * jnp.tanh(new)
            return (jax.nn.sigmoid(out) * jnp.tanh(cell), cell), None

        zeros = jnp.zeros((rows, 512))
        (hidden, _), _ = lax.scan(step, (zeros, zeros), projected)
        return hidden @ weights("classes", 512, 10) + weights("classes_bias", 10)

    return training(model, optax.adam(1e-3), arrays(((rows, 128, 64), "float32"), ((rows,), "int32")))
