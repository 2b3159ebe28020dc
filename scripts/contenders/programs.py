"""Programs of training steps compiled for devices that are not there: bytes, kernels and memory of each contender.

    python scripts/benchmark.py --programs                     # for an H200, the models of the table
    python scripts/benchmark.py --programs h100:1 mlp gpt2     # another device, some of them

The same models in plain JAX, written by hand as well as its author could, are the measure.
"""

import itertools
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

import kerax
from kerax import layers
from kerax.plan import chips, hlo, planning
from kerax.plan.devices import devices_of
from kerax.plan.report import Plan

sys.path.insert(0, str(Path(__file__).parents[1]))


def table(topology: str = "h200:1", names=()) -> str:
    """A Markdown table, a line for each model and contender."""
    lines = ["| model, rows | by | GB | kernels | batch fastest | memory GB | FLOPs / model's | bytes / by hand |"]
    lines.append("|---" * 8 + "|")
    for name in names or MODELS:
        rows, by_kerax, by_hand = MODELS[name]
        plans = {"kerax": plan_of(by_kerax, rows, topology)}
        if by_hand is not None:
            plans["JAX by hand"] = plan_by_hand(by_hand, rows, topology)
        base = plans.get("JAX by hand")
        for who, plan in plans.items():
            ratio = "-" if base is None else f"{plan.num_bytes / base.num_bytes:.3f}"
            work = plan.flops / plans["kerax"].model_flops
            cells = [f"{plan.num_bytes / 1e9:.1f}", f"{plan.num_kernels:,}", plan.count_fastest(rows)]
            cells += [f"{plan.memory['temporary'] / 1e9:.1f}", f"{work:.2f}", ratio]
            lines.append(f"| {name}, {rows} | {who} | {' | '.join(map(str, cells))} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def plan_of(make, rows: int, topology: str) -> Plan:
    """The plan of a model of kerax's, its activations counted as temporary memory."""
    model, batch = make(rows)
    plan = model.plan(topology, batch, rows, "data")
    plan.memory["temporary"] += plan.memory.pop("activations")
    return plan


def plan_by_hand(make, rows: int, topology: str) -> Plan:
    """The plan of a step that is a plain function of (state, batch), which gives the new state and the loss."""
    step, state, batch = make(rows)
    device = devices_of(topology)[0]
    here = jax.sharding.SingleDeviceSharding(device)
    place = lambda spec: jax.ShapeDtypeStruct(spec.shape, spec.dtype, sharding=here)
    with planning.compiling_for("gpu"):
        compiled = jax.jit(step, donate_argnums=0).lower(*jax.tree.map(place, (state, batch))).compile()
    counts, sizes = hlo.count(compiled.as_text()), compiled.memory_analysis()
    plan = Plan(topology, 1, device.device_kind, "by hand", rows, {"temporary": sizes.temp_size_in_bytes})
    plan.chip, plan.flops, plan.num_bytes = chips.chip_of(device.device_kind), counts.flops, counts.num_bytes
    plan.kernels = counts.kernels
    return plan


# GPT-2.

GPT2 = dict(vocabulary=50304, length=1024, width=768, heads=12, layers=12)
SMALL_GPT = dict(vocabulary=1024, length=256, width=256, heads=4, layers=1)


def _of_script(script: Any, words: list[str]) -> tuple[Any, Any]:
    """The compiled model of a training script, in the policy of its settings, and these."""
    settings = script.read_settings("", script.SETTINGS | script.DEVICES, words)
    before = kerax.mixed_precision.global_policy()
    kerax.mixed_precision.set_global_policy(settings.dtype)
    try:
        model = script.build_model(settings)
        script.compile_model(model, settings)
    finally:
        kerax.mixed_precision.set_global_policy(before)
    return model, settings


def gpt(rows: int, **sizes) -> tuple[Any, Any]:
    """The GPT of `train_gpt.py`."""
    import train_gpt

    words = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    model, settings = _of_script(train_gpt, words)
    tokens = jax.ShapeDtypeStruct((rows, settings.length), "int32")
    return model, (tokens, tokens)


def gpt_by_hand(rows: int, vocabulary, length, width, heads, layers) -> tuple:
    """The same in plain JAX and optax."""
    half = jnp.bfloat16

    def norm(x, weights):
        exact = x.astype(jnp.float32)
        mean = exact.mean(-1, keepdims=True)
        scale = jax.lax.rsqrt(jnp.square(exact - mean).mean(-1, keepdims=True) + 1e-5)
        return ((exact - mean) * scale * weights["gamma"] + weights["beta"]).astype(half)

    def dense(x, weights):
        return x @ weights["kernel"].astype(half) + weights["bias"].astype(half)

    def block(x, weights):
        normed = norm(x, weights["norm_1"])
        split = lambda name: dense(normed, weights[name]).reshape(rows, length, heads, width // heads)
        attended = jax.nn.dot_product_attention(
            *map(split, ("query", "key", "value")), is_causal=True, implementation="cudnn"
        )
        x = x + dense(attended.reshape(rows, length, width), weights["output"])
        hidden = jax.nn.gelu(dense(norm(x, weights["norm_2"]), weights["expand"]))
        return x + dense(hidden, weights["contract"])

    def loss(params, tokens, targets):
        x = params["table"][tokens].astype(half) + params["positions"].astype(half)
        for weights in params["blocks"]:
            x = block(x, weights)
        logits = (norm(x, params["norm"]) @ params["table"].T.astype(half)).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    decays = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    adam = optax.adamw(optax.cosine_decay_schedule(6e-4, 1000), b2=0.95, weight_decay=0.1, mask=decays)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), adam)

    def step(state, batch):
        params, slots = state
        value, gradient = jax.value_and_grad(loss)(params, *batch)
        updates, slots = optimizer.update(gradient, slots, params)
        return (optax.apply_updates(params, updates), slots), value

    spec = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    affine = lambda i, o: {"kernel": spec(i, o), "bias": spec(o)}
    both = {"gamma": spec(width), "beta": spec(width)}
    projections = {name: affine(width, width) for name in ("query", "key", "value", "output")}
    feed = {"expand": affine(width, 4 * width), "contract": affine(4 * width, width)}
    blocks = [projections | feed | {"norm_1": both, "norm_2": both} for _ in range(layers)]
    params = {"table": spec(vocabulary, width), "positions": spec(length, width), "norm": both, "blocks": blocks}
    tokens = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    return step, (params, jax.eval_shape(optimizer.init, params)), (tokens, tokens)


