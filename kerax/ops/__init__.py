"""`kerax.ops`: JAX's functions under Keras's names, for arrays, variables and symbolic tensors.

`lift` makes any other pure JAX function work on all three.
"""

from kerax.core.lift import make_importable as _make_importable
from kerax.ops import image as image
from kerax.ops import linalg as linalg
from kerax.ops.arrays import *  # noqa: F403
from kerax.ops.core import *  # noqa: F403
from kerax.ops.ctc import *  # noqa: F403
from kerax.ops.elementwise import *  # noqa: F403
from kerax.ops.fourier import *  # noqa: F403
from kerax.ops.functional import *  # noqa: F403
from kerax.ops.linalg import *  # noqa: F403
from kerax.ops.linear_crossentropy import *  # noqa: F403
from kerax.ops.math import *  # noqa: F403
from kerax.ops.nn import *  # noqa: F403
from kerax.ops.numpy import *  # noqa: F403
from kerax.ops.quality import *  # noqa: F403
from kerax.ops.windows import *  # noqa: F403

_make_importable(globals())
