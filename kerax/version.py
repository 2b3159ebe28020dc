"""The version of kerax."""

__version__ = "0.1.0"


def version() -> str:
    """The version of kerax, as `kerax.__version__`."""
    return __version__
