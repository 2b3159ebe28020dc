"""Training: the pure step, the engine that compiles it, and the loop around it."""
