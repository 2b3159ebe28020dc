"""GPTQ and AWQ on a model: blocks are fed with data, one after the other, and their dense layers quantized."""

import contextlib
import re
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax import dtype_policies
from kerax.core.layer import Layer
from kerax.core.tracking import descendants
from kerax.quantizers.functions import pack_int4
from kerax.quantizers.gptq import awq_matrix, gptq_matrix
from kerax.quantizers.representations import Groups, Uncalibrated


def is_picked(layer: Layer, filters: Any) -> bool:
    """Whether `filters` (regular expressions searched for in the name, or a function of the layer) pick a layer."""
    if filters is None:
        return True
    if callable(filters):
        return bool(filters(layer))
    patterns = [filters] if isinstance(filters, str) else filters
    return any(re.search(pattern, layer.name) for pattern in patterns)


def windows(config: Any) -> np.ndarray:
    """`num_samples` windows of the data's tokens, evenly spread, `(num_samples, sequence_length)`, int32.

    Data that are too short are repeated. A deviation from Keras, whose windows begin at a place that differs from
    process to process: they begin at the first token.
    """
    dataset, length = config.dataset, config.sequence_length
    name = type(config).__name__
    if dataset is None or config.tokenizer is None:
        raise ValueError(f"{name}: calibration needs `dataset` and `tokenizer`. Got {dataset!r}, {config.tokenizer!r}.")
    if isinstance(dataset, (str, bytes)) or not hasattr(dataset, "__iter__"):
        raise TypeError(f"{name}: `dataset` must be an iterable of texts or of arrays of tokens. Got {dataset!r}.")
    pieces = [
        np.asarray(config.tokenizer.tokenize(item) if isinstance(item, str) else item).reshape(-1) for item in dataset
    ]
    tokens = np.concatenate(pieces).astype("int32") if pieces else np.zeros(0, "int32")
    if not tokens.size:
        raise ValueError(f"{name}: `dataset` has no tokens.")
    tokens = np.tile(tokens, max(1, -(-config.num_samples * length // tokens.size)))
    num_starts = tokens.size - length + 1
    starts = np.arange(config.num_samples) * max(1, num_starts // config.num_samples) % num_starts
    return np.stack([tokens[start : start + length] for start in starts])


def calibrate(model: Any, config: Any, filters: Any = None) -> list[Layer]:
    """Quantizes the dense layers in the blocks of the model's structure. Returns the layers that were quantized.

    Raises:
        ValueError: if there is no structure or no block in it, or there are no data.
    """
    structure = config.quantization_layer_structure or model.get_quantization_layer_structure(config.mode)
    if structure is None:
        raise ValueError(
            f"{model}: mode {config.mode!r} must know the model's blocks: pass `quantization_layer_structure` in the "
            "config, or override `get_quantization_layer_structure(mode)`; a dict with 'pre_block_layers' and "
            "'sequential_blocks'."
        )
    blocks = structure.get("sequential_blocks", [])
    if not blocks:
        raise ValueError(f"{model}: `quantization_layer_structure` has no 'sequential_blocks'. Got {structure!r}.")
    samples = []
    for window in windows(config):
        sample = jnp.asarray(window)[None]
        for layer in structure.get("pre_block_layers", []):
            sample = layer(sample)
        samples.append(sample)
    quantized = []
    for block in blocks:
        layers = [layer for layer in _dense_layers(block) if is_picked(layer, filters)]
        inputs = _watched(block, samples, layers, config)
        for layer in layers:
            if layer in inputs:  # else the block never called it
                store(layer, config, inputs[layer])
                quantized.append(layer)
        # The next block sees what this one gives with its rounded weights, not with those it had.
        samples = [_first(block(sample)) for sample in samples]
    return quantized


def _dense_layers(block: Layer) -> list:
    """The layers that can be quantized so."""
    found: list = [layer for layer in descendants(block) if "gptq" in getattr(layer, "modes", ())]
    odd = [layer for layer in found if not _can_be_calibrated(layer)]
    if odd:
        warnings.warn(f"{odd}: not of the form inputs @ kernel, so left as floats.", stacklevel=4)
    return [layer for layer in found if layer not in odd]


def _can_be_calibrated(layer) -> bool:
    weight = layer.representations["kernel"]
    return bool(weight.num_contracted) and (isinstance(weight, Uncalibrated) or not layer.quantization_mode)


def _first(outputs):
    return jax.tree.leaves(outputs)[0]


def _watched(block: Layer, samples: list, layers: list, config) -> dict:
    """What the samples make of each layer's inputs: Hessians for GPTQ, largest magnitudes for AWQ."""
    found: dict = {}

    def watch(layer, inputs):
        rows = inputs.reshape(-1, layer.representations["kernel"].num_rows).astype("float32")
        if config.mode == "awq":
            largest = jnp.max(jnp.abs(rows), axis=0)
            found[layer] = jnp.maximum(found[layer], largest) if layer in found else largest
            return
        # Sums over the samples, so that no more than one sample's rows are kept.
        total, product = found.get(layer, (0, 0.0))
        found[layer] = total + rows.shape[0], product + rows.T @ rows

    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(_seeing_inputs(layer, watch))
        for sample in samples:
            block(sample)
    if config.mode == "awq":
        return found
    return {layer: 2 / total * product for layer, (total, product) in found.items()}


@contextlib.contextmanager
def _seeing_inputs(layer: Layer, watch):
    """Hands the inputs of every call of a layer to `watch(layer, inputs)`."""
    call = layer.call

    def watched(inputs, *args, **kwargs):
        watch(layer, inputs)
        return call(inputs, *args, **kwargs)

    layer.call = watched  # on the instance, so that it is found before the class's
    try:
        yield
    finally:
        del layer.call


def store(layer: Any, config: Any, statistics: Any) -> None:
    """Replaces a dense layer's kernel, with a low-rank update merged into it, by what GPTQ or AWQ make of it."""
    floats = layer.representations["kernel"]  # `value` has a low-rank update in it
    parts = _parts_of(layer, config, statistics)
    weight = Groups(floats, config, floats.shape)
    floats.drop()
    layer.lora_rank, layer.lora_alpha, layer.lora_enabled = None, None, False
    layer.quantization_config = type(config).from_config(config.get_config())  # without the data
    _set_mode(layer, config, is_calibrated=True)
    layer.representations["kernel"] = weight
    weight.add_parts(parts)


def prepare(layer: Any, config: Any) -> None:
    """What `quantize` of a layer alone does: integers beside the floats, which are used until it is calibrated."""
    floats = layer.representations["kernel"]
    if layer.lora_enabled or not floats.num_contracted:
        raise ValueError(f"{layer}: mode {config.mode!r} is for kernels without LoRA, of the form inputs @ kernel.")
    # As if all inputs were alike, so that a file of a layer that was never calibrated is one of rounded weights.
    alike = np.ones(floats.num_rows) if config.mode == "awq" else np.eye(floats.num_rows)
    parts = _parts_of(layer, config, alike)
    layer.quantization_config = config
    _set_mode(layer, config, is_calibrated=False)
    groups = Groups(floats, config, floats.shape)
    layer.representations["kernel"] = Uncalibrated(floats, groups)
    groups.add_parts(parts)


def _parts_of(layer, config, statistics) -> dict:
    """The stored parts of a layer's kernel."""
    floats = layer.representations["kernel"]
    parts = matrix_for(config, floats.value.reshape(floats.num_rows, -1), statistics)
    if config.weight_bits == 4:
        parts[""] = pack_int4(parts[""], axis=0, dtype="uint8")[0]
    return parts | {
        part: jnp.asarray(parts[part], layer.variable_dtype) for part in ("_scale", "awq_scales") if part in parts
    }


def _set_mode(layer, config, is_calibrated: bool) -> None:
    policy = layer.kerax_own_policy.name.split("_from_")[-1]
    layer._dtype_policy = dtype_policies.get(f"{config.dtype_policy_string()}_from_{policy}")
    setattr(layer, f"is_{config.mode}_calibrated", is_calibrated)


def matrix_for(config: Any, weights: Any, statistics: Any) -> dict:
    """The stored form of a matrix `(rows, columns)` for what `_watched` found."""
    return (gptq_matrix if config.mode == "gptq" else awq_matrix)(weights, statistics, config)
