"""Names that are private in Keras and that libraries use all the same: one module for each area of `keras.src`.

`keras.src.saving.serialization_lib.in_safe_mode` is `saving.in_safe_mode` here: the area counts, not the file. A
library that needs another one brings one more function or class, and nothing elsewhere.
"""
