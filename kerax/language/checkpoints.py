"""`load` and `save`: models from and to folders of Hugging Face's form."""

import os
import warnings
from pathlib import Path
from typing import Any

from kerax import dtype_policies
from kerax.core.symbolic import KerasTensor
from kerax.errors import suggest
from kerax.language import files
from kerax.language.families import Config, Family, family_of
from kerax.language.models import Decoder, Encoder
from kerax.language.weights import rows

_FLOATS = ("float64", "float32", "float16", "bfloat16")


def create(config: dict, dtype: Any = None, quantization: str | None = None) -> Decoder | Encoder:
    """A model of an architecture, with weights that are not drawn until they are read.

    Args:
        config: What a `config.json` holds; its `model_type` names the architecture.
        dtype, quantization: As in `load`; the default dtype is the global policy.

    Raises:
        ValueError: if the architecture is unknown, or a field is missing or not supported.
    """
    return _create(config, family_of(config, "create"), dtype, quantization, "create")


def load(
    path: str | os.PathLike, dtype: Any = None, quantization: str | None = None, strict: bool = True
) -> Decoder | Encoder:
    """A language model from a folder with `config.json` and safetensors, as `transformers` writes them.

    Each tensor is read, laid on the devices that the active distribution names for it, and let go: the host holds one
    at a time. Nothing is drawn at random, and no code of the folder's is run.

    Args:
        path: The folder, or `hf://user/name`.
        dtype: Dtype or policy of the layers. Default: the one that the config names.
        quantization: `"int8"`, `"int4"`, `"nf4"`, or with a size of blocks `"nf4/64"`: how the matrices in the blocks
            are stored. Each is quantized as it is read.
        strict: Whether to refuse tensors that the model has no use for, rather than to warn of them.

    Returns: a `Decoder`, or for BERT and RoBERTa an `Encoder`.

    Raises:
        ValueError: if the architecture is unknown, tensors are missing, of another shape or too many, each by name, or
            there are pickles only.
        FileNotFoundError: if the folder or one of its files is not there.
    """
    folder = files.folder_of(path, "load", files.PATTERNS)
    config = files.read_json(folder / files.CONFIG, "load")
    family = family_of(config, "load")
    with files.Tensors(folder, "load") as tensors:
        model = _create(config, family, dtype or _dtype_in(config, tensors), quantization, "load")
        _fill(model, family, tensors, strict)
    return model


def save(model: Any, folder: str | os.PathLike, max_shard_size: float = 5e9) -> None:
    """Writes a language model so that `transformers` loads it, and `load` does.

    Low-rank updates are merged into the weights that are written, and quantized weights are written as floats; the
    model stays as it is.

    Args:
        model: A model that `load` or `create` made.
        folder: Where to write; made if it is not there.
        max_shard_size: Most bytes in one file; more than that goes to several, with an index.

    Raises:
        ValueError: if the model was made in another way.
    """
    source = getattr(model, "source", None)
    if not isinstance(source, dict):
        raise ValueError(f"save: {model} was not made by kerax.language.load or create. Use `model.save(PATH.keras)`.")
    _build(model)
    written = rows(model, family_of(source, "save"), has_prefix=has_head(model))
    tensors = {name: row.tensor() for name, row in written.items()}
    to = Path(folder)
    to.mkdir(parents=True, exist_ok=True)
    dtype = next(iter(tensors.values())).dtype
    name = "torch_dtype" if "torch_dtype" in source else "dtype"
    files.write_json(to / files.CONFIG, source | {name: dtype})
    files.write_tensors(to, tensors, int(max_shard_size))


def has_head(model: Any) -> bool:
    """Whether `transformers` holds the model in one that has a head: then it puts the family's prefix before names."""
    made_by = str((model.source.get("architectures") or [""])[0])
    return made_by.endswith("LMHeadModel") or not made_by.endswith("Model")


def _create(config: dict, family: Family, dtype: Any, quantization: str | None, who: str) -> Any:
    policy = dtype_policies.get(dtype)
    in_blocks = policy if quantization is None else dtype_policies.get(f"{quantization}_from_{policy.name}")
    model = family.make(Config(config, who, policy, in_blocks))
    _build(model)
    return model


def _build(model: Any):
    """Records the shapes of all weights, and makes none."""
    if not model.built:
        model.kerax_build_from(KerasTensor((None, None), "int32"))


def _dtype_in(config: dict, tensors: files.Tensors) -> str:
    named = str(config.get("dtype") or config.get("torch_dtype"))
    return named if named in _FLOATS else tensors.dtype()


def _fill(model: Any, family: Family, tensors: files.Tensors, strict: bool):
    # Early checkpoints of BERT call weight and bias of their normalizations so.
    found = {_renewed(name): name for name in tensors.names()}
    wanted = rows(model, family, has_prefix=any(name.startswith(family.prefix) for name in found))
    known = [name for name in found if name not in wanted and not name.endswith(family.recomputed)]
    is_tied = getattr(model, "tie_weights", True)
    surplus = [name for name in known if not (is_tied and name == "lm_head.weight")]
    wrong = [f"{name}: missing.{suggest(name, surplus)}" for name in wanted if name not in found]
    for name, row in wanted.items():
        if name in found and tensors.shape(found[name]) != row.shape:
            wrong.append(f"{name}: expected shape {row.shape}, found {tensors.shape(found[name])}")
    more = [f"{name}: in the files only" for name in surplus]
    if wrong or (more and strict):
        listed = [*wrong, *more]
        rest = [f"... and {len(listed) - 20} more"] if len(listed) > 20 else []
        hint = "" if wrong else "\nWith `strict=False` they are left out."
        raise ValueError(
            f"load: the tensors do not fit a {model.source['model_type']!r} of this config.json:\n  "
            + "\n  ".join([*listed[:20], *rest])
            + hint
        )
    if more:
        warnings.warn(f"load: left out, as the model has no use for them: {', '.join(surplus)}.", stacklevel=4)
    for name, row in wanted.items():
        row.put(tensors.read(found[name]))


def _renewed(name: str) -> str:
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
