"""Scores of classes as their names, the best first."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from kerax.serve.tensors import RequestError, TensorSpec

_LOSSES_OF_CLASSES = ("crossentropy", "hinge", "poly1")


def read_labels(path: str) -> list[str]:
    """The names of classes in a file: a JSON list, or one in each line.

    Raises:
        ValueError: if it cannot be read, or is no list of names.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        names = json.loads(text) if path.endswith(".json") else text.splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"labels: {path!r} cannot be read: {error}") from None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"labels: expected a list of names in {path!r}.")
    return [name.strip() for name in names]


def gives_classes(model: Any, loss: Any, outputs: list[TensorSpec]) -> bool:
    """Whether an output is likely to hold scores of classes, not the numbers of a regression.

    Args:
        model: A layer, or `None` if only its outputs are known.
        loss: What it was trained with: a name, a mapping from one, a function or an object; `None` if unknown.
        outputs: What a row gives.
    """
    if not outputs or len(outputs[0].shape) != 1:
        return False
    if loss is not None:
        name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
        name = str(next(iter(loss), "")) if isinstance(loss, dict) else name
        return any(word in name.replace("_", "").lower() for word in _LOSSES_OF_CLASSES)
    last = model.layers[-1] if getattr(model, "layers", None) else model
    activation = getattr(getattr(last, "activation", None), "__name__", type(last).__name__).lower()
    return activation in ("softmax", "sigmoid") or outputs[0].shape[0] != 1


def best_classes(scores: np.ndarray, labels: list[str] | None, count: int) -> list[list[tuple[float, int, str]]]:
    """For each row the `count` highest scores, each with the number of its class and its name.

    A single score is that of the second of two classes.

    Raises:
        RequestError: (400) for an output that holds no scores.
    """
    if scores.ndim != 2 or (scores.dtype.kind not in "fiu" and scores.dtype.name != "bfloat16"):
        raise RequestError(400, f"there are no classes: the output has shape {list(scores.shape)}.")
    scores = scores.astype(np.float64)
    if scores.shape[1] == 1:
        scores = np.concatenate([1 - scores, scores], axis=1)
    names = (
        labels if labels is not None and len(labels) == scores.shape[1] else [str(n) for n in range(scores.shape[1])]
    )
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return [[(float(row[n]), int(n), names[n]) for n in best] for row, best in zip(scores, order)]
