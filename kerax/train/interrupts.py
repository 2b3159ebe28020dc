"""Ctrl-C and the system's wish to end, served where nothing is half done."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import jax


class Interrupts:
    """Holds signals back while arrays change hands and callbacks look, unless one comes again.

    Attributes:
        busy: Whether they do; it is so at the start and the end of a guarded block, and after an interrupt.

    Args:
        with_termination: Whether SIGTERM, and under Slurm SIGUSR1, end the run as Ctrl-C does, with exit status 143.
    """

    def __init__(self, with_termination: bool):
        self.busy, self._pending = True, None
        self._signals = [signal.SIGINT]
        if with_termination and not jax.distributed.is_initialized():  # else JAX tells all processes of SIGTERM
            self._signals += [signal.SIGTERM, *([signal.SIGUSR1] if "SLURM_JOB_ID" in os.environ else [])]

    @contextmanager
    def guarded(self) -> Iterator["Interrupts"]:
        """Handles the signals for the length of a `with` block, in the main thread; the one held back comes after."""
        self.busy = True
        # Python hands signals to the main thread alone.
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._on_signal) for number in self._signals}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self.check()

    def _on_signal(self, number, _):
        # The second one does not wait: a user who insists is served, whatever is lost.
        if self.busy and self._pending is None:
            self._pending = number
        else:
            self.busy = True  # until someone is ready for another
            self._raise(number)

    def check(self):
        """Raises the interrupt that was held back."""
        self.busy = False
        if self._pending is not None:
            number, self._pending, self.busy = self._pending, None, True
            self._raise(number)

    @staticmethod
    def _raise(number: int):
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + signal.SIGTERM)
