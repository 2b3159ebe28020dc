"""`python -m kerax.as_keras script.py ...`, `-m module ...` or `-c code ...`: run with kerax as `keras`."""

import os
import runpy
import sys

import kerax.as_keras

USAGE = "usage: python -m kerax.as_keras (script.py | -m module | -c code) [arguments]"


def main(arguments: list[str]) -> None:
    """Runs a script, a module or a line of code as Python would, after `kerax.as_keras()`."""
    if not arguments or arguments[0] in ("-h", "--help") or (arguments[0] in ("-m", "-c") and len(arguments) == 1):
        sys.exit(USAGE)
    kerax.as_keras.as_keras()
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        # As Python does, which has put the folder there for `python -m kerax.as_keras` itself.
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.argv = arguments
        if not os.path.exists(arguments[0]):
            sys.exit(f"kerax.as_keras: there is no file {arguments[0]!r}. {USAGE}")
        sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
