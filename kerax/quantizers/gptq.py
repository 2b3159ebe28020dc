"""GPTQ and AWQ on one matrix: integers chosen by what the data make of it. On the host, in float32."""

from typing import Any

import numpy as np

from kerax.quantizers.functions import compute_quantization_parameters, dequantize_with_sz_map, quantize_with_sz_map

_BLOCK = 128  # columns whose errors reach the columns behind them at once


def gptq_matrix(weights: Any, hessian: Any, config: Any) -> dict:
    """Integers for a matrix, each column made up for the rounding of those before it.

    Args:
        weights: Floats `(rows, columns)`; every row is an input.
        hessian: `2 / n * inputs.T @ inputs`, `(rows, rows)`.
        config: `GPTQConfig`.

    Returns: integers `(columns, rows)` under `""`, `_scale` and `_zero` `(columns, groups)`, `g_idx` `(rows,)`.

    Deviations from Keras: ranges are found once for a group, also where it crosses a multiple of 128 rows or is the
    whole matrix (where Keras fails); `g_idx` holds whole numbers.
    """
    hessian = _damped(hessian, config.hessian_damping)
    weights = np.array(weights, np.float32).T  # (columns, rows)
    num_rows = weights.shape[1]
    order = np.arange(num_rows)
    if config.activation_order:
        order = np.argsort(-np.diagonal(hessian), kind="stable")
    # In the order in which rows are quantized: what comes later makes up for what came before.
    inverse = np.linalg.inv(hessian)[np.ix_(order, order)]
    weights = np.ascontiguousarray(weights[:, order])
    integers = np.zeros(weights.shape, "int32")
    size = num_rows if config.group_size == -1 else config.group_size
    scales, zeros = [], []
    scale, zero, largest = _parameters(weights[:, :size], config)
    for start in range(0, num_rows, _BLOCK):
        stop = min(start + _BLOCK, num_rows)
        block, influence = weights[:, start:stop].copy(), inverse[start:stop, start:stop]
        errors = np.zeros_like(block)
        for i in range(stop - start):
            if (start + i) % size == 0:  # a new group, whose weights already make up for the errors before it
                scale, zero, largest = _parameters(weights[:, start + i : start + i + size], config)
                scales.append(scale)
                zeros.append(zero)
            column = block[:, i]
            rounded = np.clip(np.round(column / scale + zero), 0, largest)
            integers[:, start + i] = rounded
            errors[:, i] = (column - scale * (rounded - zero)) / influence[i, i]
            block[:, i + 1 :] -= np.outer(errors[:, i], influence[i, i + 1 :])
        # Once per block, as one product, what the loop above does column by column inside of it.
        weights[:, stop:] -= errors @ inverse[start:stop, stop:]
    places = np.argsort(order)  # back to the order of the inputs
    return {
        "": integers[:, places].astype("uint8"),
        "_scale": np.stack(scales, 1),
        "_zero": np.stack(zeros, 1).astype("uint8"),
        "g_idx": (places // size).astype("float32"),
    }


def _damped(hessian, fraction: float) -> np.ndarray:
    """The Hessian with 1 where an input was never there, and a fraction of the mean added to the diagonal."""
    hessian = np.array(hessian, np.float32)
    diagonal = np.diagonal(hessian).copy()
    diagonal[diagonal == 0] = 1  # an input that is always 0 would make the matrix singular
    np.fill_diagonal(hessian, diagonal + np.float32(fraction) * diagonal.mean())
    return hessian


def _parameters(group, config) -> tuple:
    scale, zero, largest = compute_quantization_parameters(
        group, bits=config.weight_bits, symmetric=config.symmetric, per_channel=config.per_channel
    )
    return np.asarray(scale)[:, 0], np.asarray(zero)[:, 0].astype("float32"), float(largest)


def awq_matrix(weights: Any, magnitudes: Any, config: Any) -> dict:
    """Integers of 4 bits for a matrix whose rows were multiplied by factors before rounding.

    The factors are the inputs' magnitudes to the power, of some on a grid, that loses least of the outputs.

    Args:
        weights: Floats `(rows, columns)`; every row is an input.
        magnitudes: Largest magnitude of each input, `(rows,)`.
        config: `AWQConfig`.

    Returns: as `gptq_matrix`, and the factors `awq_scales` `(rows,)`.
    """
    weights = np.array(weights, np.float32).T
    magnitudes = np.array(magnitudes, np.float32)
    magnitudes[magnitudes < 1e-8] = 1
    found = []
    for i in range(config.num_grid_points + 1):
        factors = np.maximum(magnitudes ** np.float32(i / config.num_grid_points), np.float32(1e-4))
        # Around 1, so that they move precision between inputs and do not scale the whole matrix.
        factors = factors / max(np.sqrt(factors.max() * factors.min()), np.float32(1e-8))
        parts = _rounded_groups(weights * factors, config.group_size)
        restored = dequantize_with_sz_map(parts[""], parts["_scale"], parts["_zero"], parts["g_idx"]) / factors
        loss = np.mean((weights - np.asarray(restored)) ** 2 * magnitudes**2)
        found.append((float(loss), i, parts | {"awq_scales": factors}))
    best = min(found, key=lambda item: item[:2])[2]  # of equal losses the smaller exponent's
    return best | {"": np.asarray(best[""]).astype("uint8")}


def _rounded_groups(weights, group_size: int) -> dict:
    scale, zero, largest = compute_quantization_parameters(weights, bits=4, per_channel=True, group_size=group_size)
    num_rows = weights.shape[1]
    blocks = (np.arange(num_rows) // (num_rows if group_size == -1 else group_size)).astype("float32")
    integers = quantize_with_sz_map(weights, scale, zero, blocks, largest)
    return {"": integers, "_scale": scale, "_zero": zero, "g_idx": blocks}
