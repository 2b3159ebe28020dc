"""Devices in a grid, and how arrays are spread over it: Keras's names for `jax.sharding`."""

import collections.abc
import difflib
import functools
import math
import re
import warnings
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from kerax.core import placement
from kerax.core.symbolic import is_keras_tensor


def list_devices(device_type: str | None = None) -> list[str]:
    """The devices of all processes, as `"gpu:0"`.

    Args:
        device_type: `"cpu"`, `"gpu"` or `"tpu"`. Default: JAX's default platform.
    """
    return [f"{device.platform}:{device.id}" for device in jax.devices(device_type and device_type.lower())]


def get_device_count(device_type: str | None = None) -> int:
    """Number of devices of all processes.

    Args:
        device_type: As for `list_devices`.
    """
    return jax.device_count(device_type and device_type.lower())


def _device(device):
    """A JAX device from itself or its name; of one that is not there its name."""
    if not isinstance(device, str):
        return device
    platform, _, number = device.lower().partition(":")
    try:
        # JAX itself calls the platform `cuda` in places.
        known = jax.devices({"cuda": "gpu"}.get(platform, platform))
    except RuntimeError:  # no device of that kind
        known = []
    return next((one for one in known if str(one.id) == number), device)


class DeviceMesh:
    """Devices in a grid whose axes have names.

    Args:
        shape: Number of devices along each axis; one of them may be -1, for as many as there are.
        axis_names: Name of each axis.
        devices: Array or list of JAX devices or their names. Default: all of all processes, in an order in which
            neighbours are close. Some may be missing, for plans and tests, until arrays are to lie on them.

    Raises:
        ValueError: if the names do not fit the shape, or the shape the devices.
    """

    def __init__(self, shape: Iterable[int], axis_names: Iterable[str], devices: Any = None):
        shape, axis_names = tuple(shape or ()), tuple(axis_names or ())
        if not shape or len(shape) != len(axis_names) or len(set(axis_names)) < len(axis_names):
            raise ValueError(f"DeviceMesh: every axis needs a size and a name of its own. Got {shape=}, {axis_names=}.")
        given = (
            jax.devices() if devices is None else [_device(device) for device in np.ravel(np.array(devices, object))]
        )
        # With one -1 among the sizes, `-prod` is the product of the others.
        if -1 in shape and len(given) % -math.prod(shape) == 0:
            shape = tuple(len(given) // -math.prod(shape) if size == -1 else size for size in shape)
        if math.prod(shape) != len(given):
            raise ValueError(
                f"DeviceMesh: a mesh of shape {dict(zip(axis_names, shape, strict=True))} needs {math.prod(shape)} "
                f"devices. Got {len(given)}."
            )
        self.shape, self.axis_names = shape, list(axis_names)
        # `make_mesh` puts neighbours of the grid on neighbours of the torus; given devices stay in their order.
        if devices is None:
            self.devices = jax.make_mesh(shape, axis_names, axis_types=(AxisType.Auto,) * len(shape)).devices
        else:
            self.devices = np.array(given, object).reshape(shape)

    @functools.cached_property
    def backend_mesh(self) -> Mesh:
        """The JAX mesh. Raises `ValueError` if a device is not there."""
        missing = [device for device in self.devices.flat if isinstance(device, str)]
        if missing:
            raise ValueError(f"DeviceMesh: there is no device {missing[0]!r}. There: {list_devices()}.")
        return Mesh(self.devices, tuple(self.axis_names), axis_types=(AxisType.Auto,) * len(self.shape))

    def axis_size(self, axes) -> int:
        """Number of devices along an axis, or along several together."""
        axes = (axes,) if isinstance(axes, str) else axes or ()
        return math.prod(self.shape[self.axis_names.index(axis)] for axis in axes)

    def __repr__(self):
        return f"<DeviceMesh shape={self.shape}, axis_names={self.axis_names}>"


class TensorLayout:
    """Which mesh axes each dimension of an array is spread over.

    Args:
        axes: For each dimension the name of a mesh axis, a tuple of names, or `None`.
        device_mesh: The `DeviceMesh`; a `LayoutMap` fills it in.

    Raises:
        ValueError: if the mesh has no such axis, or one is named twice.
    """

    def __init__(self, axes, device_mesh=None):
        self.axes = tuple(axes)
        self._device_mesh: DeviceMesh | None = None
        if device_mesh is not None:
            self.device_mesh = device_mesh

    @property
    def device_mesh(self) -> DeviceMesh | None:
        """The mesh. Can be set once."""
        return self._device_mesh

    @device_mesh.setter
    def device_mesh(self, device_mesh: DeviceMesh):
        if self._device_mesh is not None:
            raise ValueError(f"TensorLayout: the mesh is set already, to {self._device_mesh}.")
        # An axis may be a name, several names or `None`.
        names = [axis for axes in self.axes for axis in ((axes,) if isinstance(axes, str) else axes or ())]
        unknown = [name for name in names if name not in device_mesh.axis_names]
        if unknown:
            raise ValueError(
                f"TensorLayout: axis {unknown[0]!r} of {self.axes} is not one of the mesh's, {device_mesh.axis_names}."
            )
        if len(set(names)) < len(names):
            raise ValueError(f"TensorLayout: {self.axes} spreads two dimensions over one mesh axis.")
        self._device_mesh = device_mesh

    @property
    def backend_layout(self) -> NamedSharding:
        """The JAX sharding. Raises `ValueError` without a mesh."""
        if self._device_mesh is None:
            raise ValueError(f"{self}: cannot be used without a `device_mesh`.")
        axes = self.axes
        while axes and axes[-1] is None:  # as JAX writes it, so that equal layouts compare equal
            axes = axes[:-1]
        return NamedSharding(self._device_mesh.backend_mesh, PartitionSpec(*axes))

    def check(self, path: str, shape: tuple[int, ...]):
        """Raises `ValueError` if an array of this path and shape cannot be spread so."""
        if len(self.axes) > len(shape):
            raise ValueError(
                f"{path}: the layout {self.axes} has {len(self.axes)} dimensions, the array {len(shape)}: {shape}."
            )
        for dimension, (size, axes) in enumerate(zip(shape, self.axes, strict=False)):
            parts = 1 if self._device_mesh is None else self._device_mesh.axis_size(axes)
            if size % parts:
                raise ValueError(
                    f"{path}: dimension {dimension} of shape {shape} has size {size}, which does not divide by the "
                    f"{parts} devices of mesh axis {axes!r}. Change the layout, the mesh or the layer's size."
                )

    def __eq__(self, other):
        return isinstance(other, TensorLayout) and (self.axes, self._device_mesh) == (other.axes, other._device_mesh)

    def __hash__(self):
        return hash(self.axes)

    def __repr__(self):
        return f"<TensorLayout axes={self.axes}, device_mesh={self._device_mesh}>"


class LayoutMap(collections.abc.MutableMapping):
    """Layouts of variables and of layers' outputs, by regular expressions that their whole path must match.

    The path of a layer's output is that of the layer and `/output`. Getting a path that no expression matches gives
    `None`.

    Args:
        device_mesh: The `DeviceMesh`.

    Attributes:
        logical_axes: `{name: mesh axis}` for `constrain`: what layers call an axis of their activations, and the mesh
            axis or axes it is spread over. kerax's attention says `"heads"`.

    Raises:
        ValueError: on setting a key again, or what is no layout; on getting a path that several expressions match.
    """

    def __init__(self, device_mesh):
        self._layouts: dict[str, TensorLayout] = {}
        self.device_mesh = device_mesh
        self.logical_axes: dict[str, Any] = {}

    def __getitem__(self, key: str) -> TensorLayout | None:
        if key in self._layouts:
            return self._layouts[key]
        matching = self.rules_for(key)
        if len(matching) > 1:
            raise ValueError(f"LayoutMap: {key!r} is matched by several rules, {matching}. At most one may match.")
        return self._layouts[matching[0]] if matching else None

    def __contains__(self, key):
        return self[key] is not None  # by the rules, as `[]` is

    def rules_for(self, path: str) -> list[str]:
        """The rules that match a path."""
        # The whole path, as in Keras: `dense/kernel` would else find `big_dense/kernel` as well.
        return [rule for rule in self._layouts if rule == path or re.fullmatch(rule, path)]

    def of_part(self, path: str) -> TensorLayout | None:
        """The layout for a path in a model, whose own name rules may leave out."""
        return self[path] or (self[path.partition("/")[2]] if "/" in path else None)

    def __setitem__(self, key: str, layout):
        if key in self._layouts:
            raise ValueError(f"LayoutMap: {key!r} has a layout already, {self._layouts[key].axes}.")
        if isinstance(layout, (tuple, list)):
            layout = TensorLayout(layout)
        if not isinstance(layout, TensorLayout):
            raise ValueError(f"LayoutMap: {key!r} needs a `TensorLayout` or a tuple of axes. Got {layout!r}.")
        # Rules may be written before there are devices.
        if layout.device_mesh is None and self.device_mesh is not None:
            layout.device_mesh = self.device_mesh
        self._layouts[key] = layout

    def __delitem__(self, key: str):
        del self._layouts[key]

    def __len__(self):
        return len(self._layouts)

    def __iter__(self):
        return iter(self._layouts)

    def check_used(self, paths: list[str]):
        """Warns of a rule that matches none of the paths: a misspelt one would spread nothing, unnoticed."""
        for rule in self._layouts:
            if not any(rule == path or re.fullmatch(rule, path) for path in paths):
                # The closest three whatever they are: a regular expression is like no path.
                close = difflib.get_close_matches(rule, paths, 3, 0.0)
                warnings.warn(
                    f"LayoutMap: the rule {rule!r} with axes {self._layouts[rule].axes} matches nothing in the model; "
                    f"a rule must match a whole path. The closest: {close}.",
                    stacklevel=2,
                )


def distribute_tensor(tensor, layout) -> Any:
    """A tensor laid out as `layout` says, eagerly or as a constraint under `jit`.

    Args:
        tensor: Array; a symbolic tensor is returned as it is.
        layout: `TensorLayout` or JAX sharding.
    """
    if is_keras_tensor(tensor):
        return tensor
    return placement.put(tensor, layout.backend_layout if isinstance(layout, TensorLayout) else layout)
