"""Trains the model that a YAML file describes, tests it, and saves a checkpoint of the whole run."""

import sys
from pathlib import Path

import kerax
from kerax import cli


def main(arguments):
    path, overrides = cli.parse_arguments(arguments, "CONFIG", __doc__)
    config = cli.read_config(path, overrides)
    kerax.utils.set_random_seed(config["seed"].value)
    (x_train, y_train), (x_test, y_test) = cli.load_data(config)
    model = cli.build_model(config)
    fit_arguments = cli.build_fit_arguments(config)

    model.summary()
    model.fit(x_train, y_train, **fit_arguments)
    for name, value in model.evaluate(x_test, y_test, verbose=0, return_dict=True).items():
        print(f"test {name} {value:.4f}")

    directory = Path(config["run_dir"].value) / "checkpoint"
    kerax.checkpoint.save(directory, model, metadata={"config": config.value})
    print(f"checkpoint: {directory}")


if __name__ == "__main__":
    sys.exit(cli.run_script(main))
