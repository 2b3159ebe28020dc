"""What goes wrong while exporting."""


class ExportError(ValueError):
    """What a model computes cannot be written in a format, or the file does not compute it."""
