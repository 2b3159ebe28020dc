"""Starts a training script in several processes by Ray: `launch_ray.py --workers 4 train_gpt.py CONFIG [settings...]`.

Ray's JAX trainer (`pip install "ray[train]"`) finds the machines, starts a process on each host and connects
them by `jax.distributed`. The script is run there as it would be alone; it chooses a `kerax.distribution` itself, and
need not call `initialize`.
"""

import argparse
import runpy
import sys
from pathlib import Path


def work(config: dict):
    """In each worker: the script, as `python SCRIPT ARGUMENTS` would run it."""
    import jax

    if jax.process_count() != config["workers"]:
        raise RuntimeError(
            f"{config['workers']} workers were started, but JAX sees {jax.process_count()}. Ray connects workers with "
            "GPUs or TPUs only: pass `--accelerator`."
        )
    sys.path.insert(0, str(Path(config["script"]).parent))
    sys.argv = [config["script"], *config["arguments"]]
    runpy.run_path(config["script"], run_name="__main__")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1, help="number of processes")
    parser.add_argument("--accelerator", choices=("gpu", "tpu"), default="gpu", help="what each process has")
    parser.add_argument("--topology", help="of a TPU slice, for example 4x4")
    parser.add_argument("--tpu_version", help="for example TPU-V5E")
    parser.add_argument("script", help="a training script, at the same path on every machine")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    given = parser.parse_args()

    from ray.train import ScalingConfig
    from ray.train.v2.jax import JaxConfig, JaxTrainer

    on_tpu = given.accelerator == "tpu"
    scaling = {"num_workers": given.workers, "use_tpu": on_tpu, "use_gpu": not on_tpu}
    if on_tpu:
        scaling |= {"topology": given.topology, "accelerator_type": given.tpu_version}
    trainer = JaxTrainer(
        work,
        train_loop_config={
            "workers": given.workers,
            "script": str(Path(given.script).resolve()),
            "arguments": given.arguments,
        },
        jax_config=JaxConfig(use_tpu=on_tpu, use_gpu=not on_tpu),
        scaling_config=ScalingConfig(**scaling),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
