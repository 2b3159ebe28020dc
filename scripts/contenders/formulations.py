"""The formulations of `kerax.ops.cpu` beside the plain ones that other platforms get, on this machine's CPU."""

import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import kerax
from kerax.ops import attention, convolutions, cpu, pooling, products

TRANSPOSE = convolutions.conv_transpose
CASES = {
    "conv (128,28,28,1) 3x3x32": (convolutions.conv, (128, 28, 28, 1), (3, 3, 1, 32), {}),
    "conv (128,32,32,3) 3x3x32": (convolutions.conv, (128, 32, 32, 3), (3, 3, 3, 32), {"padding": "same"}),
    "conv (128,13,13,32) 3x3x64": (convolutions.conv, (128, 13, 13, 32), (3, 3, 32, 64), {}),
    "conv (128,12,12,32) 5x5x64": (convolutions.conv, (128, 12, 12, 32), (5, 5, 32, 64), {}),
    "conv (32,28,28,128) 1x1x256": (convolutions.conv, (32, 28, 28, 128), (1, 1, 128, 256), {}),
    "conv (64,256,32) 3x64": (convolutions.conv, (64, 256, 32), (3, 32, 64), {}),
    "conv (4,12,12,12,8) 3x3x3x16": (convolutions.conv, (4, 12, 12, 12, 8), (3, 3, 3, 8, 16), {}),
    "conv_transpose (32,14,14,64) 3x3x32": (TRANSPOSE, (32, 14, 14, 64), (3, 3, 32, 64), {"strides": 2}),
    "conv_transpose (16,32,32,64) 4x4x32": (TRANSPOSE, (16, 32, 32, 64), (4, 4, 32, 64), {"strides": 2}),
    "depthwise_conv (32,30,30,32) 3x3": (convolutions.depthwise_conv, (32, 30, 30, 32), (3, 3, 32, 1), {}),
    "contract (32,128,256) 256x512": (products.contract, (32, 128, 256), (256, 512), {}),
}  # fmt: skip


def table(rounds: int) -> str:
    """A Markdown table: milliseconds forward, with both gradients, and these in a loop; seconds to compile all.

    Plain convolutions take seconds in a loop, so that the table takes minutes.
    """
    lines = ["| plain / CPU's | forward | gradients | in a loop of 2 | compiled |", "|---|---|---|---|---|"]
    generator = np.random.default_rng(0)
    for name, (function, inputs, kernel, options) in CASES.items():
        arguments = [jnp.asarray(generator.normal(size=size), jnp.float32) for size in (inputs, kernel)]
        lines.append(_line(name, lambda x, k, f=function, o=options: f(x, k, **o), arguments, rounds))
    heads = [jnp.asarray(generator.normal(size=(16, 128, 4, 32)), jnp.float32) for _ in range(2)]
    lines.append(
        _line("attend (16,128,4,32)", lambda x, k: attention.attend(x, k, k, is_causal=True)[0], heads, rounds)
    )
    wide = [jnp.asarray(generator.normal(size=(2048, 512)), jnp.float32) for _ in range(2)]
    lines.append(_activation(*wide, rounds))
    lines.append(_pooling(jnp.asarray(generator.normal(size=(64, 26, 26, 32)), jnp.float32), rounds))
    return "\n".join(lines)


def _line(name: str, function, arguments, rounds: int) -> str:
    """A row of the table: one function as it is traced for a GPU, without options, and for a CPU."""
    cells, compiled = [], {"gpu": 0.0, "cpu": 0.0}
    for form in (lambda f: f, _gradients, _looped):
        programs = {}
        for platform in compiled:

            def traced(*arguments, platform=platform, form=form):
                with kerax.config.compiling_for(platform):
                    return form(function)(*arguments)

            options = cpu.compiler_options(jax.make_jaxpr(traced)(*arguments).jaxpr) if platform == "cpu" else {}
            begun = time.perf_counter()
            programs[platform] = jax.jit(traced, compiler_options=options).lower(*arguments).compile()
            compiled[platform] += time.perf_counter() - begun
        cells.append(_times(programs, arguments, rounds))
    return f"| {name} | {' | '.join(cells)} | {' / '.join(f'{seconds:.2f}' for seconds in compiled.values())} |"


def _gradients(function):
    return jax.value_and_grad(lambda *arguments: jnp.sum(jax.nn.relu(function(*arguments))), (0, 1))


def _looped(function):
    def steps(*arguments):
        def step(_, arguments):
            gradients = _gradients(function)(*arguments)[1]
            return tuple(a - 1e-6 * gradient for a, gradient in zip(arguments, gradients, strict=True))

        return lax.fori_loop(0, 2, step, arguments)

    return steps


def _activation(inputs, slopes, rounds: int) -> str:
    """The row of GELU, by JAX's `erfc` and by `erf`."""
    functions = {"JAX": lambda x: jax.nn.gelu(x, approximate=False), "kerax": kerax.activations.gelu}
    forward = {name: jax.jit(lambda x, _, f=f: f(x)) for name, f in functions.items()}
    both = {name: jax.jit(lambda x, slope, f=f: jax.vjp(f, x)[1](slope)) for name, f in functions.items()}
    cells = [_times(programs, [inputs, slopes], rounds) for programs in (forward, both)]
    return f"| gelu (2048,512) | {' | '.join(cells)} | | |"


def _pooling(images, rounds: int) -> str:
    """The row of a maximum's gradient, by `reduce_window` and by slices."""

    def by_windows(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    functions = by_windows, lambda x: pooling.pool(x, "max", 2, data_format="channels_last")
    programs = {str(f): jax.jit(jax.value_and_grad(lambda x, f=f: jnp.sum(f(x) ** 2))) for f in functions}
    return f"| max_pool (64,26,26,32) 2x2 | | {_times(programs, [images], rounds)} | | |"


def _times(programs: dict, arguments, rounds: int) -> str:
    """The least milliseconds of each program; they take turns."""
    least = dict.fromkeys(programs, float("inf"))
    for _ in range(rounds + 1):
        for name, program in programs.items():
            begun = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            least[name] = min(least[name], 1e3 * (time.perf_counter() - begun))
    return " / ".join(f"{milliseconds:.1f}" for milliseconds in least.values())
