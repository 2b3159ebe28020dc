"""What Keras offers as `keras.backend`: settings, dtypes, names. There is one backend, JAX."""

from kerax.config import backend as backend
from kerax.config import epsilon as epsilon
from kerax.config import floatx as floatx
from kerax.config import image_data_format as image_data_format
from kerax.config import set_epsilon as set_epsilon
from kerax.config import set_floatx as set_floatx
from kerax.config import set_image_data_format as set_image_data_format
from kerax.core.dtypes import is_float_dtype as is_float_dtype
from kerax.core.dtypes import is_int_dtype as is_int_dtype
from kerax.core.dtypes import result_type as result_type
from kerax.core.dtypes import standardize_dtype as standardize_dtype
from kerax.core.registry import get_uid as get_uid
from kerax.core.stateless import device as device
from kerax.core.stateless import name_scope as name_scope
from kerax.core.symbolic import is_keras_tensor as is_keras_tensor
from kerax.utils import clear_session as clear_session
