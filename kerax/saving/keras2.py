"""What Keras 2 wrote in its configs, in the words of Keras 3.

A functional model's calls were lists `[layer, call, output, arguments]`, shapes were called `batch_input_shape`, layers
could have arguments that are no more, and operators on tensors were layers of a class `TFOpLambda`.
"""

from typing import Any

from kerax.core.registry import is_serialized

_MODELS = ("Functional", "Model", "Sequential")
_INITIALIZERS = [f"{kind}{law}" for kind in ("Glorot", "He", "Lecun", "Random") for law in ("Normal", "Uniform")]
_GONE = {name: ("time_major", "implementation") for name in ("LSTM", "GRU", "SimpleRNN", "RNN", "ConvLSTM2D")} | {
    **{name: ("implementation",) for name in ("LSTMCell", "GRUCell", "SimpleRNNCell")},
    **{name: ("dtype",) for name in (*_INITIALIZERS, "Zeros", "Ones", "Constant", "Orthogonal", "VarianceScaling")},
    "BatchNormalization": ("virtual_batch_size", "fused", "adjustment"),
    "Embedding": ("input_length",),
    "DepthwiseConv2D": ("groups",),
    "SeparableConv1D": ("groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint"),
    "SeparableConv2D": ("groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint"),
    "Conv2DTranspose": ("groups",),
    "MultiHeadAttention": ("query_shape", "key_shape", "value_shape", "softmax_robust_masking"),
    "Lambda": ("function_type", "module", "output_shape_type", "output_shape_module"),
}
"""Arguments by class that are no more: there is one way left, or the backend chooses."""
_NEUTRAL = {"time_major": False, "virtual_batch_size": None, "adjustment": None, "softmax_robust_masking": False} | {
    "groups": 1
}
"""Of these, those that changed numbers, with the value that did not."""

_CODE = ("code", "defaults", "closure")
_OPS = {
    **{f"math.{name}": name for name in ("add", "subtract", "multiply", "maximum", "minimum", "abs", "square", "sqrt")},
    **{f"math.{name}": name for name in ("exp", "log", "tanh", "sin", "cos", "negative", "sigmoid", "softplus")},
    **{f"nn.{name}": name for name in ("relu", "leaky_relu", "softmax", "gelu", "elu", "silu")},
    **{f"math.reduce_{name}": name for name in ("mean", "sum", "max", "min", "prod")},
    **{"__operators__.add": "add", "math.truediv": "true_divide", "math.divide": "divide", "math.pow": "power"},
    **{name: name for name in ("reshape", "transpose", "expand_dims", "squeeze", "cast", "stack", "tile")},
    **{"concat": "concatenate", "linalg.matmul": "matmul", "__operators__.getitem": "get_item"},
}
"""Ops by TensorFlow's names of them."""
_ARGUMENTS = {
    "perm": "axes",
    "multiples": "repeats",
    "shape": "newshape",
    "slice_spec": "index",
    "alpha": "negative_slope",
}


def modernized(config: Any) -> Any:
    """A config of Keras 2 as Keras 3 would write it. One of Keras 3 stays as it is."""
    if isinstance(config, list):
        return [modernized(item) for item in config]
    if not isinstance(config, dict):
        return config
    config = {key: modernized(value) for key, value in _with_input_layer(config).items()}
    if not is_serialized(config) or not isinstance(config["config"], dict):
        return config
    name, inner = config["class_name"], config["config"]
    shape = inner.pop("batch_input_shape", None)
    if name == "InputLayer" and shape is not None:
        inner["batch_shape"] = shape
    for key in _GONE.get(name, ()):
        # Any other value stays, and is refused by name where the layer is made.
        if key not in _NEUTRAL or inner.get(key) == _NEUTRAL[key]:
            inner.pop(key, None)
    if name == "Policy":
        config["class_name"] = "DTypePolicy"
    elif name == "BatchNormalization" and isinstance(inner.get("axis"), list):
        (inner["axis"],) = inner["axis"]
    elif name == "Lambda" and isinstance(inner.get("function"), list):
        # Its code, arguments' defaults and closure: run by nobody who does not say so.
        inner["function"] = {"class_name": "__lambda__", "config": dict(zip(_CODE, inner["function"], strict=False))}
    elif name in _MODELS and isinstance(inner.get("layers"), list):
        config["class_name"] = "Sequential" if name == "Sequential" else "Functional"
        _modernize_calls(inner)
    return config


def _with_input_layer(config: dict) -> dict:
    """A `Sequential`'s config with an `InputLayer`, where only its first layer says the shape of the input."""
    inner = config.get("config")
    if config.get("class_name") != "Sequential":
        return config
    if isinstance(inner, list):  # the oldest files have the layers alone
        inner = {"name": "sequential", "layers": inner}
    if not isinstance(inner, dict):
        return config
    layers = inner.get("layers")
    first = layers[0] if isinstance(layers, list) and layers else None
    if not layers or not is_serialized(first) or "batch_input_shape" not in first["config"]:
        return config
    if first["class_name"] == "InputLayer":
        return config
    start = {"class_name": "InputLayer", "config": {"batch_shape": first["config"]["batch_input_shape"]}}
    return config | {"config": inner | {"layers": [start, *layers]}}


def with_calls(model: dict) -> dict:
    """A functional model's own config with its layers' calls as Keras 3 writes them."""
    return modernized({"class_name": "Functional", "config": model})["config"] if _old_calls(model) else model


