"""The core: variables, the pure scope, layers, symbolic tensors and the registry of classes."""
