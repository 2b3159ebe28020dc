"""How the entries of a page of the reference are grouped: by the file that they are written in."""

import importlib
import pkgutil
from types import ModuleType
from typing import Any

# By namespace the titles in their order, each with the last parts of modules' names; the rest comes last.
_TABLE = {
    "kerax.layers": """
        Core: dense embedding input_layer core_layers stack ternary wrappers layer input_spec foreign
        Convolution: conv conv_transpose conv_separable padding patches
        Pooling: pooling
        Attention and transformers: attention grouped_attention dot_attention transformer positions
        Recurrent: recurrent cells rnn conv_recurrent
        Normalization: normalization
        Dropout and noise: dropout
        Activation: activation
        Reshaping: reshaping
        Merging: merging
        Numbers, categories and text: preprocessing category lookup hashing text
        Images: image augmentation color equalization mixing
        Sound: audio
    """,
    "kerax.losses": """
        Classification: probabilistic
        Regression and margins: regression
        Embeddings: embedding
        Segmentation: segmentation
        Sequences: sequence
    """,
    "kerax.metrics": """
        Accuracy: accuracy
        Confusion: confusion f_score operating_point
        Probabilities: probabilistic
        Regression and correlation: regression correlation
        Segmentation: iou
        Any number: reduction metric
    """,
    "kerax.optimizers": """
        The usual ones: standard
        Adaptive: adaptive
        Newer: modern
        Around others: wrappers multi optimizer
    """,
    "kerax.callbacks": """
        Saving: checkpoints averaging
        Watching a number: monitors
        Logs and displays: progress history loggers tensorboard services throughput
        One's own: callback callback_list
    """,
    "kerax.ops": """
        Core: core functional
        Numbers and arrays: numpy
        Neural networks: nn
        Linear algebra: linalg
        Mathematics: math
        Signals: fourier
    """,
    "kerax.utils": """
        Data: folders sequence splitting arrays buckets py_dataset feature_space data
        Models and training: find_batch_size learning_rate_finder model_plot symbolic
        Files and images: files images
        Registered classes: registry activations
    """,
}
_REST = "Others"


def groups(namespace: str) -> dict[str, list[str]]:
    """The titles of a namespace, and what belongs to each."""
    lines = [line.split(":") for line in _TABLE.get(namespace, "").strip().splitlines()]
    return {title.strip(): homes.split() for title, homes in lines}


def grouped(namespace: str, names: list[str], module: ModuleType) -> list[tuple[str | None, list[str]]]:
    """The names in groups, each with its title; of a namespace without groups all in one that has none."""
    titles = groups(namespace)
    if not titles:
        return [(None, names)]
    homes = {name: _homes(getattr(module, name), name, module) for name in names}
    found = [(title, [name for name in names if _title(homes[name], titles) == title]) for title in [*titles, _REST]]
    return [(title, members) for title, members in found if members]


def _title(homes: list[str], titles: dict[str, list[str]]) -> str:
    return next((title for title, members in titles.items() if any(home in members for home in homes)), _REST)


def _homes(value: Any, name: str, module: ModuleType) -> list[str]:
    """The last parts of the names of the modules that something is written in."""
    home = getattr(value, "__module__", module.__name__)
    if home != module.__name__:
        return [home.rpartition(".")[2]]
    # Made while kerax is loaded, under the namespace's name: where it is known too.
    below = [importlib.import_module(f"{home}.{each.name}") for each in pkgutil.iter_modules(module.__path__)]
    return [name, *(each.__name__.rpartition(".")[2] for each in below if getattr(each, name, None) is value)]
