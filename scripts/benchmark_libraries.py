"""Speed of KerasHub's models on kerax beside Keras on its JAX backend: ratios kerax / Keras, below 1 is faster.

Each figure is the best of `--rounds` processes of each side, in turn, as the machine may be shared. First step: the
making of the model and the `fit` of one step. Step: one of the following. Token: of `generate` with a cache. Load:
`from_preset` of a decoder, and the most memory that its process held. Needs keras-hub and keras in this Python.

    python scripts/benchmark_libraries.py [--rounds 3] [--models encoder,decoder,image] [--load 500]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

SIZES = {"tiny": {"num_layers": 2, "hidden_dim": 32}, "mid": {"num_layers": 4, "hidden_dim": 256}}
LENGTH, GIVEN, ROWS, STEPS = 64, 16, 8, 8


def begin(side: str):
    """`keras` and `keras_hub` of one side."""
    if side == "kerax":
        import kerax

        kerax.as_keras()
    import keras
    import keras_hub

    assert ("kerax" in keras.layers.Dense.__module__) == (side == "kerax")
    return keras, keras_hub


def decoder(hub, size: dict, vocabulary: int = 1000):
    sizes = size | {"num_query_heads": 4, "num_key_value_heads": 2, "intermediate_dim": 4 * size["hidden_dim"]}
    backbone = hub.models.LlamaBackbone(vocabulary_size=vocabulary, **sizes)
    return hub.models.LlamaCausalLM(backbone=backbone, preprocessor=None)


def make(kind: str, hub, size: dict):
    """A task, its batch and its targets."""
    rng, width = np.random.default_rng(0), size["hidden_dim"]
    tokens = rng.integers(1, 1000, (ROWS * STEPS, LENGTH)).astype("int32")
    batch = {"token_ids": tokens, "padding_mask": np.ones_like(tokens)}
    classes = rng.integers(0, 3, ROWS * STEPS)
    if kind == "decoder":
        return decoder(hub, size), batch, tokens
    if kind == "encoder":
        sizes = size | {"num_heads": 4, "intermediate_dim": 4 * width, "max_sequence_length": LENGTH}
        backbone = hub.models.BertBackbone(vocabulary_size=1000, **sizes)
        task = hub.models.BertTextClassifier(backbone=backbone, preprocessor=None, num_classes=3)
        return task, batch | {"segment_ids": np.zeros_like(tokens)}, classes
    backbone = hub.models.ViTBackbone(image_shape=(64, 64, 3), patch_size=8, num_heads=4, mlp_dim=4 * width, **size)
    task = hub.models.ViTImageClassifier(backbone=backbone, preprocessor=None, num_classes=3)
    return task, rng.uniform(size=(ROWS * STEPS, 64, 64, 3)).astype("float32"), classes


def measure(side: str, kind: str, size: str) -> dict:
    """The figures of one process."""
    keras, hub = begin(side)
    start = time.perf_counter()
    if kind == "load":
        hub.models.CausalLM.from_preset(size, preprocessor=None)
        return {"load": time.perf_counter() - start, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    task, inputs, targets = make(kind, hub, SIZES[size])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    task.compile(optimizer="adam", loss=loss, **({"sampler": "greedy"} if kind == "decoder" else {}))

    def seconds(function, *args, **kwargs) -> float:
        start = time.perf_counter()
        function(*args, **kwargs)
        return time.perf_counter() - start

    first = keras.tree.map_structure(lambda array: array[:ROWS], (inputs, targets))
    task.fit(*first, batch_size=ROWS, verbose=0)
    found = {"first step": time.perf_counter() - start}
    found["step"] = min(seconds(task.fit, inputs, targets, batch_size=ROWS, verbose=0) for _ in range(3)) / STEPS
    if kind == "decoder":
        prompt = first[0] | {"padding_mask": np.repeat([[1] * GIVEN + [0] * (LENGTH - GIVEN)], ROWS, 0)}
        found["first generate"] = seconds(task.generate, prompt, stop_token_ids=None)
        found["token"] = min(seconds(task.generate, prompt, stop_token_ids=None) for _ in range(5)) / (LENGTH - GIVEN)
    return found


def compare(kind: str, size: str, rounds: int) -> None:
    """Prints kerax / Keras for each figure of a model."""
    best: dict[str, dict] = {"kerax": {}, "keras": {}}
    for _ in range(rounds):
        for side, figures in best.items():
            command = [sys.executable, __file__, "--one", side, kind, size]
            done = subprocess.run(
                command, env=os.environ | {"KERAS_BACKEND": "jax"}, stdout=subprocess.PIPE, text=True, check=True
            )
            for name, value in json.loads(done.stdout.splitlines()[-1]).items():
                figures[name] = min(value, figures.get(name, value))
    ratios = {name: value / best["keras"][name] for name, value in best["kerax"].items()}
    print(kind, os.path.basename(size), *(f"{name} {ratio:.2f}" for name, ratio in ratios.items()), sep="  ")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(*sys.argv[2:])))
        sys.exit()
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", default="encoder,decoder,image", help="with commas")
    parser.add_argument("--load", type=int, default=500, help="MB of the preset that is loaded; 0 for none")
    options = parser.parse_args()
    for kind in filter(None, options.models.split(",")):
        for size in SIZES:
            compare(kind, size, options.rounds)
    if options.load:
        with tempfile.TemporaryDirectory() as folder:
            _, hub = begin("keras")
            vocabulary = options.load * 1_000_000 // 4 // 512
            decoder(hub, {"num_layers": 4, "hidden_dim": 512}, vocabulary).save_to_preset(f"{folder}/load")
            compare("load", f"{folder}/load", options.rounds)
