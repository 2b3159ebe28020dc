"""`kerax.as_keras()`: for this process, what was written for Keras runs on kerax.

```python
import kerax

kerax.as_keras()  # before anything imports keras

import keras  # kerax under its other name: keras.layers.Dense is kerax.layers.Dense
import keras_hub
```

A script that knows nothing of kerax: `python -m kerax.as_keras script.py`, or `-m name` for a module.
Tests: `pytest -p kerax.as_keras.pytest_plugin`. Keras itself, to compare with: `kerax.as_keras.real()`.
"""

import json
import os
import sys
import types
import warnings

from kerax import config
from kerax.as_keras.aliases import install, is_installed, settings_file
from kerax.as_keras.beside import real as real
from kerax.core import registry, seeds


def as_keras() -> types.ModuleType:
    """Lends kerax the name `keras` for the rest of this process. Returns the module that `import keras` gives.

    `import keras`, `keras.src...` and, where TensorFlow is installed, `tensorflow.keras` then are kerax, and
    `keras.layers.Dense is kerax.layers.Dense`. `keras.__version__` is the version of Keras whose API kerax has. The
    settings of a `keras.json` hold, as in Keras. A second call changes nothing.

    Raises:
        ImportError: if Keras itself is imported already.
        ValueError: if `KERAS_BACKEND` names another backend than JAX.
    """
    if not is_installed():
        _refuse_keras()
        _check_backend()
        install()
        seeds.draw_from_python()
        # Keras too imports what these did not register, and nobody else's.
        registry.trusted_packages.update(("keras_hub", "keras_cv", "keras_nlp"))
    return sys.modules["keras"]


def _refuse_keras() -> None:
    loaded = [name for name in ("keras", "tf_keras") if name in sys.modules]
    if loaded:
        others = [
            name for name in ("keras_hub", "keras_rs", "keras_tuner", "scikeras", "bayesflow") if name in sys.modules
        ]
        by = f", which {', '.join(others)} may have done" if others else ""
        raise ImportError(
            f"kerax.as_keras: {loaded[0]} is imported already{by}, and half of each would not fit together. Call "
            f"`kerax.as_keras()` before the first `import {loaded[0]}`, or run `python -m kerax.as_keras script.py`; "
            "in a notebook, restart the kernel first; with pytest, `-p kerax.as_keras.pytest_plugin`."
        )


def _check_backend() -> None:
    wanted = os.environ.get("KERAS_BACKEND")
    if wanted and wanted != "jax":
        raise ValueError(
            f"kerax.as_keras: the environment asks for KERAS_BACKEND={wanted}, and kerax has one backend, JAX. Unset "
            f"KERAS_BACKEND or set it to 'jax'; what needs {wanted} itself runs under Keras, without `as_keras`."
        )
    settings = _settings()
    # Keras writes "tensorflow" into that file by itself: only another name is somebody's wish.
    if not wanted and settings.get("backend", "jax") not in ("jax", "tensorflow"):
        warnings.warn(
            f"kerax.as_keras: {settings_file()} asks for the backend {settings['backend']!r}, and kerax has one, JAX, "
            "which is used. `KERAS_BACKEND=jax` in the environment says so and ends this warning.",
            stacklevel=3,
        )
    for name in ("floatx", "epsilon", "image_data_format"):
        if name in settings:
            getattr(config, f"set_{name}")(settings[name])
    # For what reads it there, and for child processes.
    os.environ["KERAS_BACKEND"] = "jax"


def _settings() -> dict:
    try:
        with open(settings_file(), encoding="utf-8") as file:
            settings = json.load(file)
    except (OSError, ValueError):  # as Keras, which goes on without
        return {}
    return settings if isinstance(settings, dict) else {}


class _CallableModule(types.ModuleType):
    def __call__(self) -> types.ModuleType:
        return as_keras()


sys.modules[__name__].__class__ = _CallableModule
