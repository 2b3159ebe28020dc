"""`kerax finetune`: a language model trained on answers or on preferences, as a YAML file describes."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerax import language, losses, metrics
from kerax.cli import run_folder
from kerax.cli.build import build_compile_arguments, build_fit_arguments, set_seed
from kerax.cli.config import (
    SECTIONS,
    ConfigError,
    Field,
    Section,
    one_line,
    parse_arguments,
    program_name,
    read_config,
)

DESCRIPTION = """Trains the language model in a folder, or hf://user/name, on the examples in a file of JSON lines or a
table (parquet): on the answers in {"messages": [...]}, {"prompt": ..., "completion": ...} or {"text": ...}, or on
preferences in {"prompt": ..., "chosen": ..., "rejected": ...}. The run's folder gets the adapter, in the form of peft,
or the whole model, its tokenizer, the logs, a backup to go on from, and results.json."""
FLAGS = {"resume": "go on with the newest run of that name, or the one that the config lies in, where it stopped"}
RUN_SECTIONS = {
    "seed": SECTIONS["seed"],
    "run_dir": SECTIONS["run_dir"],
    "model": Section(dict, None, "path; dtype; quantization, as nf4/64; tokenizer, default that of path"),
    "data": Section(dict, None, "train; validation; length of the rows, default 1024; too_long: cut, drop or raise"),
    "task": Section(str, "answers", "answers, or preferences"),
    "beta": Section(float, 0.1, "of preferences: the less, the further the model may go from where it was"),
    "weights": Section(str, "adapters", "what is trained: adapters or all"),
    "lora": Section(dict, {}, "of adapters: rank, alpha, targets, dtype; merge: whether to write the whole model too"),
    "compile": Section(dict, {"optimizer": {"AdamW": {"learning_rate": 2e-4}}}, "optimizer, and more of Model.compile"),
    "fit": Section(dict, {}, "arguments of Model.fit"),
    "callbacks": SECTIONS["callbacks"],
    "logs": SECTIONS["logs"],
}
ADAPTER, MODEL = "adapter", "model"
_TASKS, _WEIGHTS = ("answers", "preferences"), ("adapters", "all")


def finetune(arguments: Sequence[str]) -> None:
    """Trains what a config describes. Raises `ConfigError` for anything wrong in the command line or the config."""
    path, overrides = parse_arguments(arguments, "CONFIG", DESCRIPTION, FLAGS, sections=RUN_SECTIONS)
    resume = overrides.pop("resume", False)
    run_finetuning(read_config(path, overrides, RUN_SECTIONS), resume, path)


def run_finetuning(config: Field, resume: bool = False, path: str = "") -> dict[str, float]:
    """Trains, tests and saves.

    Args:
        config: The checked config.
        resume: Whether to go on with a run that was stopped.
        path: Where the config was read.

    Returns: the numbers of the validation, if there is any.

    Raises:
        ConfigError: for what is wrong in the config or in the folder of the run.
    """
    _check(config)
    kept = run_folder.check_logs(config["logs"])
    if resume and not kept["backup"]:
        raise config["logs"].error("a run without backup cannot be resumed.")
    run_folder.keep_programs()
    set_seed(config)
    try:
        tokenizer = language.Tokenizer(config["model"].value.get("tokenizer", config["model"].value["path"]))
        train, validation = (_read(config, tokenizer, name) for name in ("train", "validation"))
        model = _load(config)
        trained = model
        if config["task"].value == "preferences":
            trained = language.DirectPreference(model, config["beta"].value)
            train, validation = (_with_reference(trained, data) for data in (train, validation))
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise config.error(one_line(error)) from None
    trained.compile(**(_task_arguments(config) | build_compile_arguments(config)))
    fit_arguments = build_fit_arguments(config)
    folder = run_folder.choose_folder(config["run_dir"].value, resume, path)
    if resume and (folder / run_folder.RESULTS).exists():
        raise ConfigError(f"{folder}: this run is finished. Leave out --resume to start another.")
    print(f"run folder: {folder}")
    run_folder.write_config(folder, config.value | {"run_dir": str(folder)})
    run_folder.write_environment(folder)
    fit_arguments["callbacks"] += run_folder.make_loggers(folder, kept)
    x, y, weight = train
    try:
        trained.fit(x, y, sample_weight=weight, validation_data=validation, **fit_arguments)
    except KeyboardInterrupt:
        if kept["backup"]:
            print(f"Go on by `{program_name()} {folder / run_folder.CONFIG} --resume`.", file=sys.stderr)
        raise
    results = _results(trained, validation, config)
    (folder / run_folder.RESULTS).write_text(json.dumps({"validation": results}) + "\n", encoding="utf-8")
    _save(config, model, tokenizer, folder)
    return results


def _check(config: Field):
    for name, known in (("task", _TASKS), ("weights", _WEIGHTS)):
        if config[name].value not in known:
            raise config[name].error(f"expected {' or '.join(known)}. Got {config[name].value!r}.")
    config["model"].expect_names(("path", "dtype", "quantization", "tokenizer"), ("path",))
    config["data"].expect_names(("train", "validation", "length", "too_long"), ("train",))
    config["lora"].expect_names(("rank", "alpha", "targets", "dtype", "merge"))
    if "loss" in config["compile"].value:
        raise config["compile"]["loss"].error("the task has a loss of its own. Leave it out.")
    if config["weights"].value == "all" and config["model"].value.get("quantization"):
        raise config["weights"].error("quantized weights are not trained. Train adapters, or leave out `quantization`.")


def _load(config: Field) -> Any:
    given = config["model"].value
    model = language.load(given["path"], given.get("dtype"), given.get("quantization"))
    if config["weights"].value == "adapters":
        lora = {name: value for name, value in config["lora"].value.items() if name != "merge"}
        language.enable_lora(model, **lora)
    return model


def _read(config: Field, tokenizer: language.Tokenizer, name: str) -> Any:
    """What `fit` gets of a file: inputs, targets and weights; `None` if there is no such file."""
    data = config["data"].value
    if data.get(name) is None:
        return None
    length, examples = data.get("length", 1024), list(language.read_examples(data[name]))
    if config["task"].value == "answers":
        encoded = [language.encode_example(example, tokenizer) for example in examples]
        return language.pack(encoded, length, tokenizer.pad_id, data.get("too_long", "cut"))
    chosen, rejected = (
        [language.encode_example(_of_kind(example, kind), tokenizer) for example in examples]
        for kind in ("chosen", "rejected")
    )
    return language.pairs(chosen, rejected, length, tokenizer.pad_id), np.ones(len(examples), "float32"), None


def _of_kind(example: dict, kind: str) -> dict:
    if missing := {"prompt", kind} - example.keys():
        raise ValueError(f"an example of preferences lacks {sorted(missing)}. Got {sorted(example)}.")
    return {"prompt": example["prompt"], "completion": example[kind]}


def _with_reference(trained: language.DirectPreference, data: Any) -> Any:
    return None if data is None else (trained.with_reference(data[0]), *data[1:])


def _task_arguments(config: Field) -> dict[str, Any]:
    if config["task"].value == "answers":
        return {"loss": losses.SparseCategoricalCrossentropy(True, reduction="mean_with_sample_weight")}
    accuracy = metrics.BinaryAccuracy(threshold=0.0, name="accuracy")
    return {"loss": losses.BinaryCrossentropy(from_logits=True), "metrics": [accuracy]}


def _results(trained: Any, validation: Any, config: Field) -> dict[str, float]:
    if validation is None:
        return {}
    x, y, weight = validation
    batch_size = config["fit"].value.get("batch_size", 32)
    found = trained.evaluate(x, y, sample_weight=weight, batch_size=batch_size, verbose=0, return_dict=True)
    if config["task"].value == "answers":
        found["perplexity"] = math.exp(found["loss"])
    for name, value in found.items():
        print(f"validation {name} {value:.4f}")
    return found


def _save(config: Field, model: Any, tokenizer: language.Tokenizer, folder: Path):
    is_adapted = config["weights"].value == "adapters"
    if is_adapted:
        language.save_adapter(model, folder / ADAPTER, str(config["model"].value["path"]))
        print(f"adapter: {folder / ADAPTER}")
    if not is_adapted or config["lora"].value.get("merge", False):
        language.save(model, folder / MODEL)
        tokenizer.save(folder / MODEL)
        print(f"model: {folder / MODEL}")
