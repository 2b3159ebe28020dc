"""`kerax.ops`: JAX's functions under Keras's names, for arrays, variables and symbolic tensors.

`lift` makes any other pure JAX function work on all three.
"""

from kerax.ops import image as image
from kerax.ops.arrays import *  # noqa: F403
from kerax.ops.core import *  # noqa: F403
from kerax.ops.math import *  # noqa: F403
from kerax.ops.nn import *  # noqa: F403
from kerax.ops.numpy import *  # noqa: F403
