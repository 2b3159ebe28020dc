"""What a run makes of tables and texts before its model, kept as a model of its own: for data that comes later."""

from typing import Any

import kerax
from kerax import layers, places, saving
from kerax.cli.build import read_input_shape
from kerax.cli.config import Field
from kerax.cli.run_folder import CHECKPOINT
from kerax.utils import FeatureSpace

PREPROCESSING = "preprocessing.keras"


def build_preprocessing(config: Field, encoder: Any) -> "kerax.Model":
    """A model from a data set's columns, or its texts, to what the model of `config` takes.

    Args:
        config: Of the run.
        encoder: What `find_encoder` found.
    """
    if isinstance(encoder, FeatureSpace):
        inputs: Any = {name: kerax.Input((1,), dtype=kind.dtype, name=name) for name, kind in encoder.features.items()}
    else:
        inputs = kerax.Input((), dtype="string", name="text")
    outputs: Any = encoder(inputs)
    if "scale" in config["data"].value:
        outputs = layers.Rescaling(config["data"]["scale"].value)(outputs)
    shape = read_input_shape(config["model"])
    # As `load_data` shapes what it has encoded.
    if shape is not None and None not in shape and shape != outputs.shape[1:]:
        outputs = layers.Reshape(shape)(outputs)
    return kerax.Model(inputs, outputs)


def find_preprocessing(path: str) -> "kerax.Model | None":
    """That of the run whose checkpoint lies at `path`; `None` where there is none."""
    place = places.folder(path, "checkpoint")
    file = place.with_name(PREPROCESSING)
    if place.name != CHECKPOINT or not file.is_file():
        return None
    return saving.load_model(str(file), compile=False)


def preceded(model: "kerax.Model", preprocessing: "kerax.Model | None") -> "kerax.Model":
    """The model behind its preprocessing, if there is any."""
    return model if preprocessing is None else kerax.Model(preprocessing.input, model(preprocessing.output))
