"""What the pages of the documentation say is true: their code runs, their configs build, their links lead somewhere."""

import re
from pathlib import Path

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
guides/mixed_precision guides/transfer_learning guides/devices"""


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
