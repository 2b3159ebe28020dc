"""Images mixed with each other, random sequences of other layers, and what pipelines of them need."""

from typing import Any

import jax
import jax.numpy as jnp

from kerax.core.calling import signature_of
from kerax.core.layer import Layer
from kerax.core.masks import get_mask
from kerax.layers.augmentation import RandomRotation, RandomShear, RandomTranslation
from kerax.layers.color import (
    RandomBrightness,
    RandomColorDegeneration,
    RandomContrast,
    RandomPosterization,
    RandomSharpness,
    Solarization,
    check_value_range,
    rectangle,
)
from kerax.layers.equalization import AutoContrast, Equalization
from kerax.layers.image import ImageLayer, draw_factor, factor_range
from kerax.layers.options import check, check_choice, check_positive, is_integer
from kerax.ops.image import INTERPOLATIONS


def _blend(first, second, weight):
    """`weight * first + (1 - weight) * second` with one weight for each row."""
    weight = weight.reshape(-1, *(1,) * (first.ndim - 1))
    return weight * first.astype("float32") + (1 - weight) * second.astype("float32")


class MixUp(ImageLayer):
    """Each image of a batch mixed with another one; labels, as floats, and masks likewise, boxes of both.

    Args:
        alpha: Both parameters of the Beta distribution of an image's share in the mixture, above 0.
        data_format: `"channels_last"` or `"channels_first"`.
        seed: Integer for a stream of the layer's own.

    Source: Zhang et al. 2017, https://arxiv.org/abs/1710.09412
    """

    further_parts = ("labels", "bounding_boxes")

    def __init__(self, alpha=0.2, data_format=None, seed=None, **kwargs):
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        check(self, alpha > 0, "`alpha` must be above 0", alpha=alpha)
        self.alpha = alpha

    def draw_batch(self, key: Any, shape: Any) -> Any:
        order, share = jax.random.split(key)
        # One share for each image, (batch,): shares near 0 and 1 are likely where alpha is small.
        weight = jax.random.beta(share, self.alpha, self.alpha, (shape[0],))
        return {"mix_weight": weight, "permutation_order": jax.random.permutation(order, shape[0])}

    def transform_batch(self, batch: Any, params: Any) -> Any:
        order, weight = params["permutation_order"], params["mix_weight"]
        outputs = dict(batch)
        for name in {"images", "labels", "segmentation_masks"} & batch.keys():  # all in the same shares
            outputs[name] = _blend(batch[name], batch[name][order], weight)
        if "bounding_boxes" in batch:
            # Boxes cannot be mixed: an image has its own and those of the other.
            both = lambda leaf: jnp.concatenate([leaf, leaf[order]], axis=1)
            outputs["bounding_boxes"] = jax.tree.map(both, batch["bounding_boxes"])
        return outputs


class CutMix(ImageLayer):
    """Each image of a batch with a rectangle from another one; labels mixed by area, masks cut alike.

    Args:
        factor: Both parameters of the Beta distribution of the rectangle's area, or the range they are drawn from,
            from 0 to 1; a number stands for `(0, number)`.
        seed: Integer for a stream of the layer's own.
        data_format: `"channels_last"` or `"channels_first"`.

    Bounding boxes are refused. Source: Yun et al. 2019, https://arxiv.org/abs/1905.04899
    """

    refuses_boxes = True
    further_parts = ("labels",)

    def __init__(self, factor=1.0, seed=None, data_format=None, **kwargs):
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor, 0, 1)

    def draw(self, key: Any, shape: Any) -> Any:
        alpha, area, place = jax.random.split(key, 3)
        # A Beta distribution with 0 is none.
        alpha = jnp.maximum(draw_factor(alpha, self.factor), 1e-3)
        side = jnp.sqrt(jax.random.beta(area, alpha, alpha))
        return rectangle(place, shape, side, side)

    def draw_batch(self, key: Any, shape: Any) -> Any:
        order, cuts = jax.random.split(key)
        inside = super().draw_batch(cuts, shape)[..., None]
        kept = 1 - jnp.mean(inside, axis=(1, 2, 3), keepdims=True)
        order = jax.random.permutation(order, shape[0])
        return {"permutation_order": order, "batch_masks": inside, "mix_weight": kept}

    def transform_batch(self, batch: Any, params: Any) -> Any:
        order, inside = params["permutation_order"], params["batch_masks"]
        outputs = dict(batch)
        for name in {"images", "segmentation_masks"} & batch.keys():
            outputs[name] = jnp.where(inside, batch[name][order], batch[name])
        if "labels" in batch:
            outputs["labels"] = _blend(batch["labels"], batch["labels"][order], params["mix_weight"])
        return outputs


