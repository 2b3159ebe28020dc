"""Keras's older names of dtype policies."""

from kerax.dtype_policies import DTypePolicy as DTypePolicy
from kerax.dtype_policies import dtype_policy as dtype_policy
from kerax.dtype_policies import set_dtype_policy as set_dtype_policy
from kerax.optimizers import LossScaleOptimizer as LossScaleOptimizer

Policy, global_policy, set_global_policy = DTypePolicy, dtype_policy, set_dtype_policy
