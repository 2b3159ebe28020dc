"""Lists what is in a checkpoint or a file of weights, without loading it: arrays, shapes, dtypes, metadata."""

import sys

from kerax import cli


def main(arguments):
    path, overrides = cli.parse_arguments(arguments, "FILE", __doc__)
    if overrides:
        raise cli.ConfigError(f"unknown option --{next(iter(overrides))}. Expected FILE only.")
    print("\n".join(cli.show_file(path)))


if __name__ == "__main__":
    sys.exit(cli.run_script(main))
