"""Restores a checkpoint or a `.keras` file, and tests it: `kerax evaluate`."""

import sys

from kerax import cli

if __name__ == "__main__":
    sys.exit(cli.run_script(cli.evaluate))
