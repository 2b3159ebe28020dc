"""`Model.plan`: compiles a training step for devices that need not be there and reads off what it needs."""

import contextlib
import dataclasses
import math
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from kerax import config
from kerax.core import placement
from kerax.core.display import format_bytes
from kerax.data import BatchSpec, unpack_x_y_sample_weight
from kerax.distribution import FSDP, DataParallel, DeviceMesh, Distribution
from kerax.plan import chips, flops, hlo
from kerax.plan.devices import devices_of, with_cudnn
from kerax.plan.report import Plan, Plans, Traffic
from kerax.train import steps
from kerax.train.run_state import run_state
from kerax.train.state import TrainState

Tree = Any
_NAMED = {
    "data": lambda devices: DataParallel(DeviceMesh((len(devices),), ("batch",), devices)),
    "fsdp": lambda devices: FSDP(DeviceMesh((len(devices),), ("batch",), devices)),
}


def make_plan(model, topology: str | None, batch: Tree, batch_size=None, distribution: Any = "fsdp") -> Plan | Plans:
    """The plan of a compiled model, or one for each of several distributions: see `Model.plan`."""
    model.kerax_compilation.require(model, "plan")
    if isinstance(distribution, (list, tuple)):
        return Plans(make_plan(model, topology, batch, batch_size, each) for each in distribution)
    devices = None if topology is None else devices_of(topology)
    with compiling_for("cpu" if devices is None else platform_of(devices)):
        # Built here, so that a function that makes a distribution can look at the weights.
        model.kerax_compilation.make_ready(model, BatchSpec(_rows(batch, None)), "fit")
    spread = resolve_distribution(distribution, devices)
    devices = list(spread.device_mesh.devices.flat)
    if batch_size == "largest":
        return _largest(lambda size: _plan(model, topology, devices, spread, _rows(batch, size)), spread, _MOST_ROWS)
    return _plan(model, topology, devices, spread, _rows(batch, batch_size))


def find_batch_size(model, batch: Tree, memory: float | None, most: int) -> int:
    """See `kerax.utils.find_batch_size`."""
    model.kerax_compilation.require(model, "find_batch_size")
    model.kerax_compilation.make_ready(model, BatchSpec(_rows(batch, None)), "fit")
    spread = placement.active() or resolve_distribution("data", jax.devices()[:1])
    devices = list(spread.device_mesh.devices.flat)
    memory = chips.memory_of(devices[0]) if memory is None else memory

    def plan_for(size: int) -> Plan:
        plan = _plan(model, None, devices, spread, _rows(batch, size))
        return dataclasses.replace(plan, chip=plan.chip._replace(memory=memory))

    found = _largest(plan_for, spread, most)
    if not found.fits:
        raise ValueError(
            f"find_batch_size: a step of {found.batch_size} rows needs {format_bytes(found.total_memory)} on a device "
            f"that has {format_bytes(memory)}. Make the model smaller, or spread its weights: see "
            "`kerax.distribution.FSDP`."
        )
    unit = spread.num_model_replicas
    whole = found.batch_size // (8 * unit) * 8 * unit
    return whole or found.batch_size


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """While programs are traced and compiled for devices that need not be there."""
    with config.compiling_for(platform), with_cudnn() if platform == "gpu" else contextlib.nullcontext():
        yield


def platform_of(devices) -> str:
    """`"cpu"`, `"gpu"` or `"tpu"`. Devices that a topology describes call themselves otherwise."""
    platform = "tpu" if devices[0].device_kind.startswith("TPU") else devices[0].platform
    return {"cuda": "gpu", "rocm": "gpu"}.get(platform, platform)


def resolve_distribution(distribution: Any, devices: list | None) -> Distribution:
    """What `distribution` of `Model.plan` means for these devices."""
    if isinstance(distribution, Distribution):
        return distribution
    make = _NAMED.get(distribution) if isinstance(distribution, str) else distribution
    if devices is None:
        raise ValueError("plan: name a `topology`, 'v5e:16x16' for example, or pass a distribution on its devices.")
    made = make(devices) if callable(make) else None
    if isinstance(made, Distribution):
        return made
    raise ValueError(
        f"plan: `distribution` must be one of {tuple(_NAMED)}, a distribution, or a function from devices to one. "
        f"Got {distribution!r}."
    )


def _rows(batch: Tree, batch_size: int | None) -> Tree:
    """Shapes and dtypes of a batch, of `batch_size` rows if given."""

    def spec(leaf):
        dtype = jax.dtypes.canonicalize_dtype(leaf.dtype)
        shape = leaf.shape if batch_size is None else (batch_size, *leaf.shape[1:])
        return jax.ShapeDtypeStruct(shape, dtype)

    return jax.tree.map(spec, tuple(batch) if isinstance(batch, list) else batch)


