"""Trains the model that a YAML file describes: `kerax train`."""

import sys

from kerax import cli

if __name__ == "__main__":
    sys.exit(cli.run_script(cli.train))
