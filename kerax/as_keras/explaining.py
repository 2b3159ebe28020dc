"""What is said of a name that Keras has, or had, and kerax has not."""

import sys
from importlib.machinery import ModuleSpec

from kerax.saving.archive import KERAS_VERSION

# By path: since when kerax's `keras` is without it, and what stands in its place.
_ABSENT = {
    "keras.layers.TFSMLayer": (
        "Keras 3.0 has it, kerax never had",
        "it runs TensorFlow inside a layer; load the model with Keras",
    ),
    "keras.layers.TorchModuleWrapper": (
        "Keras 3.0 has it, kerax never had",
        "it runs PyTorch inside a layer; use it under Keras",
    ),
    "keras.optimizers.legacy": ("gone since Keras 3.0", "use `keras.optimizers`"),
    "keras.engine": ("gone since Keras 2.13", "use `keras.layers.Layer`, `keras.Model`"),
    "keras.layers.experimental": ("gone since Keras 3.0", "use `keras.layers`"),
    "keras.layers.CuDNNLSTM": ("gone since Keras 2.4", "use `keras.layers.LSTM`"),
    "keras.layers.CuDNNGRU": ("gone since Keras 2.4", "use `keras.layers.GRU`"),
    "keras.layers.ThresholdedReLU": ("gone since Keras 3.0", "use `keras.layers.ReLU(threshold=...)`"),
    "keras.layers.DenseFeatures": ("gone since Keras 3.0", "use `keras.utils.FeatureSpace`"),
    "keras.utils.np_utils": ("gone since Keras 2.13", "use `keras.utils`"),
    "keras.wrappers.scikit_learn": ("gone since Keras 2.12", "use `keras.wrappers.SKLearnClassifier` or scikeras"),
    "keras.preprocessing.text": ("gone since Keras 3.0", "use `keras.layers.TextVectorization`"),
    "keras.experimental": ("gone since Keras 3.0", "use `keras.layers`, `keras.optimizers`"),
    "keras.estimator": ("gone since Keras 3.0", "use `keras.Model.fit`"),
    "keras.backend.set_session": ("gone since Keras 3.0", "there are no sessions: drop the line"),
    "keras.backend.get_session": ("gone since Keras 3.0", "there are no sessions: drop the line"),
    "keras.models.model_from_yaml": ("gone since Keras 2.6", "use `keras.models.model_from_json`"),
    "keras.callbacks.experimental": ("gone since Keras 3.0", "use `keras.callbacks`"),
}
# What imports TensorFlow itself, and what of it works without.
_NEED_TENSORFLOW = {
    "keras_hub.src.tests": "its test cases need TensorFlow; its models, samplers and tokenizers do not",
    "keras_hub": "its tokenizers' and packers' graph form needs TensorFlow; models, samplers and converters do not",
    "keras_tuner": "it works without, with KERAS_BACKEND=jax",
    "spektral": "it is written on TensorFlow operations and does not run on kerax",
    "tcn": "with TensorFlow beside it, its layers are built of kerax's",
    "keras_cv_attention_models": "with TensorFlow beside it, models made of Keras's layers run on kerax",
    "tensorflow_addons": "it is written on TensorFlow operations and does not run on kerax",
}


def missing(path: str) -> str:
    """What is missing, since when, and the way out."""
    path = path.replace("kerax.", "keras.", 1)
    known = [absent for absent in _ABSENT if path == absent or path.startswith(absent + ".")]
    if known:
        since, instead = _ABSENT[known[0]]
        return f"kerax.as_keras: kerax has no `{known[0]}` ({since}): {instead}."
    if path.startswith("keras.src"):
        return (
            f"kerax.as_keras: `{path}` is a private name of Keras's, or newer than Keras {KERAS_VERSION}, and not "
            "among those that kerax lends. Use the public API of the same purpose, or run this under Keras."
        )
    return (
        f"kerax.as_keras: kerax has no `{path}`, and the API of Keras {KERAS_VERSION}, which kerax has, has none "
        "either: the name is misspelt, older than Keras 3 or newer than that."
    )


class Explainer:
    """Raises for modules that nobody found, with the way out."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        """`None` where this has nothing to say. Raises `ImportError` for names of Keras's and for TensorFlow."""
        first, _, rest = name.partition(".")
        if first not in ("keras", "kerax", "tensorflow") or (first == "tensorflow" and rest) or _only_asked():
            return None
        if first == "tensorflow":
            raise ModuleNotFoundError(_needs_tensorflow(), name=name)
        # Not a ModuleNotFoundError of that name, which `from keras import x` would take for an answer.
        raise ImportError(missing(name), name=name)


def _importers():
    """The modules that wait for this import, the innermost first."""
    frame = sys._getframe()
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(("importlib", "kerax.as_keras", "_frozen_importlib")):
            yield name
        frame = frame.f_back


def _only_asked() -> bool:
    """Whether somebody asks `importlib.util.find_spec` for a module, and can do without."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(("importlib", __name__)):
        if frame.f_globals["__name__"] == "importlib.util":
            return True
        frame = frame.f_back
    return False


def _needs_tensorflow() -> str:
    library = next((name for name in _importers() if name not in ("builtins", "runpy")), "__main__")
    packages = [package for package in _NEED_TENSORFLOW if f"{library}.".startswith(f"{package}.")]
    note = f": {_NEED_TENSORFLOW[packages[0]]}" if packages else ""
    return (
        f"No module named 'tensorflow'. {library.split('.')[0]} imports it{note}. `pip install tensorflow-cpu` beside "
        "kerax suffices: `tensorflow.keras` is kerax all the same."
    )
