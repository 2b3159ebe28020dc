"""Several processes, each with its own devices: how they find each other, and which part of the data each one reads."""

import os

import jax

from kerax.core import placement


def initialize(job_addresses=None, num_processes=None, process_id=None):
    """Connects the processes of a run, before anything is computed. A process alone needs no call.

    On Slurm, Open MPI, Cloud TPU and Kubernetes JobSets (`pip install "jax[k8s]"`) no argument is needed: JAX asks the
    launcher. Elsewhere arguments, or environment variables of Keras's names, say it.

    Args:
        job_addresses: `"host:port"` of the first process, or of all, separated by commas. Default:
            `KERAS_DISTRIBUTION_JOB_ADDRESSES`.
        num_processes: Number of processes. Default: `KERAS_DISTRIBUTION_NUM_PROCESSES`, or the launcher's.
        process_id: Number of this process, from 0. Default: `KERAS_DISTRIBUTION_PROCESS_ID`, or the launcher's.

    Raises:
        ValueError: if an address is given without the two numbers, or a number is not one.
        RuntimeError: if something was computed before, or the processes do not find each other.
    """

    def from_environment(value, name, kind):
        name = f"KERAS_DISTRIBUTION_{name}"
        # Arguments go before the environment.
        if value is None and name in os.environ:
            value = os.environ[name]
        try:
            return value if value is None else kind(value)
        except ValueError:
            raise ValueError(f"initialize: {name} must be an integer. Got {value!r}.") from None

    addresses = from_environment(job_addresses, "JOB_ADDRESSES", str)
    count = from_environment(num_processes, "NUM_PROCESSES", int)
    number = from_environment(process_id, "PROCESS_ID", int)
    if addresses is not None and None in (count, number):
        raise ValueError(
            "initialize: with `job_addresses`, `num_processes` and `process_id` must be given too. "
            f"Got {count}, {number}."
        )
    if number is not None and count is not None and not 0 <= number < count:
        raise ValueError(f"initialize: `process_id` must be from 0 to {count - 1}. Got {number}.")
    # JAX needs one address, that of the first process; Keras's argument may list all.
    coordinator = None if addresses is None else addresses.split(",")[0].strip()
    jax.distributed.initialize(coordinator, count, number)


def process_batch_size(batch_size: int) -> int:
    """Rows of each batch that this process reads, of `batch_size` in all: for loaders that each process has its own of.

    Raises:
        ValueError: if the processes do not divide it.
    """
    active = placement.active()
    count = jax.process_count() if active is None else active.num_shares
    if batch_size % count:
        raise ValueError(f"process_batch_size: {batch_size} rows do not divide by {count} processes.")
    return batch_size // count


def process_batch(batch):
    """An array whose rows are spread over all devices, from this process's share of the rows.

    Args:
        batch: Pytree of arrays.

    Raises:
        ValueError: if no distribution is active, or the devices do not divide the rows.
    """
    if placement.active() is None:
        raise ValueError("process_batch: no distribution is active. Call `kerax.distribution.set_distribution` first.")
    return placement.place_batch(batch)
