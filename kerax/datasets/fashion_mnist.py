"""Articles of clothing: 70,000 images of 28x28 pixels."""

from kerax.datasets import sources
from kerax.datasets.mnist import IDX_FILES

_ORIGIN = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
_DIGESTS = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)


def load_data():
    """Fashion-MNIST: 60,000 images for training, 10,000 for testing. Downloaded once, 30 MB.

    Labels: 0 T-shirt, 1 trouser, 2 pullover, 3 dress, 4 coat, 5 sandal, 6 shirt, 7 sneaker, 8 bag, 9 ankle boot.

    Returns: `(x_train, y_train), (x_test, y_test)`, uint8: images `(..., 28, 28)` from 0 to 255, labels from 0 to 9.

    Source: Xiao, Rasul, Vollgraf 2017, https://arxiv.org/abs/1708.07747 (MIT); from its authors, since Keras's copy
    has no checksum.
    """
    x_train, y_train, x_test, y_test = (
        sources.read_idx(sources.fetch(name, _ORIGIN + name, digest, "fashion-mnist"))
        for name, digest in zip(IDX_FILES, _DIGESTS, strict=True)
    )
    return (x_train, y_train), (x_test, y_test)