# Others.


def mlp(rows: int) -> tuple:
    """784-512-512-10, in float32."""
    made = [layers.Dense(512, "relu"), layers.Dense(512, "relu"), layers.Dense(10)]
    model = kerax.Sequential([kerax.Input((784,)), *made])
    model.compile("adam", kerax.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, (jax.ShapeDtypeStruct((rows, 784), "float32"), jax.ShapeDtypeStruct((rows,), "int32"))


def mlp_by_hand(rows: int) -> tuple:
    """The same in plain JAX and optax."""
    sizes, optimizer = (784, 512, 512, 10), optax.adam(1e-3)

    def loss(params, x, y):
        for kernel, bias in params[:-1]:
            x = jax.nn.relu(x @ kernel + bias)
        kernel, bias = params[-1]
        return optax.softmax_cross_entropy_with_integer_labels(x @ kernel + bias, y).mean()

    def step(state, batch):
        params, slots = state
        value, gradient = jax.value_and_grad(loss)(params, *batch)
        updates, slots = optimizer.update(gradient, slots, params)
        return (optax.apply_updates(params, updates), slots), value

    spec = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    params = [(spec(i, o), spec(o)) for i, o in itertools.pairwise(sizes)]
    batch = spec(rows, 784), jax.ShapeDtypeStruct((rows,), jnp.int32)
    return step, (params, jax.eval_shape(optimizer.init, params)), batch


def lstm(rows: int) -> tuple:
    """One layer of 512 units over 128 steps of 64 features."""
    made = [layers.LSTM(512), layers.Dense(10)]
    model = kerax.Sequential([kerax.Input((128, 64)), *made])
    model.compile("adam", kerax.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, (jax.ShapeDtypeStruct((rows, 128, 64), "float32"), jax.ShapeDtypeStruct((rows,), "int32"))


def resnet(rows: int) -> tuple:
    """The ResNet-50 of `train_resnet.py`."""
    import train_resnet

    model, _ = _of_script(train_resnet, [])
    return model, (jax.ShapeDtypeStruct((rows, 224, 224, 3), "uint8"), jax.ShapeDtypeStruct((rows,), "int32"))


def encoder(rows: int, length: int, width: int, heads: int, depth: int, made) -> Any:
    """Transformer blocks with normalization first, on the outputs of the layers in `made`."""
    inputs = kerax.Input(made[0])
    hidden = made[1](inputs)
    for _ in range(depth):
        normed = layers.LayerNormalization(epsilon=1e-6)(hidden)
        hidden = hidden + layers.MultiHeadAttention(heads, width // heads)(normed, normed)
        normed = layers.LayerNormalization(epsilon=1e-6)(hidden)
        expanded = layers.Dense(4 * width, layers.Activation("gelu"))(normed)
        hidden = hidden + layers.Dense(width)(expanded)
    return kerax.Model(inputs, made[2](layers.LayerNormalization(epsilon=1e-6)(hidden)))


def vit(rows: int) -> tuple:
    """ViT-B/16 for images of 224 x 224, with the mean of all patches in the place of a class token."""
    before = kerax.mixed_precision.global_policy()
    kerax.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        cut = kerax.Sequential([layers.Conv2D(768, 16, strides=16), layers.Reshape((196, 768))])
        end = kerax.Sequential([layers.GlobalAveragePooling1D(), layers.Dense(1000)])
        model = encoder(rows, 196, 768, 12, 12, ((224, 224, 3), cut, end))
    finally:
        kerax.mixed_precision.set_global_policy(before)
    model.compile(kerax.optimizers.AdamW(1e-3), kerax.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, (jax.ShapeDtypeStruct((rows, 224, 224, 3), "float32"), jax.ShapeDtypeStruct((rows,), "int32"))


def bert(rows: int) -> tuple:
    """BERT-base over 128 tokens, normalization first, with a class for each token."""
    before = kerax.mixed_precision.global_policy()
    kerax.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = encoder(rows, 128, 768, 12, 12, ((128,), layers.Embedding(30522, 768), layers.Dense(30522)))
    finally:
        kerax.mixed_precision.set_global_policy(before)
    model.compile(kerax.optimizers.AdamW(1e-4), kerax.losses.SparseCategoricalCrossentropy(from_logits=True))
    tokens = jax.ShapeDtypeStruct((rows, 128), "int32")
    return model, (tokens, tokens)


MODELS = {
    "gpt2": (64, lambda rows: gpt(rows, **GPT2), lambda rows: gpt_by_hand(rows, **GPT2)),
    "small_gpt": (48, lambda rows: gpt(rows, **SMALL_GPT), lambda rows: gpt_by_hand(rows, **SMALL_GPT)),
    "vit_b16": (256, vit, None),
    "bert_base": (256, bert, None),
    "resnet50": (256, resnet, None),
    "lstm": (256, lstm, None),
    "mlp": (4096, mlp, mlp_by_hand),
}
"""Rows, the model by kerax, and a step of the same by hand."""
