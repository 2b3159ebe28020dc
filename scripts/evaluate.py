"""Rebuilds the model of a checkpoint that train.py wrote, restores it, and tests it."""

import sys

import kerax
from kerax import cli


def main(arguments):
    directory, overrides = cli.parse_arguments(arguments, "CHECKPOINT", __doc__)
    try:
        metadata = kerax.checkpoint.restore_metadata(directory)
    except FileNotFoundError as error:
        raise cli.ConfigError(f"{error} Expected the folder that train.py printed.") from None
    if "config" not in metadata:
        raise cli.ConfigError(f"{directory}: the checkpoint holds no config. Expected one written by train.py.")
    config = cli.resolve_config(metadata["config"], overrides, source=f"config in {directory}")
    kerax.utils.set_random_seed(config["seed"].value)
    _, (x_test, y_test) = cli.load_data(config)
    model = cli.build_model(config)
    try:
        kerax.checkpoint.restore(directory, model)
    except ValueError as error:  # an override has changed the model
        raise cli.ConfigError(str(error)) from None
    for name, value in model.evaluate(x_test, y_test, verbose=0, return_dict=True).items():
        print(f"test {name} {value:.4f}")


if __name__ == "__main__":
    sys.exit(cli.run_script(main))
