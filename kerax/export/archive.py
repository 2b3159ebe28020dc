"""`ExportArchive`: several functions of several layers in one file; and `Model.export` by it."""

from collections.abc import Callable, Sequence
from typing import Any

from kerax.core.layer import Layer
from kerax.core.variable import Variable
from kerax.export import endpoints, formats
from kerax.export.text import Text, takes_text


class ExportArchive:
    """Collects what a file shall offer, and writes it.

    Layers and models are tracked by `track`, by being an endpoint's function, or by being what a method is called on
    (`model.call`); their variables become the file's, by their paths. What else an endpoint's function reads becomes a
    constant.

    ```python
    archive = kerax.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model.call, [kerax.InputSpec(shape=(None, 3), dtype="float32")])
    archive.write_out("folder")
    ```
    """

    def __init__(self):
        self._tracked: list[Layer] = []
        self._endpoints: dict[str, tuple[Callable, tuple, Text | None]] = {}
        self._collections: dict[str, list[Variable]] = {}

    def track(self, resource: Any) -> None:
        """Makes a layer's variables the file's.

        Raises:
            TypeError: for what is no layer or model.
            ValueError: for one that is not built.
        """
        if not isinstance(resource, Layer):
            raise TypeError(f"ExportArchive.track: expected a layer or a model. Got {resource!r}.")
        if not resource.built:
            raise ValueError(f"ExportArchive.track: {resource} is not built. Call it on data, or `build` it, first.")
        if not any(resource is known for known in self._tracked):
            self._tracked.append(resource)

    @property
    def variables(self) -> list[Variable]:
        """The variables of all tracked layers."""
        return [variable for layer in self._tracked for variable in layer.variables]

    @property
    def trainable_variables(self) -> list[Variable]:
        """Those that training changes."""
        return [variable for layer in self._tracked for variable in layer.trainable_variables]

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """The others."""
        return [variable for layer in self._tracked for variable in layer.non_trainable_variables]

    def add_endpoint(self, name: str, fn: Callable, input_signature: Any = None, **kwargs) -> Callable:
        """Adds a function to what the file offers; the first one is what serving programs call by default.

        Args:
            name: Its name in the file, a Python name.
            fn: A layer, a model, or a function of tensors.
            input_signature: A list with one structure for each argument of `fn`, of `InputSpec`s, symbolic tensors,
                arrays or TensorFlow's specs. Default: what a model was built for.
            **kwargs: Keras's arguments for jax2tf, `is_static` and `jax2tf_kwargs`, change nothing.

        Returns: `fn`.

        Raises:
            ValueError: for a name that is taken or no name, or without a signature where one is needed.
        """
        unknown = set(kwargs) - {"is_static", "jax2tf_kwargs"}
        if unknown:
            raise ValueError(f"ExportArchive.add_endpoint: unknown argument {min(unknown)!r}.")
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"ExportArchive.add_endpoint: `name` must be a Python name. Got {name!r}.")
        if name in self._endpoints:
            raise ValueError(f"ExportArchive.add_endpoint: there is an endpoint {name!r} already.")
        owner = fn if isinstance(fn, Layer) else getattr(fn, "__self__", None)
        for layer in [owner] if isinstance(owner, Layer) else _referred(fn):
            if layer.built:
                self.track(layer)
        if isinstance(owner, Layer):
            signature = endpoints.signature_of(owner, input_signature)
        elif input_signature is None:
            raise ValueError(
                f"ExportArchive.add_endpoint: {name!r} needs `input_signature`: a function does not tell what it takes."
            )
        else:
            signature = endpoints.standardize_signature(input_signature)
        text = Text(owner if _is_call(fn, owner) else fn, signature) if takes_text(signature) else None
        self._endpoints[name] = _inferring(fn, owner), signature, text
        return fn

    def track_and_add_endpoint(self, name: str, resource: Any, input_signature: Any, **kwargs) -> Callable:
        """`track` and `add_endpoint` of a layer or model."""
        self.track(resource)
        return self.add_endpoint(name, resource, input_signature, **kwargs)

    def add_variable_collection(self, name: str, variables: Sequence[Variable]) -> None:
        """Makes a list of tracked variables an attribute of what TensorFlow loads.

        Raises:
            ValueError: for what is no list of variables, or for one that no tracked layer owns.
        """
        if not isinstance(variables, (list, tuple, set)):
            raise ValueError(f"ExportArchive.add_variable_collection: expected a list of variables. Got {variables!r}.")
        known = set(map(id, self.variables))
        for variable in variables:
            if id(variable) not in known:
                raise ValueError(
                    f"ExportArchive.add_variable_collection: expected variables of tracked layers. Got {variable!r}."
                )
        self._collections[name] = list(variables)

    def write_out(
        self, filepath: Any, options: Any = None, verbose: bool | None = True, format: str = "tf_saved_model", **kwargs
    ) -> None:
        """Writes the file.

        Args:
            filepath: A new file, or a new folder for a SavedModel.
            options: TensorFlow's `tf.saved_model.SaveOptions`.
            verbose: Whether to print a line about what was written.
            format: As in `Model.export`. Only a SavedModel holds more than the first endpoint.
            **kwargs: `batch`, `verify`, `overwrite` and the format's own, as in `Model.export`.

        Raises:
            ValueError: without an endpoint, and as `Model.export` does.
        """
        if not self._endpoints:
            raise ValueError("ExportArchive.write_out: there is no endpoint yet. Call `add_endpoint` first.")
        batch = kwargs.pop("batch", None)
        kind = formats.find_format(format)
        if "collections" in kind.options:
            kwargs |= {"collections": self._collections, "options": options}
        elif len(self._endpoints) > 1:
            raise ValueError(
                f"ExportArchive.write_out: a file of format {format!r} holds one endpoint. There are "
                f"{', '.join(self._endpoints)}. Write one archive for each, or format='tf_saved_model'."
            )
        made = [
            endpoints.Endpoint(name, function, self._tracked, signature, batch, text)
            for name, (function, signature, text) in self._endpoints.items()
        ]
        formats.write(made, filepath, format, verbose=verbose, **kwargs)


