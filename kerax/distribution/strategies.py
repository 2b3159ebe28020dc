"""Distributions: which layout each weight, batch and output has on a mesh. One is active at a time.

The engine asks the active one where the leaves of the state and the rows of a batch lie; XLA derives everything else
(Xu et al. 2021, https://arxiv.org/abs/2105.04663). Weights that several devices could hold in parts without computing
in parts (`FSDP`) are gathered where a layer reads them and their gradients scattered again (Rajbhandari et al. 2019,
https://arxiv.org/abs/1910.02054, stage 3).
"""

import contextlib
import functools
import math
import warnings
import weakref
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from kerax.core import placement
from kerax.core.tracking import all_that_compute
from kerax.distribution.mesh import DeviceMesh, LayoutMap, TensorLayout

Tree = Any


class Distribution:
    """Weights whole on every device, rows of batches spread over one axis of the mesh or several.

    Args:
        device_mesh: The `DeviceMesh`.
        batch_dim_name: Name of the mesh axis that rows are spread over, or a tuple of names. Default: the first axis.
        auto_shard_dataset: Whether `distribute_dataset` gives each process a share.

    Raises:
        ValueError: if the mesh has no such axis.
    """

    gathers = False  # whether layers compute with more of a weight than a device holds

    def __init__(self, device_mesh, batch_dim_name=None, auto_shard_dataset: bool = True):
        if not isinstance(device_mesh, DeviceMesh):
            raise ValueError(f"{type(self).__name__}: expected a `DeviceMesh`. Got {device_mesh!r}.")
        self.device_mesh, self.auto_shard_dataset = device_mesh, auto_shard_dataset
        self.batch_dim_name = batch_dim_name or device_mesh.axis_names[0]
        TensorLayout((self.batch_dim_name,), device_mesh)  # checks the name
        # Models that were checked: `fit` is called again and again. Weakly, so that they can go.
        self._checked: weakref.WeakSet = weakref.WeakSet()

    @functools.cached_property
    def replicated(self) -> NamedSharding:
        """The sharding of what is whole on every device."""
        return NamedSharding(self.device_mesh.backend_mesh, PartitionSpec())

    @property
    def num_processes(self) -> int:
        """Number of processes whose devices are in the mesh."""
        return len({getattr(device, "process_index", 0) for device in self.device_mesh.devices.flat})

    @property
    def num_model_replicas(self) -> int:
        """Number of parts that a batch is cut into."""
        return self.device_mesh.axis_size(self.batch_dim_name)

    @property
    def num_shares(self) -> int:
        """Number of shares that processes read the data in. Those that hold parts of one model read the same rows."""
        return min(self.num_processes, self.num_model_replicas)

    @property
    def shards_weights(self) -> bool:
        """Whether weights may be cut over devices, rather than lie whole on each."""
        return type(self).get_variable_layout is not Distribution.get_variable_layout

    @property
    def data_shard_id(self) -> int:
        """Number of this process's share of the data, from 0."""
        return jax.process_index() * self.num_shares // self.num_processes

    def get_data_layout(self, data_shape) -> TensorLayout:
        """The layout of a batch of this shape: its rows spread."""
        return TensorLayout((self.batch_dim_name, *[None] * (len(data_shape) - 1)), self.device_mesh)

    def get_variable_layout(self, variable) -> TensorLayout:
        """The layout of a variable: its own `layout` if it has one, else whole on every device."""
        return getattr(variable, "layout", None) or TensorLayout([None] * len(variable.shape), self.device_mesh)

    def get_tensor_layout(self, path: str) -> TensorLayout | None:
        """The layout of the output of the layer with this path and `/output`, or `None` for whatever XLA finds best."""
        return None

    @property
    def logical_axes(self) -> dict[str, Any]:
        """The mesh axes of what layers call the axes of their activations."""
        return {"batch": self.batch_dim_name}

    def get_logical_layout(self, shape, names) -> TensorLayout:
        """The layout of an activation whose axes have logical names; an axis that does not divide stays whole."""
        axes = [self.logical_axes.get(name) for name in names]
        sizes = map(self.device_mesh.axis_size, axes)
        kept = [None if size % parts else axis for axis, size, parts in zip(axes, shape, sizes, strict=True)]
        return TensorLayout(kept, self.device_mesh)

    @contextlib.contextmanager
    def scope(self):
        """Makes this the active distribution for the length of a `with` block."""
        before = placement.active()
        placement.set_active(self)
        try:
            yield self
        finally:
            placement.set_active(before)

    def distribute_dataset(self, dataset):
        """This process's share of a data set of samples or batches; all of it with one process.

        Args:
            dataset: Anything with `shard(num_shards, index)` (`tf.data`, Hugging Face), or that slices by
                `dataset[index::num_shards]` (grain's `MapDataset`, arrays).

        Raises:
            ValueError: if it does neither.
        """
        count = self.num_shares
        if count == 1 or not self.auto_shard_dataset:
            return dataset
        if hasattr(dataset, "shard"):
            return dataset.shard(count, self.data_shard_id)
        if hasattr(dataset, "__getitem__"):
            return dataset[self.data_shard_id :: count]
        raise ValueError(
            f"distribute_dataset: cannot cut a {type(dataset).__name__} into shares. Let each process read its own "
            "part, see `kerax.distribution.process_batch_size`, and pass `auto_shard_dataset=False`."
        )

    distribute_tf_dataset = distribute_dataset

    # What the engine asks.

    def variable_sharding(self, variable) -> NamedSharding:
        """Where a variable's array lies. Slots of optimizers lie like their weights."""
        owner = variable.reference if variable.reference is not None else variable
        if owner.shape != variable.shape:  # a slot of another form, such as Adafactor's rows and columns
            return self.replicated
        layout = self.get_variable_layout(owner)
        # JAX would say it too, but not which weight.
        layout.check(owner.path, owner.shape)
        return layout.backend_layout

    def as_computed(self, variable, value):
        """A traced value of a variable as layers compute with it."""
        return value

    def batch_sharding(self, shape: tuple[int, ...], axis: int = 0) -> NamedSharding:
        """Rows spread along `axis`, or whole everywhere if the devices do not divide them."""
        if len(shape) <= axis or shape[axis] % self.num_model_replicas:
            return self.replicated
        return NamedSharding(self.device_mesh.backend_mesh, PartitionSpec(*[None] * axis, self.batch_dim_name))

    def constrain_batch(self, batch: Tree) -> Tree:
        """A traced batch with its rows spread."""
        return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, self.batch_sharding(leaf.shape)), batch)

    def place_batch(self, batch: Tree, is_whole: bool = False) -> Tree:
        """A batch with its rows spread. Each process gives its share of the rows, or if `is_whole` all of them."""
        return jax.tree.map(lambda leaf: self._place_rows(leaf, is_whole), batch)

    def _place_rows(self, leaf, is_whole: bool):
        # An array that spans processes already is spread as it says; it only changes places.
        if is_whole or self.num_processes == 1 or (isinstance(leaf, jax.Array) and not leaf.is_fully_addressable):
            return placement.put(leaf, self.batch_sharding(leaf.shape))
        shape = self.global_shape(leaf.shape)
        if not shape or shape[0] % self.num_model_replicas:
            raise ValueError(
                f"A batch of {shape[:1]} rows in all processes cannot be spread over {self.num_model_replicas} devices."
                f" Let each process give as many rows as the others, a multiple of "
                f"{max(self.num_model_replicas // self.num_shares, 1)}."
            )
        return jax.make_array_from_process_local_data(self.batch_sharding(shape), np.asarray(leaf), shape)

    def global_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a batch of which each process has a share of this shape."""
        return (shape[0] * self.num_shares, *shape[1:]) if shape else shape

    def check(self, model, batch_spec: Tree, who: str):
        """Raises `ValueError` unless layouts fit the model's shapes; warns of rules that match nothing and of a batch
        that the devices do not divide, which each of them computes whole."""
        sizes = {leaf.shape[0] for leaf in jax.tree.leaves(batch_spec) if leaf.shape}
        for size in (size for size in sizes if size % self.num_model_replicas):
            warnings.warn(
                f"{who}: a batch of {size} rows cannot be spread over the {self.num_model_replicas} devices of mesh "
                f"axis {self.batch_dim_name!r}; each computes all of it. Use a `batch_size` that divides by "
                f"{self.num_model_replicas}.",
                stacklevel=5,
            )
        if model not in self._checked:
            self.check_model(model)
            self._checked.add(model)

    def check_model(self, model):
        """Raises `ValueError` unless every weight can be laid out as this says."""
        for variable in model.variables:
            self.variable_sharding(variable)

    def __repr__(self):
        return f"<{type(self).__name__} device_mesh={self.device_mesh}, batch_dim_name={self.batch_dim_name!r}>"


class DataParallel(Distribution):
    """Every device has all weights and computes a part of each batch.

    Args:
        device_mesh: A `DeviceMesh`; rows are spread over its first axis.
        devices: Devices or their names instead of a mesh. Default: all devices.
        auto_shard_dataset: Whether `distribute_dataset` gives each process a share.
    """

    def __init__(self, device_mesh=None, devices=None, auto_shard_dataset: bool = True):
        if device_mesh is None:
            device_mesh = DeviceMesh((-1,), ("batch",), devices)
        super().__init__(device_mesh, None, auto_shard_dataset)


class ModelParallel(Distribution):
    """Weights spread as a `LayoutMap` says, rows of batches over one axis of the mesh or several.

    Args:
        layout_map: The `LayoutMap`. Weights that no rule matches are whole on every device.
        batch_dim_name: Name of the mesh axis, or names of those, that rows are spread over. Default: the first.
        auto_shard_dataset: Whether `distribute_dataset` gives each process a share.

    Raises:
        ValueError: without a layout map.
    """

    def __init__(self, *, layout_map=None, batch_dim_name=None, auto_shard_dataset: bool = True, **kwargs):
        kwargs.pop("device_mesh", None)  # Keras admits and ignores it
        if kwargs:
            raise TypeError(f"{type(self).__name__}: unknown argument {next(iter(kwargs))!r}.")
        if not isinstance(layout_map, LayoutMap):
            raise ValueError(f"{type(self).__name__}: `layout_map` must be a `LayoutMap`. Got {layout_map!r}.")
        super().__init__(layout_map.device_mesh, batch_dim_name, auto_shard_dataset)
        self.layout_map = layout_map

    def get_variable_layout(self, variable) -> TensorLayout:
        """The variable's own layout, else that of the rule that matches its path, else whole on every device."""
        own, rule = getattr(variable, "layout", None), self.layout_map.of_part(variable.path)
        if own is None and rule is not None and _num_stacked(variable):  # a rule is about the weight of one block
            rule = TensorLayout((*[None] * _num_stacked(variable), *rule.axes), self.device_mesh)
        return own or rule or super().get_variable_layout(variable)

    def get_tensor_layout(self, path: str) -> TensorLayout | None:
        """The layout of the rule that matches this path of an output."""
        return self.layout_map.of_part(path)

    @property
    def logical_axes(self) -> dict[str, Any]:
        """Those of the layout map, and `"batch"`."""
        return super().logical_axes | self.layout_map.logical_axes

    def check_model(self, model):
        """Warns also if a rule matches nothing."""
        super().check_model(model)
        outputs = [f"{path}/output" for layer in all_that_compute(model) if (path := getattr(layer, "path", None))]
        paths = [variable.path for variable in model.variables] + outputs
        self.layout_map.check_used(paths + [path.partition("/")[2] for path in paths])