def _old_calls(model: dict) -> list[dict]:
    layers = [layer for layer in model["layers"] if isinstance(layer, dict) and layer.get("inbound_nodes")]
    return layers if any(isinstance(node, list) for layer in layers for node in layer["inbound_nodes"]) else []


def _modernize_calls(model: dict):
    """Writes the calls of a functional model's layers as Keras 3 does, in place."""
    layers = _old_calls(model)
    if not layers:
        return
    names = {layer.get("name") for layer in model["layers"]}
    found: list[list] = []  # every mention of a tensor

    def tensor(value):
        # What an operator got first may be a number.
        if isinstance(value, list) and value[:1] == ["_CONSTANT_VALUE"]:
            return value[2]
        is_mention = isinstance(value, list) and len(value) >= 3 and value[0] in names and isinstance(value[1], int)
        if not is_mention:
            return [tensor(item) for item in value] if isinstance(value, list) else value
        history = list(value[:3])
        found.append(history)
        return {"class_name": "__keras_tensor__", "config": {"keras_history": history}}

    for layer in layers:
        nodes = []
        for node in layer["inbound_nodes"]:
            # One tensor is a list in a list, but not in the calls of operators.
            mentions = [node] if node and isinstance(node[0], str) else node
            kwargs = dict(mentions[0][3]) if mentions and len(mentions[0]) > 3 else {}
            kwargs = {key: tensor(value) for key, value in kwargs.items()}
            tensors = [tensor(mention) for mention in mentions]
            nodes.append({"args": tensors if len(tensors) == 1 else [tensors], "kwargs": kwargs})
        layer["inbound_nodes"] = nodes
        if layer["class_name"] in ("TFOpLambda", "SlicingOpLambda"):
            _modernize_operator(layer)
    ends = {key: model[key] for key in ("input_layers", "output_layers")}
    for key, value in ends.items():
        mentions = [list(mention) for mention in value]
        found += mentions
        model[key] = mentions[0] if len(mentions) == 1 else mentions
    # A model's own making counts as its first call, which is not written.
    calls = {layer["name"]: len(layer["inbound_nodes"]) for layer in layers}
    for name, count in calls.items():
        own = [history for history in found if history[0] == name]
        skipped = max((history[1] for history in own), default=0) + 1 - count
        for history in own:
            history[1] -= max(skipped, 0)


def _modernize_operator(layer: dict):
    """Makes an operator on tensors an op. Raises `ValueError` for one that has no counterpart."""
    function = layer["config"].get("function", "").removeprefix("compat.v1.")
    if function not in _OPS:
        raise ValueError(
            f"the model calls TensorFlow's `tf.{function}`, which has no counterpart here. Make the model in code, and "
            "read its weights with `load_weights`."
        )
    class_name = "".join(part.capitalize() for part in _OPS[function].split("_"))
    layer.update(module="keras.src.ops.numpy", class_name=class_name, config={"name": layer["name"]})
    for node in layer["inbound_nodes"]:
        kwargs = {_ARGUMENTS.get(key, key): value for key, value in node["kwargs"].items() if key not in _LABELS}
        others = [kwargs.pop(key) for key in ("y", "b") if key in kwargs]
        node["args"], node["kwargs"] = [*node["args"], *others], kwargs


_LABELS = ("name", "conjugate")  # arguments that say nothing of real numbers


def compile_arguments(training: dict, num_outputs: int) -> dict:
    """The arguments of `compile` that an `.h5` file's `training_config` describes."""
    given = modernized(training)
    names = ("loss", "loss_weights", "metrics", "weighted_metrics", "run_eagerly", "jit_compile", "steps_per_execution")
    found = {name: given[name] for name in names if given.get(name) is not None}
    for name in ("metrics", "weighted_metrics"):
        if isinstance(found.get(name), list):
            lists = [_metric(metric) for metric in found[name]]
            found[name] = lists[0] if num_outputs == 1 and len(lists) == 1 and isinstance(lists[0], list) else lists
    found["loss"] = _loss(found.get("loss"))
    optimizer = given.get("optimizer_config")
    if is_serialized(optimizer):
        config = {key: value for key, value in optimizer["config"].items() if key not in _NO_OPTION}
        if "lr" in config:
            config["learning_rate"] = config.pop("lr")
        optimizer = optimizer | {"class_name": optimizer["class_name"].removeprefix("Custom>"), "config": config}
    return found | {"optimizer": optimizer}


_NO_OPTION = ("is_legacy_optimizer", "jit_compile", "decay")


def _loss(loss: Any) -> Any:
    """Losses of Keras 2 said `auto` where Keras 3 says what that meant, and named their function too."""
    if is_serialized(loss) and isinstance(loss["config"], dict):
        config = {key: value for key, value in loss["config"].items() if key != "fn"}
        if config.get("reduction") == "auto":
            config["reduction"] = "sum_over_batch_size"
        return loss | {"config": config}
    if isinstance(loss, list):
        return [_loss(item) for item in loss]
    if is_serialized(loss):
        return loss
    return {key: _loss(item) for key, item in loss.items()} if isinstance(loss, dict) else loss


def _metric(metric: Any) -> Any:
    """A metric that averages a function, by the function's name; `accuracy` is chosen by the targets' form again."""
    if isinstance(metric, list):
        return [_metric(item) for item in metric]
    if not is_serialized(metric) or not isinstance(metric["config"], dict):
        return metric
    config = metric["config"]
    if metric["class_name"] == "MeanMetricWrapper":
        return "accuracy" if config.get("name", "").endswith(("accuracy", "acc")) else config.get("fn")
    return metric | {"config": {key: value for key, value in config.items() if key not in ("fn", "dtype", "name")}}
