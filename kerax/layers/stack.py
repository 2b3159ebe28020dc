"""`Stack`: one block repeated, each time with weights of its own, in a program that does not grow with their number."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax import tree
from kerax.core import caching, calling, masks, placement, symbolic
from kerax.core import scope as scopes
from kerax.core.layer import Layer
from kerax.core.tracking import Trackable, walk
from kerax.core.variable import Variable, call_initializer
from kerax.layers.options import check, check_positive

_KEPT = {
    "everything": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "nothing": jax.checkpoint_policies.nothing_saveable,
}


class _Each:
    """Initial values of a stacked weight: those that the block's initializer draws from a key of each block's own."""

    def __init__(self, initializer: Callable, depth: int):
        self.initializer, self.depth = initializer, depth

    def __call__(self, shape: Any, dtype: Any = None, key: Any = None) -> Any:
        draw = functools.partial(call_initializer, self.initializer, shape=shape[1:], dtype=jnp.dtype(dtype))
        return jax.vmap(lambda key: draw(key=key))(jax.random.split(key, self.depth))

    def get_config(self) -> dict:
        """What two equal ones have in common."""
        return {"initializer": repr(self.initializer), "depth": self.depth}


def _each_given(variable: Variable, depth: int) -> Callable:
    """Initial values of a stacked variable that was made from a value: that of a seed differs from block to block."""
    values = np.stack([np.asarray(variable.value)] * depth)
    if values.dtype == np.uint32 and values.shape[1:] == (2,):  # seed and position of a `SeedGenerator`
        values[:, 0] += np.arange(depth, dtype=np.uint32) * np.uint32(0x9E3779B9)
    return lambda shape, dtype=None: values


def _as_stored(variable: Variable):
    """A variable's value as it lies. Each block gathers its own part where that is in shards, not the whole at once."""
    scope = scopes.find(variable)
    value = None if scope is None else scope.values.get(id(variable))
    return variable.value if value is None else value


