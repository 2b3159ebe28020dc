"""What the pages of the documentation say is true: their code runs, their configs build, their links lead somewhere."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

import kerax
from kerax import cli

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md")) + [ROOT / "README.md"]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_is_python_and_links_lead_somewhere(page):
    for number, block in enumerate(blocks(page, "python")):
        compile(block, f"{page.name}, block {number}", "exec")
    for target in re.findall(r"\]\(([^)#:]+\.[a-z]+)\)", page.read_text(encoding="utf-8")):
        is_generated = "reference/" in target
        assert is_generated or (page.parent / target).exists(), target


RUNNING = """getting_started cheat_sheet coming_from_flax ../README guides/pure_core guides/callbacks guides/performance
guides/mixed_precision guides/transfer_learning guides/devices guides/tables"""


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNNING.split())
def test_pages_run_from_top_to_bottom(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("matplotlib").use("agg")
    names = {}
    for block in blocks(ROOT / "docs" / f"{name}.md", "python"):
        exec(compile(block.replace("epochs=10", "epochs=1"), name, "exec"), names)


@pytest.mark.slow
def test_the_engine_in_the_guide_answers(tmp_path, capsys):
    (block,) = [b for b in blocks(ROOT / "docs" / "guides" / "language.md", "python") if "language.Engine" in b]

    class Tokenizer:
        stop_tokens = [0]
        encode, decode = staticmethod(lambda text: list(text.encode())), staticmethod(str)

    model = kerax.language.Decoder(128, 8, [], None)
    exec(compile(block, "language", "exec"), {"model": model, "tokenizer": Tokenizer})
    answers, *tokens = capsys.readouterr().out.splitlines()
    assert answers.startswith("['[") and len(tokens) == 30


# What a page takes for given: names, and files in the folder where it runs.
DIGITS = """
import numpy as np, kerax
from kerax import layers
x_train, y_train = np.ones((64, 8), "float32"), np.arange(64) % 3
x, y = x_train, y_train

