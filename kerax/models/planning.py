"""`Model.plan`."""

from typing import Any


def plan(self, topology=None, batch=None, batch_size: int | str | None = None, distribution: Any = "fsdp"):
    """What a training step would need and take on devices that need not be there: compiled for them, not run.

    Nothing is allocated, so that models far larger than this machine can be planned. For TPUs `libtpu` is needed:
    `pip install "jax[tpu]"`, with `JAX_PLATFORMS=cpu` in the environment on a machine without one.

    Args:
        topology: The devices: `"v5e:16x16"`, `"v5p:8x8x8"`, `"v6e:4x4"`; of this machine `"cpu:8"`, `"gpu:1"`.
            Default: those of the distribution.
        batch: `(x, y)` or `(x, y, sample_weight)`, arrays or `jax.ShapeDtypeStruct`s; only shapes and dtypes count.
        batch_size: Rows of a step on all devices together, instead of the batch's; `"largest"`: the most that fit.
        distribution: `"data"` (weights on every device), `"fsdp"` (weights in shards), a `Distribution`, or a
            function from a list of devices to one. A list of these: one plan each.

    Returns: a `Plan`, which prints memory by kind, operations, messages between devices, and a step's time by a
        roofline; or a list of them, which prints as a table.

    Raises:
        ValueError: for an unknown topology, or a batch or model that cannot be spread so.
        ImportError: for a TPU topology without `libtpu`.
    """
    from kerax.plan.planning import make_plan  # few models are planned: who trains shall not wait for this

    return make_plan(self, topology, batch, batch_size, distribution)
