"""Lists what is in a checkpoint or a file of weights, without loading it: `kerax inspect`."""

import sys

from kerax import cli

if __name__ == "__main__":
    sys.exit(cli.run_script(cli.inspect_file))