def _plan(model, topology, devices, spread: Distribution, batch: Tree) -> Plan:
    kind, platform, shape = devices[0].device_kind, platform_of(devices), spread.device_mesh.shape
    # Programs for devices that are not there must not be found by a later `fit`.
    compilation = model.kerax_compilation
    before = dict(compilation.programs), compilation.kept
    compilation.kept = {}
    try:
        with spread.scope(), compiling_for(platform):
            compilation.make_ready(model, BatchSpec(batch), "fit")
            known = run_state(model, "train")
            variables, program = known.variables, compilation.train_program(model, known, BatchSpec(batch))
            state = jax.tree.map(
                lambda owner: spec_of(owner, owner.stored_dtype, spread.variable_sharding(owner)), variables
            )
            rows = jax.tree.map(lambda leaf: spec_of(leaf, leaf.dtype, spread.batch_sharding(leaf.shape)), batch)
            begun = time.perf_counter()
            # From shapes and shardings alone: nothing is put anywhere.
            lowered = program.lower(tuple(jax.tree.leaves(state)), rows)
            model_flops, activations = _forward(model, variables, batch)
            compiled, problem = compile_program(lowered)
    finally:
        compilation.programs, compilation.kept = before
    plan = Plan(
        topology or f"{platform}:{len(devices)}",
        len(devices),
        kind,
        type(spread).__name__ + ("" if len(shape) == 1 else f" {shape}"),
        jax.tree.leaves(batch)[0].shape[0],
        {
            "weights": size_of((state.params, state.state)),
            "optimizer": size_of(state.opt_state),
            "batch": size_of(rows),
        },
        chips.chip_of(kind),
        model_flops=3 * model_flops,  # the gradient takes two products for each of the forward pass
        compile_time=time.perf_counter() - begun,
        problem=problem,
    )
    if compiled is None:
        plan.memory["other"] = size_of(state.metrics)
        plan.memory["temporary"] = _said_to_need(problem, plan.total_memory)
        return plan
    temporary = compiled.memory_analysis().temp_size_in_bytes
    # An estimate, of what is kept if nothing is computed again: never more than the compiler says is alive.
    activations = min(activations / spread.num_model_replicas, temporary)
    plan.memory |= {"activations": activations, "temporary": temporary - activations}
    return read_program(plan, compiled, spread.device_mesh, size_of(state.metrics))


def read_program(plan: Plan, compiled: Any, mesh: DeviceMesh, least: float = 0.0) -> Plan:
    """The plan with what a compiled program says of itself; `memory["other"]` is at least `least`."""
    sizes = compiled.memory_analysis()
    # What is donated is argument and output at once: counted once.
    whole = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    known = plan.total_memory - sizes.temp_size_in_bytes
    plan.memory["other"] = max(whole + sizes.generated_code_size_in_bytes - known, least)
    counts = hlo.count(compiled.as_text())
    plan.flops, plan.num_bytes, plan.kernels = counts.flops, counts.num_bytes, counts.kernels
    plan.traffic = traffic_of(counts.collectives, mesh, plan.chip)
    return plan


def spec_of(leaf, dtype, sharding) -> jax.ShapeDtypeStruct:
    """The shape of an array as a program gets it."""
    return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)


def compile_program(lowered) -> tuple[Any, str | None]:
    """The compiled program, or `None` and what the compiler said if it needs more memory than there is."""
    try:
        return lowered.compile(), None
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None, next((line for line in str(error).splitlines() if "Used" in line), str(error).splitlines()[0])


def _said_to_need(problem: str | None, state: float) -> float:
    """The bytes beside the state that the compiler said the program would use; 0 if it did not."""
    # Compilers say it differently: what is "used" holds the state too, "temporaries" do not.
    found = re.search(r"(Used|temporaries) \(?([\d.]+)([KMGT]?)", problem or "")
    if found is None:
        return 0.0
    size = float(found[2]) * 1024 ** " KMGT".index(found[3] or " ")
    return size if found[1] == "temporaries" else max(size - state, 0.0)


def size_of(specs: Tree) -> float:
    """Bytes of sharded arrays on one device."""
    return sum(
        math.prod(spec.sharding.shard_shape(spec.shape)) * np.dtype(spec.dtype).itemsize
        for spec in jax.tree.leaves(specs)
    )


def _forward(model, variables: TrainState, batch: Tree) -> tuple[float, float]:
    """Operations of the forward pass, and bytes of what it keeps for the gradient, both on all devices together.

    0 and 0 for a model whose train step is not the default one: there is no telling.
    """
    if steps.overrides(model, "train_step"):
        return 0.0, 0.0
    x, y, sample_weight = unpack_x_y_sample_weight(batch)
    state = jax.tree.map(lambda owner: jax.ShapeDtypeStruct(owner.shape, owner.stored_dtype), variables)

    def loss(params, rest, x, y, sample_weight):
        with steps.bind(model, rest._replace(params=params), steps.step_key(rest)):
            return steps.loss_of(model, x, y, model(x, training=True), sample_weight, training=True)

    def kept(params, *rest):
        return jax.tree.leaves(jax.vjp(lambda params: loss(params, *rest), params)[1])

    arguments = state.params, state._replace(params=()), x, y, sample_weight
    jaxpr = jax.make_jaxpr(kept)(*arguments).jaxpr
    # What the gradient needs and was not given is what the forward pass has to keep.
    given = {id(var) for var in jaxpr.invars}
    fresh = {id(var): var.aval for var in jaxpr.outvars if not hasattr(var, "val") and id(var) not in given}
    num_bytes = sum(
        math.prod(a.shape) * np.dtype(a.dtype).itemsize for a in fresh.values() if hasattr(a.dtype, "itemsize")
    )
    return flops.count(jax.make_jaxpr(loss)(*arguments).jaxpr).products, float(num_bytes)


