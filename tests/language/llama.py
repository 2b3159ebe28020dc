"""A folder of a tiny Llama with known tensors, and the formula of the model in NumPy."""

import json

import numpy as np
from safetensors.numpy import save_file

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100.0,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


def tensors(config=CONFIG, dtype="float32"):
    """Random tensors under their names in a checkpoint."""
    random = np.random.default_rng(0)
    width, inner, size = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = width // config["num_attention_heads"]
    shared = head * config["num_key_value_heads"]
    shapes = {
        "model.embed_tokens.weight": (size, width),
        "model.norm.weight": (width,),
        "lm_head.weight": (size, width),
    }
    for index in range(config["num_hidden_layers"]):
        own = {"q_proj": (width, width), "k_proj": (shared, width), "v_proj": (shared, width), "o_proj": (width, width)}
        mlp = {"gate_proj": (inner, width), "up_proj": (inner, width), "down_proj": (width, inner)}
        norms = {"input_layernorm": (width,), "post_attention_layernorm": (width,)}
        for part, each in (("self_attn.", own), ("mlp.", mlp), ("", norms)):
            shapes |= {f"model.layers.{index}.{part}{name}.weight": shape for name, shape in each.items()}
    return {name: random.normal(0, 0.3, shape).astype(dtype) for name, shape in shapes.items()}


def write(folder, found=None, config=CONFIG, num_files=1):
    """Writes a checkpoint, in one file or several with their index."""
    found = tensors(config) if found is None else found
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if num_files == 1:
        save_file(found, folder / "model.safetensors", {"format": "pt"})
        return folder
    places = {name: f"model-{index % num_files}.safetensors" for index, name in enumerate(found)}
    for place in set(places.values()):
        save_file({name: found[name] for name in found if places[name] == place}, folder / place)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def logits(found, ids, config=CONFIG):
    """The logits of one row of ids, by the formula of the paper: https://arxiv.org/abs/2302.13971"""
    hidden, length = found["model.embed_tokens.weight"][ids].astype("float64"), len(ids)
    heads, width = config["num_attention_heads"], config["hidden_size"] // config["num_attention_heads"]

    def norm(x, name):
        return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + config["rms_norm_eps"]) * found[name]

    def turn(x):  # (heads, length, width)
        angle = np.outer(np.arange(length), config["rope_theta"] ** (-np.arange(0, width, 2) / width))
        first, second = np.split(x, 2, axis=-1)
        return np.concatenate(
            [first * np.cos(angle) - second * np.sin(angle), second * np.cos(angle) + first * np.sin(angle)], axis=-1
        )

    def split(x):
        return x.reshape(length, -1, width).transpose(1, 0, 2)

    for index in range(config["num_hidden_layers"]):
        w = {name.removeprefix(f"model.layers.{index}."): value for name, value in found.items()}
        x = norm(hidden, f"model.layers.{index}.input_layernorm.weight")
        query, key, value = (split(x @ w[f"self_attn.{name}_proj.weight"].T) for name in "qkv")
        key, value = (np.repeat(part, heads // config["num_key_value_heads"], axis=0) for part in (turn(key), value))
        scores = turn(query) @ key.transpose(0, 2, 1) / np.sqrt(width)
        scores = np.where(np.tril(np.ones((length, length), bool)), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        seen = (weights / weights.sum(-1, keepdims=True) @ value).transpose(1, 0, 2).reshape(length, -1)
        hidden = hidden + seen @ w["self_attn.o_proj.weight"].T
        x = norm(hidden, f"model.layers.{index}.post_attention_layernorm.weight")
        gate, up = (x @ w[f"mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        hidden = hidden + (gate / (1 + np.exp(-gate)) * up) @ w["mlp.down_proj.weight"].T
    return norm(hidden, "model.norm.weight") @ found["lm_head.weight"].T
