"""`Model.plan(generate=)`: a step of decoding compiled for devices that need not be there."""

import time
from typing import Any

import jax
import jax.numpy as jnp

from kerax.core import building
from kerax.core.tracking import descendants, walk
from kerax.distribution import Distribution
from kerax.errors import check_integers
from kerax.models import decoding
from kerax.plan import chips, flops
from kerax.plan.devices import devices_of
from kerax.plan.planning import (
    compile_program,
    compiling_for,
    platform_of,
    read_program,
    resolve_distribution,
    size_of,
    spec_of,
)
from kerax.plan.report import Plan, Plans

_CACHE_AXES = ("batch", "heads", None, None)


def make_decoding_plan(
    model, topology: str | None, num_rows: Any, length: int, cache_dtype: Any, distribution: Any
) -> Plan | Plans:
    """The plan of a step that adds a token to each row, from caches of `length` positions: see `Model.plan`."""
    check_integers("plan", batch_size=(num_rows, 1), generate=(length, 1))
    if not all(getattr(item, "built", True) for item in descendants(model)):
        raise ValueError(f"plan: {model} is not built, so that its weights are not known. Call it on tokens first.")
    if isinstance(distribution, (list, tuple)):
        each = [make_decoding_plan(model, topology, num_rows, length, cache_dtype, one) for one in distribution]
        return Plans(each)
    devices = None if topology is None else devices_of(topology)
    spread = resolve_distribution(distribution, devices)
    devices = list(spread.device_mesh.devices.flat)
    kind, platform, shape = devices[0].device_kind, platform_of(devices), spread.device_mesh.shape
    step = decoding.plain_step(model, decoding.Rules(is_greedy=True), None)
    with spread.scope(), compiling_for(platform):
        variables, state = variable_specs(model, spread), state_specs(model, spread, num_rows, length, cache_dtype)
        options = {"temperature": _in_rows(spread, (num_rows,), "float32")}
        arguments = [variables], state, options, jax.ShapeDtypeStruct((4,), jnp.int32)
        begun = time.perf_counter()
        # The state is donated, as in `generate`: caches are renewed where they lie.
        lowered = jax.jit(step, donate_argnums=1).lower(*arguments)
        needed = flops.count(jax.make_jaxpr(step)(*arguments).jaxpr).products
        compiled, problem = compile_program(lowered)
    plan = Plan(
        topology or f"{platform}:{len(devices)}",
        len(devices),
        kind,
        type(spread).__name__ + ("" if len(shape) == 1 else f" {shape}"),
        num_rows,
        {"weights": size_of(variables), "cache": size_of(state.cache)},
        chips.chip_of(kind),
        model_flops=needed,
        compile_time=time.perf_counter() - begun,
        problem=problem,
    )
    if compiled is None:
        return plan
    plan.memory["temporary"] = compiled.memory_analysis().temp_size_in_bytes
    return read_program(plan, compiled, spread.device_mesh)


def variable_specs(model, spread: Distribution) -> dict:
    """The shapes of a model's variables as `apply` takes them, where a distribution has them."""
    triples = (
        (path, variable, spec_of(variable, variable.stored_dtype, spread.variable_sharding(variable)))
        for path, variable in walk(model)
    )
    return building.parameters_and_state(triples)


def state_specs(model, spread: Distribution, rows: int, length: int, cache_dtype: Any) -> decoding.State:
    """The shapes of the state of generation for so many rows, with caches of `length` positions."""

    def laid_out(leaf):
        layout = spread.get_logical_layout(leaf.shape, _CACHE_AXES[: leaf.ndim])
        return spec_of(leaf, leaf.dtype, layout.backend_layout)

    cache = jax.tree.map(laid_out, jax.eval_shape(lambda: model.init_cache(rows, length, cache_dtype)))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
    return decoding.State(
        tokens=_in_rows(spread, (rows, length), "int32"),
        positions=_in_rows(spread, (rows,), "int32"),
        last=_in_rows(spread, (rows,), "int32"),
        is_done=_in_rows(spread, (rows,), "bool"),
        keys=_in_rows(spread, (rows,), keys.dtype),
        cache=cache,
    )


def _in_rows(spread: Distribution, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    layout = spread.get_logical_layout(shape, ("batch", None)[: len(shape)])
    return jax.ShapeDtypeStruct(shape, dtype, sharding=layout.backend_layout)