class FSDP(ModelParallel):
    """Weights, gradients and optimizer state spread over the axis that rows are spread over, too.

    Each weight is cut along its largest dimension that the axis divides and no rule has taken; layers gather it when
    they compute, and again for the gradient, so that no device ever holds all of them. Small weights are whole on every
    device.

    Args:
        device_mesh: A `DeviceMesh`. Default: all devices along one axis, or the layout map's.
        layout_map: `LayoutMap` of what is to be spread over other axes besides (tensor parallel).
        batch_dim_name: Name of the mesh axis, or names of those, that rows are spread over. Default: the first.
        shard_dim_name: Name of the axis that weights are cut along, one of those. Default: the last of them.
        min_size: Number of elements from which on a weight is cut.
        auto_shard_dataset: Whether `distribute_dataset` gives each process a share.

    Raises:
        ValueError: if rows are not spread over `shard_dim_name`.
    """

    gathers = True

    def __init__(
        self,
        device_mesh=None,
        layout_map=None,
        batch_dim_name=None,
        shard_dim_name=None,
        min_size: int = 1024,
        auto_shard_dataset: bool = True,
    ):
        if device_mesh is None:
            # One mesh for both: rules on another one could not be combined with the cut.
            device_mesh = DeviceMesh((-1,), ("batch",)) if layout_map is None else layout_map.device_mesh
        layout_map = LayoutMap(device_mesh) if layout_map is None else layout_map
        super().__init__(layout_map=layout_map, batch_dim_name=batch_dim_name, auto_shard_dataset=auto_shard_dataset)
        axes = (self.batch_dim_name,) if isinstance(self.batch_dim_name, str) else tuple(self.batch_dim_name)
        self.shard_dim_name, self.min_size = shard_dim_name or axes[-1], min_size
        if self.shard_dim_name not in axes:
            raise ValueError(f"FSDP: `shard_dim_name` must be one of {axes}. Got {shard_dim_name!r}.")

    def get_variable_layout(self, variable) -> TensorLayout:
        """The layout by own layout or rule, with one free dimension cut along the shard axis."""
        whole = super().get_variable_layout(variable)
        shape, parts = variable.shape, self.device_mesh.axis_size(self.shard_dim_name)
        axes = [*whole.axes, *[None] * (len(shape) - len(whole.axes))]
        own = range(_num_stacked(variable), len(shape))  # blocks that lie on top of each other stay together
        # A dimension that does not divide would need padding, on every device and in every step.
        free = [i for i in own if axes[i] is None and shape[i] % parts == 0 and shape[i]]
        taken = any(self.shard_dim_name in ((a,) if isinstance(a, str) else a or ()) for a in axes)
        if taken or not free or math.prod(shape) < self.min_size:
            return whole
        axes[max(free, key=lambda i: (shape[i], i))] = self.shard_dim_name
        return TensorLayout(axes, self.device_mesh)

    def as_computed(self, variable, value):
        """The weight gathered along the shard axis; the gradient of that scatters."""
        whole, parts = super().get_variable_layout(variable), self.get_variable_layout(variable)
        # Inside a `Stack` the weight of one block is computed with, whose layout is no longer that of the whole.
        if whole == parts or value.shape != tuple(variable.shape):
            return value
        return _gather(value, whole.backend_layout, parts.backend_layout)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(value, whole: NamedSharding, parts: NamedSharding):
    """A weight in parts made whole. Its gradient is left in parts; JAX's own would be whole on every device."""
    return jax.lax.with_sharding_constraint(value, whole)


def _gather_forward(value, whole, parts):
    return jax.lax.with_sharding_constraint(value, whole), None


def _gather_backward(whole, parts, _, gradient):
    return (jax.lax.with_sharding_constraint(gradient, parts),)


_gather.defvjp(_gather_forward, _gather_backward)


def _num_stacked(variable) -> int:
    """Number of leading axes along which a `Stack` has laid the weights of its blocks."""
    return getattr(variable, "num_stacked", 0)


def distribution() -> Distribution | None:
    """The active distribution."""
    return placement.active()


def set_distribution(value: Distribution | None):
    """Makes a distribution the active one, or with `None` none.

    Raises:
        ValueError: for anything else.
    """
    if value is not None and not isinstance(value, Distribution):
        raise ValueError(f"set_distribution: expected a distribution or None. Got {value!r}.")
    placement.set_active(value)