def make():
    encoder = layers.Dense(4, activation="relu", name="encoder")
    made = kerax.Sequential([kerax.Input((8,)), encoder, layers.Dense(3, name="head")])
    made.compile("adam", kerax.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return made

model, another_model, results = make(), make(), {"accuracy": 1.0}
"""
PICTURES = """
import os
os.makedirs("photos/cats"), os.makedirs("photos/dogs")
for name in ("cats/1.png", "cats/2.png", "dogs/1.png", "dogs/2.png", "dogs/3.png"):
    kerax.utils.save_img(f"PLACE/{name}", np.zeros((8, 8, 3)))
"""
ASSUMED = {
    "guides/training": DIGITS,
    "guides/data": DIGITS + PICTURES.replace("PLACE", "photos"),
    # Elsewhere is in memory here.
    "guides/saving": DIGITS
    + PICTURES.replace("PLACE", "memory://bucket/flowers")
    + """
kerax.checkpoint.save("memory://bucket/run", model)
kerax.checkpoint.save("runs/digits/checkpoint", model)
""",
    "guides/tuning": DIGITS + "x = np.ones((40, 784), 'float32'); y = np.arange(40) % 3",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ASSUMED)
def test_pages_run_with_what_they_take_for_given(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("matplotlib").use("agg")
    for package in ("PIL", "optuna", "upath"):
        pytest.importorskip(package)
    names = {}
    exec(ASSUMED[name], names)
    for block in blocks(ROOT / "docs" / f"{name}.md", "python"):
        if "hf://" in block:  # tests/saving/test_elsewhere.py runs these against a hub
            continue
        smaller = {"s3://": "memory://", "gs://": "memory://", "epochs=20": "epochs=1"}
        # Of trials without a seed all but one may be cut off.
        for written, here in (smaller | {"max_epochs=27": "max_epochs=4, seed=0"}).items():
            block = block.replace(written, here)
        exec(compile(block, name, "exec"), names)


def commands(page):
    """The `kerax` commands of a page, without what is said about them."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    return [re.sub(r"\s+#.*", "", line).split() for line in lines if line.startswith("kerax ")]


@pytest.mark.slow
def test_the_first_commands_do_what_they_say(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", "configs")
    for words in commands(ROOT / "docs" / "getting_started.md"):
        assert cli.main([word.replace("5", "1") for word in words[1:]]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert shown.count("test accuracy") == 2 and Path("runs/digits_cnn/checkpoint").is_dir()


@pytest.mark.slow
def test_the_commands_of_the_guide_to_configs_do_what_they_say(tmp_path, monkeypatch, capsys):
    source = Path(os.environ.get("KERAX_DATASETS_DIR", "")) / "tabular" / "abalone.csv"
    if not source.is_file():
        pytest.skip("KERAX_DATASETS_DIR names no folder with tabular/abalone.csv")
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", "configs")
    (columns, _), _ = kerax.datasets.abalone.load_data()
    lines = [columns, *zip(*(column[:5] for column in columns.values()))]
    Path("abalone.csv").write_text("\n".join(",".join(map(str, line)) for line in lines))
    Path("mylayers.py").write_text("import kerax\n")
    Path("mine.yaml").write_text(Path("configs/digits_mlp.yaml").read_text())
    # As they are, but for what takes long, and what needs a device's compiler.
    shorter = {"120": "6", "configs/digits_tune.yaml": "configs/digits_tune.yaml --fit.epochs 1".split()}
    shorter["mine.yaml"] = "mine.yaml --fit.epochs 1".split()
    for words in commands(ROOT / "docs" / "guides" / "configs.md"):
        if words[1] == "plan" or words[:2] == ["kerax", "benchmark"] or words[1] == "tune":
            continue  # tests/cli runs these
        given = [each for word in words[1:] for each in np.atleast_1d(shorter.get(word, word)).tolist()]
        try:
            code = cli.main(given)
        except SystemExit as stop:  # `--help`
            code = stop.code
        errors = capsys.readouterr().err
        # A run that is finished says how to train it longer, which the next line does.
        is_finished = given[-1] == "--resume"
        assert code == (2 if is_finished else 0), (words, errors)
        assert not is_finished or "To train longer" in errors
    assert len(np.load("predictions.npy")) == 5


def test_configs_in_the_guide_build():
    whole, own, functional = map(yaml.safe_load, blocks(ROOT / "docs" / "guides" / "configs.md", "yaml"))
    assert own["data"]["name"] in cli.sources.LOADERS and own["model"].keys() == {"class_name", "layers"}
    config = cli.resolve_config(whole, {}, "guide")
    assert cli.build_model(config).output_shape == (None, 1)
    assert isinstance(cli.build_fit_arguments(config)["callbacks"][0], kerax.callbacks.EarlyStopping)
    compile = {"loss": {"rings": "mse", "sex": "mse"}}
    config = cli.resolve_config({**whole, **functional, "compile": compile}, {}, "guide")
    assert set(cli.build_model(config).output_shape) == {"rings", "sex"}


def test_every_notebook_and_config_is_listed():
    text = (ROOT / "docs" / "use_cases.md").read_text(encoding="utf-8")
    assert [path.stem for path in (ROOT / "notebooks").glob("*.ipynb") if path.stem not in text] == []
    configs = [path for path in (ROOT / "configs").glob("*.yaml") if "Reached: " in path.read_text(encoding="utf-8")]
    assert configs and [path.name for path in configs if path.name not in text] == []


def test_the_readme_stays_short_and_agrees_with_the_pages():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 130
    start = lines.index(next(line for line in lines if line.startswith("| model, batch |")))
    table = lines[start : lines.index("", start)]
    speed = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert len(table) > 5 and "\n".join(table) in speed


def test_every_page_is_in_the_navigation_and_the_readme_leads_to_the_guides():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [str(page.relative_to(ROOT / "docs")) for page in PAGES if page.name != "README.md"]
    assert [page for page in pages if page not in navigation] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page for page in pages if page.startswith("guides/") and f"(docs/{page})" not in readme] == []
