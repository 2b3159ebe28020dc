"""Models behind HTTP: `Server`, an application for any ASGI server, and `run`, which is what `kerax serve` does."""

from kerax import lazy as _lazy

_NEEDS = "starlette uvicorn prometheus_client"
__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__, _NEEDS, "Starlette and uvicorn", "serve")
