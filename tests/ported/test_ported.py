"""Scripts written for Keras 3 give the same numbers when nothing but their import is changed."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

import kerax

# As users' programs are: XLA's simpler kernels round blank parts of images differently in places, which breaks ties of
# a maximum, and so moves gradients.
pytestmark = pytest.mark.optimized

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.py"))
QUICK = {"custom_loop", "data_sources", "gan", "siamese", "vae"}
TOLERANCES = {}  # relative, of scripts that cannot do with 1e-4


def run(path, library):
    """The `results` of a script, with `library` imported where it imports `keras`."""
    source = path.read_text()
    if library == "kerax":
        source = re.sub(r"^import keras$", "import kerax as keras", source, flags=re.MULTILINE)
        source = re.sub(r"^from keras\b", "from kerax", source, flags=re.MULTILINE)
        assert not re.search(r"^(import|from) keras\b", source, flags=re.MULTILINE)
    names = {"__name__": f"{library}_{path.stem}", "__file__": str(path)}
    exec(compile(source, str(path), "exec"), names)
    return names["results"]


def assert_same(ours, theirs, tolerance, name="results"):
    """Structures, texts and whole numbers are equal, other numbers within a relative tolerance."""
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs), name
        for key in theirs:
            assert_same(ours[key], theirs[key], tolerance, f"{name}[{key!r}]")
    elif isinstance(theirs, (list, tuple)) and not all(isinstance(item, (int, float)) for item in theirs):
        assert len(ours) == len(theirs), name
        for index, pair in enumerate(zip(ours, theirs)):
            assert_same(*pair, tolerance, f"{name}[{index}]")
    elif isinstance(theirs, (str, bool, int, type(None))):
        assert ours == theirs, name
    else:
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.shape == theirs.shape, name
        atol = tolerance * max(1e-2, float(np.abs(theirs).max(initial=0)))
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=atol, err_msg=name)


@pytest.fixture(autouse=True)
def fresh_session(tmp_path, monkeypatch):
    """Scripts write into the folder they start in; policies, names and seeds are those of a new process."""
    monkeypatch.chdir(tmp_path)
    for library in (keras, kerax):
        library.utils.clear_session()
        library.utils.set_random_seed(0)
    yield
    for library in (keras, kerax):
        library.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[] if path.stem in QUICK else pytest.mark.slow, id=path.stem) for path in SCRIPTS],
)
def test_a_script_gives_the_same_numbers(path, tmp_path, monkeypatch):
    results = {}
    for library in ("keras", "kerax"):
        folder = tmp_path / library
        folder.mkdir()
        monkeypatch.chdir(folder)
        results[library] = run(path, library)
    assert results["keras"], "a script without results compares nothing"
    assert_same(results["kerax"], results["keras"], TOLERANCES.get(path.stem, 1e-4))


def test_there_are_seventy_scripts():
    assert len(SCRIPTS) >= 70 and {path.stem for path in SCRIPTS} >= QUICK
