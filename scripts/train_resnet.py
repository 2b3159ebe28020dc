"""Trains ResNet-50 on images or made-up ones, on one device or many: `train_resnet.py configs/resnet50_gpu.yaml`.

Any setting may follow on the command line: `--steps 100 --batch_size 128`.
"""

import os
from pathlib import Path

import numpy as np
from at_scale import DEVICES, distribute, read_settings, train

import kerax
from kerax import layers, optimizers

SETTINGS = {
    "size": (224, "height and width of an image"),
    "classes": (1000, "number of classes"),
    "dtype": ("mixed_bfloat16", "dtype policy"),
    "data": (
        "synthetic",
        "a folder with images.npy (uint8, (rows, size, size, 3)) and labels.npy, a folder of images in one folder per "
        "class, or 'synthetic'",
    ),
    "batch_size": (256, "images per step, on all devices together"),
    "micro_batches": (1, "parts that a step's images are worked off in"),
    "steps": (1000, "steps of training"),
    "report_every": (20, "steps between two lines of output"),
    "learning_rate": (0.1, "its peak for 256 images; it grows with the batch"),
    "warmup": (100, "steps until the peak"),
    "weight_decay": (5e-5, "L2 penalty on kernels, decoupled"),
    "run_dir": ("", "folder to save the run to and to go on from"),
    "seed": (0, "of weights and order"),
}
MEAN, VARIANCE = [123.68, 116.28, 103.53], [3409.98, 3262.69, 3291.89]  # of ImageNet's pixels, 0 to 255
FLOPS_PER_IMAGE = 3 * 8.18e9  # forward and twice that backward, at 224 x 224; a multiplication and an addition are two


def build_model(settings):
    """Logits `(batch, classes)` for images `(batch, size, size, 3)` of 0 to 255."""
    images = kerax.Input((settings.size, settings.size, 3), dtype="uint8")
    pixels = layers.Normalization(mean=MEAN, variance=VARIANCE)(images)
    net = kerax.applications.ResNet50(
        weights=None, input_tensor=pixels, classes=settings.classes, classifier_activation=None
    )
    return kerax.Model(images, net.outputs[0], name="resnet50")


def compile_model(model, settings):
    """Compiles the model with SGD, its rate warmed up and then cooled down to nothing."""
    peak = settings.learning_rate * settings.batch_size / 256
    warmup = min(settings.warmup, settings.steps)
    rate = optimizers.schedules.CosineDecay(
        0.0, max(settings.steps - warmup, 1), warmup_target=peak, warmup_steps=warmup
    )
    optimizer = optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = kerax.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, micro_batches=settings.micro_batches)


def load_data(settings):
    """Arrays `(images, labels)`, or batches of them."""
    if settings.data == "synthetic":
        rows = 4 * settings.batch_size
        draw = np.random.default_rng(settings.seed)
        images = draw.integers(0, 256, (rows, settings.size, settings.size, 3), dtype=np.uint8)
        return images, draw.integers(0, settings.classes, rows).astype(np.int32)
    folder = Path(os.path.expandvars(settings.data))
    if (folder / "images.npy").exists():
        return np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "labels.npy").astype(np.int32)
    size = (settings.size, settings.size)
    return kerax.utils.image_dataset_from_directory(
        folder, image_size=size, batch_size=settings.batch_size, seed=settings.seed
    )


def main(arguments=None):
    settings = read_settings(__doc__, SETTINGS | DEVICES, arguments)
    distribute(settings)
    kerax.utils.set_random_seed(settings.seed)
    kerax.mixed_precision.set_global_policy(settings.dtype)
    model = build_model(settings)
    compile_model(model, settings)
    flops = FLOPS_PER_IMAGE * (settings.size / 224) ** 2
    return train(model, load_data(settings), settings, "images", 1, flops)


if __name__ == "__main__":
    main()
