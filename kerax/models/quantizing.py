"""The numbers that a model computes with: `Model.quantize` and `compile(dtype=)`."""

from typing import Any

from kerax import dtype_policies
from kerax.core.layer import Layer
from kerax.core.tracking import descendants
from kerax.quantizers.compressible import quantize_all


def quantize(self, mode=None, config=None, filters=None, type_check=True, **unknown):
    """Quantizes dense layers, embeddings and convolutions, as their `quantize` does.

    Keras does not quantize convolutions and cannot read files in which they are; `filters` can leave them out.

    Args:
        mode: `"int8"`, `"int4"`, `"nf4"`, `"float8"`, `"gptq"` or `"awq"`. Default: that of `config`.
        config: Config of `kerax.quantizers`, with data for `"gptq"` and `"awq"`. Default: the mode's.
        filters: Regular expression or list of them, searched for in layers' names, or function of a layer.
        type_check: Whether to leave subclasses of layers as they are.

    Compile again before training on. Raises `ValueError` if there is no such layer.
    """
    if unknown:
        raise ValueError(f"{self}: `quantize` takes no {sorted(unknown)}.")
    quantize_all(self, mode, config, filters, type_check)
    self.kerax_compilation.forget()


def take_policy(model, policy: Any) -> None:
    """Gives a dtype policy to a model and to the layers that have the model's.

    Raises:
        ValueError: if weights that are there would need another dtype.
    """
    policy, before = dtype_policies.get(policy), model.dtype_policy
    layers = [layer for layer in descendants(model) if isinstance(layer, Layer) and layer.dtype_policy == before]
    built = next((layer for layer in layers if layer.built and layer.weights), None)
    if built is not None and policy.variable_dtype != before.variable_dtype:
        raise ValueError(
            f"{model}: `compile(dtype={policy.name!r})` would keep weights in {policy.variable_dtype}, but those of "
            f"{built} are there in {before.variable_dtype}. Give a mixed policy, such as 'mixed_bfloat16', or call "
            f"`kerax.config.set_dtype_policy({policy.name!r})` before the layers are made."
        )
    for layer in {id(layer): layer for layer in (model, *layers)}.values():
        layer.dtype_policy = policy


def get_quantization_layer_structure(self, mode: str) -> dict | None:
    """`{"pre_block_layers", "sequential_blocks"}` for `"gptq"` and `"awq"`; a subclass says what they are."""
    return None
