"""Keeps off the screen what CUDA's libraries say at their start about a driver that need not be there."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

_STARTUP = (b"cudart_stub", b"cuInit", b"cuda_diagnostics", b"absl::InitializeLog", b"CUDA_ERROR_NO_DEVICE")


@contextlib.contextmanager
def without_startup_text() -> Iterator[None]:
    """A `with` block at whose end all that was written on standard error appears, but for lines of CUDA's start-up.

    They come from libraries in C++, which know nothing of `sys.stderr`.
    """
    with contextlib.suppress(Exception):
        sys.stderr.flush()
    try:
        screen = os.dup(2)
    except OSError:  # there is none
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
            held.seek(0)
            for line in held:
                if not any(word in line for word in _STARTUP):
                    os.write(2, line)
