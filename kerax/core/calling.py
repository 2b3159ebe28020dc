"""What happens to the arguments of a layer call before `call` sees them: casting, masks, `training`, build shapes."""

import functools
import inspect
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from kerax import errors
from kerax.core import locking, masks
from kerax.core.host_arrays import is_foreign_type, to_numpy
from kerax.core.input_spec import InputSpec
from kerax.core.scope import holding, names
from kerax.core.sparse import is_sparse
from kerax.core.symbolic import KerasTensor, is_shape, known_shape
from kerax.core.tracking import are_built, descendants, name_children
from kerax.core.variable import Variable
from kerax.dtype_policies import DTypePolicyMap
from kerax.tracebacks import hide_library_frames

Function = TypeVar("Function", bound=Callable)


class CallContext(NamedTuple):
    """What an outer layer call hands to the calls inside it: the phase, who wants to see each layer's outputs, and the
    layers around."""

    training: bool | None
    tap: Callable | None = None
    around: tuple = ()


call_context: ContextVar[CallContext | None] = ContextVar("kerax_call", default=None)


class _Builds(NamedTuple):
    """The layers whose `build` runs, in `layers`; those and the calls around the last of them, outermost first, in
    `around`, of which `num_calls` layers are known by the call context too."""

    layers: tuple = ()
    around: tuple = ()
    num_calls: int = 0


_building: ContextVar[_Builds | None] = ContextVar("kerax_building", default=None)


def recording(build: Callable) -> Callable:
    """`build` that notes its arguments and the layer's path, and marks the layer as built.

    A layer inside one with a `DTypePolicyMap` that names its path takes its policy from there.
    """

    @functools.wraps(build)
    def recorded(self, *args, **kwargs):
        self.kerax_require_init()
        if isinstance(self.input_spec, InputSpec) and not self.built and args and is_shape(args[0]):
            self.input_spec.check(self, args[0])  # `build` may be called by hand
        if self.kerax_build_shapes is None:
            # Without the first, which is the layer itself, whatever it is called.
            self.kerax_build_shapes = dict(list(_bind_build(self, build, args, kwargs).items())[1:])
        context, builds = call_context.get(), _building.get() or _Builds()
        calls = () if context is None else context.around
        # Builds and calls in the order in which they lie in each other; a layer whose `call` builds a child is in both.
        around = tuple(dict.fromkeys((*builds.around, *calls[builds.num_calls :])))
        if self.path is None:
            around = tuple(layer for layer in around if layer is not self)
            self.path = "/".join((*names.get(), *(layer.name for layer in (*around, self))))
            for layer in around:
                policy = layer.dtype_policy
                if isinstance(policy, DTypePolicyMap) and policy is not self.dtype_policy and self.path in policy:
                    self.dtype_policy = policy[self.path]
        name_children(self)  # before those of them are built that the layer was made with
        with holding(_building, _Builds((*builds.layers, self), (*around, self), len(calls))):
            build(self, *args, **kwargs)
        name_children(self)
        self.built = True
        if not self._trainable:
            self.trainable = False  # the layers inside, just built, do not know
        # Not after `super().build`, in the middle of a subclass's; nor before a `call` that builds what is inside, and
        # until then may add to it.
        if self not in builds.layers and (not hasattr(build, "leaves_to_call") or are_built(descendants(self))):
            locking.lock(self)

    return recorded


def taking_no_name_first(add: Function) -> Function:
    """A method of which older code of Keras gave the name first: it raises an error that is a `ValueError` then."""

    @functools.wraps(add)
    def checked(self, *args, **kwargs):
        if args and (isinstance(args[0], str) or "shape" in kwargs):
            raise errors.ArgumentTypeError(
                f"{self}: the first argument of `{add.__name__}` is the shape. Got {args[0]!r}; give a name by "
                "`name=`, and the shape once."
            )
        return add(self, *args, **kwargs)

    return cast(Function, checked)