class _Operations(ImageLayer):
    """What layers share that apply some of a list of operations, of a strength drawn from `factor`."""

    channels = (1, 3)

    def __init__(self, value_range, factor, interpolation: str, seed, data_format, all_ops: bool = True, **kwargs):
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        check_choice(self, "interpolation", interpolation, INTERPOLATIONS)
        strength = self.factor = factor_range(self, "factor", factor, 0, 1)
        values = check_value_range(self, value_range)
        bits = (1, max(1, int(8 * strength[1])))  # posterization's own scale, from 1 to 8
        self.operations = [
            RandomShear(strength, strength, interpolation=interpolation),
            RandomTranslation(strength, strength, interpolation=interpolation),
            RandomRotation(strength, interpolation=interpolation),
            RandomPosterization(bits, value_range=values),
            Solarization(strength, strength, value_range=values),
            AutoContrast(value_range=values),
            Equalization(value_range=values),
        ]
        if all_ops:
            colors = (RandomBrightness, RandomColorDegeneration, RandomContrast, RandomSharpness)
            self.operations += [layer(strength, value_range=values) for layer in colors]

    def draw_one(self, key: Any) -> tuple[Any, Any]:
        """The number of an operation chosen at random, and the key that it draws with."""
        choice, inner = jax.random.split(key)
        return jax.random.randint(choice, (), 0, len(self.operations)), inner

    def apply_one(self, sample: dict, index: Any, key: Any) -> Any:
        """One sample after one of the operations."""
        shape = sample["images"].shape
        apply = lambda layer: lambda sample, key: layer.transform_sample(sample, layer.draw(key, shape))
        return jax.lax.switch(index, [apply(layer) for layer in self.operations], sample, key)


