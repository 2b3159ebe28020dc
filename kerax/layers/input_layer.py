"""`Input`: where a graph of layers starts."""

import warnings
from typing import Any

from kerax import config, dtype_policies
from kerax.core.layer import Layer
from kerax.core.symbolic import KerasTensor, Node
from kerax.layers.options import check, check_unsupported, is_integer


class InputLayer(Layer):
    """The start of a graph: holds the symbolic tensor that data replaces.

    Args:
        shape: Sizes without the batch axis, `None` where unknown.
        batch_size: Size of the batch axis. Default: unknown.
        dtype: Default: `floatx()`.
        sparse: Whether it stands for a sparse array, JAX's `BCOO`.
        ragged: Not supported; must be false.
        batch_shape: Sizes with the batch axis, instead of `shape` and `batch_size`.
        input_tensor: Symbolic tensor to use instead of a new one.
        optional: Whether the input may be `None`.

    Raises:
        ValueError: if the shape is missing, given twice, or differs from that of `input_tensor`.
    """

    def __init__(
        self,
        shape=None,
        batch_size=None,
        dtype=None,
        sparse=None,
        ragged=None,
        batch_shape=None,
        input_tensor=None,
        optional=False,
        name=None,
        **kwargs,
    ):
        batch_shape = kwargs.pop("batch_input_shape", batch_shape)  # Keras's older names
        if "input_shape" in kwargs:
            warnings.warn("InputLayer: the argument `input_shape` is called `shape` now.", stacklevel=2)
            shape = kwargs.pop("input_shape")
        is_symbolic = input_tensor is None or isinstance(input_tensor, KerasTensor)
        check(self, is_symbolic, "`input_tensor` must be a symbolic tensor", input_tensor=input_tensor)
        found = None if input_tensor is None else input_tensor.dtype
        # As a policy, "int8" would be the name of a quantization.
        dtype = KerasTensor((), dtype or found or config.floatx()).dtype
        policy = dtype_policies.DTypePolicy("float32" if dtype == "string" else dtype)
        super().__init__(name=name, dtype=policy, **kwargs)
        self._data_dtype = dtype
        check_unsupported(self, ragged=ragged)
        given = {"batch_shape": batch_shape, "shape": shape, "batch_size": batch_size}
        is_one = batch_shape is None or (shape is None and batch_size is None)
        check(self, is_one, "pass either `batch_shape` or `shape` with `batch_size`", **given)
        # From here on there is one shape, with the batch axis, or only a tensor.
        if shape is not None:
            batch_shape = (batch_size, *_sizes(self, "shape", shape))
        elif batch_shape is not None:
            batch_shape = _sizes(self, "batch_shape", batch_shape)
        elif input_tensor is None:
            raise ValueError(
                f"{self}: `shape` is missing. Pass the sizes without the batch axis, such as shape=(28, 28)."
            )
        if input_tensor is None:
            input_tensor = KerasTensor(batch_shape, self.dtype, bool(sparse), name=name)
        # The batch size may differ: a tensor's is often not known.
        elif batch_shape is not None and tuple(batch_shape[1:]) != input_tensor.shape[1:]:
            raise ValueError(f"{self}: the shape {batch_shape} differs from that of the tensor, {input_tensor.shape}.")
        elif (
            batch_size not in (None, input_tensor.shape[0])
            or dtype != found
            or sparse not in (None, input_tensor.sparse)
        ):
            raise ValueError(
                f"{self}: batch_size={batch_size}, dtype={dtype} or sparse={sparse} differs from the tensor's: "
                f"{input_tensor.shape}, {found}, sparse={input_tensor.sparse}."
            )
        self.batch_shape = input_tensor.shape
        self.sparse, self.ragged = input_tensor.sparse, False
        self.optional = optional
        self.built = True
        # The graph begins at the tensor's node: it says which layer made it, from nothing.
        Node(self, (), {}, input_tensor)

    @property
    def dtype(self) -> str:
        """The dtype of the data."""
        return self._data_dtype

    def call(self, inputs: Any = None) -> Any:
        return inputs

    def get_config(self) -> dict:
        """The shape, dtype and name of the input."""
        names = ("batch_shape", "dtype", "sparse", "ragged", "name", "optional")
        return {name: getattr(self, name) for name in names}


def _sizes(layer, name: str, shape) -> tuple:
    shape = tuple(shape) if isinstance(shape, (list, tuple)) else (shape,)
    are_sizes = all(size is None or (is_integer(size) and size >= 0) for size in shape)
    check(layer, are_sizes, f"`{name}` must hold sizes of at least 0 or None", **{name: shape})
    return tuple(None if size is None else int(size) for size in shape)


def Input(
    shape: Any = None,
    batch_size: Any = None,
    dtype: Any = None,
    sparse: Any = None,
    ragged: Any = None,
    batch_shape: Any = None,
    name: Any = None,
    tensor: Any = None,
    optional: bool = False,
) -> KerasTensor:
    """A symbolic tensor from which a graph of layers is built; the arguments are those of `InputLayer`."""
    layer = InputLayer(shape, batch_size, dtype, sparse, ragged, batch_shape, tensor, optional, name)
    return layer.inbound_nodes[0].outputs
