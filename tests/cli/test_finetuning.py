import json

import numpy as np
import pytest
import yaml

from kerax import callbacks, cli, language
from kerax.cli.finetuning import RUN_SECTIONS
from tests.language import llama
from tests.language.conftest import tokenizer_folder as tokenizer_folder  # a fixture

WORDS = ("the sea", "the sun", "a man", "the land", "day and day", "song")


def write(folder, tokenizer_folder, **changes):
    """A model, a file of examples, and the config of a run."""
    llama.write(folder / "model")
    tree = {
        "run_dir": str(folder / "run"),
        "model": {"path": str(folder / "model"), "tokenizer": str(tokenizer_folder)},
        "data": {"train": str(folder / "train.jsonl"), "validation": str(folder / "train.jsonl"), "length": 24},
        "compile": {"optimizer": {"Adam": {"learning_rate": 0.02}}},
        "fit": {"epochs": 12, "batch_size": 4, "verbose": 0},
        "logs": {"tensorboard": False},
    }
    lines = [
        {"prompt": f"{word} and", "completion": " the sand", "chosen": " sand", "rejected": " sun"} for word in WORDS
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(tree | changes))
    return str(path)


def losses(folder, run="run"):
    return [json.loads(line)["loss"] for line in (folder / run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_answers_are_learned_by_adapters_of_a_quantized_model(tokenizer_folder, tmp_path):
    path = write(
        tmp_path, tokenizer_folder, lora={"rank": 4, "targets": ["query", "value", "up", "down"], "merge": True}
    )
    assert cli.main(["finetune", path, "--model.quantization", "int4/8"]) == 0
    run = tmp_path / "run"
    assert losses(tmp_path)[-1] < 0.8 * losses(tmp_path)[0]
    results = json.loads((run / "results.json").read_text())["validation"]
    assert 1 < results["perplexity"] < 120
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["quantization"] == "int4/8"
    model, ids = language.load(run / "model"), language.Tokenizer(run / "model").encode("the sea and the")
    adapted = language.load(tmp_path / "model", quantization="int4/8")
    language.load_adapter(adapted, run / "adapter")
    assert abs(model(np.array([ids])) - adapted(np.array([ids]))).max() < 1e-3


@pytest.mark.slow
def test_preferences_and_all_weights(tokenizer_folder, tmp_path):
    path = write(tmp_path, tokenizer_folder, task="preferences", weights="all")
    assert cli.main(["finetune", path]) == 0
    assert losses(tmp_path)[-1] < 0.5 * losses(tmp_path)[0]
    assert json.loads((tmp_path / "run" / "results.json").read_text())["validation"]["accuracy"] == 1
    assert not (tmp_path / "run" / "adapter").exists() and language.load(tmp_path / "run" / "model").built


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, written",
    [
        (["--weights", "all"], "model"),
        (["--lora.rank", "2"], "adapter"),
        (["--lora.rank", "2", "--model.quantization", "int4/8"], "adapter"),
        (["--lora.rank", "2", "--model.quantization", "nf4/8"], "adapter"),
        (["--lora.rank", "2", "--task", "preferences"], "adapter"),
    ],
    ids=["all", "lora", "qlora", "nf4", "preferences"],
)
def test_a_killed_run_goes_on_to_the_same_bits(options, written, tokenizer_folder, tmp_path, monkeypatch, capsys):
    path = write(tmp_path, tokenizer_folder, fit={"epochs": 3, "batch_size": 2, "verbose": 0})
    assert cli.main(["finetune", path, *options, "--run_dir", str(tmp_path / "whole")]) == 0
    original = callbacks.JSONLogger.on_epoch_end

    def kill(self, epoch, logs=None):
        original(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.JSONLogger, "on_epoch_end", kill)
    run = tmp_path / "run"
    assert cli.main(["finetune", path, *options]) == 130
    assert f"Go on by `kerax finetune {run / 'config.yaml'} --resume`." in capsys.readouterr().err
    monkeypatch.setattr(callbacks.JSONLogger, "on_epoch_end", original)
    assert not (run / written).exists()
    assert cli.main(["finetune", str(run / "config.yaml"), "--resume"]) == 0
    assert losses(tmp_path) == losses(tmp_path, "whole")
    (first, second) = (next((tmp_path / name / written).glob("*.safetensors")) for name in ("run", "whole"))
    assert first.read_bytes() == second.read_bytes()
    assert (run / "results.json").read_text() == (tmp_path / "whole" / "results.json").read_text()
    assert cli.main(["finetune", str(run / "config.yaml"), "--resume"]) == 2
    assert "this run is finished" in capsys.readouterr().err
    assert cli.main(["finetune", path, "--resume", "--logs.backup", "false"]) == 2
    assert "a run without backup cannot be resumed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"task": "chat"}, "task: expected answers or preferences. Got 'chat'"),
        ({"model": {"dtype": "float32"}}, "model: 'path' is missing"),
        ({"lora": {"r": 8}}, r"lora.r: unknown name. Expected one of rank"),
        ({"compile": {"loss": "mse"}}, "compile.loss: the task has a loss of its own"),
        ({"data": {"train": "none.jsonl"}}, "No such file"),
        ({"loss": "mse"}, "loss: unknown name. Expected one of seed"),
    ],
)
def test_mistakes_are_config_errors(tokenizer_folder, tmp_path, changes, message):
    path = write(tmp_path, tokenizer_folder, **changes)
    with pytest.raises(cli.ConfigError, match=message):
        cli.finetune([path])
    with pytest.raises(cli.ConfigError, match="quantized weights are not trained"):
        cli.finetune([write(tmp_path, tokenizer_folder), "--weights", "all", "--model.quantization", "int8"])
    assert not (tmp_path / "run").exists()


def test_help_names_the_sections(capsys):
    with pytest.raises(SystemExit):
        cli.finetune(["--help"])
    shown = capsys.readouterr().out
    assert all(f"--{name}" in shown for name in RUN_SECTIONS) and "--search" not in shown