_signature_of_build = functools.cache(inspect.signature)  # one for all layers of a class


def _bind_build(layer, build: Callable, args: tuple, kwargs: dict) -> dict:
    signature = _signature_of_build(build)
    try:
        bound = signature.bind(layer, *args, **kwargs)
    except TypeError as error:
        raise errors.ArgumentTypeError(
            f"{layer}: {error} in `build`. A `build` with several arguments calls them after those of `call`, "
            "such as `build(self, x_shape, y_shape)` for `call(self, x, y)`."
        ) from None
    found = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            found |= {f"{name}_{index}": shape for index, shape in enumerate(value)}
        else:
            found |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
    return found


def follows_call(build: Callable) -> Callable:
    """Marks a `build` that follows `call` on shapes alone, which pass for floats."""
    build.__dict__["follows_call"] = True
    return build


def leaves_to_call(build: Callable) -> Callable:
    """Marks a `build` that makes nothing: the layers inside are built by `call`."""
    build.__dict__["leaves_to_call"] = True
    return build


@recording
@leaves_to_call
def _note_shapes(layer, input_shape):
    """A `build` that leaves the layers to the call, whose inputs have dtypes."""


def build_in_call(layer, arguments: dict) -> None:
    """Builds a layer for a call that is to come, with these arguments."""
    positional, shapes = shape_arguments(layer.build, arguments)
    if positional:
        return layer.build(*positional)
    if not shapes:  # text, or nothing: a `build` that asks for a shape gets none
        parameters = inspect.signature(layer.build).parameters.values()
        shapes = {p.name: None for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}
        if not shapes:
            return layer.build()
        try:
            return layer.build(**shapes)
        except TypeError as error:
            raise errors.ArgumentTypeError(
                f"{layer}: cannot build without a tensor argument. Got {arguments}. {error}."
            ) from error
    if hasattr(type(layer).build, "follows_call"):
        _note_shapes(layer, **shapes)
        dtypes = jax.tree.map(lambda leaf: str(leaf.dtype), next(filter(jax.tree.leaves, arguments.values()), None))
        # Those that a `build` on shapes alone would not guess: tokens of a model that is loaded.
        if any(name.startswith(("int", "uint", "bool")) for name in jax.tree.leaves(dtypes)):
            layer.kerax_build_dtypes = dtypes
    else:
        layer.build(**shapes)


class CallSignature(NamedTuple):
    """What a `call` method accepts."""

    signature: inspect.Signature
    names: tuple[str, ...]
    takes_training: bool
    takes_kwargs: bool
    takes_masks: bool


