"""Every test runs on the CPU, and Keras, where it is compared with, on its JAX backend."""

import gc
import os
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # commands would keep programs in the user's folder
# Scripts and notebooks run in processes of their own, which shall find this checkout even if it is not installed.
_paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _paths))

import hypothesis
import jax
import pytest
from jax._src import compiler

import kerax
from kerax.core.variable import forget_programs

gc.set_threshold(50_000, 20, 20)  # traced programs are many small objects: looking through them took 6 % of the time
collect_ignore = ["distribution/on_eight_devices.py", "distribution/worker.py"]  # run by tests, in other processes

hypothesis.settings.register_profile("kerax", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("kerax")


_compile_options = compiler.get_compile_options


def _quick_options(*args, **kwargs):
    """JAX's options, with kernels made in XLA's simpler way; only a single `jax.jit` can be told that publicly."""
    options = _compile_options(*args, **kwargs)
    if jax.config.values["jax_disable_most_optimizations"]:
        options.env_option_overrides = [*options.env_option_overrides, ("xla_cpu_use_fusion_emitters", False)]
    return options


if jax.__version_info__ < (0, 11):  # later ones have one way to make kernels
    compiler.get_compile_options = _quick_options


@pytest.hookimpl(tryfirst=True)  # before pytest picks by marks
def pytest_collection_modifyitems(items):
    """What takes half a second counts as slow: the tests to run while working take four minutes."""
    for item in items:
        if item.get_closest_marker("medium") is None:
            continue
        if item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.slow)
        else:  # some of a function's cases are slower than the others
            item.own_markers = [mark for mark in item.own_markers if mark.name != "medium"]


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation(request):
    """Compiles without XLA's expensive passes, in half of the time, but for modules marked `optimized`.

    With `KERAX_TEST_OPTIMIZED=1` all tests run programs as users do; CI's second run is such a one.
    """
    is_marked = request.node.get_closest_marker("optimized") is not None
    is_quick = not is_marked and os.environ.get("KERAX_TEST_OPTIMIZED") != "1"
    if jax.config.values["jax_disable_most_optimizations"] and not is_quick:
        jax.clear_caches()  # JAX takes a program that was compiled without them for one compiled with them
    jax.config.update("jax_disable_most_optimizations", is_quick)


@pytest.fixture(autouse=True)
def _seed():
    """Draws the same initial weights whatever tests were run before."""
    kerax.utils.set_random_seed(0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Gives all tests of a file to one worker, which then has compiled what they share: a fifth of the time."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


def pytest_collectstart(collector):
    """Draws the same initial weights for models that a test file makes when it is imported, too."""
    if isinstance(collector, pytest.Module):
        kerax.utils.set_random_seed(0)


def pytest_collection_finish():
    """Leaves what was imported out of later collections: `jax.checking_leaks` makes one, 0.15 s, whenever it ends."""
    gc.collect()
    gc.freeze()


_tests_until_look = 0


def pytest_runtest_teardown(item, nextitem):
    """Drops compiled programs when there are many: each maps memory, and Linux admits 65,530 maps in a process."""
    global _tests_until_look
    _tests_until_look -= 1
    maps = Path("/proc/self/maps")
    if _tests_until_look > 0 or not maps.exists():
        return
    _tests_until_look = 50
    if maps.read_bytes().count(b"\n") > 25_000:
        forget_programs()
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def compilations():
    """A context in which the names of compiled programs are collected in a list."""
    import contextlib

    @contextlib.contextmanager
    def collecting():
        found: list[str] = []

        def note(event, *_, **details):
            if event == "/jax/core/compile/backend_compile_duration" and is_open:
                found.append(details.get("fun_name", event))

        is_open = True
        jax.monitoring.register_event_duration_secs_listener(note)
        try:
            yield found
        finally:
            is_open = False

    return collecting


@pytest.fixture
def key():
    """The PRNG key that tests start from."""
    return jax.random.key(0)
