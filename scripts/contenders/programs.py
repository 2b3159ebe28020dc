"""Programs of training steps compiled for devices that are not there: bytes, kernels and memory of each contender.

    python scripts/benchmark.py --programs                     # for an H200, the models of the table
    python scripts/benchmark.py --programs h100:1 mlp gpt2     # another device, some of them
    python scripts/benchmark.py --programs v5p:2x2x1 vit_b16   # one chip of a TPU

The same models in plain JAX, written by hand as well as its author could, are the measure; Flax NNX stands beside them
where it is installed. Where there are losses or normalizations of half precision each computes them in float32.
"""

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

import kerax
from contenders import programs_by_hand as by_hand
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
        plans = plans_of(name, topology)
        base, rows = plans["JAX by hand"], MODELS[name].rows
        for who, plan in plans.items():
            work = plan.flops / plans["kerax"].model_flops
            cells = [f"{plan.num_bytes / 1e9:.2f}", f"{plan.num_kernels:,}", plan.count_fastest(rows)]
            cells += [f"{plan.memory['temporary'] / 1e9:.2f}", f"{work:.2f}", f"{plan.num_bytes / base.num_bytes:.3f}"]
            lines.append(f"| {name}, {rows} | {who} | {' | '.join(map(str, cells))} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def plans_of(name: str, topology: str, by_nnx: bool = True) -> dict[str, Plan]:
    """The plans of one model's step for one device, by contender."""
    model, device = MODELS[name], devices_of(topology)[0]
    platform = planning.platform_of([device])
    plans = {"kerax": plan_of(model.by_kerax, model.rows, device)}
    with planning.compiling_for(platform):
        plans["JAX by hand"] = plan_of_step(*model.by_hand(model.rows, platform), topology, device)
        if by_nnx and model.by_nnx and importlib.util.find_spec("flax"):
            from contenders import programs_nnx

            step = getattr(programs_nnx, model.by_nnx)
            plans["Flax NNX"] = plan_of_step(*step(model.rows, platform, **model.sizes), topology, device)
    return plans


def plan_of(make: Callable, rows: int, device: Any) -> Plan:
    """The plan of a model of kerax's, its activations counted as temporary memory."""
    model, batch = make(rows)
    spread = planning.resolve_distribution("data", [device])
    plan = model.plan(None, batch, rows, spread)
    plan.memory["temporary"] += plan.memory.pop("activations")
    return plan


def plan_of_step(step: Callable, state: Any, batch: Any, topology: str, device: Any) -> Plan:
    """The plan of a step that is a plain function of (state, batch), which gives the new state and the loss."""
    here = jax.sharding.SingleDeviceSharding(device)
    place = lambda spec: jax.ShapeDtypeStruct(spec.shape, spec.dtype, sharding=here)
    compiled = jax.jit(step, donate_argnums=0).lower(*jax.tree.map(place, (state, batch))).compile()
    counts, sizes = hlo.count(compiled.as_text()), compiled.memory_analysis()
    rows = jax.tree.leaves(batch)[0].shape[0]
    plan = Plan(topology, 1, device.device_kind, "one", rows, {"temporary": sizes.temp_size_in_bytes})
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


# Others.


def mlp(rows: int) -> tuple:
    """784-512-512-10, in float32."""
    made = [layers.Dense(512, "relu"), layers.Dense(512, "relu"), layers.Dense(10)]
    model = kerax.Sequential([kerax.Input((784,)), *made])
    model.compile("adam", kerax.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, (jax.ShapeDtypeStruct((rows, 784), "float32"), jax.ShapeDtypeStruct((rows,), "int32"))


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


def _half_precision(make: Callable) -> Any:
    """What `make` makes under the policy `mixed_bfloat16`."""
    before = kerax.mixed_precision.global_policy()
    kerax.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        return make()
    finally:
        kerax.mixed_precision.set_global_policy(before)


def llama(
    rows: int, length: int, vocabulary: int, width: int, inner: int, heads: int, groups: int, layers: int
) -> tuple:
    """A Llama 3 as `kerax.language` makes it."""
    from kerax import language

    config = {"model_type": "llama", "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": inner}
    config |= {"num_attention_heads": heads, "num_key_value_heads": groups, "num_hidden_layers": layers}
    config |= {"max_position_embeddings": length, "rms_norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 5e5}
    model = language.create(config | {"tie_word_embeddings": True}, "mixed_bfloat16")
    model.compile(kerax.optimizers.AdamW(1e-4), kerax.losses.SparseCategoricalCrossentropy(from_logits=True))
    tokens = jax.ShapeDtypeStruct((rows, length), "int32")
    return model, (tokens, tokens)


def unet(rows: int, size: int, widths: tuple[int, ...], classes: int) -> tuple:
    """A U-Net with batch normalization."""

    def twice(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same")(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        return x

    def make():
        inputs = kerax.Input((size, size, 3))
        x, kept = inputs, []
        for filters in widths[:-1]:
            x = twice(x, filters)
            kept.append(x)
            x = layers.MaxPooling2D()(x)
        x = twice(x, widths[-1])
        for filters in reversed(widths[:-1]):
            x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
            x = twice(layers.Concatenate()([kept.pop(), x]), filters)
        return kerax.Model(inputs, layers.Conv2D(classes, 1)(x))

    model = _half_precision(make)
    model.compile("adam", kerax.losses.SparseCategoricalCrossentropy(from_logits=True))
    pixels = jax.ShapeDtypeStruct((rows, size, size, 3), "float32")
    return model, (pixels, jax.ShapeDtypeStruct((rows, size, size), "int32"))


class Contest(NamedTuple):
    """A model of the table: rows, its maker here, and its name and sizes in the other modules."""

    rows: int
    by_kerax: Callable
    name: str
    sizes: dict = {}
    by_nnx: str | None = None

    def by_hand(self, rows: int, platform: str) -> tuple:
        """The step in plain JAX."""
        return getattr(by_hand, self.name)(rows, platform, **self.sizes)


LLAMA = dict(length=2048, vocabulary=128256, width=2048, inner=8192, heads=32, groups=8, layers=16)
SMALL_LLAMA = dict(length=256, vocabulary=1024, width=256, inner=512, heads=4, groups=2, layers=1)
UNET = dict(size=256, widths=(64, 128, 256, 512, 1024), classes=3)
SMALL_UNET = dict(size=64, widths=(16, 32), classes=3)


def _sized(make: Callable, name: str, rows: int, sizes: dict, by_nnx: str | None = None) -> Contest:
    return Contest(rows, functools.partial(make, **sizes), name, sizes, by_nnx)


MODELS = {
    "gpt2": _sized(gpt, "gpt", 64, GPT2, "gpt"),
    "small_gpt": _sized(gpt, "gpt", 48, SMALL_GPT, "gpt"),
    "llama_1b": _sized(llama, "llama", 8, LLAMA),
    "small_llama": _sized(llama, "llama", 24, SMALL_LLAMA),
    "vit_b16": Contest(256, vit, "vit", {}, "vit"),
    "bert_base": Contest(256, bert, "bert", {}, "bert"),
    "resnet50": Contest(256, resnet, "resnet", {}, "resnet"),
    "unet": _sized(unet, "unet", 16, UNET, "unet"),
    "small_unet": _sized(unet, "unet", 24, SMALL_UNET, "unet"),
    "lstm": Contest(256, lstm, "lstm", {}, "lstm"),
    "mlp": Contest(4096, mlp, "mlp", {}, "mlp"),
}
