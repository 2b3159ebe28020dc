"""The applications in kerax and in Keras, the latter without drawing its weights."""

import hashlib
from contextlib import contextmanager

import jax
import keras
import numpy as np
from keras.src.initializers import constant_initializers, random_initializers

# What `describe` says of Keras 3.15.1's models: building all of them takes a minute, the largest a gigabyte and more.
TABLE = {
    "ConvNeXtBase": (88591464, 261, "a5a3e674f344eb0a"),
    "ConvNeXtLarge": (197767336, 261, "0624d81252363682"),
    "ConvNeXtSmall": (50223688, 261, "3c059587f6385643"),
    "ConvNeXtTiny": (28589128, 135, "7dbec393c6fc3b9e"),
    "ConvNeXtXLarge": (350196968, 261, "ef02ede13d5ae6d1"),
    "DenseNet121": (8062504, 429, "d3c7dfa263ce9978"),
    "DenseNet169": (14307880, 597, "a4f5dfe67c3529bb"),
    "DenseNet201": (20242984, 709, "96809d0170e28025"),
    "EfficientNetB0": (5330571, 240, "716daf79edaaa013"),
    "EfficientNetB1": (7856239, 342, "a40e15441fadde39"),
    "EfficientNetB2": (9177569, 342, "69f6bcd511e8f57c"),
    "EfficientNetB3": (12320535, 387, "018e0902a5801556"),
    "EfficientNetB4": (19466823, 477, "3931d9a262442b78"),
    "EfficientNetB5": (30562527, 579, "433182e39b99a235"),
    "EfficientNetB6": (43265143, 669, "f8df2d585637ea19"),
    "EfficientNetB7": (66658687, 816, "68a4d3af818b4d99"),
    "EfficientNetV2B0": (7200312, 273, "1c39206775103b7f"),
    "EfficientNetV2B1": (8212124, 337, "e205af1992fab7c7"),
    "EfficientNetV2B2": (10178374, 352, "1b1c67c6dcf95fc1"),
    "EfficientNetV2B3": (14467622, 412, "8a6863b7c19805b5"),
    "EfficientNetV2L": (119027848, 1031, "0eea8ff07b0a4ec1"),
    "EfficientNetV2M": (54431388, 743, "f844c10ac4ef5452"),
    "EfficientNetV2S": (21612360, 516, "151b80cbdebfeff3"),
    "InceptionResNetV2": (55873736, 782, "9563c62c9b2f9e76"),
    "InceptionV3": (23851784, 313, "b2c05f5ab75ad4ac"),
    "MobileNet": (4253864, 91, "23977acb17edf038"),
    "MobileNetV2": (3538984, 156, "5c2ec0b1b54ad75d"),
    "MobileNetV3Large": (5507432, 194, "9a4ddc0f0f93ba3e"),
    "MobileNetV3Small": (2554968, 164, "d3ef8c468303e064"),
    "NASNetLarge": (88949818, 1041, "7d5b5eb9ae3de09d"),
    "NASNetMobile": (5326716, 771, "57f0ac4e3fee1e0b"),
    "ResNet50": (25636712, 177, "cd090351bdfd855a"),
    "ResNet101": (44707176, 347, "ea3145f5c372152d"),
    "ResNet152": (60419944, 517, "125fab1b5c7fda2a"),
    "ResNet50V2": (25613800, 192, "da7623ab7ca66cd9"),
    "ResNet101V2": (44675560, 379, "004916e39199372a"),
    "ResNet152V2": (60380648, 566, "3a9aa2b2f9c95f72"),
    "VGG16": (138357544, 23, "9953faabca1c06d7"),
    "VGG19": (143667240, 26, "aeecbcdc308774ea"),
    "Xception": (22910480, 134, "1f23c2c123bbdae9"),
}


@contextmanager
def zeros_for_weights():
    """Lets Keras build a model without the minutes that its initializers take."""
    classes = [random_initializers.VarianceScaling, random_initializers.RandomInitializer]
    classes += [constant_initializers.Zeros, constant_initializers.Ones, constant_initializers.Constant]
    before = [vars(cls).get("__call__") for cls in classes]
    try:
        for cls in classes:
            cls.__call__ = lambda self, shape, dtype=None, **_: np.zeros(shape, dtype or "float32")
        yield
    finally:
        for cls, call in zip(classes, before):
            if call is None:
                del cls.__call__
            else:
                cls.__call__ = call


def build_keras(name, **kwargs):
    """Keras's model with zeros for weights and the names of a fresh process."""
    keras.utils.clear_session()
    with zeros_for_weights():
        return getattr(keras.applications, name)(weights=None, **kwargs)


def jitted(model):
    """Keras's model as one compiled function."""
    trainable = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    return jax.jit(lambda x: model.stateless_call(trainable, others, x)[0])


def describe(model):
    """Number of parameters, number of layers, and a digest of the layers' names and the weights' shapes."""
    names = [layer.name for layer in model.layers]
    shapes = [tuple(weight.shape) for weight in model.weights]
    digest = hashlib.sha256(repr((names, shapes)).encode()).hexdigest()[:16]
    return model.count_params(), len(names), digest


def likely_weights(model):
    """Values for a Keras model's weights that keep the activations near 1."""
    rng = np.random.default_rng(0)
    values = []
    for weight in model.weights:
        value = rng.standard_normal(weight.shape, "float32")
        if "kernel" in weight.name:
            value = value * np.sqrt(2 / max(np.prod(weight.shape[:-1]), 1))
        elif weight.name in ("moving_variance", "variance"):
            value = np.abs(value) + 0.5
        elif weight.name == "gamma":
            value = 1 + 0.1 * value
        elif weight.name == "count":
            value = np.zeros(weight.shape)
        else:
            value = 0.1 * value
        values.append(value)
    return values
