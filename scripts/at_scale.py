"""What `train_gpt.py` and `train_resnet.py` share: settings from YAML and the command line, devices, and speed."""

import argparse
import statistics
from pathlib import Path

import jax
import yaml

import kerax


def read_settings(description, defaults, arguments=None):
    """The settings of a run: the defaults, then those of a YAML file, then those of the command line.

    Args:
        description: For `--help`.
        defaults: `{name: (default, help)}`. Values are given in YAML's notation and must be of the default's type.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("config", nargs="?", help="YAML file with any of the settings below")
    for name, (default, text) in defaults.items():
        parser.add_argument(f"--{name}", metavar="VALUE", help=f"{text}; default {default!r}".replace("%", "%%"))
    given = vars(parser.parse_args(arguments))
    path = given.pop("config")
    chosen = {} if path is None else yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    unknown = sorted(set(chosen) - set(defaults))
    if unknown:
        parser.error(f"{path}: unknown settings {unknown}. Expected some of {sorted(defaults)}.")
    for name, text in given.items():
        if text is not None:
            chosen[name] = text if isinstance(defaults[name][0], str) else yaml.safe_load(text)
    settings = {name: default for name, (default, _) in defaults.items()} | chosen
    for name, (default, _) in defaults.items():
        value = settings[name]
        if isinstance(default, float) and isinstance(value, (int, str)) and not isinstance(value, bool):
            settings[name] = value = _number(parser, name, value)
        if default is not None and type(value) is not type(default):
            parser.error(f"{name}: expected a value like {default!r}. Got {value!r}.")
    kind, _, size = settings.get("plan", "").partition(":")
    if kind and kind != "gpu":  # compiled here, for devices that are not
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", int(size) if kind == "cpu" else -1)
    return argparse.Namespace(**settings)


def _number(parser, name, value):
    """A float from YAML, which takes `1e-3` for a string."""
    try:
        return float(value)
    except ValueError:
        parser.error(f"{name}: expected a number. Got {value!r}.")


DEVICES = {
    "plan": ("", "a topology such as 'v5e:16x16': prints what a step would need and take there, and trains nothing"),
    "distribution": ("none", "'none' (one device), 'data' (weights on each device), 'fsdp' (weights in shards)"),
    "shards": (0, "with 'fsdp': devices that weights are cut over, of which there are copies; 0 for all devices"),
    "processes": (False, "whether this process is one of several, started by Slurm, Open MPI, Kubernetes or a TPU pod"),
}


def spread(settings, devices=None):
    """The distribution that the settings describe, on all devices or those given; `None` for one device."""
    kind, parts = settings.distribution, settings.shards
    if kind not in ("none", "data", "fsdp"):
        raise SystemExit(f"distribution: expected one of none, data, fsdp. Got {kind!r}.")
    if kind == "none":
        return None
    shape, names = ((-1,), ("data",)) if kind == "data" or not parts else ((-1, parts), ("data", "shard"))
    mesh = kerax.distribution.DeviceMesh(shape, names, devices)
    if kind == "data":
        return kerax.distribution.DataParallel(mesh)
    return kerax.distribution.FSDP(mesh, batch_dim_name=names)


def distribute(settings):
    """Makes all devices of all processes take part as `settings.distribution` says. Comes before any computation."""
    if settings.plan:
        return
    if settings.processes:
        kerax.distribution.initialize()
    kerax.distribution.set_distribution(spread(settings))


class Speed(kerax.callbacks.Callback):
    """Prints loss and speed of each stretch of steps, and at the end the median of all but the first.

    Args:
        unit: What a row of the batch is counted in, `"tokens"` for example.
        per_row: How many of them a row has.
    """

    def __init__(self, unit, per_row):
        super().__init__()
        self.unit, self.per_row, self.found = unit, per_row, []

    def on_epoch_end(self, epoch, logs=None):
        self.found.append((logs["examples_per_second"] * self.per_row, logs["step_time"], logs.get("mfu")))
        compiled = f" compile {logs['compile_time']:.1f}s" if "compile_time" in logs else ""
        validated = f" val_loss {logs['val_loss']:.4f}" if "val_loss" in logs else ""
        print(f"{epoch + 1:4d} loss {logs['loss']:.4f}{validated} {self._line(*self.found[-1])}{compiled}", flush=True)

    def on_train_end(self, logs=None):
        if self.found:
            rates, times, shares = zip(*(self.found[1:] or self.found), strict=True)
            share = None if None in shares else statistics.median(shares)
            print(f"median {self._line(statistics.median(rates), statistics.median(times), share)}")

    def _line(self, rate, seconds, share):
        used = "" if share is None else f" MFU {share:.1%}"
        return f"{rate:,.0f} {self.unit}/s {seconds * 1e3:.2f} ms/step{used}"


def train(model, data, settings, unit, per_row, flops_per_row, validation_data=None):
    """`Model.fit` for `settings.steps` steps, with a line every `settings.report_every` of them."""
    if settings.plan:
        settings.distribution = settings.distribution.replace("none", "data")
        print(model.plan(settings.plan, data, settings.batch_size, lambda devices: spread(settings, devices)))
        return None
    speed = kerax.callbacks.Throughput(flops_per_step=flops_per_row * settings.batch_size)
    every = min(settings.report_every, settings.steps)
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, {model.count_params():,} weights", flush=True)
    x, y = data if isinstance(data, tuple) else (data, None)
    return model.fit(
        x,
        y,
        batch_size=settings.batch_size,
        epochs=max(settings.steps // every, 1),
        steps_per_epoch=every,
        validation_data=validation_data,
        validation_batch_size=settings.batch_size if validation_data is not None else None,
        resume=settings.run_dir or None,
        callbacks=[speed, Speed(unit, per_row)],
        verbose=0,
    )