@functools.cache
def signature_of(call: Callable) -> CallSignature:
    """The signature of an unbound `call`, without `self`."""
    # Cached by the function: all layers of a class share it.
    parameters = list(inspect.signature(call).parameters.values())[1:]
    names = tuple(p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    takes_kwargs = any(p.kind is p.VAR_KEYWORD for p in parameters)
    takes_masks = any(name.endswith("mask") for name in names)
    return CallSignature(inspect.Signature(parameters), names, "training" in names, takes_kwargs, takes_masks)


def required_arguments(layer) -> int:
    """How many arguments `call` must get."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = signature_of(type(layer).call).signature.parameters.values()
    return sum(p.kind in kinds and p.default is p.empty for p in parameters)


def is_array(leaf) -> bool:
    """Whether a leaf has a shape and a dtype."""
    return isinstance(leaf, (jax.Array, np.ndarray, KerasTensor, jax.ShapeDtypeStruct))


def caster(layer, compute_dtype: str | None) -> Callable:
    """The function that turns one argument leaf into an array, one of floats into the dtype, if there is one."""
    # Outside `cast`: once for a call, not for each leaf.
    target = None if compute_dtype is None else jnp.dtype(compute_dtype)

    def cast(leaf):
        if isinstance(leaf, jax.Array):
            # Integers stay: labels and indices would be rounded.
            if target is not None and leaf.dtype != target and jnp.issubdtype(leaf.dtype, jnp.floating):
                cast_leaf = leaf.astype(target)
                # `astype` makes an array without the mask.
                masks.set_mask(cast_leaf, masks.get_mask(leaf))
                return cast_leaf
            return leaf
        if isinstance(leaf, Variable):
            return leaf.value
        if isinstance(leaf, (np.ndarray, np.generic)) and leaf.dtype.kind not in "OSU":
            # float64 goes straight to the compute dtype, without an array of float32 between.
            return jnp.asarray(leaf, target if target is not None and leaf.dtype.kind == "f" else None)
        if isinstance(leaf, np.ndarray):
            refuse_text(layer, leaf)
        return cast(to_numpy(leaf)) if is_foreign_type(type(leaf)) else leaf

    return cast


def refuse_text(layer, array: np.ndarray) -> None:
    """Raises `ValueError` for an array of text or objects, unless the layer may hand it on to others or to a function.

    Layers that read text do so before their inputs come here.
    """
    if not layer.hands_on_text:
        raise ValueError(
            f"{layer}: inputs must be numbers, not text or objects. Got dtype {array.dtype}, "
            f"{array.ravel()[:3].tolist()}... Turn text into numbers by `StringLookup` or `TextVectorization` first."
        )


_PLAIN = frozenset({bool, int, float, str})


def bind(layer, args: tuple, kwargs: dict) -> dict[str, Any]:
    """The arguments of a call by name. Raises `TypeError` naming the layer when they do not fit `call`."""
    signature = signature_of(type(layer).call)
    for value in args:
        if type(value) in _PLAIN:
            raise ValueError(
                f"{layer}: only arrays may be positional arguments of a call. Got {value!r}; pass it by keyword."
            )
    # Keras's convention: any layer may be told, also one whose `call` does not ask.
    if "training" in kwargs and not signature.takes_training and not signature.takes_kwargs:
        kwargs = {name: value for name, value in kwargs.items() if name != "training"}
    try:
        # Without defaults: `call` fills them in itself.
        return dict(signature.signature.bind(*args, **kwargs).arguments)
    except TypeError as error:
        raise TypeError(f"{layer}: {error}. Its `call` takes ({', '.join(signature.names)}).") from None


def resolve_training(layer, kwargs: dict, arguments: dict) -> bool | None:
    """`training` as given, else the outer call's, else the default of `call`."""
    # What the caller says, then the layer around, then the default of `call`.
    given = kwargs.get("training", arguments.get("training"))
    if given is None and (outer := call_context.get()) is not None:
        given = outer.training
    if given is None:
        parameter = signature_of(type(layer).call).signature.parameters.get("training")
        if parameter is not None and parameter.default is not inspect.Parameter.empty:
            given = parameter.default
    return given


def collect_masks(layer, arguments: dict) -> dict[str, Any]:
    """Masks travelling with the inputs, by the name of the argument of `call` that takes them.

    The first tensor argument's goes to `mask`, that of an argument `x` to `x_mask`.
    """
    names = signature_of(type(layer).call).names
    found = {}
    # The arguments in the order of `call`, of which the first counts as `inputs`.
    tensors = [name for name, value in arguments.items() if any(map(is_array, jax.tree.leaves(value)))]
    for position, name in enumerate(tensors):
        for mask_name in (["mask"] if position == 0 else []) + [f"{name}_mask"]:
            # A mask that was given by hand is not replaced.
            if mask_name in names and arguments.get(mask_name) is None and name != mask_name:
                mask = jax.tree.map(masks.get_mask, arguments[name])
                if jax.tree.leaves(mask):
                    found[mask_name] = mask
    return found


def pass_mask(layer, arguments: dict, outputs, default: Callable) -> None:
    """Gives the outputs the masks of `compute_mask`, unless `call` set them itself; `default` is what passes one on."""
    first, previous = next(iter(arguments.values()), None), arguments.get("mask")
    if previous is None:
        previous = jax.tree.map(masks.get_mask, first)
        # A structure of `None`s is no mask.
        previous = previous if jax.tree.leaves(previous) else None
    if previous is None and getattr(layer.compute_mask, "__func__", None) is default:
        return
    leaves = jax.tree.leaves(outputs)
    if all(masks.get_mask(leaf) is not None for leaf in leaves):
        return
    output_mask = layer.compute_mask(first, previous)
    found = output_mask if isinstance(output_mask, (list, tuple)) else [output_mask]
    for leaf, mask in zip(leaves, found, strict=False):
        if mask is not None and not isinstance(mask, (list, tuple, dict)):
            masks.set_mask(leaf, mask)


def warn_of_lost_mask(layer, inputs, outputs) -> bool:
    """Says that the inputs' mask ends at this layer, unless its `call` takes it or sets one. Returns whether it did."""
    takes_mask = "mask" in signature_of(type(layer).call).names
    if takes_mask or not masks.has_mask(inputs) or masks.has_mask(outputs):
        return False
    warnings.warn(
        f"{layer}: the input has a mask, which this layer does not pass on; layers after it see none. Set "
        "`supports_masking = True` in its `__init__` if the mask holds for its outputs too.",
        stacklevel=3,
    )
    return True


def shapes_of(value) -> Any:
    """The shapes of the tensors in a structure, unknown sizes as `None`."""
    return jax.tree.map(lambda leaf: known_shape(leaf.shape), value, is_leaf=is_sparse)


def shape_arguments(function: Callable, arguments: dict) -> tuple[tuple, dict[str, Any]]:
    """The arguments of a layer's `build` or `compute_output_shape` for a call: `x_shape` from the tensor argument `x`,
    or the first tensor's shape. Positional ones are for those that take any, as `build(self, *_)`."""
    # Of the function, which all layers of a class share, without its `self`.
    method = getattr(function, "__func__", None)
    parameters = list(_signature_of_build(method or function).parameters.values())[0 if method is None else 1 :]
    names = [parameter.name for parameter in parameters]
    tensors = {
        name: value
        for name, value in arguments.items()
        if value is not None and (leaves := jax.tree.leaves(value)) and all(map(is_array, leaves))
    }
    if not tensors or not names:
        return (), {}
    named = {f"{name}_shape": shapes_of(value) for name, value in tensors.items()}
    if parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return (next(iter(named.values())),), {}
    # `input_shape`, whatever the argument of `call` is called.
    if len(names) == 1 or names[0] not in named:
        return (), {names[0]: next(iter(named.values()))}
    return (), {name: named[name] for name in names if name in named}


def explain(error: Exception, layer, inputs, at_root: bool) -> None:
    """Notes on an error raised in `call`: where it was, and the way out of a common mistake; hides library frames."""
    if at_root:
        hide_library_frames(error)
    # The innermost layer has said where it was.
    if any(note.startswith("In the call of") for note in getattr(error, "__notes__", ())):
        return
    leaves = jax.tree.leaves(inputs, is_leaf=is_sparse)
    shapes = [str(getattr(leaf, "shape", type(leaf).__name__)) for leaf in leaves]
    error.add_note(f"In the call of {layer} on inputs of shape {', '.join(shapes)}.")
    if isinstance(error, _WITHOUT_NUMBERS):
        error.add_note(
            "A compiled step has no numbers while it is made, so Python's `if`, `while`, `float()` and NumPy cannot "
            "ask for them. Use `kerax.ops.where`, `ops.cond` or `ops.while_loop`, or `compile(..., run_eagerly=True)`."
        )
    elif isinstance(error, (TypeError, ValueError)) and ("Variable" in str(error) or "__jax_array__" in str(error)):
        error.add_note("A Variable is not an array: pass `variable.value` to `jax.numpy`, or use `kerax.ops`.")


_WITHOUT_NUMBERS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