class RandAugment(_Operations):
    """Images after a few operations chosen at random, other ones for each image (in Keras for each batch).

    The operations: shear, translation, rotation, posterization, solarization, auto contrast, equalization,
    brightness, color degeneration, contrast, sharpness.

    Args:
        value_range: Lowest and highest value of pixels.
        num_ops: Number of operations, one after the other; with 0 images stay as they are.
        factor: Strength, or the range it is drawn from, from 0 to 1; a number stands for `(0, number)`.
        interpolation: `"bilinear"` or `"nearest"`.
        seed: Integer for a stream of the layer's own.
        data_format: `"channels_last"` or `"channels_first"`.

    Source: Cubuk et al. 2019, https://arxiv.org/abs/1909.13719
    """

    moves_boxes = True

    def __init__(
        self,
        value_range=(0, 255),
        num_ops=2,
        factor=0.5,
        interpolation="bilinear",
        seed=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(value_range, factor, interpolation, seed, data_format, **kwargs)
        check(self, is_integer(num_ops) and num_ops >= 0, "`num_ops` must be an integer of at least 0", num_ops=num_ops)
        self.num_ops = num_ops

    def draw(self, key: Any, shape: Any) -> Any:
        keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(jnp.arange(self.num_ops))
        indices, seeds = jax.vmap(self.draw_one)(keys)
        return {"layer_idxes": indices, "seed": seeds}

    def transform_sample(self, sample: Any, params: Any) -> Any:
        for number in range(self.num_ops):
            sample = self.apply_one(sample, params["layer_idxes"][number], params["seed"][number])
        return sample


class AugMix(_Operations):
    """Images mixed with a mixture of versions of themselves, each after a chain of random operations.

    Other operations are drawn for each image (in Keras for each batch). Masks and boxes stay.

    Args:
        value_range: Lowest and highest value of pixels.
        num_chains: Number of versions, at least 1.
        chain_depth: Largest number of operations of a chain, at least 1; the number is drawn from 0 up.
        factor: Strength, or the range it is drawn from, from 0 to 1; a number stands for `(0, number)`.
        alpha: Parameter of the Dirichlet and Beta distributions of the shares, above 0.
        all_ops: Whether brightness, color degeneration, contrast and sharpness are among the operations.
        interpolation: `"bilinear"` or `"nearest"`.
        seed: Integer for a stream of the layer's own.
        data_format: `"channels_last"` or `"channels_first"`.

    Source: Hendrycks et al. 2019, https://arxiv.org/abs/1912.02781
    """

    def __init__(
        self,
        value_range=(0, 255),
        num_chains=3,
        chain_depth=3,
        factor=0.3,
        alpha=1.0,
        all_ops=True,
        interpolation="bilinear",
        seed=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(value_range, factor, interpolation, seed, data_format, all_ops, **kwargs)
        check_positive(self, num_chains=num_chains, chain_depth=chain_depth)
        check(self, alpha > 0, "`alpha` must be above 0", alpha=alpha)
        self.num_chains, self.chain_depth, self.alpha = num_chains, chain_depth, alpha

    def _chain(self, image, key):
        # A key for every step that there may be; steps beyond the drawn depth are computed and dropped.
        depth, *steps = jax.random.split(key, self.chain_depth + 1)
        depth = jax.random.randint(depth, (), 0, self.chain_depth + 1)
        for number, step in enumerate(steps):
            changed = self.apply_one({"images": image}, *self.draw_one(step))["images"]
            image = jnp.where(number < depth, changed, image)
        return image

    def draw(self, key: Any, shape: Any) -> Any:
        shares, share, chains = jax.random.split(key, 3)
        weights = jax.random.dirichlet(shares, jnp.full(self.num_chains, self.alpha))
        kept = jax.random.beta(share, self.alpha, self.alpha)
        return {"chain_mixing_weights": weights, "weight_sample": kept, "seed": chains}

    def transform_sample(self, sample: Any, params: Any) -> Any:
        image, kept = sample["images"], params["weight_sample"]
        chains = jax.random.split(params["seed"], self.num_chains)
        # One chain after the other, so that the operations are compiled once.
        versions = jax.lax.map(lambda key: self._chain(image, key), chains)
        mixture = jnp.tensordot(params["chain_mixing_weights"], versions, axes=1)
        return {**sample, "images": kept * image + (1 - kept) * mixture}


class MaxNumBoundingBoxes(ImageLayer):
    """The same images with a fixed number of boxes: too many are cut off, too few filled up.

    Args:
        max_number: Number of boxes, at least 1.
        fill_value: What missing boxes and their labels consist of.
    """

    is_random = False
    further_parts = ("bounding_boxes",)
    integers = staticmethod(jnp.floor)

    def __init__(self, max_number, fill_value=-1, **kwargs):
        super().__init__(**kwargs)
        check_positive(self, max_number=max_number)
        self.max_number, self.fill_value = max_number, fill_value

    def transform_sample(self, sample: Any, params: Any) -> Any:
        if "bounding_boxes" not in sample:  # images alone pass
            return sample

        def fit(leaf):
            # (boxes, 4) and (boxes,) alike: only the first axis grows.
            margins = [(0, max(0, self.max_number - leaf.shape[0]))] + [(0, 0)] * (leaf.ndim - 1)
            return jnp.pad(leaf[: self.max_number], margins, constant_values=self.fill_value)

        return {**sample, "bounding_boxes": jax.tree.map(fit, sample["bounding_boxes"])}


class Pipeline(Layer):
    """Layers applied one after the other, such as a sequence of augmentations.

    Args:
        layers: List of layers.
    """

    hands_on_text = True

    def __init__(self, layers, name=None):
        super().__init__(name=name)
        are_layers = isinstance(layers, (list, tuple)) and all(isinstance(layer, Layer) for layer in layers)
        check(self, are_layers, "`layers` must be a list of layers", layers=layers)
        self.layers = list(layers)
        self.autocast = False  # each layer casts for itself, or leaves labels and boxes as they are

    def call(self, inputs: Any, training: Any = True, mask: Any = None) -> Any:
        for layer in self.layers:
            given = {"mask": mask} if "mask" in signature_of(type(layer).call).names else {}
            inputs = layer(inputs, training=training, **given)
            mask = jax.tree.map(get_mask, inputs)
        return inputs

    @classmethod
    def from_config(cls, config: dict) -> "Pipeline":
        """A pipeline of the layers that `get_config` described. Raises `ValueError` if there are none."""
        if not isinstance(config.get("layers"), (list, tuple)):
            raise ValueError(f"{cls.__name__}.from_config: `layers` must be a list of layers. Got config={config!r}.")
        return super().from_config(config)

    def get_config(self) -> dict:
        """The constructor's arguments; this one takes neither `trainable` nor `dtype`."""
        config = super().get_config()
        return {name: config[name] for name in ("layers", "name")}
