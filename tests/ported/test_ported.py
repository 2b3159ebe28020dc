"""Scripts written for Keras 3 give the same numbers when nothing but their import is changed.

Keras's own numbers lie in `expected/`, for two thirds of the time went into computing them anew; the quick scripts, and
with `KERAX_TEST_ORACLE=1` all, run under Keras too. `KERAX_TEST_ORACLE=write` writes them, as for a new script.
"""

import json
import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import kerax

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.py"))
EXPECTED = Path(__file__).parent / "expected"
ORACLE = os.environ.get("KERAX_TEST_ORACLE")
# Run as users' programs are, in a module of their own: XLA's simpler kernels round blank parts of images differently in
# places, which breaks ties of a maximum, and so moves gradients.
OPTIMIZED = {"image_classification", "masked_language", "point_clouds"}
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


def to_json(found):
    """Results as JSON has them; arrays and NumPy's numbers as `{"array": nested lists}`."""
    if isinstance(found, dict):
        return {key: to_json(value) for key, value in found.items()}
    if isinstance(found, (list, tuple)) and not all(isinstance(item, (int, float)) for item in found):
        return [to_json(item) for item in found]
    if isinstance(found, (str, bool, int, type(None))):
        return found
    found = np.asarray(found)
    if not found.size:
        return {"array": found.tolist()}
    # Eight digits: those of float32.
    return {"array": found.tolist() if found.dtype.kind in "biu" else np.vectorize(rounded)(found).tolist()}


def rounded(number):
    return float(f"{number:.8g}")


def from_json(found):
    """The inverse of `to_json`."""
    if isinstance(found, dict):
        return np.asarray(found["array"]) if set(found) == {"array"} else {k: from_json(v) for k, v in found.items()}
    return [from_json(item) for item in found] if isinstance(found, list) else found


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


@pytest.mark.medium
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[] if path.stem in QUICK else pytest.mark.slow, id=path.stem)
        for path in SCRIPTS
        if path.stem not in OPTIMIZED
    ],
)
def test_a_script_gives_the_same_numbers(path, tmp_path, monkeypatch):
    compare(path, tmp_path, monkeypatch)


def compare(path, tmp_path, monkeypatch):
    """Runs a script and compares what it gives with what is kept of Keras's, and with Keras where that is asked for."""
    results, tolerance = {}, TOLERANCES.get(path.stem, 1e-4)
    for library in ("keras", "kerax"):
        folder = tmp_path / library
        folder.mkdir()
        monkeypatch.chdir(folder)
        if library == "kerax" or ORACLE or path.stem in QUICK:
            results[library] = run(path, library)
    expected = EXPECTED / f"{path.stem}.json"
    if ORACLE == "write":
        expected.write_text(json.dumps(to_json(results["keras"])))
    kept = from_json(json.loads(expected.read_text()))
    assert kept, "a script without results compares nothing"
    assert_same(results["kerax"], kept, tolerance)
    if "keras" in results:
        assert_same(results["kerax"], results["keras"], tolerance)


@pytest.mark.medium
def test_there_are_seventy_scripts():
    assert len(SCRIPTS) >= 70 and {path.stem for path in SCRIPTS} >= QUICK
    assert {path.stem for path in EXPECTED.glob("*.json")} == {path.stem for path in SCRIPTS}
