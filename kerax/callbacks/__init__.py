"""Callbacks: what happens beside training."""

from kerax.callbacks.callback import Callback, CallbackList
from kerax.callbacks.checkpoints import ModelCheckpoint
from kerax.callbacks.history import CSVLogger, History, LambdaCallback
from kerax.callbacks.monitors import EarlyStopping, LearningRateScheduler, ReduceLROnPlateau, TerminateOnNaN
from kerax.callbacks.progress import ProgbarLogger

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]
