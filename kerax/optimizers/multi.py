"""`MultiOptimizer`: one optimizer for one part of the weights, another for another."""

import re
from collections import UserDict
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from kerax.core.configurable import Configurable
from kerax.core.registry import serialize_keras_object
from kerax.core.variable import Variable
from kerax.errors import suggest
from kerax.optimizers.optimizer import OPTIMIZERS, Optimizer, OptimizerState, joined
from kerax.optimizers.slots import set_apart, sparing

Tree = Any


class OptimizerMap(Configurable, UserDict):
    """Optimizers by patterns of the weights' paths: a function of a variable.

    Args:
        default_optimizer: The optimizer of weights that no pattern fits.
        optimizer_map: `{pattern: optimizer}`; a pattern is a path or a regular expression that fits all of it. An
            equal path comes before all; of the others one at most may fit.

    Raises:
        TypeError: for what is not an optimizer, or a map that is not a dict.
        ValueError: for a pattern that is there already, or is no regular expression.

    Deviation from Keras: a pattern may also fit the place of the weight in the model, without the model's name.
    """

    def __init__(self, default_optimizer, optimizer_map=None):
        if not isinstance(default_optimizer, Optimizer):
            raise TypeError(f"OptimizerMap: `default_optimizer` must be an optimizer. Got {default_optimizer!r}.")
        if not isinstance(optimizer_map, dict | None):
            raise TypeError(f"OptimizerMap: `optimizer_map` must be a dict. Got {optimizer_map!r}.")
        self.default_optimizer = default_optimizer
        UserDict.__init__(self, optimizer_map)

    def __getitem__(self, path: str) -> Optimizer:
        return self.find(path)

    def __setitem__(self, pattern: str, optimizer: Optimizer):
        if pattern in self.data:
            raise ValueError(f"OptimizerMap: {pattern!r} is there already; delete it first.")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"OptimizerMap: {pattern!r} must have an optimizer. Got {optimizer!r}.")
        if optimizer.nested():
            raise ValueError(
                f"OptimizerMap: {pattern!r} must have an optimizer of one kind. Got {optimizer!r}, which is around "
                "others; a `LossScaleOptimizer` goes around the `MultiOptimizer`."
            )
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"OptimizerMap: {pattern!r} is no regular expression: {error}.") from None
        self.data[pattern] = optimizer

    # By identity: a mapping's own comparison takes the hash away.
    __eq__ = object.__eq__

    def __hash__(self) -> int:
        return id(self)

    def __call__(self, variable) -> Optimizer:
        return self.find(variable.path)

    def find(self, *paths: str) -> Optimizer:
        """The optimizer for a weight that goes by these paths."""
        for path in paths:
            # Equal paths before patterns, whatever their order.
            if path in self.data:
                return self.data[path]
        fitting = [pattern for pattern in self.data if any(re.fullmatch(pattern, path) for path in paths)]
        if len(fitting) > 1:
            raise ValueError(
                f"OptimizerMap: {paths[0]!r} is matched by several patterns, {fitting}. Make one of them fit."
            )
        return self.data[fitting[0]] if fitting else self.default_optimizer

    def get_config(self) -> dict:
        """The optimizers' configs."""
        return serialize_keras_object({"default_optimizer": self.default_optimizer, "optimizer_map": self.data})


OPTIMIZERS.add(OptimizerMap)


