"""`Model.quantize`."""

from kerax.quantizers.compressible import quantize_all


def quantize(self, mode=None, config=None, filters=None, type_check=True, **unknown):
    """Quantizes dense layers, embeddings and convolutions, as their `quantize` does.

    Keras does not quantize convolutions and cannot read files in which they are; `filters` can leave them out.

    Args:
        mode: `"int8"`, `"int4"`, `"float8"`, `"gptq"` or `"awq"`. Default: that of `config`.
        config: Config of `kerax.quantizers`, with data for `"gptq"` and `"awq"`. Default: the mode's.
        filters: Regular expression or list of them, searched for in layers' names, or function of a layer.
        type_check: Whether to leave subclasses of layers as they are.

    Compile again before training on. Raises `ValueError` if there is no such layer.
    """
    if unknown:
        raise ValueError(f"{self}: `quantize` takes no {sorted(unknown)}.")
    quantize_all(self, mode, config, filters, type_check)
    self.kerax_compilation.forget()


def get_quantization_layer_structure(self, mode: str) -> dict | None:
    """`{"pre_block_layers", "sequential_blocks"}` for `"gptq"` and `"awq"`; a subclass says what they are."""
    return None
