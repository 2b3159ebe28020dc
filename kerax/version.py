"""The version of kerax."""

__version__ = "0.1.0"