def traffic_of(collectives: list[hlo.Collective], mesh: DeviceMesh, chip: chips.Chip) -> list[Traffic]:
    """Messages by kind and mesh axes, the slowest first."""
    found: dict[tuple, Traffic] = {}
    for kind, size, group, count in collectives:
        if len(group) < 2:  # XLA leaves messages to oneself standing
            continue
        places = np.array(np.unravel_index(group, mesh.shape))
        # Along the axes on which the members of the group differ.
        axes = tuple(name for name, row in zip(mesh.axis_names, places, strict=True) if len(set(row)) > 1)
        rate = _rate(kind, mesh, group, chip)
        seconds = None if rate is None else count * _sent(kind, size, len(group)) / rate
        old = found.get((kind, axes), Traffic(kind, axes, 0, 0.0, 0.0))
        seconds = None if seconds is None or old.seconds is None else old.seconds + seconds
        found[kind, axes] = Traffic(kind, axes, old.num_messages + count, old.num_bytes + count * size, seconds)
    return sorted(found.values(), key=lambda traffic: -(traffic.seconds or traffic.num_bytes))


def _sent(kind: str, size: float, devices: int) -> float:
    """Bytes that a device sends for a result of `size` bytes, by the best algorithm on a ring."""
    # A ring passes each part on until all have it; an all-reduce goes round twice.
    share = (devices - 1) / devices
    factors = {"all-reduce": 2 * share, "reduce-scatter": devices - 1, "collective-permute": 1}
    return size * factors.get(kind, share)


def _rate(kind: str, mesh: DeviceMesh, group: tuple[int, ...], chip: chips.Chip) -> float | None:
    """Bytes per second that a device of a group sends, by the slowest way between two of them; `None` if unknown."""
    if chip.card is None or chip.link is None:
        return None if chip.link is None else chip.link * _ways(mesh, group)
    devices = mesh.devices.ravel()
    # JAX numbers the GPUs of all hosts one after the other: those that are linked lie beside each other.
    linked = [devices[number].id // chip.card.linked for number in group]
    if len(set(linked)) == 1:
        return chip.link
    if chip.card.network is None:
        return None
    # A ring goes once through each host, over the network cards of all its GPUs that take part.
    is_ring = kind not in ("all-to-all", "ragged-all-to-all", "collective-permute")
    together = min(map(linked.count, linked)) if is_ring else 1
    return min(chip.link, together * chip.card.network)


def _ways(mesh: DeviceMesh, group: tuple[int, ...]) -> int:
    """Along how many axes of the TPUs' torus a group of devices extends: so many rings send at once."""
    devices = mesh.devices.ravel()
    places = [getattr(devices[number], "coords", None) for number in group]
    if None in places:
        return 1
    return max(sum(len(set(axis)) > 1 for axis in zip(*places, strict=True)), 1)


_MOST_ROWS = 2**20
"""Nobody trains with more, and the arrays of a small model's programs would have more elements than JAX can count."""


def _largest(plan_for: Callable, spread: Distribution, most: int) -> Plan:
    """The plan of the largest batch found to fit: by what smaller ones need, as if memory grew evenly, then by halving.

    It ends where nine tenths of the memory are used, at `most` rows, or after eight programs.
    """
    unit = spread.num_model_replicas
    best = plan_for(unit)
    if best.available is None:
        raise ValueError("plan: nobody knows how much memory these devices have; give `batch_size`.")
    most_parts = max(most // unit, 1)
    known, limit, parts = [(0, 0.0), (1, best.total_memory)], None, min(2, most_parts)
    # Each try compiles a whole step, which may take minutes.
    for _ in range(7 if best.fits else 0):
        found = plan_for(parts * unit)
        if found.fits:
            best = found
            known.append((parts, found.total_memory))
        else:
            limit = parts
        (low, less), (high, more) = known[-2:]
        if more >= 0.9 * found.available or limit == high + 1 or high == most_parts:
            break
        each = max((more - less) / (high - low), 1.0)
        # A little below, for memory grows in steps.
        parts = min(high + max(int((0.97 * found.available - more) / each), 1), most_parts)
        if limit is not None and parts >= limit:
            parts = (high + limit) // 2
    return best
