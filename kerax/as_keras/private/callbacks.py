"""What `keras.src.callbacks` has beyond the public API."""

from kerax.callbacks.monitors import Monitor as MonitorCallback

__all__ = ["MonitorCallback"]
