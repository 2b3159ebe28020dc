"""Restores a checkpoint or a `.keras` file on whatever devices are there, and tests it or predicts, without the script
that trained it.

The data is that of the config in a checkpoint of train.py, or of a file given by --config CONFIG. --predict FILE.npz
writes the predictions for the test data instead of testing.
"""

import sys

import numpy as np

import kerax
from kerax import cli


def main(arguments):
    path, overrides = cli.parse_arguments(arguments, "CHECKPOINT", __doc__)
    config_path, target = overrides.pop("config", None), overrides.pop("predict", None)
    config = read_config(path, config_path, overrides)
    kerax.utils.set_random_seed(config["seed"].value)
    _, (x_test, y_test) = cli.load_data(config)
    model = load(path, config, any(name.split(".")[0] in ("model", "compile") for name in overrides))
    if target is not None:
        np.savez(target, predictions=model.predict(x_test, verbose=0))
        print(f"predictions: {target}")
        return
    for name, value in model.evaluate(x_test, y_test, verbose=0, return_dict=True).items():
        print(f"test {name} {value:.4f}")


def read_config(path: str, config_path: str | None, overrides: dict):
    """The config of a run: from its file, or from the checkpoint."""
    if config_path is not None:
        return cli.read_config(config_path, overrides)
    metadata = {}
    if not path.endswith(".keras"):
        try:
            metadata = kerax.checkpoint.restore_metadata(path)
        except (FileNotFoundError, ValueError) as error:
            raise cli.ConfigError(f"{error} Expected the folder that train.py printed.") from None
    if "config" not in metadata:
        raise cli.ConfigError(f"{path}: there is no config in it. Give one by --config CONFIG.")
    return cli.resolve_config(metadata["config"], overrides, source=f"config in {path}")


def load(path: str, config, is_changed: bool):
    """The model as it was saved, or with an override as the config says."""
    try:
        if not is_changed:
            model = kerax.saving.load_model(path)
            if model.compiled:
                return model
        model = cli.build_model(config)
        if path.endswith(".keras"):
            model.set_weights(kerax.saving.load_model(path, compile=False).get_weights())
        else:
            kerax.checkpoint.restore(path, model)
    except (ValueError, FileNotFoundError) as error:
        raise cli.ConfigError(str(error)) from None
    return model


if __name__ == "__main__":
    sys.exit(cli.run_script(main))
