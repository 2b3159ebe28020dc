"""Times kerax beside hand-written JAX and other libraries on the same models, and draws the result.

    python scripts/benchmark.py                          # all workloads, all contenders that are installed
    python scripts/benchmark.py --workloads mlp cnn --contenders jax kerax keras --rounds 7
    python scripts/benchmark.py --workloads tiny mlp --contenders jax jax_reading kerax_reading
    python scripts/benchmark.py --first                  # from a process's start to the end of its first few steps
    python scripts/benchmark.py --first --cached         # the same where another process has compiled before
    python scripts/benchmark.py --leaves                 # what a step costs by the number of arrays in the model
    python scripts/benchmark.py --layers                 # layers, forward and backward, against the same in plain JAX
    python scripts/benchmark.py --formulations           # what is computed otherwise on CPU, against the plain way
    python scripts/benchmark.py --checkpoints            # what saving costs the loop, beside orbax and Keras
    python scripts/benchmark.py --display                # what the progress display costs
    python scripts/benchmark.py --programs               # bytes and kernels of steps compiled for an H200

Every contender runs in a process of its own; the processes take turns, round by round, so that whatever else the
machine does falls on all alike. `wall` and `cpu` are ratios to the contender `jax` (an idiomatic jitted step in a
Python loop with the batches on the host): the median over the rounds of wall time, and the least CPU time. All
contenders start from the same weights, see the same number of batches, use Adam, and compute loss and accuracy at every
step; the losses of the last round are printed so that they can be compared.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
CONTENDERS = {
    "jax": ("plain_jax", "jax"),
    "jax_fused": ("plain_jax", "jax"),
    "kerax": ("keras_api", "kerax"),
    "keras": ("keras_api", "keras"),
    "nnx": ("flax_nnx", "flax"),
    "equinox": ("equinox_loop", "equinox"),
    "torch": ("torch_loop", "torch"),
    "jax_reading": ("plain_jax", "jax"),  # the loss is read after every step
    "kerax_reading": ("keras_api", "kerax"),
    "keras_reading": ("keras_api", "keras"),
}
USUAL = [name for name in CONTENDERS if not name.endswith("_reading")]


def main():
    """Parses the arguments, runs what they ask for, prints tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=["tiny", "mlp", "cnn", "lstm", "gpt", "predict", "evaluate"])
    parser.add_argument("--contenders", nargs="+", default=USUAL, choices=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder for results.json, results.md and results.png")
    parser.add_argument("--first", action="store_true", help="first fit, evaluate or predict, of a fresh process")
    parser.add_argument("--cached", action="store_true", help="with --first: programs are kept on disk")
    parser.add_argument("--leaves", action="store_true", help="cost of a step by the number of arrays")
    parser.add_argument("--layers", action="store_true", help="layers against the same computation in plain JAX")
    parser.add_argument("--formulations", action="store_true", help="formulations for a CPU against the plain ones")
    parser.add_argument("--checkpoints", action="store_true", help="what saving costs")
    parser.add_argument("--display", action="store_true", help="what the progress display costs")
    parser.add_argument("--programs", nargs="*", metavar="NAME", help="a topology and models, default h200:1 and all")
    parser.add_argument("--serve", nargs=2, metavar=("CONTENDER", "WORKLOAD"), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(HERE))
    if arguments.serve:
        return serve(*arguments.serve, arguments.steps)
    if arguments.leaves or arguments.layers:
        from contenders import parts

        return print(parts.leaves() if arguments.leaves else parts.layers())
    if arguments.formulations:
        from contenders import formulations

        return print(formulations.table(arguments.rounds))
    if arguments.checkpoints:
        from contenders import checkpoints

        return print(checkpoints.table(arguments.rounds))
    if arguments.display:
        from contenders import display

        return print(display.table())
    if arguments.programs is not None:
        from contenders import programs

        chosen = [name for name in arguments.programs if ":" in name] or ["h200:1"]
        return print(programs.table(chosen[0], [name for name in arguments.programs if ":" not in name]))
    contenders = [name for name in arguments.contenders if importlib.util.find_spec(CONTENDERS[name][1])]
    if arguments.first:
        return print(first(arguments.workloads, contenders, arguments.rounds, arguments.cached))
    results = {name: compare(name, contenders, arguments.rounds) for name in arguments.workloads}
    text = table(results)
    print(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "results.json").write_text(json.dumps(results, indent=1))
        (arguments.out / "results.md").write_text(text)
        plot(results, arguments.out / "results.png")


def compare(workload: str, contenders: list[str], rounds: int) -> dict[str, dict]:
    """Seconds per step and ratios of each contender on a workload."""
    workers = {name: Worker(name, workload) for name in contenders}
    runs: dict[str, list] = {name: [] for name in contenders}
    try:
        for worker in workers.values():
            worker.run()  # compiles
        for _ in range(rounds):
            for name, worker in workers.items():
                runs[name].append(worker.run())
    finally:
        for worker in workers.values():
            worker.close()
    base = runs.get("jax", runs[contenders[0]])
    found = {}
    for name, turns in runs.items():
        walls = [turn["wall"] / other["wall"] for turn, other in zip(turns, base, strict=True)]
        found[name] = {
            "wall": statistics.median(walls),
            "cpu": min(turn["cpu"] for turn in turns) / min(turn["cpu"] for turn in base),
            "us_per_step": 1e6 * min(turn["wall"] for turn in turns) / turns[0]["steps"],
            "loss": turns[-1]["loss"],
        }
        print(f"{workload:9} {name:10} {json.dumps(found[name])}", file=sys.stderr, flush=True)
    return found


def first(workloads: list[str], contenders: list[str], rounds: int, is_cached: bool) -> str:
    """A Markdown table: seconds from a process's start to the end of its first four steps, CPU seconds, and compiling.

    Medians over the rounds, in which the contenders take turns; in brackets the ratio to the first of them.
    """
    lines = [f"| wall (ratio) / cpu / compile s | {' | '.join(contenders)} |", "|---" * (len(contenders) + 1) + "|"]
    for workload in workloads:
        found: dict[str, list] = {name: [] for name in contenders}
        with tempfile.TemporaryDirectory() as folder:
            for turn in range(rounds + is_cached):
                for name in contenders:
                    begun = time.time()
                    worker = Worker(name, workload, 4, f"{folder}/{name}" if is_cached else None)
                    result = worker.run()
                    worker.close()
                    if turn >= is_cached:
                        found[name].append((result["ended"] - begun, result["cpu_in_all"], result["compiling"]))
        medians = {name: [statistics.median(column) for column in zip(*turns)] for name, turns in found.items()}
        base = medians[contenders[0]][0]
        cells = [f"{wall:.2f} ({wall / base:.2f}) / {cpu:.2f} / {c:.2f}" for wall, cpu, c in medians.values()]
        lines.append(f"| {workload} | {' | '.join(cells)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines) + "\n"


class Worker:
    """A contender in a process of its own, which does a round whenever it is told to.

    Args:
        contender: Its name.
        workload: The workload's name.
        steps: Number of steps in place of the workload's own.
        cache: Folder where JAX keeps compiled programs.
    """

    def __init__(self, contender: str, workload: str, steps: int | None = None, cache: str | None = None):
        command = [sys.executable, __file__, "--serve", contender, workload]
        command += [] if steps is None else ["--steps", str(steps)]
        environment = os.environ | {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "2"}
        if cache is not None:
            environment |= {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
            environment["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self) -> dict:
        """Wall and CPU seconds, steps and loss of a round."""
        print("run", file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{' '.join(self._process.args)} ended with {self._process.wait()}.")

    def close(self):
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def serve(contender: str, workload: str, num_steps: int | None = None):
    """The worker's side: a round for every line on standard input."""
    from contenders import workloads

    module = importlib.import_module(f"contenders.{CONTENDERS[contender][0]}")
    work = workloads.Workload(workload, num_steps)
    compiling = []
    if contender != "torch":
        import jax

        jax.monitoring.register_event_duration_secs_listener(
            lambda event, seconds, **_: compiling.append(seconds if event.endswith("compile_duration") else 0)
        )
    run = module.build(work, contender)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        loss = run()
        result = dict(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu, steps=work.num_steps, loss=loss)
        result |= dict(ended=time.time(), cpu_in_all=time.process_time(), compiling=sum(compiling))
        print(json.dumps(result), flush=True)


def table(results: dict) -> str:
    """A Markdown table: wall / CPU ratio of each contender on each workload."""
    names = list(next(iter(results.values())))
    lines = [f"| workload | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for workload, found in results.items():
        cells = [f"{found[name]['wall']:.2f} / {found[name]['cpu']:.2f}" for name in names]
        lines.append(f"| {workload} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(results: dict, path: Path):
    """Bars of wall time relative to `jax`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(next(iter(results.values())))
    figure, axes = plt.subplots(figsize=(1.6 * len(results) + 3, 4), layout="constrained")
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        at = [position + (index - (len(names) - 1) / 2) * width for position in range(len(results))]
        axes.bar(at, [found[name]["wall"] for found in results.values()], width, label=name)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set(yscale="log", ylabel="wall time / hand-written JAX loop", xticks=range(len(results)))
    axes.set_xticklabels(list(results))
    axes.legend(ncols=len(names), fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.1))
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