def _is_call(fn: Callable, owner: Any) -> bool:
    """Whether a function is a layer, or its `call`."""
    return isinstance(owner, Layer) and (fn is owner or getattr(fn, "__name__", None) in ("call", "__call__"))


def _inferring(fn: Callable, owner: Any) -> Callable:
    """A layer, or its `call`, as it infers; any other function as it is."""
    return (lambda *arguments: owner(*arguments, training=False)) if _is_call(fn, owner) else fn


def _referred(fn: Callable) -> list[Layer]:
    """The layers that a function refers to: in its closure, its defaults, and the names of its module that it uses."""
    fn = getattr(fn, "__wrapped__", fn)
    code = getattr(fn, "__code__", None)
    if code is None:
        return []
    cells = [cell.cell_contents for cell in fn.__closure__ or ()]
    named = [fn.__globals__[name] for name in code.co_names if name in fn.__globals__]
    return [value for value in [*cells, *named, *(fn.__defaults__ or ())] if isinstance(value, Layer)]


def export_model(
    model: Layer,
    filepath: Any,
    format: str = "tf_saved_model",
    verbose: bool | None = None,
    input_signature: Any = None,
    **kwargs,
) -> None:
    """`Model.export`."""
    formats.find_format(format)  # before the trace
    batch = kwargs.pop("batch", 1 if format == "litert" else "dynamic")  # phones plan their memory beforehand
    batch = None if batch == "dynamic" else batch
    if batch is not None and (not isinstance(batch, int) or batch < 1):
        raise ValueError(f"export: `batch` must be 'dynamic' or a whole number of at least 1. Got {batch!r}.")
    archive = ExportArchive()
    signature = endpoints.signature_of(model, input_signature)
    archive.track(model)
    archive.add_endpoint("serve", model, list(signature))
    archive.write_out(filepath, verbose=verbose, format=format, batch=batch, **kwargs)