class MultiOptimizer(Optimizer):
    """Several optimizers, each for a part of the weights.

    Args:
        optimizer_map: `{part: optimizer}` by the first name in a weight's place, an attribute of the model; or an
            `OptimizerMap`; or any function that returns an optimizer for a variable.
        loss_scale_factor: Factor the loss is multiplied by and the gradients divided by.
        name: Default: "multi_optimizer".

    The state's `slots` hold the state of each part by name. With a dict of parts, a step of one's own, of a GAN for
    example, takes `optimizer["generator"]`, its state `optimizer.part(opt_state, "generator")`, and puts a new one
    back by `optimizer.with_part(opt_state, "generator", new)`:

        generator = self.optimizer["generator"]
        part = self.optimizer.part(state.opt_state, "generator")
        weights, part = generator.update(grads, part, state.params["generator"])
        state = state._replace(
            params=state.params | {"generator": weights},
            opt_state=self.optimizer.with_part(state.opt_state, "generator", part),
        )

    It has no `learning_rate`: each of `optimizers` has its own.

    Raises:
        TypeError: for what is none of these.
        ValueError: for one optimizer in two parts, and when a weight has no optimizer.

    Deviation from Keras: dicts of parts. As in Keras, a part's own `loss_scale_factor` cancels out here; it counts
    where the part itself is given gradients of its scaled loss.
    """

    def __init__(self, optimizer_map, loss_scale_factor=None, name: str | None = None):
        if not isinstance(optimizer_map, dict) and (
            not callable(optimizer_map) or isinstance(optimizer_map, (Optimizer, type))
        ):
            raise TypeError(
                "MultiOptimizer: expected a dict of optimizers by part of the model, an `OptimizerMap`, or a function "
                f"of a variable. Got {optimizer_map!r}."
            )
        # The rate is a place holder in Keras's list of variables; nothing reads it.
        super().__init__(learning_rate=0.0, loss_scale_factor=loss_scale_factor, name=name)
        self.optimizer_map = optimizer_map
        self._parts: dict[str, Optimizer] = {}
        self._chosen: dict[Any, str] = {}  # names of parts by variable or place
        if isinstance(optimizer_map, dict):
            self._check_parts(optimizer_map)
            self._parts = dict(optimizer_map)
        elif isinstance(optimizer_map, OptimizerMap):
            # In this order, so that the names of parts, which are in checkpoints, do not depend on the weights.
            for optimizer in [*optimizer_map.data.values(), optimizer_map.default_optimizer]:
                self._name_of(optimizer)
        # Of a function of variables no part is known yet.
        self.use_ema = any(optimizer.use_ema for optimizer in self._parts.values())

    def _check_parts(self, parts: dict):
        for name, optimizer in parts.items():
            if not isinstance(optimizer, Optimizer):
                raise TypeError(f"{self}: part {name!r} must have an optimizer. Got {optimizer!r}.")
        if len({id(optimizer) for optimizer in parts.values()}) < len(parts):
            raise ValueError(f"{self}: each part needs an optimizer of its own. Got {parts}.")

    def _name_of(self, optimizer: Optimizer) -> str:
        """The part of an optimizer, new for one not seen before."""
        for name, part in self._parts.items():
            if part is optimizer:
                return name
        name = str(len(self._parts))
        self._parts[name] = optimizer
        return name

    def _choose(self, path, leaf) -> str:
        """The name of the part that a weight belongs to."""
        place = joined(path)
        variable = leaf if isinstance(leaf, Variable) else self._known.get(place)
        # A function of the user's is asked once for each weight, not at every trace.
        key = place if variable is None else variable
        if key not in self._chosen:
            self._chosen[key] = self._look_up(place, variable, leaf)
        return self._chosen[key]

    def _look_up(self, place: str, variable: Variable | None, leaf) -> str:
        paths = [place] if variable is None else [variable.path, place]
        if isinstance(self.optimizer_map, dict):
            # The place first: the path of a variable begins with the layer's name, which a user may have chosen freely.
            for part in (part for path in reversed(paths) for part in path.split("/")):
                if part in self._parts:
                    return part
            raise self._unknown(place.split("/")[0], "`params` hold")
        if isinstance(self.optimizer_map, OptimizerMap):
            return self._name_of(self.optimizer_map.find(*paths))
        # `init` and `update` are pure: there may be shapes only, and no variable yet.
        stand_in = SimpleNamespace(path=place, name=place.split("/")[-1], shape=leaf.shape, dtype=str(leaf.dtype))
        optimizer = self.optimizer_map(stand_in if variable is None else variable)
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{self}: expected an optimizer for {paths[0]!r}. The function returned {optimizer!r}.")
        return self._name_of(optimizer)

    def _unknown(self, name: str, who: str) -> ValueError:
        return ValueError(
            f"{self}: {who} {name!r}, for which there is no optimizer.{suggest(name, self._parts)} "
            f"Parts: {', '.join(self._parts)}."
        )

    def _is_by_part(self, params: Tree) -> bool:
        """Whether a tree has the parts as its branches, handed over as they are. Trees of lists have paths as keys."""
        return isinstance(self.optimizer_map, dict) and not any("/" in name for name in params)

    def split(self, params: Tree, like: Tree = None) -> dict[str, Tree]:
        """The weights (or what else is in their places) of each part, by name; `like` are the weights then."""
        like = params if like is None else like
        if self._is_by_part(like):
            for name in like:
                if name not in self._parts:
                    raise self._unknown(name, "`params` hold")
            return {name: params.get(name, {}) for name in self._parts}
        # Of a tree whose branches are no parts: its leaves by their places, in one flat dict for each part.
        places = [(joined(path), self._choose(path, leaf)) for path, leaf in jax.tree_util.tree_leaves_with_path(like)]
        branches: dict[str, dict] = {name: {} for name in self._parts}
        for (place, name), leaf in zip(places, jax.tree.leaves(params), strict=True):
            branches[name][place] = leaf
        return branches

    def join(self, branches: dict[str, Tree], like: Tree) -> Tree:
        """The inverse of `split`: what each part has, in a tree of the form of `like`."""
        if self._is_by_part(like):
            return {name: branches[name] for name in like}
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: branches[self._choose(path, leaf)][joined(path)], like
        )

    def init(self, params: Tree) -> OptimizerState:
        """The state for a tree of weights: `{part: state}` in its `slots`."""
        slots = {name: self._parts[name].init(branch) for name, branch in self.split(params).items()}
        return OptimizerState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32), slots, (), ())

    @sparing
    def update(self, grads: Tree, state: OptimizerState, params: Tree) -> tuple[Tree, OptimizerState]:
        """One step of each part."""
        if self.loss_scale_factor is not None:
            grads = jax.tree.map(lambda grad: grad / self.loss_scale_factor, grads)
        branches, branch_grads, slots = self.split(params), self.split(grads, params), dict(state.slots)
        for name, branch in branches.items():
            optimizer, part = self._parts[name], state.slots[name]
            # A part divides by its own scale: it gets gradients that were multiplied by it.
            scaled = jax.tree.map(lambda grad, o=optimizer, p=part: o.scale_loss(grad, p), branch_grads[name])
            if branch:  # the steps of an optimizer without weights are not counted
                branches[name], slots[name] = optimizer.update(scaled, part, branch)
        return self.join(branches, params), state._replace(iterations=state.iterations + 1, slots=slots)

    def build(self, params: Tree):
        """Builds the optimizer of each part."""
        params = set_apart(self, params)
        self.weights_tree = params
        self._known = {joined(path): v for path, v in jax.tree_util.tree_leaves_with_path(params)}
        for name, branch in self.split(params).items():
            # Each part knows its own weights by the same variables: nothing is held twice.
            self._parts[name].build(branch)
        slots = {name: optimizer.state_variables for name, optimizer in self._parts.items()}
        self.state_variables = OptimizerState(self._iterations, self._learning_rate, slots, (), ())

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers of the parts."""
        return list(self._parts.values())

    @property
    def variables(self) -> list[Variable]:
        """All variables, part by part."""
        return [self._iterations, self._learning_rate] + [
            variable for optimizer in self.optimizers for variable in optimizer.variables
        ]

    @property
    def learning_rate(self):
        """There is none."""
        raise AttributeError(f"{self}: each of its `optimizers` has a learning rate of its own. Read or set those.")

    @learning_rate.setter
    def learning_rate(self, value):
        raise AttributeError(f"{self}: each of its `optimizers` has a learning rate of its own. Read or set those.")

    def averages(self):
        """Those of all parts."""
        return [pair for optimizer in self.optimizers for pair in optimizer.averages()]

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Spares weights from decay in every part."""
        for optimizer in self.optimizers:
            optimizer.exclude_from_weight_decay(var_list, var_names)

    def nested(self):
        """The optimizers of the parts and those inside them."""
        return [found for optimizer in self.optimizers for found in (optimizer, *optimizer.nested())]

    def slot_owners(self):
        return {slot: owner for optimizer in self.optimizers for slot, owner in optimizer.slot_owners().items()}

    def __getitem__(self, name: str) -> Optimizer:
        if name not in self._parts:
            if isinstance(self.optimizer_map, OptimizerMap):
                return self.optimizer_map[name]
            raise self._unknown(name, "asked for")
        return self._parts[name]

    def part(self, opt_state: OptimizerState, name: str) -> OptimizerState:
        """The state of the part `name` in a state of this optimizer, for `optimizer[name].update`."""
        if name not in opt_state.slots:
            raise self._unknown(name, "asked for")
        return opt_state.slots[name]

    def with_part(self, opt_state: OptimizerState, name: str, new: OptimizerState) -> OptimizerState:
        """A state of this optimizer with a new one for the part `name`."""
        self.part(opt_state, name)
        return opt_state._replace(slots=opt_state.slots | {name: new})
