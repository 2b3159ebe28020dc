"""Imports JAX; for `kerax plan` without what CUDA's libraries say of a missing driver, which need not be there."""

import contextlib
import sys

from kerax.plan.quiet import without_startup_text

with without_startup_text() if sys.argv[1:2] == ["plan"] else contextlib.nullcontext():
    import jax as jax
