"""How a GPT would scale on TPU v5p, on paper: plans for more and more chips, as a table and a picture.

    JAX_PLATFORMS=cpu python scripts/scaling.py configs/gpt_v5e256.yaml --chips "[16, 64, 256]" --out runs/scaling

Plans that are in the folder of `--out` already are not made again. Needs `pip install "jax[tpu]" matplotlib`.
"""

import json
from pathlib import Path

import jax
import matplotlib
import numpy as np
from at_scale import DEVICES, read_settings, spread
from train_gpt import SETTINGS, build_model, compile_model

import kerax

matplotlib.use("Agg")
TOPOLOGIES = {
    **{1: "1x1x1", 4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8", 256: "4x8x8"},
    **{512: "8x8x8", 1024: "8x8x16", 2048: "8x16x16", 4096: "16x16x16"},
}
OWN = {
    "chips": ([16, 64, 256, 1024, 4096], "numbers of chips"),
    "rows_per_chip": (2, "rows of the batch for each chip"),
    "most_shards": (64, "chips that weights are cut over at most; more chips hold copies"),
    "out": ("runs/scaling", "folder of the plans; the picture comes beside it"),
}


def plan_for(chips, settings):
    """The numbers of a plan on so many chips."""
    rows = settings.rows_per_chip * chips
    spec = jax.ShapeDtypeStruct((rows, settings.length), np.int32)
    model = build_model(settings)
    compile_model(model, settings)
    settings.distribution, settings.shards = "fsdp", min(chips, settings.most_shards)
    plan = model.plan(f"v5p:{TOPOLOGIES[chips]}", (spec, spec), None, lambda devices: spread(settings, devices))
    print(plan, flush=True)
    return {
        "chips": chips,
        "rows": rows,
        "tokens": rows * settings.length,
        "memory": plan.total_memory,
        "state": plan.memory["weights"] + plan.memory["optimizer"],
        "fits": plan.fits,
        "seconds": plan.seconds,
        "step_time": plan.step_time,
        "step_time_apart": plan.step_time_apart,
        "mfu": plan.mfu,
    }


def as_table(found):
    """The plans as a Markdown table."""
    head = ["chips", "rows", "state", "memory", "compute", "HBM", "messages", "step", "share of messages", "tokens/s"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---:"] * len(head)) + " |"]
    for one in found:
        if one["step_time"] is None:
            sizes = [f"{one[name] / 2**30:.2f} GiB" for name in ("state", "memory")]
            lines.append(
                "| "
                + " | ".join([f"{one['chips']:,}", f"{one['rows']:,}", *sizes, "-", "-", "-", "does not fit", "-", "-"])
                + " |"
            )
            continue
        times = [f"{one['seconds'][name] * 1e3:,.0f} ms" for name in ("compute", "memory", "messages")]
        share = one["seconds"]["messages"] / one["step_time_apart"]
        sizes = [f"{one[name] / 2**30:.2f} GiB" for name in ("state", "memory")]
        span = f"{one['step_time'] * 1e3:,.0f} to {one['step_time_apart'] * 1e3:,.0f} ms"
        rate = f"{one['tokens'] / one['step_time_apart'] / 1e6:,.2f} M"
        cells = [f"{one['chips']:,}", f"{one['rows']:,}", *sizes, *times, span, f"{share:.0%}", rate]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(found, path):
    """Step time and share of messages over the number of chips, as an SVG file."""
    from matplotlib import pyplot

    found = [one for one in found if one["step_time"] is not None]
    chips = [one["chips"] for one in found]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(chips, [one["step_time"] * 1e3 for one in found], "o-", label="all overlaps")
    left.plot(chips, [one["step_time_apart"] * 1e3 for one in found], "s--", label="nothing overlaps")
    left.set(xscale="log", xlabel="chips", ylabel="ms per step", ylim=(0, None), title="step time, same rows per chip")
    left.legend()
    right.plot(chips, [100 * one["seconds"]["messages"] / one["step_time_apart"] for one in found], "o-")
    right.set(xscale="log", xlabel="chips", ylabel="% of a step", ylim=(0, 100), title="messages, if nothing overlaps")
    figure.savefig(path)


def main():
    settings = read_settings(__doc__, SETTINGS | DEVICES | OWN)
    kerax.mixed_precision.set_global_policy(settings.dtype)
    folder = Path(settings.out)
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for chips in settings.chips:
        path = folder / f"{chips}.json"
        if not path.exists():
            path.write_text(json.dumps(plan_for(chips, settings)))
        found.append(json.loads(path.read_text()))
    draw(found, folder.with_suffix(".svg"))
    print(as_table(found))


if __name__ == "__main__":
    main()
