"""`scripts/train_gpt.py` and `scripts/train_resnet.py`."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import kerax

ROOT = Path(__file__).parents[1]
TINY = ["--width", "16", "--heads", "2", "--layers", "1", "--length", "8", "--vocabulary", "40", "--batch_size", "4"]


@pytest.fixture
def scripts(monkeypatch):
    """The modules of the two scripts; dtype policies that they set are taken back."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "scripts"), *sys.path])
    policy = kerax.config.dtype_policy()
    import at_scale
    import train_gpt
    import train_resnet

    yield at_scale, train_gpt, train_resnet
    kerax.config.set_dtype_policy(policy)


def test_every_config_holds_settings_that_its_script_knows(scripts):
    at_scale, train_gpt, train_resnet = scripts
    for script, pattern in ((train_gpt, "gpt*.yaml"), (train_resnet, "resnet50*.yaml")):
        paths = sorted((ROOT / "configs").glob(pattern))
        assert len(paths) == 4
        for path in paths:
            settings = at_scale.read_settings("", script.SETTINGS | at_scale.DEVICES, [str(path), "--steps", "7"])
            assert settings.steps == 7
            assert settings.batch_size > 0


def test_wrong_settings_end_with_one_line(scripts, capsys):
    _, train_gpt, _ = scripts
    for arguments, message in (
        (["--width", "many"], "width: expected a value like 768. Got 'many'."),
        (["--distribution", "all"], "expected one of none, data, fsdp"),
        ([str(ROOT / "configs" / "resnet50_cpu.yaml")], "unknown settings ['classes', 'size']"),
    ):
        with pytest.raises(SystemExit) as caught:
            train_gpt.main(arguments)
        assert message in f"{capsys.readouterr().err} {caught.value}"


@pytest.mark.slow
def test_a_stacked_gpt_is_the_same_model(scripts):
    at_scale, train_gpt, _ = scripts
    arguments = [*TINY, "--layers", "3", "--keep", "dots"]
    models = [
        train_gpt.build_model(at_scale.read_settings("", train_gpt.SETTINGS, [*arguments, "--stacked", stacked]))
        for stacked in ("true", "false")
    ]
    blocks = [layer for layer in models[1].layers if isinstance(layer, train_gpt.Block)]
    assert models[0].count_params() == models[1].count_params()
    for index, block in enumerate(blocks):
        block.set_weights(models[0].get_layer("blocks").get_block_weights(index))
    for name in ("tokens", "position_embedding", "norm"):
        models[1].get_layer(name).set_weights(models[0].get_layer(name).get_weights())
    tokens = np.arange(16).reshape(2, 8)
    np.testing.assert_allclose(*(model(tokens) for model in models), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_gpt_learns_a_text_and_reports_its_speed(scripts, tmp_path, capsys):
    _, train_gpt, _ = scripts
    path = tmp_path / "text.txt"
    path.write_text("to be or not to be, that is the question. " * 60)
    steps = ["--steps", "30", "--report_every", "10", "--warmup", "5", "--learning_rate", "0.01"]
    history = train_gpt.main([*TINY, *steps, "--data", str(path)])
    assert history.history["val_loss"][-1] < 0.9 * history.history["loss"][0]
    lines = capsys.readouterr().out.splitlines()
    assert sum("tokens/s" in line and "val_loss" in line for line in lines) == 3
    assert lines[-1].startswith("median ") and "ms/step" in lines[-1]


def small_net(weights, input_tensor, classes, classifier_activation):
    """In ResNet-50's place, which takes half a minute to compile."""
    pooled = kerax.layers.GlobalAveragePooling2D()(kerax.layers.BatchNormalization()(input_tensor))
    return SimpleNamespace(outputs=[kerax.layers.Dense(classes, classifier_activation)(pooled)])


@pytest.mark.medium
def test_the_resnet_script_trains_on_images_from_disk(scripts, tmp_path, capsys, monkeypatch):
    _, _, train_resnet = scripts
    monkeypatch.setattr(kerax.applications, "ResNet50", small_net)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8))
    np.save(tmp_path / "labels.npy", np.arange(16) % 4)
    arguments = ["--size", "32", "--classes", "4", "--batch_size", "8", "--steps", "4", "--report_every", "2"]
    history = train_resnet.main([*arguments, "--dtype", "float32", "--data", str(tmp_path)])
    assert np.isfinite(history.history["loss"]).all() and len(history.history["loss"]) == 2
    assert "images/s" in capsys.readouterr().out
