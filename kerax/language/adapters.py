"""Low-rank adapters of language models: enabled, saved alone and loaded in the form of `peft`, merged.

Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685; with quantized weights Dettmers et al. 2023,
https://arxiv.org/abs/2305.14314
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from kerax.core.tracking import descendants, walk
from kerax.errors import check_integers, suggest
from kerax.language import files
from kerax.language.checkpoints import has_head
from kerax.language.families import family_of
from kerax.language.weights import layer_at, modules_of
from kerax.quantizers import lora
from kerax.quantizers.compressible import Compressible

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TARGETS = ("query", "key", "value", "output", "gate", "up", "down")
_START, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_REFUSED = {"bias": "none", "use_dora": False, "modules_to_save": None, "layer_replication": None}


def enable_lora(
    model: Any, rank: int = 8, alpha: float | None = None, targets: Sequence[str] = ("query", "value"), dtype="float32"
) -> None:
    """Freezes a language model and trains `alpha / rank * a @ b` beside the matrices of its blocks that are named.

    They may be quantized, as by `load(..., quantization="int4")`. The update is added to what the matrix gives, and
    never made as large as the matrix.

    Args:
        model: What `load` or `create` made.
        rank: Size of the axis between `a` and `b`.
        alpha: Default: `rank`.
        targets: Some of `"query"`, `"key"`, `"value"`, `"output"`, `"gate"`, `"up"` and `"down"`.
        dtype: In which `a` and `b` are stored. In half precision small updates of an optimizer are rounded away; they
            are computed with in the layer's dtype either way.

    Raises:
        ValueError: if an argument is out of its range, or nothing is found to be adapted.
    """
    check_integers("enable_lora", rank=(rank, 1))
    unknown = [target for target in targets if target not in TARGETS]
    if unknown or isinstance(targets, str):
        raise ValueError(
            f"enable_lora: `targets` must be some of {TARGETS}. Got {targets!r}.{suggest(targets, TARGETS)}"
        )
    names = {f"{target}_dense" for target in targets}
    found = [layer for path, layer in _block_layers(model) if path.rpartition("/")[2] in names]
    if not found:
        raise ValueError(f"enable_lora: {model} has none of {tuple(targets)} in its blocks.")
    for layer in found:
        _enable(layer, rank, alpha, dtype)
    _freeze_rest(model)


def _enable(layer: Any, rank: int, alpha: Any, dtype: str):
    lora.enable(layer, rank, alpha, "he_uniform", "zeros", dtype=dtype, is_beside=True)


def _freeze_rest(model: Any):
    for path, variable in walk(model):
        variable.trainable = variable.is_parameter and path[-1].startswith("lora_")


def merge_lora(model: Any) -> None:
    """Adds all low-rank updates to their weights, quantized ones being quantized anew, and makes all floats trainable
    again."""
    for layer in descendants(model):
        if isinstance(layer, Compressible) and layer.lora_enabled:
            lora.merge(layer)
    for _, variable in walk(model):
        variable.trainable = variable.is_parameter


def save_adapter(model: Any, folder: str | os.PathLike, base: str | None = None) -> None:
    """Writes the low-rank updates alone, as `adapter_config.json` and `adapter_model.safetensors`, which `peft` loads.

    Where a family has several of kerax's matrices in one, their updates become one of the sum of their ranks.

    Args:
        model: A language model with `enable_lora`.
        folder: Where to write; made if it is not there.
        base: Name or folder of the model that they belong to, which `peft` looks for.

    Raises:
        ValueError: if there are none.
    """
    family = family_of(model.source, "save_adapter")
    tensors, ranks, alphas = {}, {}, {}
    for module, target, layers in _modules(model):
        if any(layer.lora_enabled for layer in layers):
            a, b, scale = _joined(layers)
            tensors[f"{_START}{module}{_A}"], tensors[f"{_START}{module}{_B}"] = a, b
            ranks[target], alphas[target] = len(a), scale * len(a)
    if not tensors:
        raise ValueError(f"save_adapter: {model} has no low-rank updates. Call `enable_lora` first.")
    (rank, _), (alpha, _) = (Counter(found.values()).most_common(1)[0] for found in (ranks, alphas))
    config = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION" if "bert" in model.source["model_type"] else "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {target: found for target, found in ranks.items() if found != rank},
        "alpha_pattern": {target: found for target, found in alphas.items() if found != alpha},
        "target_modules": _targets(list(ranks), {target for _, target, _ in _modules(model)}),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": not family.is_transposed,
        "inference_mode": True,
    }
    to = Path(folder)
    to.mkdir(parents=True, exist_ok=True)
    files.write_json(to / CONFIG, config)
    written = {
        name: files.Tensor(array.shape, array.dtype.name, lambda array=array: array) for name, array in tensors.items()
    }
    files.write_tensors(to, written, 2**62, whole=WEIGHTS)


def _targets(ends: list[str], known: set[str]) -> Any:
    """How `peft` finds the modules: by the ends of their names, or where others end so too by a regular expression."""
    if any(other.endswith(f".{end}") for other in known for end in ends):
        return rf".*\.\d+\.({'|'.join(map(re.escape, ends))})"
    return ends


def load_adapter(model: Any, folder: str | os.PathLike, dtype: str = "float32") -> None:
    """Puts the low-rank updates that `save_adapter` or `peft` wrote beside a model's weights, and freezes these.

    Args:
        model: The language model that they were trained beside.
        folder: A folder with `adapter_config.json` and `adapter_model.safetensors`, or `hf://user/name`.
        dtype: As in `enable_lora`.

    Raises:
        ValueError: if they are of another kind than low-rank updates of matrices, or do not fit the model, by name.
    """
    place = files.folder_of(folder, "load_adapter", files.PATTERNS)
    config = files.read_json(place / CONFIG, "load_adapter")
    if config.get("peft_type") != "LORA":
        raise ValueError(f"load_adapter: expected adapters of type 'LORA'. Got {config.get('peft_type')!r}.")
    for name, only in _REFUSED.items():
        if config.get(name) not in (None, only, [], ()):
            raise ValueError(f"load_adapter: `{name}` of {config[name]!r} is not supported, only {only!r}.")
    with files.Tensors(place, "load_adapter", whole=WEIGHTS) as tensors:
        _read(model, config, tensors, dtype)
    _freeze_rest(model)


def _read(model: Any, config: dict, tensors: files.Tensors, dtype: str):
    modules = {module: (target, layers) for module, target, layers in _modules(model)}
    stored = {name.removesuffix(_A).removesuffix(_B).removeprefix(_START) for name in tensors.names()}
    needed = {f"{_START}{module}{end}" for module in stored for end in (_A, _B)}
    odd = sorted(stored - modules.keys()) + sorted(needed ^ set(tensors.names()))
    if odd:
        raise ValueError(f"load_adapter: the adapter does not fit {model}. Not matched: {odd[:8]}.")
    for module in sorted(stored):
        target, layers = modules[module]
        a, b = (tensors.read(f"{_START}{module}{end}") for end in (_A, _B))
        _check_fit(module, layers, a, b)
        rank = len(a)
        alpha = _of_module(config.get("alpha_pattern"), module, target, config.get("lora_alpha", rank))
        alpha = alpha * rank**0.5 if config.get("use_rslora") else alpha
        start = 0
        for layer in layers:
            _enable(layer, rank, alpha, dtype)
            weight: Any = layer.representations["kernel"]
            end = start + weight.num_columns
            for part, value in (("a", a.T), ("b", b[start:end].T)):
                weight.variables[part].assign(value.reshape(weight.variables[part].shape))
            start = end


def _check_fit(module: str, layers: list, a: np.ndarray, b: np.ndarray):
    weights = [layer.representations["kernel"] for layer in layers]
    expected = (weights[0].num_rows, sum(weight.num_columns for weight in weights))
    if a.ndim != 2 or b.ndim != 2 or (a.shape[1], b.shape[0]) != expected or a.shape[0] != b.shape[1]:
        raise ValueError(
            f"load_adapter: {module}: expected lora_A (rank, {expected[0]}) and lora_B ({expected[1]}, rank). "
            f"Got {a.shape} and {b.shape}."
        )


def _of_module(pattern: dict | None, module: str, target: str, default: Any) -> Any:
    """What a pattern of `peft` says of a module, by the end of its name."""
    found = [value for end, value in (pattern or {}).items() if module == end or module.endswith(f".{end}")]
    return found[0] if found else default


def _joined(layers: list) -> tuple[np.ndarray, np.ndarray, float]:
    """`A (rank, inputs)`, `B (outputs, rank)` and the factor of the updates of matrices side by side."""
    updates = [layer.representations["kernel"] if layer.lora_enabled else None for layer in layers]
    each = [_parts(update) for update in updates if update is not None]
    scales = {update.factor for update in updates if update is not None}
    if len(scales) > 1:
        raise ValueError(f"save_adapter: {layers[0]} and those beside it have different factors: {sorted(scales)}.")
    a = each[0][0]
    is_shared = len(each) == len(layers) and all(np.array_equal(other, a) for other, _ in each)
    if is_shared:
        return a.T, np.concatenate([b for _, b in each], axis=1).T, scales.pop()
    a, rank, start, column = np.concatenate([one for one, _ in each], axis=1), sum(len(b) for _, b in each), 0, 0
    b, given = np.zeros((rank, sum(_num_columns(layer) for layer in layers)), a.dtype), iter(each)
    for layer, update in zip(layers, updates, strict=True):
        if update is not None:
            own = next(given)[1]
            b[start : start + len(own), column : column + own.shape[1]] = own
            start += len(own)
        column += _num_columns(layer)
    return a.T, b.T, scales.pop()


def _num_columns(layer: Any) -> int:
    return layer.representations["kernel"].num_columns


def _parts(update: Any) -> tuple[np.ndarray, np.ndarray]:
    """`a (inputs, rank)` and `b (rank, outputs)` as matrices on the host."""
    a, b = (np.asarray(jnp.asarray(update.variables[part].value)) for part in "ab")
    return a.reshape(-1, a.shape[-1]), b.reshape(b.shape[0], -1)


def _modules(model: Any) -> Iterator[tuple[str, str, list]]:
    """Modules with matrices in the blocks: the name, the part of it that all blocks share, and the layers."""
    family = family_of(model.source, "adapters")
    prefix = family.prefix if has_head(model) else ""
    for module, paths in modules_of(model, family):
        layers = [layer_at(model, path) for path in paths]
        if paths[0].startswith("blocks/") and isinstance(layers[0], Compressible):
            shared = module.split(".")
            number = next(index for index, word in enumerate(shared) if word.isdigit())
            yield f"{prefix}{module}", ".".join(shared[number + 1 :]), layers


def _block_layers(model: Any) -> Iterator[tuple[str, Any]]:
    for _, paths in modules_of(model, family_of(model.source, "enable_lora")):
        for path in paths:
            layer = layer_at(model, path)
            if path.startswith("blocks/") and isinstance(layer, Compressible):
                yield path, layer
