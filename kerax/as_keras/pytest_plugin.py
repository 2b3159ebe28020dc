"""`pytest -p kerax.as_keras.pytest_plugin`: the tests of a library written for Keras, on kerax."""

import kerax.as_keras


def pytest_load_initial_conftests() -> None:
    """Before the first `conftest.py` can import Keras."""
    kerax.as_keras.as_keras()


def pytest_report_header() -> str:
    """A line above the tests that says what `keras` is."""
    return f"keras: kerax {kerax.__version__}, through kerax.as_keras"
