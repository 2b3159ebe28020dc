"""kerax: the Keras way of working on nothing but JAX."""
