"""Speed of `generate` on a GPT of 124 million weights beside a plain JAX loop and `transformers`, in one process.

Milliseconds a step of decoding after prompts of 128 tokens, best of `--rounds` turns of 16 steps, and their ratio to
the plain loop's; and of the prompts' way through the model, beside a forward pass as in training. The contenders take
turns, for the machine may be shared. `transformers` and `torch` take part where this Python has them.

    python scripts/benchmark_language.py [--batch 1] [--rounds 6] [--kinds float32,bfloat16,int8]

With `--clients 16`, tokens per second of as many requests at once in `kerax.language.Engine`, beside an engine that
answers one at a time, as `--depth` layers of the model do.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import kerax
from kerax import layers

VOCABULARY, WIDTH, HEADS, DEPTH, PROMPT, STEPS = 50257, 768, 12, 12, 128, 16


def build(dtype: str, depth: int = DEPTH):
    """GPT-2's architecture of kerax's layers."""
    kerax.config.set_dtype_policy(dtype)
    tokens = kerax.Input((None,), dtype="int32")
    embedding = layers.ReversibleEmbedding(VOCABULARY, WIDTH)
    hidden = embedding(tokens)
    hidden = hidden + layers.PositionEmbedding(1024)(hidden)
    for _ in range(depth):
        options = {"activation": "gelu_approximate", "gated": False, "normalization": "layer", "use_bias": True}
        hidden = layers.DecoderBlock(HEADS, normalization_epsilon=1e-5, **options)(hidden)
    hidden = layers.LayerNormalization(epsilon=1e-5)(hidden)
    model = kerax.Model(tokens, embedding(hidden, reverse=True))
    kerax.config.set_dtype_policy("float32")
    return model


def plain_loop(variables, batch: int, length: int):
    """A GPT with a cache as one writes it by hand: `(start, steps)`, functions of prompts and of the state."""
    names = sorted((name for name in variables if name.startswith("decoder")), key=lambda n: (len(n), n))
    blocks = [variables[name] for name in names]
    weights = {"blocks": blocks, "rest": {k: v for k, v in variables.items() if k not in names}}
    size = WIDTH // HEADS

    def norm(w, x):
        mean = x.mean(-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * w["gamma"] + w["beta"]

    def forward(weights, tokens, cache, position):
        rest = weights["rest"]
        table = rest["reversible_embedding"]["embeddings"]
        places = position + jnp.arange(tokens.shape[1])
        x = table[tokens] + rest["position_embedding"]["embeddings"][places]
        seen = jnp.arange(length) <= places[:, None]
        renewed = []
        for w, (keys, values) in zip(weights["blocks"], cache, strict=True):
            y, a = norm(w["attention_norm"], x), w["attention"]
            q, k, v = (
                (y @ a[n]["kernel"].reshape(WIDTH, -1)).reshape(*y.shape[:2], HEADS, size) + a[n]["bias"]
                for n in ("query_dense", "key_dense", "value_dense")
            )
            keys = jax.lax.dynamic_update_slice(keys, k.swapaxes(1, 2), (0, 0, position, 0))
            values = jax.lax.dynamic_update_slice(values, v.swapaxes(1, 2), (0, 0, position, 0))
            renewed.append((keys, values))
            scores = jnp.einsum("bqhd,bhkd->bhqk", q, keys) / size**0.5
            chances = jax.nn.softmax(jnp.where(seen, scores, -1e30))
            out = jnp.einsum("bhqk,bhkd->bqhd", chances, values).reshape(*y.shape[:2], -1)
            x = x + out @ a["output_dense"]["kernel"].reshape(-1, WIDTH) + a["output_dense"]["bias"]
            f, y = w["feedforward"], norm(w["feedforward_norm"], x)
            y = jax.nn.gelu(y @ f["up_dense"]["kernel"] + f["up_dense"]["bias"])
            x = x + y @ f["down_dense"]["kernel"] + f["down_dense"]["bias"]
        return norm(rest["layer_normalization"], x[:, -1:])[:, 0] @ table.T, renewed

    def start(weights, tokens):
        shape = (batch, HEADS, length, size)
        cache = [(jnp.zeros(shape), jnp.zeros(shape)) for _ in range(DEPTH)]
        logits, cache = forward(weights, tokens, cache, 0)
        return jnp.argmax(logits, -1), cache, jnp.int32(PROMPT)

    def steps(weights, state):
        def step(_, state):
            token, cache, position = state
            logits, cache = forward(weights, token[:, None], cache, position)
            return jnp.argmax(logits, -1), cache, position + 1

        return jax.lax.fori_loop(0, STEPS, step, state)

    start, steps = jax.jit(start), jax.jit(steps, donate_argnums=1)
    return lambda tokens: start(weights, tokens), lambda state: steps(weights, state)


def kerax_turns(model, prompts, total: int):
    """Items of `STEPS` tokens, over and over."""
    while True:
        parts = model.generate(prompts, total, stream=True, chunk_size=STEPS)
        next(parts)  # with the prompts
        yield None
        for part in parts:
            if len(part[0]) == STEPS:
                yield part


def plain_turns(start, steps, prompts, total: int):
    while True:
        state = jax.block_until_ready(steps(start(prompts)))
        yield None
        for _ in range(total // STEPS - 1):
            state = jax.block_until_ready(steps(state))
            yield state


def torch_turns(prompts, total: int):
    """Those of GPT-2 in `transformers`, with random weights; `None` where it is missing."""
    try:
        import torch
        import transformers
    except ImportError:
        return None
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()

    def turns():
        with torch.no_grad():
            while True:
                out = model(torch.tensor(prompts), use_cache=True)
                yield None
                for _ in range(total // STEPS):
                    for _ in range(STEPS):
                        token = out.logits[:, -1].argmax(-1, keepdim=True)
                        out = model(token, past_key_values=out.past_key_values, use_cache=True)
                    yield token

    return turns()


def race(turns: dict, rounds: int) -> dict[str, float]:
    """Milliseconds a step of each, at best."""
    best = dict.fromkeys(turns, float("inf"))
    for _ in range(rounds):
        for name, one in turns.items():
            while True:
                begun = time.perf_counter()
                if next(one) is not None:
                    break
            best[name] = min(best[name], (time.perf_counter() - begun) * 1000 / STEPS)
    return best


def prefill(model, prompts, rounds: int) -> tuple[float, float]:
    """Milliseconds of prompts through a model with an empty cache, and of a forward pass without one."""
    variables = model.variables_tree()
    length = PROMPT + 64

    def cached(variables, tokens):
        cache = model.init_cache(len(prompts), length)
        outputs, _, cache = model.apply(variables, tokens, cache=cache, training=False)
        return outputs, cache

    both = [jax.jit(cached), jax.jit(lambda variables, tokens: model.apply(variables, tokens, training=True)[0])]
    best = [float("inf")] * 2
    for _ in range(rounds + 1):
        for index, function in enumerate(both):
            begun = time.perf_counter()
            jax.block_until_ready(function(variables, prompts))
            best[index] = min(best[index], (time.perf_counter() - begun) * 1000)
    return best[0], best[1]


def race_engines(model, clients: int, rounds: int, prompt: int = 32, new: int = 32) -> dict[int, float]:
    """Tokens per second, at best, of engines with one slot and with one for each client, in turn."""
    from kerax import language

    engines = {slots: language.Engine(model, slots, cache_length=128) for slots in (1, clients)}
    best = dict.fromkeys(engines, 0.0)
    for engine in engines.values():
        engine.prepare()
    prompts = np.random.default_rng(0).integers(0, VOCABULARY, (clients, prompt))
    for _ in range(rounds):
        for slots, engine in engines.items():
            begun = time.perf_counter()
            # One after the other they are all alike: a few tell how long they take.
            requests = [engine.submit(tokens, new, temperature=0.8) for tokens in prompts[: max(slots, 3)]]
            count = sum(len(request.result()) for request in requests)
            best[slots] = max(best[slots], count / (time.perf_counter() - begun))
    for engine in engines.values():
        engine.close()
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--kinds", default="float32,bfloat16,int8")
    parser.add_argument("--clients", type=int, default=0)
    parser.add_argument("--depth", type=int, default=DEPTH)
    given = parser.parse_args()
    if given.clients:
        for kind in given.kinds.split(","):
            model = build("bfloat16" if kind == "bfloat16" else "float32", given.depth)
            if kind == "int8":
                model.quantize("int8")
            one, many = race_engines(model, given.clients, given.rounds).values()
            print(
                f"{kind:14s} {one:7.1f} tokens/s one at a time, {many:7.1f} of {given.clients}: {many / one:.1f}",
                flush=True,
            )
        return
    prompts = np.random.default_rng(0).integers(0, VOCABULARY, (given.batch, PROMPT)).astype("int32")
    total = STEPS * 8
    turns, models = {}, {}
    for kind in given.kinds.split(","):
        models[kind] = build("bfloat16" if kind == "bfloat16" else "float32")
        models[kind].variables_tree()
        if kind == "int8":
            models[kind].quantize("int8")
        turns[kind] = kerax_turns(models[kind], prompts, total)
    if "float32" in models:
        loop = plain_loop(models["float32"].variables_tree()["params"], given.batch, PROMPT + total)
        turns["plain loop"] = plain_turns(*loop, prompts, total)
    theirs = torch_turns(prompts, total)
    if theirs is not None:
        turns["transformers"] = theirs
    found = race(turns, given.rounds)
    for name, best in found.items():
        ratios = "".join(
            f"  {best / found[other]:.2f} of {other}" for other in found if other in ("plain loop", "transformers")
        )
        print(f"{name:14s} {best:7.1f} ms a step{ratios}", flush=True)
    if "float32" in models:
        cached, plain = prefill(models["float32"], prompts, given.rounds)
        print(f"prompts        {cached:7.1f} ms, forward pass {plain:.1f}: {cached / plain:.2f}")


if __name__ == "__main__":
    main()
