"""`kerax plan`: what the model of a config would need and take on devices that need not be there."""

import argparse
from collections.abc import Sequence

import jax

from kerax.cli.build import build_model, load_data
from kerax.cli.config import ConfigError, one_line, parse_arguments, read_config
from kerax.plan.quiet import without_startup_text

_DESCRIPTION = """Compiles the training step of a config's model for devices that need not be there and prints what it
would need and take on them: memory by kind, operations, messages between devices, the time of a step by a roofline,
and which layers move the bytes. Nothing is trained and no weights are made. Options --section.name VALUE change the
config, as in `kerax train`. TPUs are described by libtpu: pip install "jax[tpu]"; GPUs by JAX's packages for CUDA,
which need no driver: pip install "kerax[plan-gpu]"."""


def plan_command(arguments: Sequence[str]):
    """Prints a plan, or a table of several.

    Args:
        arguments: The words of the command line after `plan`.

    Raises:
        ConfigError: for anything wrong in them or in the config.
    """
    parser = argparse.ArgumentParser("kerax plan", description=_DESCRIPTION)
    parser.add_argument("config", metavar="CONFIG", help="YAML file of a run")
    parser.add_argument("--topology", required=True, help="h100:8, h200:4x8 (hosts x GPUs), v5e:16x16, cpu:8")
    parser.add_argument("--batch_size", help="rows on all devices together, or 'largest'; default: fit.batch_size")
    parser.add_argument("--distribution", default="fsdp", help="data or fsdp, or both with a comma; default fsdp")
    parser.add_argument("--generate", help="plan a step of generation instead, with caches of so many positions")
    # What this parser does not know are the config's fields, which the other one reads.
    given, rest = parser.parse_known_args(arguments)
    path, overrides = parse_arguments([given.config, *rest], "CONFIG", _DESCRIPTION)
    config = read_config(path, overrides)
    batch_size = given.batch_size or (config["fit"].value.get("batch_size", 32) if given.generate is None else 1)
    if batch_size != "largest" or given.generate is not None:
        batch_size = _count("--batch_size", batch_size, "" if given.generate is not None else ", or 'largest'")
    length = None if given.generate is None else _count("--generate", given.generate)
    _use_cpu(given.topology)  # before data and model make JAX choose its devices
    batch, _ = load_data(config)
    names = given.distribution.split(",")
    try:
        distribution = names if len(names) > 1 else names[0]
        print(build_model(config).plan(given.topology, batch, batch_size, distribution, generate=length))
    except (ValueError, ImportError) as error:
        raise ConfigError(one_line(error)) from None


def _count(option: str, given: object, otherwise: str = "") -> int:
    if not str(given).isdecimal() or int(str(given)) < 1:
        raise ConfigError(f"{option}: expected a whole number from 1{otherwise}. Got {given!r}.")
    return int(str(given))


def _use_cpu(topology: str):
    """Makes JAX compile on CPU, and if it has not begun yet, there as many devices of it as the topology names."""
    kind, _, size = topology.partition(":")
    if kind == "gpu":  # its compiler needs the GPU itself
        return
    jax.config.update("jax_platforms", "cpu")
    if kind == "cpu" and size.isdecimal():
        try:
            jax.config.update("jax_num_cpu_devices", int(size))
        except RuntimeError:  # it has begun
            pass
    with without_startup_text():
        jax.devices()