class _Level(Layer):
    """Stacked variables by the structure of the block: those of one layer, and below it those of the layers inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.variables_by_name: dict[str, Variable] = {}
        self.levels: dict[str, _Level] = {}
        self.built = True

    def add(self, path: tuple[str, ...], variable: Variable) -> None:
        """Puts a variable at a path."""
        if len(path) == 1:
            self.variables_by_name[path[0]] = variable
        else:
            self.levels.setdefault(path[0], _Level(trainable=self.trainable, name=path[0])).add(path[1:], variable)

    def _own_variables(self):
        return list(self.variables_by_name.items())

    def _children(self):
        return (((name,), level) for name, level in self.levels.items())


class Stack(Layer):
    """A block applied `depth` times in a row, each time with weights of its own.

    The blocks' weights lie on top of each other, along a new first axis, and `lax.scan` runs one program over them:
    tracing and compiling take as long for 48 blocks as for one. Equal in outputs and gradients to that many blocks in
    a row. Keras has no such layer.

    Args:
        block: A layer whose outputs have the shape of its inputs. It is the pattern; it gets no weights itself.
        depth: Number of blocks.
        keep: What of each block's intermediate results is kept for the gradient instead of being computed again:
            `"everything"`; `"dots"`: products with weights; `"nothing"`: only the blocks' inputs; or the name of
            another one of `jax.checkpoint_policies`.
        unroll: Number of blocks that one turn of the loop runs: more makes a longer, sometimes faster program.

    Call arguments: `inputs`, one array; `mask`, handed to every block.
    Weights: the block's, under their paths in it, with shape `(depth, *shape)`. Each block's initial values come
        from a key of its own. Random layers in the blocks draw anew in each, and moving averages are each block's own.
    Output shape: the input's, in the block's compute dtype.
    Distributions: a rule of a `LayoutMap` is about the weight of one block, without the axis of blocks.

    Raises:
        TypeError: if `block` is not a layer.
        ValueError: if an argument is out of its range, or the block's outputs have another shape than its inputs.
    """

    _untracked = Layer._untracked | {"block", "pairs", "_top"}

    def __init__(self, block, depth, keep: Any = "everything", unroll=1, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(block, Layer):
            raise TypeError(f"{self}: `block` must be a layer. Got {block!r}.")
        check_positive(self, depth=depth, unroll=unroll)
        is_known = keep in _KEPT or hasattr(jax.checkpoint_policies, str(keep))
        expected = f"`keep` must be one of {tuple(_KEPT)} or the name of one of `jax.checkpoint_policies`"
        check(self, is_known, expected, keep=keep)
        self.block, self.depth, self.keep, self.unroll = block, depth, keep, unroll
        self.supports_masking = True
        self.autocast = False  # the layers in the block read weights in their own compute dtypes
        self.pairs: list[tuple[Variable, Variable]] = []  # the block's variables, and the stacked ones
        self._top = _Level()

    def build(self, input_shape: Any) -> None:
        dtype = self.block.compute_dtype
        outputs = self.block.kerax_build_from(symbolic.KerasTensor(input_shape, dtype))
        fits = hasattr(outputs, "shape") and symbolic.known_shape(outputs.shape) == tuple(input_shape)
        expected = "the outputs of `block` must have the shape of its inputs"
        check(self, fits, expected, outputs=outputs, input_shape=tuple(input_shape))
        self._carry_dtype = outputs.dtype
        for path, variable in walk(self.block):
            stacked = self._stacked(variable)
            variable.is_sliced = True
            stacked.path = "/".join((self.name, *path))
            self.pairs.append((variable, stacked))
            self._top.add(path, stacked)

    def _stacked(self, variable: Variable) -> Variable:
        initializer = variable.initializer
        initializer = _each_given(variable, self.depth) if initializer is None else _Each(initializer, self.depth)
        shape = (self.depth, *variable.shape)
        stacked = Variable(initializer, shape, variable.stored_dtype, variable.is_parameter, name=variable.name)
        stacked.trainable = variable.trainable and self.trainable
        stacked.num_stacked = 1 + variable.num_stacked  # which distributions look at
        stacked.autocast, stacked.is_weight = variable.autocast, variable.is_weight
        stacked.overwrite_with_gradient = variable.overwrite_with_gradient
        regularizer = variable.regularizer
        if regularizer is not None:
            stacked.regularizer = lambda values: jnp.sum(jax.vmap(regularizer)(values))
        if variable.constraint is not None:
            stacked.constraint = jax.vmap(variable.constraint)
        return stacked

    def _own_variables(self):
        return self._top._own_variables()

    def _children(self):
        return self._top._children()

    def _patterns(self) -> list[Trackable]:
        return [self.block]

    def kerax_stored_variables(self) -> list[Variable]:
        """All weights, which files hold as the layer's own, in the order of `get_weights`."""
        return [stacked for _, stacked in self.pairs if stacked.is_weight]

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if self.block.trainable != self.trainable:  # batch normalization computes otherwise when frozen
            self.block.trainable = self.trainable
        if scopes.infers_shapes():
            return self._run(inputs, mask)
        for variable, stacked in self.pairs:
            variable.path = stacked.path  # by which distributions know it
        part = caching.part_of(self)
        if part is not None and part.values:
            return self._call_with(part, inputs, mask)
        # A key for each block: the loop's body is traced once and would draw the same numbers in all.
        keys = None
        if scopes.find_key() is not None or scopes.current_scope() is None:
            keys = jax.vmap(lambda index, key: jax.random.fold_in(key, index), (0, None))(
                jnp.arange(self.depth), self.next_key()
            )
        effects: dict[str, list] = {}  # what the one trace of the body shows that the blocks do

        def run_block(carry, own):
            values, key = own
            with scopes.Scope(zip((variable for variable, _ in self.pairs), values, strict=True), key) as scope:
                outputs = self._run(carry, mask)
            effects["written"] = [pair for pair in self.pairs if id(pair[0]) in scope.written]
            effects["losses"] = [layer for layer, _ in scope.added_losses]
            written = [scope.value_of(variable) for variable, _ in effects["written"]]
            return outputs, (written, [loss for _, loss in scope.added_losses])

        # Two ways to keep less for the gradient: what the user says, or, with weights in shards, not the gathered ones.
        if self.keep != "everything":
            policy = _KEPT.get(self.keep) or getattr(jax.checkpoint_policies, self.keep)
            run_block = jax.checkpoint(run_block, policy=policy, prevent_cse=False)
        elif placement.gathers():
            run_block = placement.keeping_no_weights(run_block)
        values = [_as_stored(stacked) for _, stacked in self.pairs]
        carry = inputs.astype(self._carry_dtype)
        outputs, (written, losses) = jax.lax.scan(run_block, carry, (values, keys), self.depth, unroll=self.unroll)
        for (_, stacked), value in zip(effects["written"], written, strict=True):
            stacked.assign(value)
        self.add_loss([jnp.sum(loss) for loss in losses])
        return outputs

    # Caches.

    def kerax_own_cache(self, batch_size: int, length: int, dtype: Any) -> dict[str, Any]:
        """What each block keeps, under the block's number and the paths in it."""
        kept = tree.unnest(caching.init_cache(self.block, batch_size, length, dtype))
        return {f"{index}/{'/'.join(path)}": leaf for index in range(self.depth) for path, leaf in kept.items()}

    def _call_with(self, part, inputs, mask):
        """The blocks one after the other, each with its part of the cache.

        Not in a loop: caches that a loop takes slices of and puts together again are copied.
        """
        variables = [variable for variable, _ in self.pairs]
        values = [_as_stored(stacked) for _, stacked in self.pairs]
        outputs, renewed = inputs.astype(self._carry_dtype), {}
        for index in range(self.depth):
            start = f"{index}/"
            kept = {name.removeprefix(start): leaf for name, leaf in part.values.items() if name.startswith(start)}
            cache = tree.nest((tuple(name.split("/")), leaf) for name, leaf in kept.items())
            with scopes.Scope(zip(variables, [value[index] for value in values], strict=True), None):
                run = functools.partial(self._run, outputs, mask)
                outputs, cache = caching.call_with(self.block, cache, part.positions, run)
            renewed |= {start + "/".join(path): leaf for path, leaf in tree.unnest(cache).items()}
        caching.keep(self, renewed)
        return outputs

    def _run(self, inputs, mask):
        """The block's outputs, with the values that its variables have in the open scope.

        Nobody looks at the outputs of layers in here: inside the loop they are no arrays.
        """
        context: Any = calling.call_context.get()  # this layer's own
        token = calling.call_context.set(context._replace(tap=None))
        try:
            return self.block(masks.masked(inputs, mask))
        finally:
            calling.call_context.reset(token)

    def get_block_weights(self, index: int) -> list[np.ndarray]:
        """The weights of one block, in the order of the block's `get_weights`."""
        return [np.asarray(stacked.value[index]) for stacked in self.kerax_stored_variables()]

    def set_block_weights(self, index: int, weights: Any) -> None:
        """Sets the weights of one block from a list like that of `get_block_weights`.

        Raises:
            ValueError: if their number or a shape differs; nothing is changed then.
        """
        own = self.kerax_stored_variables()
        shapes, given = [stacked.shape[1:] for stacked in own], [np.shape(value) for value in weights]
        if shapes != given:
            raise ValueError(f"{self}: a block's weights have shapes {shapes}. Got {given}.")
        for stacked, value in zip(own, weights, strict=True):
            stacked.assign(stacked.value.at[index].set(value))
